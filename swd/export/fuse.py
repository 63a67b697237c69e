# SPDX-License-Identifier: Apache-2.0
"""A Disk as the one file of a FUSE file system, for the kernel's loop device to stand on.

It decides what the kernel may believe: a write is answered when the unit has it, fsync and flush when SYNCHRONIZE CACHE
is done, a hole when the range reads as zeros. No cache is in between: the file is opened with direct I/O, so there is
nothing that could be written back later. Each request has a buffer of its own from the FUSE library, of which the data
to be written is a copy, and what is read leaves only after its digests were good.

`DiskFile` knows the Disk and errnos, not FUSE: its methods have the names that mfusepy calls, and raise OSError.
"""

from __future__ import annotations

import errno
import importlib
import os
import stat
import threading
from collections.abc import Callable
from typing import Any, Final

from swd.disk import Disk
from swd.errors import SwdError, Unsupported

NAME: Final = "disk"
PATH: Final = "/" + NAME
SUBTYPE: Final = "swd"  # the file system's type is "fuse.swd", by which `placement` knows it
REQUEST_BYTES: Final = 1 << 20  # what the kernel sends at once at most (max_pages 256)
THREADS: Final = 10  # libfuse's own limit

_KEEP_SIZE: Final = 0x01  # linux/falloc.h
_PUNCH_HOLE: Final = 0x02
_WRITEBACK_CACHE: Final = 1 << 16  # FUSE_CAP_WRITEBACK_CACHE (fuse_common.h)
_ACCESS: Final = os.O_WRONLY | os.O_RDWR


class DiskFile:
    """The operations. Called from many threads. `on_ready` is called once, when the kernel has taken the mount."""

    use_ns = True  # for mfusepy: times in nanoseconds

    def __init__(self, disk: Disk, on_ready: Callable[[], None] | None = None) -> None:
        self._disk = disk
        self._on_ready = on_ready
        self._lock = threading.Lock()  # guards _failed
        self._failed = 0

    @property
    def failed_writes(self) -> int:
        """How many writes, holes and flushes failed since the start: what the kernel was told, and a user may not
        have been.
        """
        return self._failed

    def init_with_config(self, connection: Any, config: Any) -> None:
        """The kernel has taken the mount: ask for large requests, and for no cache on our side of it."""
        if connection is not None:
            connection.max_write = REQUEST_BYTES
            connection.want &= ~_WRITEBACK_CACHE
        if config is not None:
            config.direct_io = 1
        if self._on_ready is not None:
            self._on_ready()

    def getattr(self, path: str, _fh: object = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o500, "st_nlink": 2}
        if path not in (PATH, None):  # None: by its handle, and there is only one file
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        mode = 0o600 if self._disk.writable else 0o400
        size = self._disk.size
        return {"st_mode": stat.S_IFREG | mode, "st_nlink": 1, "st_size": size, "st_blocks": size // 512}

    def readdir(self, _path: str, _fh: object) -> list[str]:
        return [".", "..", NAME]

    def open(self, path: str, flags: int) -> int:
        if path != PATH:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if flags & _ACCESS and not self._disk.writable:
            raise _error(errno.EROFS)
        return 0

    def statfs(self, _path: str) -> dict[str, int]:
        """Blocks of 4096 bytes: what the loop device takes for the granularity of a discard."""
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": self._disk.size // 4096, "f_files": 1, "f_namemax": 255}

    def read(self, _path: str, size: int, offset: int, _fh: object) -> bytes:
        return self._disk.pread(size, offset)

    def write(self, _path: str, data: bytes, offset: int, _fh: object) -> int:
        self._counted(lambda: self._disk.pwrite(data, offset))
        return len(data)

    def fsync(self, _path: str, _datasync: int, _fh: object) -> int:
        return self._flush()

    def flush(self, _path: str, _fh: object) -> int:
        """The file was closed once: whoever did so hears whether his data is safe."""
        return self._flush()

    def truncate(self, _path: str, length: int, _fh: object = None) -> int:
        if length != self._disk.size:
            raise _error(errno.EPERM)  # a disk has the size that it has
        return 0

    def fallocate(self, _path: str, mode: int, offset: int, length: int, _fh: object) -> int:
        """A hole reads as zeros afterwards, by whatever means the unit has. Other modes are not what a disk does."""
        if mode != _PUNCH_HOLE | _KEEP_SIZE:
            raise _error(errno.EOPNOTSUPP)
        length = max(0, min(length, self._disk.size - offset))
        self._counted(lambda: self._disk.zero(offset=offset, length=length))
        return 0

    def _flush(self) -> int:
        if self._disk.writable:
            self._counted(self._disk.flush)
        return 0

    def _counted(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError:
            with self._lock:
                self._failed += 1
            raise


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def library() -> Any:
    """mfusepy over libfuse 3. Unsupported (EOPNOTSUPP), naming what to install, where one of them is not there."""
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")  # with libfuse 2 beside it, mfusepy would take that
    try:
        return importlib.import_module("mfusepy")
    except ImportError as error:
        raise Unsupported("swd needs mfusepy for this: pip install 'iscsi-swd[fuse]'") from error
    except OSError as error:
        raise Unsupported("there is no libfuse 3 on this host: install fuse3 (Debian, Fedora: fuse3)") from error


def serve(operations: DiskFile, folder: str, source: str) -> None:
    """Mount at `folder` and answer the kernel until that is unmounted. `source` is what mount tables show.

    Raises SwdError if it cannot be mounted.
    """
    fuse = library()
    name = source.replace("\\", "%5C").replace(",", "%2C")  # libfuse's option list has them as separators
    try:
        fuse.FUSE(operations, folder, foreground=True, fsname=name, subtype=SUBTYPE)
    except RuntimeError as error:
        raise SwdError(
            f"FUSE could not be mounted at {folder} (libfuse says {error}): its log has more", errno=errno.EIO
        ) from error
