# SPDX-License-Identifier: Apache-2.0
"""A Volume as an fsspec file system, for pandas, pyarrow, dask and the like. Read-only; needs the extra `fs`.

Paths are str with `/`; bytes of a name that are no UTF-8 are in them as `os.fsdecode` has them (PEP 383).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from swd.errors import FileSystemError, Unsupported
from swd.volumes.filesystems.volume import Entry, Volume

_F = TypeVar("_F", bound="SwdFileSystem")

BLOCK: Final = 4 << 20  # bytes that an open file reads at once


class SwdFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """The file system on one device. `dirty` says why it is not clean, "" if it is. Close it, or use it in `with`."""

    protocol = "swd-fs"
    cachable = False  # each holds a device and a process

    def __init__(self, volume: Volume, on_close: Callable[[], None] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.volume = volume
        self.kind = volume.system.kind
        self.dirty = volume.system.dirty
        self._on_close = on_close

    def ls(self, path: str, detail: bool = True, **_settings: Any) -> Any:
        entry = self.volume.entry(encode(path))
        here = self._strip_protocol(path).rstrip("/")
        if entry.kind == "directory":
            found = [self._info(f"{here}/{decode(item.name)}", item) for item in self.volume.list(entry)]
        else:
            found = [self._info(here, entry)]
        return found if detail else sorted(item["name"] for item in found)

    def info(self, path: str, **_settings: Any) -> dict[str, Any]:
        """name, size, type ("file", "directory", "link", "other"); mode, nlink, uid, gid, mtime, atime, ino.

        Symbolic links on the way are followed, and the last one is not, as in fsspec's local files.
        """
        return self._info(self._strip_protocol(path).rstrip("/"), self.volume.entry(encode(path), follow=False))

    def walk(
        self, path: str, maxdepth: int | None = None, topdown: bool = True, on_error: Any = "raise", **settings: Any
    ) -> Any:
        """As fsspec's, but that a directory which cannot be read is an error, unless on_error says "omit"."""
        return super().walk(path, maxdepth=maxdepth, topdown=topdown, on_error=on_error, **settings)

    def readlink(self, path: str) -> str:
        entry = self.volume.entry(encode(path), follow=False)
        if entry.kind != "link":
            raise FileSystemError(f"{path} is no symbolic link", errno=errno.EINVAL)
        return decode(self.volume.target(entry))

    def free_bytes(self) -> int | None:
        return self.volume.free_bytes()

    def changed(self) -> bool:
        """Whether somebody has mounted it since it was opened: what was read may not fit together."""
        return self.volume.changed()

    def close(self) -> None:
        on_close, self._on_close = self._on_close, None
        self.volume.close()
        if on_close is not None:
            on_close()

    def __enter__(self: _F) -> _F:
        return self

    def __exit__(self, *_why: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a file system on a device cannot be pickled: open it where it is used")

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **settings: Any) -> SwdFile:
        if mode != "rb":
            raise Unsupported(f"mode {mode!r}: file systems on devices are only read here")
        entry = self.volume.entry(encode(path))
        if entry.kind == "directory":
            raise FileSystemError(f"{path} is a directory", errno=errno.EISDIR)
        if entry.kind != "file":
            raise Unsupported(f"{path} is no file but a {entry.kind}")
        settings.pop("autocommit", None)
        return SwdFile(self, path, entry, block_size=block_size or BLOCK, size=entry.size, **settings)

    def _rm(self, path: str) -> None:
        raise _read_only(path)

    def mkdir(self, path: str, *_more: Any, **_settings: Any) -> None:
        raise _read_only(path)

    def cp_file(self, _path1: str, path2: str, **_settings: Any) -> None:
        raise _read_only(path2)

    def _info(self, path: str, entry: Entry) -> dict[str, Any]:
        kind = entry.kind if entry.kind in ("file", "directory", "link") else "other"
        return {
            "name": path or "/",
            "size": entry.size,
            "type": kind,
            "islink": kind == "link",
            "mode": entry.mode,
            "nlink": entry.links,
            "uid": entry.uid,
            "gid": entry.gid,
            "mtime": entry.mtime_ns / 1e9,
            "mtime_ns": entry.mtime_ns,
            "atime_ns": entry.atime_ns,
            "ino": entry.number,
            "unreadable": entry.unreadable,
        }


class SwdFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file opened for reading; the usual caches of fsspec stand over it."""

    def __init__(self, fs: SwdFileSystem, path: str, entry: Entry, **settings: Any) -> None:
        self._entry = entry
        super().__init__(fs, path, "rb", **settings)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self.fs.volume.read(self._entry, start, end - start)  # type: ignore[no-any-return]


def encode(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _read_only(path: str) -> FileSystemError:
    return FileSystemError(f"{path}: file systems on devices are only read here", errno=errno.EROFS)
