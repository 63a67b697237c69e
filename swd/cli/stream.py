# SPDX-License-Identifier: Apache-2.0
"""Bytes from one place to another in bounded memory: two ends, one buffer, and a flush every 64 MiB.

What was written to a Disk since its last flush is kept, to be written again if the unit loses its cache meanwhile.

An end is a Disk or a local file. A local file that is being made appears under its own name only when it is complete:
until then it is a temporary file in the same folder, which a failure or Ctrl-C removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from swd.cli.guard import check_content
from swd.cli.progress import size_text
from swd.errors import CacheLost, MediumError, SwdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swd.cli.progress import Progress
    from swd.disk import Disk

CHUNK: Final = 8 << 20
FLUSH_EVERY: Final = 64 << 20
REWRITES: Final = 5  # a unit that loses its cache more often within one flush interval is given up


class Source(Protocol):
    """`size`: bytes that will come, None if nobody knows. `fill` puts the next ones into the buffer; 0 at the end."""

    @property
    def size(self) -> int | None: ...
    def fill(self, buffer: memoryview) -> int: ...


class Sink(Protocol):
    """Ends with one of two: `finish` makes all that was put durable and visible (or raises, and leaves nothing behind);
    `abandon` takes back what it can."""

    def put(self, data: memoryview) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None: ...


class DiskSource:
    """A range of a Disk. Raises MediumError (EIO) if it does not lie within the device."""

    def __init__(self, disk: Disk, name: str, offset: int = 0, length: int | None = None) -> None:
        end = disk.size if length is None else offset + length
        if offset > disk.size or end > disk.size:
            raise MediumError(
                f"{name} ends at byte {disk.size}: cannot read {max(0, end - offset)} bytes from {offset}"
            )
        self.disk, self._at, self._end = disk, offset, end
        self.size = end - offset

    def fill(self, buffer: memoryview) -> int:
        count = min(len(buffer), self._end - self._at)
        if count:
            self.disk.pread_into(buffer[:count], self._at)
            self._at += count
        return count


class FileSource:
    """A local file or pipe, by descriptor. A regular file's size is what it holds from here to its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        status = os.fstat(fd)
        self.size = max(0, status.st_size - os.lseek(fd, 0, os.SEEK_CUR)) if stat.S_ISREG(status.st_mode) else None

    def fill(self, buffer: memoryview) -> int:
        """Reads on until the buffer is full: a pipe gives little at a time, a disk wants much."""
        filled = 0
        while filled < len(buffer) and (got := os.readv(self._fd, [buffer[filled:]])):
            filled += got
        return filled


class DiskSink:
    """A Disk from `offset` on. Raises SwdError (ENOSPC) before the first byte if `size` is known and does not fit."""

    def __init__(self, disk: Disk, name: str, size: int | None, offset: int = 0) -> None:
        self._disk, self._name, self._start, self._at = disk, name, offset, offset
        self._unflushed = 0  # bytes written since the last flush: the first ones of _kept, and on the disk before _at
        self._kept = bytearray()
        if offset + (size or 0) > disk.size:
            what = f"{size or 0} bytes from {offset} on" if offset else f"{size} bytes"
            raise SwdError(f"{name} has {disk.size} bytes: {what} do not fit, nothing was written", errno=errno.ENOSPC)

    def put(self, data: memoryview) -> None:
        if self._at + len(data) > self._disk.size:
            reason = f"{self._name} has {self._disk.size} bytes: it is full after byte {self._at}, and more was to come"
            raise SwdError(reason, errno=errno.ENOSPC)
        self._disk.pwrite(data, self._at)
        self._keep(data)
        self._at += len(data)
        if self._unflushed >= FLUSH_EVERY:
            self.finish()

    def _keep(self, data: memoryview) -> None:
        """A copy until the next flush: a source may be a pipe, which cannot be read again."""
        end = self._unflushed + len(data)
        if end > len(self._kept):
            self._kept.extend(bytes(end - len(self._kept)))
        self._kept[self._unflushed : end] = data
        self._unflushed = end

    @contextlib.contextmanager
    def accounted(self) -> Iterator[None]:
        """An error in the block says how far it came: a disk has no undo."""
        try:
            yield
        except SwdError as error:
            if self._at > self._start:
                done = size_text(self._at - self._start)
                error.reason = f"{self._name} is not complete, {done} had been written: {error.reason}"
            raise

    def finish(self) -> None:
        """Flushes. Where the unit has lost its cache, writes again what was written since the last flush."""
        for left in reversed(range(REWRITES)):
            try:
                self._disk.flush()
                break
            except CacheLost:
                if not left:
                    raise
                with memoryview(self._kept) as kept:
                    self._disk.pwrite(kept[: self._unflushed], self._at - self._unflushed)
        self._unflushed = 0

    def abandon(self) -> None:
        """What was written stays: a disk has no undo."""


class StdoutSink:
    """Standard output, unbuffered. Raises BrokenPipeError when its reader is gone."""

    def __init__(self) -> None:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "it is closed", "standard output")

    def put(self, data: memoryview) -> None:
        write_all(1, data, "standard output")

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class NewFileSink:
    """A local file that gets its name when it is complete; links are followed, an existing file's mode is kept."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        try:
            fd, self._temporary = tempfile.mkstemp(
                prefix=f".{os.path.basename(self._path)}.", dir=os.path.dirname(self._path)
            )
        except OSError as error:  # which names the temporary file, of which nobody has heard
            folder = os.path.dirname(self._path)
            why = f"there is no folder {folder}" if error.errno == errno.ENOENT else error.strerror
            raise OSError(error.errno, why, path) from None
        self.fd: Final = fd
        os.fchmod(fd, _mode_for(self._path))

    def put(self, data: memoryview) -> None:
        write_all(self.fd, data, self._path)

    def finish(self) -> None:
        try:
            os.fsync(self.fd)
            os.rename(self._temporary, self._path)
        except BaseException:
            self.abandon()
            raise
        os.close(self.fd)

    def abandon(self) -> None:
        os.unlink(self._temporary)
        os.close(self.fd)


class OpenFileSink:
    """A file that is written in place: a character device, a FIFO, a block device that holds nothing known."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def put(self, data: memoryview) -> None:
        write_all(self._fd, data, self._path)

    def finish(self) -> None:
        os.close(self._fd)

    def abandon(self) -> None:
        os.close(self._fd)


def file_sink(path: str) -> Sink:
    """The sink for `-o FILE`. A block device is looked at first, as a DEV would be."""
    if path == "-":
        return StdoutSink()
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return NewFileSink(path)
    if stat.S_ISREG(mode):
        return NewFileSink(path)
    if stat.S_ISBLK(mode):
        _look_at(path)
    return OpenFileSink(path)


def _look_at(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        check_content(
            path, size, lambda length, offset: os.pread(fd, length, offset), way_out="`swdctl copy --overwrite`"
        )
    finally:
        os.close(fd)


def _mode_for(path: str) -> int:
    """The mode of the file that will be replaced; else what open(2) would have given a new one."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


def write_all(fd: int, data: memoryview, name: str) -> None:
    """All of `data`, however little each write(2) takes. Errors carry the name, but for a closed pipe's."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error


class Checks:
    """A digest for each chunk that went by, to compare with what is read back. Not CRC32C: the wire has that."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def add(self, data: memoryview) -> None:
        self._digests.append(_digest(data))

    def compare(self, source: Source, name: str, progress: Progress) -> None:
        """Read the same chunks again; raises MediumError (EIO) with the place of the first that differs."""
        buffer = memoryview(bytearray(CHUNK))
        for number, expected in enumerate(self._digests):
            count = source.fill(buffer)
            if _digest(buffer[:count]) != expected:
                at = number * CHUNK
                raise MediumError(f"{name} gave back other bytes than were written, between byte {at} and {at + count}")
            progress.add(count)


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def transfer(source: Source, sink: Sink, progress: Progress, checks: Checks | None = None) -> int:
    """Move everything; returns the count of bytes. On any failure, Ctrl-C included, the sink is abandoned."""
    buffer = memoryview(bytearray(CHUNK))
    try:
        with progress:
            while count := source.fill(buffer):
                sink.put(buffer[:count])
                if checks is not None:
                    checks.add(buffer[:count])
                progress.add(count)
            return progress.done
    except BaseException:
        sink.abandon()
        raise


def exists(path: str) -> bool:
    """Whether a local file is there and holds something: if not, a copy makes it."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(status.st_mode) or status.st_size > 0
