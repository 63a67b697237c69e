# SPDX-License-Identifier: Apache-2.0
"""What every reader answers, and the file object through which a library sees the disk."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Protocol

from swd.volumes.filesystems import channel
from swd.volumes.filesystems.channel import Channel

Name = tuple[bytes, int]  # of a directory entry: its bytes, and the number that finds its file

BLOCK: Final = 64 << 10
HELD: Final = 128

KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class NotRead(Exception):
    """This version does not read such a thing (EOPNOTSUPP), as opposed to damage."""


class Damaged(Exception):
    """The file system contradicts itself."""


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a file. Times in nanoseconds since 1970. `unreadable`: why its content is not given out."""

    number: int
    kind: str
    mode: int
    links: int
    size: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    atime: int = 0
    device: tuple[int, int] | None = None
    unreadable: str = ""


class Reader(Protocol):
    """A file system, its files found by number. Anything may raise OSError (the library's), Damaged, NotRead."""

    root: int

    def about(self, number: int) -> About: ...
    def names(self, number: int) -> list[Name]: ...
    def read(self, number: int, offset: int, length: int) -> bytes: ...
    def target(self, number: int, /) -> bytes: ...
    def extents(self, number: int, start: int, count: int, /) -> list[tuple[int, bool]] | None:
        """Extents from number `start` on, in order, without gaps: length in bytes, whether it is a hole; None where
        the library does not tell."""
        ...

    def free_bytes(self) -> int | None: ...
    def asleep(self) -> bool:
        """Whether a system lies hibernated in it."""
        ...


class DiskFile:
    """The disk for a library, which calls read, seek, tell and get_size. Small reads go to 64 KiB blocks held here."""

    def __init__(self, to: Channel, size: int) -> None:
        self._to, self._size, self._at = to, size, 0
        self._held: OrderedDict[int, bytes] = OrderedDict()

    def get_size(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if self._at < 0:
            raise OSError("a seek to before the start")
        return self._at

    def read(self, length: int = -1) -> bytes:
        data = self.at(self._at, self._size - self._at if length < 0 else length)
        self._at += len(data)
        return data

    def at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer at the end of the disk."""
        length = max(0, min(length, self._size - offset))
        parts = []
        while length > 0:
            number, skip = divmod(offset, BLOCK)
            if not skip and length >= BLOCK:
                part = self._want(offset, min(length - length % BLOCK, channel.LARGEST))
            else:
                part = self._block(number)[skip : skip + length]
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self, number: int) -> bytes:
        block = self._held.get(number)
        if block is None:
            block = self._held[number] = self._want(number * BLOCK, min(BLOCK, self._size - number * BLOCK))
            if len(self._held) > HELD:
                self._held.popitem(last=False)
        self._held.move_to_end(number)
        return block

    def _want(self, offset: int, length: int) -> bytes:
        self._to.send(channel.WANT, channel.RANGE.pack(offset, length))
        kind, data = self._to.receive()
        if kind != channel.BLOCK or len(data) != length:
            raise OSError(f"{length} bytes of the disk at {offset} cannot be read")
        return data


def exactly(disk: DiskFile, offset: int, length: int) -> bytes:
    """Raises Damaged where the disk ends before."""
    data = disk.at(offset, length)
    if offset < 0 or len(data) != length:
        raise Damaged(f"{length} bytes at {offset} are not on the disk")
    return data


def kind_of(mode: int) -> str:
    return KINDS.get(stat.S_IFMT(mode), "unknown")


class Held:
    """The library's objects of the files last used, since to make one reads metadata again."""

    def __init__(self, count: int = 16) -> None:
        self._count = count
        self._objects: OrderedDict[int, Any] = OrderedDict()

    def get(self, number: int) -> Any:
        found = self._objects.get(number)
        if found is not None:
            self._objects.move_to_end(number)
        return found

    def put(self, number: int, found: Any) -> Any:
        self._objects[number] = found
        if len(self._objects) > self._count:
            self._objects.popitem(last=False)
        return found
