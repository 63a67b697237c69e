# SPDX-License-Identifier: Apache-2.0
"""`file://PATH`: an image file (sparse is fine) or a raw device. Nothing is ever created or truncated."""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import Final
from weakref import WeakValueDictionary

from swd.disk import Disk
from swd.driver import host
from swd.driver.errnos import During, translated
from swd.driver.row import Unit, Wanted
from swd.driver.rows import _block
from swd.driver.rows._local import LocalUnit
from swd.errors import DeviceBusy, InvalidArgument, MediumError, NoSuchDevice, SwdError
from swd.proto import options
from swd.proto.url import FileDev
from swd.scsi.rangelock import RangeLock
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


class File(LocalUnit):
    """Blocks of an open file. It owns the descriptor. All methods raise MediumError with the system's errno."""

    def __init__(self, path: str, fd: int, geometry: host.Geometry, *, writable: bool, lock: RangeLock) -> None:
        block_size, physical = geometry.block_size, geometry.physical_block_size
        super().__init__(geometry.size, block_size, physical, not writable, f"file.{os.path.abspath(path)}", lock)
        self.path = path
        self._fd = fd

    def _read(self, offset: int, view: memoryview) -> None:
        with translated(During.IO, self.path):
            while view:
                count = os.preadv(self._fd, [view], offset)
                if not count:
                    raise MediumError(f"{self.path} ends at byte {offset}: it was truncated while open")
                offset, view = offset + count, view[count:]

    def _write(self, offset: int, view: memoryview) -> None:
        with translated(During.IO, self.path):
            while view:
                count = os.pwrite(self._fd, view, offset)
                offset, view = offset + count, view[count:]

    def _zero(self, offset: int, length: int) -> None:
        if punch_file(self._fd, offset, length):
            return
        zeros = memoryview(_ZEROS)
        for done in range(0, length, len(zeros)):
            self._write(offset + done, zeros[: min(len(zeros), length - done)])

    def _discard(self, offset: int, length: int) -> None:
        punch_file(self._fd, offset, length)  # where the file system cannot, nothing is promised anyway

    def flush(self) -> None:
        with translated(During.IO, self.path):
            getattr(os, "fdatasync", os.fsync)(self._fd)  # macOS has no fdatasync

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def attach(dev: FileDev, wanted: Wanted) -> Unit:
    """Raises `NoSuchDevice` where there is no such file, `SwdError` with ENOTBLK for what has no blocks (a folder, a
    pipe), and with the system's errno where this user may not open it that way.
    """
    from swd.driver.devsw import find

    options.read(wanted.options)
    unit = Unit(find(dev), str(dev), wanted.writable)
    fd = _open(dev.path, wanted)
    try:
        found = os.fstat(fd)
        geometry = _geometry(dev, fd, found)
        unit.kept = file = File(dev.path, fd, geometry, writable=wanted.writable, lock=_lock_of(found))
    except BaseException:
        os.close(fd)
        raise
    return _block.attached(unit, Disk(file, writable=wanted.writable, on_close=file.close))


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
