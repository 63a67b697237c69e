# SPDX-License-Identifier: Apache-2.0
"""Copies files out of a Volume into a folder of this host, for `fs get`.

Names and targets are foreign, and so nothing is ever opened by a path: each file is made in its folder's descriptor,
anew (O_EXCL), and no link is followed. What a name could do elsewhere it cannot do here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from swd.errors import FileSystemError, MediumError, ScsiError, SwdError, Unsupported
from swd.volumes.filesystems.volume import Entry, Volume, is_plain

PIECE: Final = 4 << 20
# What one file cannot have, others may: the copy goes on. A full disk or a lost device ends it.
GOES_ON: Final = (FileSystemError, Unsupported, MediumError, ScsiError)
ENDS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Copied:
    """What came of it. `failures`: the path, and why; `skipped`: devices and sockets, which are not made."""

    files: int = 0
    directories: int = 0
    links: int = 0
    length_bytes: int = 0
    failures: list[tuple[bytes, OSError]] = field(default_factory=list)
    skipped: list[bytes] = field(default_factory=list)


@dataclass
class _Level:
    """A folder that is being filled: its descriptor here, what it is there, and what is still to come of it."""

    fd: int
    entry: Entry
    path: tuple[bytes, ...]
    rest: Iterator[Entry]


class Extractor:
    """`overwrite`: replace what is there, and fill folders that are. `owner`: give files to their owners (root only);
    without it, set-user-ID and set-group-ID are not kept, since they would speak for somebody else."""

    def __init__(
        self, volume: Volume, *, overwrite: bool = False, owner: bool = False, add: Callable[[int], None] | None = None
    ) -> None:
        self._volume, self._overwrite, self._owner = volume, overwrite, owner
        self._add = add or (lambda _count: None)
        self._first: dict[int, tuple[bytes, ...]] = {}  # of a file with several names: where its first one is
        self._seen: set[int] = set()  # folders: one that comes twice is a circle, or a bomb
        self._root = -1
        self.copied = Copied()

    def file(self, entry: Entry, folder: str, name: bytes) -> None:
        """One file (or link) as `name` in `folder`."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._make(fd, name, entry, (name,))
        finally:
            os.close(fd)

    def tree(self, top: Entry, folder: str) -> None:
        """The content of a directory, into `folder`, which is made, or must be empty unless `overwrite`."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        levels: list[_Level] = []
        try:
            if not self._overwrite and os.listdir(root):
                raise FileExistsError(errno.ENOTEMPTY, "it is not empty; --overwrite goes on", folder)
            self._root = root
            levels.append(self._enter(os.dup(root), top, ()))
            while levels:
                self._step(levels)
        finally:
            for level in levels:
                os.close(level.fd)
            os.close(root)

    def _step(self, levels: list[_Level]) -> None:
        """The next entry of the innermost folder; or, when there is none, leave it."""
        level = levels[-1]
        path = level.path
        try:
            entry = next(level.rest, None)
            if entry is None:
                levels.pop()
                self._leave(level)
                return
            path = (*level.path, entry.name)
            if entry.kind == "directory":
                levels.append(self._enter(self._folder(level.fd, entry), entry, path))
            else:
                self._make(level.fd, entry.name, entry, path)
        except OSError as error:
            if not self._survives(error):
                raise
            self.copied.failures.append((b"/".join(path) or b"/", error))
            if path == level.path and level in levels:  # its list cannot be read on
                levels.pop()
                self._leave(level)

    def _survives(self, error: OSError) -> bool:
        if isinstance(error, SwdError):
            return isinstance(error, GOES_ON)
        return error.errno not in ENDS

    def _enter(self, fd: int, entry: Entry, path: tuple[bytes, ...]) -> _Level:
        if entry.number in self._seen:
            os.close(fd)
            raise FileSystemError("a directory that was met before: the tree is no tree", errno=errno.ELOOP)
        self._seen.add(entry.number)
        return _Level(fd, entry, path, iter(self._volume.list(entry)))

    def _folder(self, above: int, entry: Entry) -> int:
        name = _safe(entry)
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            if not self._overwrite:
                raise
        return os.open(name, _FOLDER, dir_fd=above)

    def _leave(self, level: _Level) -> None:
        try:
            self._dress(level.fd, level.entry)
            self.copied.directories += 1
        finally:
            os.close(level.fd)

    def _make(self, folder: int, name: bytes, entry: Entry, path: tuple[bytes, ...]) -> None:
        try:
            self._anew(folder, name, entry, path)
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, "it is there already; --overwrite replaces it", name) from None

    def _anew(self, folder: int, name: bytes, entry: Entry, path: tuple[bytes, ...]) -> None:
        """One entry that is no directory."""
        _safe(entry, name)
        if entry.unreadable:
            raise Unsupported(f"{self._volume.shown(name)}: {entry.unreadable}")
        if entry.kind in ("char", "block", "socket"):
            self.copied.skipped.append(b"/".join(path))
            return
        if self._overwrite:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        if entry.links > 1 and self._linked(folder, name, entry, path):
            self.copied.links += 1
            return
        if entry.kind == "link":
            os.symlink(self._volume.target(entry), name, dir_fd=folder)
            self._dress_by_name(folder, name, entry)
        elif entry.kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=folder)
            self._dress_by_name(folder, name, entry)
        elif entry.kind == "file":
            self._content(folder, name, entry)
        else:
            raise FileSystemError(f"{self._volume.shown(name)}: neither file nor directory nor link")
        self.copied.files += 1
        if entry.links > 1:
            self._first.setdefault(entry.number, path)

    def _linked(self, folder: int, name: bytes, entry: Entry, path: tuple[bytes, ...]) -> bool:
        """Make a hard link to the first name of the file, if that was made."""
        first = self._first.get(entry.number)
        if first is None or self._root < 0 or first == path:
            return False
        try:
            os.link(b"/".join(first), name, src_dir_fd=self._root, dst_dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT):
                return False  # a copy of its own, then
            raise
        return True

    def _content(self, folder: int, name: bytes, entry: Entry) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=folder)
        try:
            os.ftruncate(fd, entry.size)
            for start, length in self._volume.spans(entry):
                self._copy(fd, entry, start, length)
            self._dress(fd, entry)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)  # half a file is worse than none
            raise
        finally:
            os.close(fd)

    def _copy(self, fd: int, entry: Entry, start: int, length: int) -> None:
        end = start + length
        while start < end:
            data = memoryview(self._volume.read(entry, start, min(PIECE, end - start)))
            while data:
                count = os.pwrite(fd, data, start)
                start, data = start + count, data[count:]
                self.copied.length_bytes += count
                self._add(count)

    def _dress(self, fd: int, entry: Entry) -> None:
        """Owner, then mode (a change of owner clears bits of it), then times."""
        if self._owner:
            os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, self._mode(entry))
        os.utime(fd, ns=(entry.atime_ns, entry.mtime_ns))

    def _dress_by_name(self, folder: int, name: bytes, entry: Entry) -> None:
        """The same for what cannot be opened: links, which have no mode, and FIFOs."""
        if self._owner:
            os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
        if entry.kind == "fifo" and stat.S_ISFIFO(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.chmod(name, self._mode(entry), dir_fd=folder)
        os.utime(name, ns=(entry.atime_ns, entry.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _mode(self, entry: Entry) -> int:
        return entry.mode if self._owner else entry.mode & 0o1777


def _safe(entry: Entry, name: bytes | None = None) -> bytes:
    """The name, if it is one component of a path; the Volume has looked, and here is where it would do harm."""
    name = entry.name if name is None else name
    if not is_plain(name):
        raise FileSystemError("a name that no file can have", errno=errno.EINVAL)
    return name
