# SPDX-License-Identifier: Apache-2.0
"""ext2, ext3, ext4 by libfsext. Names and targets of links are taken from the disk's bytes: the library has no word
for what is no UTF-8. Directories are read in order, as the kernel may, too, whatever their index.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import pyfsext

from swd.volumes.filesystems.child.base import About, Damaged, DiskFile, Held, Name, exactly, kind_of

ROOT: Final = 2
HOLE: Final = 1  # flag of an extent
SHORT_LINK: Final = 60  # a shorter target lies in the inode itself


def open(disk: DiskFile) -> ExtReader:
    return ExtReader(disk)


class ExtReader:
    root = ROOT

    def __init__(self, disk: DiskFile) -> None:
        self._disk = disk
        self._volume = pyfsext.volume()
        self._volume.open_file_object(disk)
        self._files = Held()
        raw = exactly(disk, 1024, 1024)
        log_size, self._per_group = struct.unpack_from("<I", raw, 24)[0], struct.unpack_from("<I", raw, 40)[0]
        self._block = 1024 << log_size
        revision = struct.unpack_from("<I", raw, 76)[0]
        self._inode_size = struct.unpack_from("<H", raw, 88)[0] if revision else 128
        is_64bit = revision and struct.unpack_from("<I", raw, 96)[0] & 0x80
        self._descriptor = struct.unpack_from("<H", raw, 254)[0] if is_64bit else 32
        if not 128 <= self._inode_size <= self._block or not 32 <= self._descriptor <= self._block:
            raise Damaged("the superblock's sizes make no sense")

    def about(self, number: int) -> About:
        file = self._file(number)
        mode, size = file.file_mode, file.size
        links = file.number_of_links
        if not mode or not links:
            raise Damaged(f"inode {number} is not in use")
        device = file.device_number
        return About(
            number,
            kind_of(mode),
            mode & 0o7777,
            links,
            size,
            file.owner_identifier,
            file.group_identifier,
            file.get_modification_time_as_integer() or 0,
            file.get_access_time_as_integer() or 0,
            (device[0], device[1]) if device else None,
        )

    def names(self, number: int) -> list[Name]:
        file, found = self._file(number), []
        if kind_of(file.file_mode) != "directory":
            raise Damaged(f"inode {number} is no directory")
        for n in range(file.number_of_extents):
            offset, size, flags = file.get_extent(n)
            if flags & HOLE:
                continue
            for at in range(offset, offset + size, self._block):
                found += entries(exactly(self._disk, at, self._block))
        return found

    def read(self, number: int, offset: int, length: int) -> bytes:
        found: bytes = self._file(number).read_buffer_at_offset(length, offset)
        return found

    def target(self, number: int) -> bytes:
        file = self._file(number)
        size = file.size
        if not 0 < size <= self._block:
            raise Damaged(f"a symbolic link of {size} bytes")
        if size < SHORT_LINK and not file.number_of_extents:
            return self._inode(number)[40 : 40 + size]
        offset, _length, _flags = file.get_extent(0)
        return exactly(self._disk, offset, size)

    def extents(self, number: int, start: int, count: int) -> list[tuple[int, bool]] | None:
        file = self._file(number)
        end = min(file.number_of_extents, start + count)
        told = (file.get_extent(n) for n in range(start, end))
        return [(size, bool(flags & HOLE)) for _offset, size, flags in told]

    def free_bytes(self) -> int | None:
        return None  # the superblock tells

    def asleep(self) -> bool:
        return False

    def _file(self, number: int) -> Any:
        return self._files.get(number) or self._files.put(number, self._volume.get_file_entry_by_inode(number))

    def _inode(self, number: int) -> bytes:
        group, index = divmod(number - 1, self._per_group)
        table_of_groups = (1024 // self._block + 1) * self._block  # the block after the superblock's
        descriptor = exactly(self._disk, table_of_groups + group * self._descriptor, self._descriptor)
        table: int = struct.unpack_from("<I", descriptor, 8)[0]
        if self._descriptor >= 64:
            table |= struct.unpack_from("<I", descriptor, 40)[0] << 32
        return exactly(self._disk, table * self._block + index * self._inode_size, self._inode_size)


def entries(block: bytes) -> list[Name]:
    """The names in one block of a directory (struct ext4_dir_entry_2), without `.` and `..`."""
    found, at = [], 0
    while at + 8 <= len(block):
        inode, length, size = struct.unpack_from("<IHB", block, at)
        length = len(block) if length in (0, 65535) and len(block) == 65536 else length
        if length < 8 or length % 4 or at + length > len(block) or 8 + size > length:
            raise Damaged("a directory entry of an impossible length")
        name = block[at + 8 : at + 8 + size]
        if inode and name not in (b".", b".."):
            found.append((name, inode))
        at += length
    return found
