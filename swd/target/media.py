# SPDX-License-Identifier: Apache-2.0
"""Backing stores of the target's logical units: bytes at offsets, in memory or in a file.

A medium knows neither blocks nor SCSI; `scsi.unit` has checked every range before it asks. Offsets and lengths are in
bytes. All methods may be called from many threads at once; overlapping writes may interleave, as on a disk.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import Protocol

from swd._targetpath import Flat
from swd.errors import InvalidArgument, MediumError
from swd.target.holes import punch_file, punch_memory

Buffer = bytes | bytearray | memoryview
_ZEROS = bytes(1 << 20)


class Medium(Protocol):
    """What a logical unit stands on. `read_only` media refuse to change; `size` is fixed for life."""

    size: int
    read_only: bool

    def read(self, offset: int, length: int) -> Buffer:
        """The bytes; a memoryview shows later writes, so copy it where that matters. MediumError if the store fails."""

    def place(self, offset: int, length: int, /) -> memoryview | None:
        """Memory that is the medium itself, where received bytes may be put straight away; None if there is none."""

    def write(self, offset: int, data: Buffer) -> None:
        """Store all of `data`; MediumError if the store fails or is full, and then the range is undefined."""

    def zero(self, offset: int, length: int) -> None:
        """Make the range read as zeros, and give its storage back where the host can do that."""

    def extent(self, offset: int) -> tuple[bool, int]:
        """Whether storage stands behind the byte at `offset`, and for how many bytes from there that stays so.

        Where it does not, bytes read as zeros. A medium that cannot tell says that all has storage.
        """

    def flat(self) -> Flat | None:
        """The medium as memory that the compiled data path reads and writes without asking; None if it is not that."""

    def flush(self) -> None:
        """Make what was written durable; MediumError if that fails."""

    def close(self) -> None:
        """Let the store go. Idempotent."""


class RamMedium:
    """Anonymous memory, zeros at first; pages cost nothing until they are written.

    `_used` has a byte for each page, 1 once the page may have been written: the kernel does not say it cheaply. The
    compiled data path sets them without the GIL, before and after it writes. `huge_pages` makes it faster and takes
    2 MiB of memory for the first byte that is written there, where the host can do that.
    """

    def __init__(self, size: int, *, read_only: bool = False, huge_pages: bool = False) -> None:
        if size <= 0:
            raise InvalidArgument(f"a RAM disk of {size} bytes is impossible: give a positive size")
        self.size = size
        self.read_only = read_only
        # Private, because only private anonymous memory reads as zeros after MADV_DONTNEED.
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        try:
            self._memory = mmap.mmap(-1, size, flags=flags)
        except (OSError, OverflowError) as error:
            raise MediumError(
                f"no memory for a RAM disk of {size} bytes; use a smaller one, or a sparse file", errno=errno.ENOMEM
            ) from error
        if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel without them
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._view = memoryview(self._memory)
        self._used = bytearray(-(-size // mmap.PAGESIZE))
        self._flat: Flat | None = Flat(self._view, self._used, mmap.PAGESIZE)

    def flat(self) -> Flat | None:
        return self._flat if type(self) is RamMedium else None  # a subclass wants to be asked

    def read(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def place(self, offset: int, length: int) -> memoryview | None:
        self._use(offset, offset + length)
        return self._view[offset : offset + length]

    def write(self, offset: int, data: Buffer) -> None:
        self._use(offset, offset + len(data))
        self._view[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int) -> None:
        end = offset + length
        first = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        last = end // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and self._punch(first, last):
            self._fill(offset, first)
            self._fill(last, end)
        else:
            self._fill(offset, end)

    def _punch(self, first: int, last: int) -> bool:
        """Pages are marked unused before they go: a write that comes between marks them again, and is lost or not."""
        pages = slice(first // mmap.PAGESIZE, last // mmap.PAGESIZE)
        before = self._used[pages]
        self._used[pages] = bytes(len(before))
        done = punch_memory(self._memory, first, last - first)
        if not done:
            self._used[pages] = before
        return done

    def _fill(self, start: int, end: int) -> None:
        for at in range(start, end, len(_ZEROS)):
            stop = min(end, at + len(_ZEROS))
            self._view[at:stop] = _ZEROS[: stop - at]

    def extent(self, offset: int) -> tuple[bool, int]:
        page = offset // mmap.PAGESIZE
        used = bool(self._used[page])
        end = self._used.find(not used, page)
        return used, (self.size if end < 0 else end * mmap.PAGESIZE) - offset

    def _use(self, start: int, end: int) -> None:
        first, last = start // mmap.PAGESIZE, -(-end // mmap.PAGESIZE)
        self._used[first:last] = b"\1" * (last - first)

    def flush(self) -> None:
        """Memory has no deeper store."""

    def close(self) -> None:
        """The memory goes with its last view: a connection may still be sending from it."""
        self._view = memoryview(b"")
        self._flat = None


class FileMedium:
    """A regular file (sparse is fine) or a block device. With `create`, a file of `size` bytes is made or extended."""

    def __init__(
        self, path: str | os.PathLike[str], *, size: int | None = None, create: bool = False, read_only: bool = False
    ) -> None:
        flags = (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_CREAT if create else 0) | os.O_CLOEXEC
        self.path = os.fspath(path)
        self.read_only = read_only
        self._fd = -1
        try:
            self._fd = os.open(self.path, flags, 0o600)
            found = os.lseek(self._fd, 0, os.SEEK_END)  # works for block devices too, where st_size is 0
            if create and size is not None and found < size:
                os.truncate(self._fd, size)
                found = size
        except OSError as error:
            self.close()
            raise MediumError(f"cannot open {self.path}: {error.strerror}", errno=error.errno) from error
        self.size = found if size is None else min(size, found)

    def read(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._fd, length, offset)
            while len(data) < length and (more := os.pread(self._fd, length - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise _failed("read", self.path, error) from error
        if len(data) < length:
            raise MediumError(f"{self.path} ends before byte {offset + length}: it was truncated while being served")
        return data

    def place(self, _offset: int, _length: int, /) -> memoryview | None:
        return None

    def flat(self) -> Flat | None:
        """Never: if a mapped file were truncated while it is served, the process would die where a read only fails."""
        return None

    def write(self, offset: int, data: Buffer) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self._fd, rest, offset)
                offset, rest = offset + written, rest[written:]
        except OSError as error:
            raise _failed("write", self.path, error) from error

    def zero(self, offset: int, length: int) -> None:
        if punch_file(self._fd, offset, length):
            return
        for done in range(0, length, len(_ZEROS)):
            self.write(offset + done, _ZEROS[: min(len(_ZEROS), length - done)])

    def extent(self, offset: int) -> tuple[bool, int]:
        if not hasattr(os, "SEEK_HOLE"):
            return True, self.size - offset
        try:
            data = os.lseek(self._fd, offset, os.SEEK_DATA)
            if data > offset:
                return False, min(data, self.size) - offset
            return True, min(os.lseek(self._fd, offset, os.SEEK_HOLE), self.size) - offset
        except OSError as error:
            # ENXIO: a hole up to the end. Anything else: the file system cannot tell.
            return error.errno != errno.ENXIO, self.size - offset

    def flush(self) -> None:
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)  # macOS has no fdatasync
        except OSError as error:
            raise _failed("flush", self.path, error) from error

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _failed(what: str, path: str, error: OSError) -> MediumError:
    return MediumError(f"cannot {what} {path}: {error.strerror}", errno=error.errno)
