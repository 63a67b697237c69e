# SPDX-License-Identifier: Apache-2.0
"""From a range of bytes, or from many, to commands of whole blocks: how to cut, and how to keep the queue deep.

Nothing here knows what is behind a `BlockUnit`. A long transfer becomes one batch of equal commands and what is left
over; so does an array of offsets. What does not fit that (blocks that are hit in part, I/Os out of bounds) is found
before anything is sent, and goes one by one.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from swd import strided
from swd._rangelock import RangeLock
from swd.errors import BatchError, InvalidArgument, SwdError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Int64Array = NDArray[np.int64]
    Int32Array = NDArray[np.int32]

Buffer = Any  # an object with the buffer protocol; `collections.abc.Buffer` is of Python 3.12

QUEUE_DEPTH = 32
COMMAND_BYTES = (
    1 << 20
)  # of a command in a batch: large enough that its costs vanish, small enough that several overlap
BOUNCE_BYTES = 128 << 10  # up to here an unaligned range is one command and a copy rather than three commands


class BlockUnit(Protocol):
    """What a Disk stands on. Addresses and counts are in blocks; buffers hold bytes, whole blocks, in one dimension.

    All methods raise SwdError and may be called from many threads; taking `lock` is the caller's business. `batch`: I/O
    i starts at lbas[i] (a C-contiguous int64 buffer) and uses the i-th of len(lbas) equal parts of `buffer`, which are
    at most `max_transfer` bytes, and of a write may be rows apart (`swd.strided`); it returns those that failed,
    after all have ended, or raises if none is known good.
    """

    block_size: int
    physical_block_size: int
    blocks: int
    read_only: bool
    identity: str
    max_transfer: int
    lock: RangeLock

    @property
    def cache_losses(self) -> int:
        """How often so far the unit may have lost what was written and not flushed."""

    def read_blocks(self, lba: int, buffer: Buffer) -> None: ...
    def write_blocks(self, lba: int, buffer: Buffer) -> None: ...
    def batch(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> list[tuple[int, SwdError]]: ...
    def flush(self) -> None: ...
    def discard(self, lba: int, blocks: int) -> None: ...
    def zero(self, lba: int, blocks: int) -> None: ...
    def close(self) -> None: ...


class Part(NamedTuple):
    """Bytes start..stop-1 of the caller's buffer; `whole`: they are whole blocks on the disk."""

    start: int
    stop: int
    whole: bool


def parts(offset: int, length: int, block_size: int, bounce: int = BOUNCE_BYTES) -> list[Part]:
    """Cut `length` > 0 bytes at `offset` into the blocks hit in part at either end and the whole blocks between.

    A range that covers no more than `bounce` bytes of blocks is not cut: it goes through a buffer of its own at once.
    """
    head = -offset % block_size
    tail = (offset + length) % block_size
    if not head and not tail:
        return [Part(0, length, True)]
    if (offset % block_size) + length + (-tail % block_size) <= max(bounce, block_size):
        return [Part(0, length, False)]
    cuts = [Part(0, head, False), Part(head, length - tail, True), Part(length - tail, length, False)]
    return [part for part in cuts if part.start < part.stop]


def transfer(unit: BlockUnit, write: bool, lba: int, view: memoryview, *, queue_depth: int = QUEUE_DEPTH) -> None:
    """Move whole blocks of any length. Raises the error of the first command that failed, after all have ended."""
    one = unit.write_blocks if write else unit.read_blocks
    size = unit.block_size
    per_command = max(1, min(unit.max_transfer, COMMAND_BYTES) // size)
    total = len(view) // size
    if len(view) <= unit.max_transfer and total < 2 * per_command:
        one(lba, view)
        return
    batched = total - total % per_command
    lbas = array("q", range(lba, lba + batched, per_command))
    failures = unit.batch(write, lbas, view[: batched * size], queue_depth=queue_depth)
    if failures:
        raise min(failures, key=lambda failure: failure[0])[1]
    if batched < total:
        one(lba + batched, view[batched * size :])


class Many(NamedTuple):
    """An array of equal I/Os: byte offsets, bytes of each, and one buffer with room for all (`swd.strided`)."""

    write: bool
    offsets: Int64Array
    size: int
    view: memoryview


def int64_offsets(offsets: Buffer) -> Int64Array:
    """Byte offsets as an array: any one-dimensional int64 buffer as it is, or a sequence of ints."""
    import numpy as np

    found = np.asarray(offsets)
    if found.size == 0 and found.ndim == 1:
        return np.empty(0, np.int64)
    if found.dtype != np.int64:
        raise TypeError(f"offsets are an int64 buffer or a sequence of ints, not {found.dtype}")
    if found.ndim != 1:
        raise InvalidArgument(f"offsets have one dimension, these have {found.ndim}")
    return np.ascontiguousarray(found)


def run_many(
    unit: BlockUnit, many: Many, one: Callable[[int, memoryview], None], *, queue_depth: int, errors: Any
) -> None:
    """Run all of `many`: as one batch where all are whole blocks inside the unit, else by `one(offset, buffer)` each.

    Returns or raises after all have ended. errors=None: raises BatchError if any failed. errors=an int32 array: element
    i gets 0 or the errno of I/O i, and nothing is raised for them.
    """
    results = _results(errors, len(many.offsets))
    if queue_depth < 1:
        raise InvalidArgument(f"queue_depth is {queue_depth}: at least 1 is needed")
    if not len(many.offsets) or not many.size:
        return
    failures = failures_of(unit, many, one, queue_depth)
    for index, error in failures:
        results[index] = error.errno or errno.EIO
    if failures and errors is None:
        raise _batch_error(many, failures, results)


def failures_of(
    unit: BlockUnit, many: Many, one: Callable[[int, memoryview], None], queue_depth: int
) -> list[tuple[int, SwdError]]:
    """Run all of `many`, which is not empty, as `run_many` does; those that failed."""
    return _as_batch(unit, many, queue_depth) if fits_batch(unit, many) else _one_by_one(many, one)


def _results(errors: Any, count: int) -> Int32Array:
    import numpy as np

    if errors is None:
        return np.zeros(count, np.int32)
    results = np.asarray(memoryview(errors))  # shares memory with `errors`, or raises TypeError
    if results.dtype != np.int32 or not results.flags.writeable:
        raise TypeError("errors is a writable int32 array")
    if results.shape != (count,):
        raise InvalidArgument(f"errors has the shape {results.shape}; {count} I/Os need ({count},)")
    results[:] = 0
    return results


def fits_batch(unit: BlockUnit, many: Many) -> bool:
    """Whether all are whole blocks inside the unit, and none is too long for one command."""
    offsets, size = many.offsets, many.size
    if size % unit.block_size or size > unit.max_transfer:
        return False
    inside = int(offsets.min()) >= 0 and int(offsets.max()) <= unit.blocks * unit.block_size - size
    return inside and not (offsets % unit.block_size).any()


def _as_batch(unit: BlockUnit, many: Many, queue_depth: int) -> list[tuple[int, SwdError]]:
    lbas = many.offsets // unit.block_size
    try:
        if not many.write:
            return unit.batch(False, lbas, many.view, queue_depth=queue_depth)
        first, last = int(lbas.min()), int(lbas.max())
        with unit.lock.write(first, last - first + many.size // unit.block_size):
            return unit.batch(True, lbas, many.view, queue_depth=queue_depth)
    except SwdError as error:  # a connection lost, a deadline: what ended well before it is not known
        return [(index, error) for index in range(len(lbas))]


def _one_by_one(many: Many, one: Callable[[int, memoryview], None]) -> list[tuple[int, SwdError]]:
    failures = []
    parts = strided.each(many.view, len(many.offsets))
    for index, (offset, part) in enumerate(zip(many.offsets.tolist(), parts, strict=True)):
        try:
            one(offset, part)
        except SwdError as error:
            failures.append((index, error))
    return failures


def _batch_error(many: Many, failures: list[tuple[int, SwdError]], results: Int32Array) -> BatchError:
    index, first = min(failures, key=lambda failure: failure[0])
    number = first.errno or errno.EIO
    reason = f"{len(failures)} of {len(results)} I/Os failed; the first, at byte {int(many.offsets[index])}: {first}"
    error = BatchError(reason, errno=number, results=results.tolist())
    error.__cause__ = first
    return error
