# SPDX-License-Identifier: Apache-2.0
"""Reads that are looked at one by one: by the compiled stream of a session's unit, or a group at a time.

Both give out memoryviews of memory that is used again. What the units are is not known here but for one thing: those of
sessions say whose `turn` it is, which has a compiled `way`, and a policy (`settle`) for what does not end plainly GOOD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from swd._fastpath import Stream
from swd.errors import InvalidArgument, SwdError
from swd.ioqueue import BlockUnit, Many, failures_of, fits_batch
from swd.values import ScsiResult


def stream(
    unit: BlockUnit,
    offsets: Any,
    size: int,
    one: Callable[[int, memoryview], None],
    *,
    queue_depth: int,
    require_open: Callable[[], None],
) -> Iterator[memoryview]:
    """As `Disk.stream`; `one(offset, buffer)` reads what is not whole blocks of one command, `require_open` raises if
    the disk was closed meanwhile (a Stream is told).
    """
    if queue_depth < 1:
        raise InvalidArgument(f"queue_depth is {queue_depth}: at least 1 is needed")
    if not size or not len(offsets):
        return iter([memoryview(b"")] * len(offsets))
    one_session: Any = unit.turn() if hasattr(unit, "turn") else unit
    way = getattr(one_session, "way", None)
    if way is None or not way.open or not fits_batch(unit, Many(False, offsets, size, memoryview(b""))):
        read = partial(failures_of, unit, one=one, queue_depth=queue_depth)
        return _in_groups(read, offsets, size, queue_depth, require_open)
    lbas = offsets // unit.block_size
    def settle(index: int, buffer: memoryview, result: ScsiResult) -> None:
        one_session.settle(False, int(lbas[index]), buffer, result)

    found: Stream = way.stream(lbas, size // unit.block_size, size, queue_depth, settle)
    return found


def _in_groups(
    read: Callable[[Many], list[tuple[int, SwdError]]],
    offsets: Any,
    size: int,
    queue_depth: int,
    require_open: Callable[[], None],
) -> Iterator[memoryview]:
    memory = memoryview(bytearray(size * min(queue_depth, len(offsets))))
    for first in range(0, len(offsets), queue_depth):
        group = offsets[first : first + queue_depth]
        many = Many(False, group, size, memory[: size * len(group)])
        failures = dict(read(many))
        for at in range(len(group)):
            require_open()
            if at in failures:
                raise failures[at]
            yield many.view[at * size : (at + 1) * size].toreadonly()
