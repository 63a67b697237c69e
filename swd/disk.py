# SPDX-License-Identifier: Apache-2.0
"""`Disk`: bytes at offsets over a unit of whole blocks. It decides bounds, alignment and locking, and nothing else.

An aligned read is a bounds check and one call to the unit. An unaligned write reads the blocks that it hits in part,
changes them, and writes them back, under the unit's `RangeLock`, which every write respects; so neighbours in one block
do not undo each other, whatever Disk or thread of this process they come from. Between processes nothing of that holds.
"""

from __future__ import annotations

import errno
import io
import os
import weakref
from collections.abc import Callable, Iterator
from operator import index
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from swd import strided
from swd._fastpath import Stream
from swd._rangelock import RangeLock
from swd._straight import StraightIO
from swd.errors import BadDescriptor, CacheLost, InvalidArgument, MediumError, Unsupported
from swd.ioqueue import COMMAND_BYTES, QUEUE_DEPTH, BlockUnit, Buffer, Many, int64_offsets, parts, run_many, transfer
from swd.streams import stream
from swd.values import ScsiResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Uint8Array = NDArray[np.uint8]

_D = TypeVar("_D", bound="Disk")

__all__ = ["BlockUnit", "Disk", "RangeLock", "RawDisk"]


class Disk(StraightIO):
    """A block device for reading, or for reading and writing. Offsets and lengths are in bytes and need no alignment.

    `unit` is what it stands on, `writable` whether it was opened for writing; neither is to be set.

    All methods may be called from many threads, and raise SwdError: BadDescriptor (EBADF) when closed, or for writing
    to one that was opened for reading; InvalidArgument (EINVAL) for negative numbers; MediumError with ENOSPC for a
    write past the end, of which nothing is written; else what the unit raises. Wrong types are TypeError. After a read
    that failed the content of its buffer is undefined; after a write that failed, that of its range on the disk. A
    write that returned is with the target, in its cache until `flush`.
    """

    def __init__(
        self,
        unit: BlockUnit,
        *,
        writable: bool,
        on_close: Callable[[], object] | None = None,
        stable_writes: bool | None = None,
    ) -> None:
        """`on_close` is called once, by `close`; the unit itself is not closed, as other Disks may stand on it.

        `stable_writes`: what is written is copied first, so that it may be changed meanwhile; None: as the caller's
        kind of call has it by default (blocking calls: no).

        Raises MediumError with EROFS for `writable` on a write-protected medium.
        """
        if writable and unit.read_only:
            raise MediumError("the medium is write protected: open it for reading", errno=errno.EROFS)
        self.unit = unit
        self.writable = writable
        self.stable_writes = stable_writes
        self._on_close = on_close
        self._block_size = unit.block_size
        self._size = unit.blocks * unit.block_size
        self._end = self._size  # -1 when closed, so that one comparison on the fast path sees that too
        self._single = min(unit.max_transfer, COMMAND_BYTES)
        self._go_straight(getattr(unit, "straight", None))
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()

    @property
    def is_open(self) -> bool:
        return self._end >= 0

    @property
    def size(self) -> int:
        """In bytes. It grows with the unit; a unit that shrinks is another disk (StaleIdentity)."""
        return self._grown()

    @property
    def block_size(self) -> int:
        """Bytes of a logical block: what the unit addresses."""
        return self._block_size

    @property
    def physical_block_size(self) -> int:
        """Bytes that the medium writes at once; a multiple of `block_size`."""
        return self.unit.physical_block_size

    @property
    def identity(self) -> str:
        """What names the disk wherever it is attached, such as "naa.6001405..."."""
        return self.unit.identity

    @property
    def read_only(self) -> bool:
        """Whether the medium is write protected."""
        return self.unit.read_only

    # `pread` and `pread_into` are StraightIO'; here is what does not go straight.

    def _pread(self, length: int, offset: int) -> bytes:
        length = self._readable(index(length), index(offset))
        if not length:
            return b""
        data = bytearray(length)
        self._read(memoryview(data), offset)
        return bytes(data)

    def _pread_into(self, buffer: Buffer, offset: int) -> int:
        view, offset = memoryview(buffer), index(offset)
        if not view.nbytes:
            return self._readable(0, offset)
        view = view.cast("B")
        length = len(view)
        lba, skew = divmod(offset, self._block_size)
        if (
            skew
            or lba < 0
            or length % self._block_size
            or length > self._single
            or offset + length > self._end
            or view.readonly
        ):
            return self._read_into(view, offset)
        self.unit.read_blocks(lba, view)
        return length

    def _settle(self, write: bool, buffer: Buffer, lba: int, result: ScsiResult) -> None:
        """Straight I/O did not end plainly GOOD: the policy of its unit, which alone has such a way, decides."""
        unit: Any = self.unit
        unit.settle(write, lba, memoryview(buffer).cast("B"), result)

    def _pwrite(self, data: Buffer, offset: int) -> int:
        view, offset = memoryview(data), index(offset)
        if self.stable_writes and not isinstance(data, bytes):
            view = memoryview(bytes(view))
        length = view.nbytes
        self._require_room(offset, length)
        if length:
            before = self.unit.cache_losses
            try:
                self._write(view.cast("B"), offset)
            finally:
                self._wrote(before)
        return length

    def flush(self) -> None:
        """Make durable what was written before: it has left the target's cache when this returns.

        Raises CacheLost (EIO), once, if the unit may have lost it meanwhile: write again what was written since the
        flush before.
        """
        self._require_open()
        since = self._unflushed()
        try:
            self.unit.flush()
        except BaseException:
            if since is not None:
                self._wrote(since)
            raise
        if since is not None and self.unit.cache_losses != since:
            raise CacheLost(
                f"{self.identity} was reset, and its cache with it: what was written since the last flush may be gone"
                "\nwrite it again"
            )

    def discard(self, *, offset: int, length: int) -> None:
        """The disk may forget the whole blocks in this range: then their content is undefined. Or Unsupported."""
        self._require_room(index(offset), index(length))
        first = -(-offset // self._block_size)
        blocks = (offset + length) // self._block_size - first
        if blocks > 0:
            with self.unit.lock.write(first, blocks):
                self.unit.discard(first, blocks)

    def zero(self, *, offset: int, length: int) -> None:
        """Make the range read as zeros, without sending them where the unit can do that itself."""
        self._require_room(index(offset), index(length))
        if not length:
            return
        before = self.unit.cache_losses
        try:
            self._zero(offset, length)
        finally:
            self._wrote(before)

    def _zero(self, offset: int, length: int) -> None:
        for start, stop, whole in parts(offset, length, self._block_size, bounce=0):
            if not whole:
                self._write(memoryview(bytes(stop - start)), offset + start)
                continue
            lba, blocks = (offset + start) // self._block_size, (stop - start) // self._block_size
            with self.unit.lock.write(lba, blocks):
                self.unit.zero(lba, blocks)

    def read_many(
        self,
        offsets: Buffer,
        size: int,
        out: Uint8Array | None = None,
        *,
        queue_depth: int = QUEUE_DEPTH,
        errors: Any = None,
    ) -> Uint8Array:
        """Read `size` bytes at each of `offsets` (bytes; an int64 buffer or ints), `queue_depth` commands at a time.

        Returns a uint8 array of the shape (len(offsets), size): `out` if given, which must be one. A read that passes
        the end of the disk fails with EIO. When all have ended: errors=None raises BatchError, whose `results` has 0 or
        an errno for each, if any failed; an int32 array of that length is filled with them instead.
        """
        starts, size = int64_offsets(offsets), self._io_size(size)
        out = _destination(out, len(starts), size)
        flat: Any = out.reshape(-1)
        many = Many(False, starts, size, memoryview(flat))
        run_many(self.unit, many, self._read_whole, queue_depth=index(queue_depth), errors=errors)
        return out

    def stream(self, offsets: Buffer, size: int, *, queue_depth: int = QUEUE_DEPTH) -> Iterator[memoryview]:
        """The `size` bytes at each of `offsets`, one after the other, with `queue_depth` reads under way meanwhile.

        Each read-only memoryview shows its data until the next one is asked for: then its memory is used again, which
        is what makes this the cheapest way to look at much data once. Copy what is to be kept. At the end of the disk
        it is shorter, behind it empty. `offsets` as in `read_many`. A read that fails raises when its turn comes, and
        ends the iteration; leaving early, or `close()` of the iterator, lets go of the reads under way.
        """
        starts, size, queue_depth = int64_offsets(offsets), self._io_size(size), index(queue_depth)
        if size and len(starts) and int(starts.max()) > self.size - size:
            return self._stream_to_the_end(starts, size, queue_depth)
        found = stream(
            self.unit, starts, size, self._read_whole, queue_depth=queue_depth, require_open=self._require_open
        )
        if isinstance(found, Stream):  # it knows the session, not the Disk
            self._streams.add(found)
        return found

    def write_many(self, offsets: Buffer, data: Buffer, *, queue_depth: int = QUEUE_DEPTH, errors: Any = None) -> None:
        """Write equal parts of `data` at each of `offsets`; `errors` as in `read_many`.

        `data` is a buffer, or an array whose rows may lie apart or be the same: np.broadcast_to(block, (1000, 4096))
        writes one block to a thousand places out of 4 KiB of memory. `sessions=N` and volumes make one piece of such.
        In which order ranges that overlap are written is not defined. One past the end fails with ENOSPC.
        """
        self._require_writable()
        starts = int64_offsets(offsets)
        view = memoryview(data)
        if self.stable_writes:
            view = memoryview(bytes(view))
        size, rest = divmod(view.nbytes, len(starts) or 1)
        if rest or (size and not len(starts)):
            raise InvalidArgument(f"{view.nbytes} bytes of data are not {len(starts)} equal parts")
        many = Many(True, starts, size, strided.rows(view, len(starts)) if size else view)
        before = self.unit.cache_losses
        try:
            run_many(self.unit, many, self._write_whole, queue_depth=index(queue_depth), errors=errors)
        finally:
            self._wrote(before)

    def raw(self, mode: str = "rb") -> RawDisk:
        """The disk as a raw binary stream, "rb" or "r+b", for io.BufferedReader and io.BufferedRandom."""
        if mode not in ("rb", "r+b"):
            raise InvalidArgument(f'mode is "rb" or "r+b", not {mode!r}')
        self._require_open()
        if mode == "r+b":
            self._require_writable()
        return RawDisk(self, writable=mode == "r+b")

    def close(self) -> None:
        """Refuse further I/O and let go of the unit. It does not flush. Closing twice is nothing."""
        self._end = -1
        for found in tuple(self._streams):
            found.stop()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def __enter__(self: _D) -> _D:
        self._require_open()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._end < 0 else "read-write" if self.writable else "read-only"
        return f"<Disk {self.identity}, {self._size} bytes in blocks of {self._block_size}, {state}>"

    # Below: `view` is a memoryview of bytes in one dimension, not empty, and the range lies inside the disk.

    def _read(self, view: memoryview, offset: int) -> None:
        size = self._block_size
        for start, stop, whole in parts(offset, len(view), size):
            lba, skip = divmod(offset + start, size)
            if whole:
                transfer(self.unit, False, lba, view[start:stop])
                continue
            bounce = memoryview(bytearray(-(-(skip + stop - start) // size) * size))
            transfer(self.unit, False, lba, bounce)
            view[start:stop] = bounce[skip : skip + stop - start]

    def _write(self, view: memoryview, offset: int) -> None:
        size = self._block_size
        first, skip = divmod(offset, size)
        count = -(-(skip + len(view)) // size)
        if not skip and not len(view) % size:
            with self.unit.lock.write(first, count):
                transfer(self.unit, True, first, view)
            return
        with self.unit.lock.modify(first, count):
            for start, stop, whole in parts(offset, len(view), size):
                if whole:
                    transfer(self.unit, True, (offset + start) // size, view[start:stop])
                else:
                    self._patch(view[start:stop], offset + start)

    def _patch(self, view: memoryview, offset: int) -> None:
        """Change bytes of blocks that are hit in part at one end or both. The caller holds the lock of these blocks."""
        size = self._block_size
        lba, skip = divmod(offset, size)
        count = -(-(skip + len(view)) // size)
        blocks = memoryview(bytearray(count * size))
        tail_is_cut = bool((skip + len(view)) % size)
        if skip or (tail_is_cut and count == 1):
            self.unit.read_blocks(lba, blocks[:size])
        if tail_is_cut and count > 1:
            self.unit.read_blocks(lba + count - 1, blocks[-size:])
        blocks[skip : skip + len(view)] = view
        transfer(self.unit, True, lba, blocks)

    def _read_into(self, view: memoryview, offset: int) -> int:
        """The way of a read that is not one aligned command."""
        if view.readonly:
            raise TypeError("the buffer to read into is read-only")
        length = self._readable(len(view), offset)
        if length:
            self._read(view[:length], offset)
        return length

    def _read_whole(self, offset: int, view: memoryview) -> None:
        if self._readable(len(view), offset) < len(view):
            raise MediumError(f"{len(view)} bytes at {offset} pass the end of the disk at {self._size}")
        self._read(view, offset)

    def _stream_to_the_end(self, starts: Any, size: int, queue_depth: int) -> Iterator[memoryview]:
        inside = starts <= self.size - size
        whole = self.stream(starts[inside], size, queue_depth=queue_depth)
        for start, fits in zip(starts.tolist(), inside.tolist(), strict=True):
            yield next(whole) if fits else memoryview(self.pread(size, start)).toreadonly()

    def _write_whole(self, offset: int, view: memoryview) -> None:
        self._require_room(offset, len(view))
        self._write(view, offset)

    def _io_size(self, size: int) -> int:
        self._require_open()
        if index(size) < 0:
            raise InvalidArgument(f"a read of {size} bytes: size is not negative")
        return index(size)

    def _readable(self, length: int, offset: int) -> int:
        """How many of `length` bytes at `offset` there are."""
        self._require_open()
        if offset < 0 or length < 0:
            raise InvalidArgument(f"{length} bytes at {offset}: neither may be negative")
        return max(0, min(length, self._grown() - offset))

    def _grown(self) -> int:
        """The size as it is now; more than before where the unit has noticed that it has grown."""
        size = self.unit.blocks * self._block_size
        if size > self._size:
            self._size = size
            if self._end >= 0:
                self._end = size
        return self._size

    def _require_room(self, offset: int, length: int) -> None:
        self._require_writable()
        if offset < 0 or length < 0:
            raise InvalidArgument(f"{length} bytes at {offset}: neither may be negative")
        if offset + length > self._size and offset + length > self._grown():
            reason = f"{length} bytes at {offset} do not fit: the disk ends at {self._size}, nothing was written"
            raise MediumError(reason, errno=errno.ENOSPC)

    def _require_writable(self) -> None:
        self._require_open()
        if not self.writable:
            raise BadDescriptor('the disk is open for reading only: open it with mode "r+b" to write')

    def _require_open(self) -> None:
        if self._end < 0:
            raise BadDescriptor("the disk is closed: open it again")


def _destination(out: Any, count: int, size: int) -> Uint8Array:
    """The array to read `count` times `size` bytes into: a new one, or `out` if it fits."""
    import numpy as np

    if out is None:
        return np.empty((count, size), np.uint8)
    if not isinstance(out, np.ndarray) or out.dtype != np.uint8 or not out.flags.carray:
        raise TypeError("out is a writable, C-contiguous array of uint8")
    if out.shape != (count, size):
        raise InvalidArgument(f"out has the shape {out.shape}; {count} reads of {size} bytes need {(count, size)}")
    return out


class RawDisk(io.RawIOBase):
    """A Disk with a position. Closing it leaves the Disk open; `flush` does nothing: the Disk's makes data durable."""

    def __init__(self, disk: Disk, *, writable: bool) -> None:
        super().__init__()
        self._disk = disk
        self._writable = writable
        self._position = 0

    def readable(self) -> bool:
        self._require_open()
        return True

    def writable(self) -> bool:
        self._require_open()
        return self._writable

    def seekable(self) -> bool:
        self._require_open()
        return True

    def readinto(self, buffer: Buffer) -> int:
        self._require_open()
        count = self._disk.pread_into(buffer, self._position)
        self._position += count
        return count

    def readall(self) -> bytes:
        self._require_open()
        data = self._disk.pread(max(0, self._disk.size - self._position), self._position)
        self._position += len(data)
        return data

    def write(self, data: Buffer) -> int:
        """All of `data`, or MediumError with ENOSPC and nothing."""
        self._require_open()
        if not self._writable:
            raise BadDescriptor('the stream is for reading only: make it with raw("r+b")')
        count = self._disk.pwrite(data, self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._require_open()
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._disk.size}
        if whence not in starts:
            raise InvalidArgument(f"seek from {whence!r}: SEEK_SET, SEEK_CUR or SEEK_END")
        position = starts[whence] + index(offset)
        if position < 0:
            raise InvalidArgument(f"seek to {position}: a position is not negative")
        self._position = position
        return position

    def tell(self) -> int:
        self._require_open()
        return self._position

    def truncate(self, _size: int | None = None, /) -> NoReturn:
        raise Unsupported("a disk has the size that it has: it cannot be truncated")

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")  # what every stream of `io` says
