# SPDX-License-Identifier: Apache-2.0
"""`file://PATH`: an image file (sparse is fine) or a raw device. Nothing is ever created or truncated."""

from __future__ import annotations

import errno
import os
import stat
import threading
from types import TracebackType
from typing import Final
from weakref import WeakValueDictionary

from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.driver import host, partition
from swd.driver.errnos import During, translated
from swd.driver.row import Unit, Wanted
from swd.driver.rows._local import LocalUnit
from swd.errors import BadDescriptor, DeviceBusy, InvalidArgument, MediumError, NoSuchDevice, SwdError
from swd.proto import options
from swd.proto.url import FileDev
from swd.target.holes import punch_file

_ZEROS = bytes(1 << 20)
_DEFAULT_BLOCK_SIZE = 512

# open(2)'s errno -> ours; others stay as they are (EACCES, EROFS, EPERM ...).
_OPEN_ERRORS: Final[dict[int, type[SwdError]]] = {
    errno.ENOENT: NoSuchDevice,
    errno.ENOTDIR: NoSuchDevice,
    errno.ENXIO: NoSuchDevice,
    errno.ENODEV: NoSuchDevice,
    errno.EBUSY: DeviceBusy,
    errno.ETXTBSY: DeviceBusy,
}

_lock = threading.Lock()  # guards _locks
_locks: WeakValueDictionary[tuple[int, int, int], RangeLock] = WeakValueDictionary()  # by device and inode


class Descriptor:
    """A file descriptor that is closed when nobody is inside a call on it: a number that the system has given to
    another file meanwhile must never be written to. `_lock` guards `_users` and `_closed`; nothing is called under
    it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._users = 1  # the owner
        self._closed = False

    def __enter__(self) -> int:
        with self._lock:
            if self._closed:
                raise BadDescriptor("the file is closed: open it again")
            self._users += 1
            return self._fd

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def close(self) -> None:
        """No new user from now on. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            os.close(self._fd)


class File(LocalUnit):
    """Blocks of an open file, whose descriptor it owns. All methods raise MediumError with the system's errno."""

    def __init__(self, path: str, fd: int, geometry: host.Geometry, *, read_only: bool, lock: RangeLock) -> None:
        block_size, physical = geometry.block_size, geometry.physical_block_size
        super().__init__(geometry.size, block_size, physical, read_only, f"file.{os.path.abspath(path)}", lock)
        self.path = path
        self._descriptor = Descriptor(fd)

    def _read(self, offset: int, view: memoryview) -> None:
        with translated(During.IO, self.path), self._descriptor as fd:
            while view:
                count = os.preadv(fd, [view], offset)
                if not count:
                    raise MediumError(f"{self.path} ends at byte {offset}: it was truncated while open")
                offset, view = offset + count, view[count:]

    def _write(self, offset: int, view: memoryview) -> None:
        with translated(During.IO, self.path), self._descriptor as fd:
            while view:
                count = os.pwrite(fd, view, offset)
                offset, view = offset + count, view[count:]

    def _zero(self, offset: int, length: int) -> None:
        if self._punch(offset, length):
            return
        zeros = memoryview(_ZEROS)
        for done in range(0, length, len(zeros)):
            self._write(offset + done, zeros[: min(len(zeros), length - done)])

    def _discard(self, offset: int, length: int) -> None:
        self._punch(offset, length)  # where the file system cannot, nothing is promised anyway

    def _punch(self, offset: int, length: int) -> bool:
        with self._descriptor as fd:
            return punch_file(fd, offset, length)

    def flush(self) -> None:
        with translated(During.IO, self.path), self._descriptor as fd:
            getattr(os, "fdatasync", os.fsync)(fd)  # macOS has no fdatasync

    def close(self) -> None:
        self._descriptor.close()


def attach(dev: FileDev, wanted: Wanted) -> Unit:
    """Raises `NoSuchDevice` where there is no such file, `SwdError` with ENOTBLK for what has no blocks (a folder, a
    pipe), and with the system's errno where this user may not open it that way.
    """
    from swd.driver.devsw import find

    number = options.read(wanted.options, _named(dev)).partition
    fd = _open(dev.path, wanted)
    try:
        found = os.fstat(fd)
        geometry = _geometry(dev, fd, found)
        file = File(dev.path, fd, geometry, read_only=_is_protected(fd, found), lock=_lock_of(found))
    except BaseException:
        os.close(fd)
        raise
    disk = Disk(file, writable=wanted.writable, on_close=file.close)
    return partition.chosen(Unit(find(dev), str(dev), wanted.writable, disk), number)


def _named(dev: FileDev) -> options.Options:
    """The options in the DEV itself; the block size is the medium's."""
    return options.read([pair for pair in dev.options if pair[0] != "block_size"], source="file://")


def _open(path: str, wanted: Wanted) -> int:
    # O_NONBLOCK: opening a FIFO must not wait for somebody at its other end. It changes nothing for files and devices.
    flags = (os.O_RDWR if wanted.writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
    flags |= os.O_EXCL if wanted.exclusive else 0  # a block device in use by the kernel is then EBUSY
    try:
        return os.open(path, flags)
    except IsADirectoryError as error:
        raise _no_blocks(path) from error
    except OSError as error:
        kind = _OPEN_ERRORS.get(error.errno or 0)
        words = f"cannot open {path}: {error.strerror}"
        raise (kind(words) if kind else SwdError(words, errno=error.errno)) from error


def _geometry(dev: FileDev, fd: int, found: os.stat_result) -> host.Geometry:
    if stat.S_ISBLK(found.st_mode) or (stat.S_ISCHR(found.st_mode) and not host.LINUX):
        with translated(During.IO, dev.path):
            return host.geometry(fd)
    if not stat.S_ISREG(found.st_mode):
        raise _no_blocks(dev.path)
    block_size = int(dict(dev.options).get("block_size", _DEFAULT_BLOCK_SIZE))
    if found.st_size % block_size:
        raise InvalidArgument(
            f"{dev.path} has {found.st_size} bytes, which are not whole blocks of {block_size}: "
            f"extend it, e.g. `truncate -s %{block_size} {dev.path}`"
        )
    return host.Geometry(found.st_size, block_size, block_size)


def _is_protected(fd: int, found: os.stat_result) -> bool:
    """Whether the medium refuses writes, however it was opened: a write-protected device, or a file on a file system
    that is mounted for reading only.
    """
    if stat.S_ISREG(found.st_mode):
        return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)
    return host.write_protected(fd)


def _no_blocks(path: str) -> SwdError:
    return SwdError(f"{path} is neither a regular file nor a block device", errno=errno.ENOTBLK)


def _lock_of(found: os.stat_result) -> RangeLock:
    """One lock a file in this process, however often it is open and by whatever name."""
    key = (found.st_dev, found.st_ino, found.st_rdev)
    with _lock:
        lock = _locks.get(key)
        if lock is None:
            lock = _locks[key] = RangeLock()
        return lock


def _forget() -> None:
    """In a forked child the locks may be held by threads that it does not have."""
    global _lock
    _lock = threading.Lock()
    _locks.clear()


os.register_at_fork(after_in_child=_forget)
