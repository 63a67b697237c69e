# SPDX-License-Identifier: Apache-2.0
"""XFS by libfsxfs. Names and targets of links are taken from the disk's bytes: the library has no word for what is no
UTF-8. Directories in inodes, in one block and in many are understood; their hashes are not needed to list them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final

import pyfsxfs

from swd.volumes.filesystems.child.base import About, Damaged, DiskFile, Held, Name, exactly, kind_of
from swd.volumes.filesystems.xfs import SIZE, Geometry, geometry

HOLE: Final = 1  # flag of an extent
LOCAL: Final = 1  # di_format: the data lies in the inode
ONE_BLOCK: Final = (b"XD2B", b"XDB3")
MANY_BLOCKS: Final = (b"XD2D", b"XDD3")
HEADER: Final = {b"XD2B": 16, b"XD2D": 16, b"XDB3": 64, b"XDD3": 64}
LINK_HEADER: Final = 56  # of each extent of a link's target, "XSLM", version 5
LONGEST_EXTENT: Final = 64 << 10
LONGEST_LINK: Final = 1024
LONGEST_DIRECTORY: Final = 1 << 30  # bytes: some ten million names


def open(disk: DiskFile) -> XfsReader:
    return XfsReader(disk)


class XfsReader:
    def __init__(self, disk: DiskFile) -> None:
        raw = exactly(disk, 0, SIZE)
        self._disk, self._shape = disk, geometry(raw)
        self._volume = pyfsxfs.volume()
        self._volume.open_file_object(disk)
        self._files = Held()
        self.root = int.from_bytes(raw[56:64], "big")

    def about(self, number: int) -> About:
        file = self._file(number)
        mode, links = file.file_mode, file.number_of_links
        if not mode or not links:
            raise Damaged(f"inode {number} is not in use")
        kind = kind_of(mode)
        device = file.device_number if kind in ("char", "block") else None
        return About(
            number,
            kind,
            mode & 0o7777,
            links,
            file.size,
            file.owner_identifier,
            file.group_identifier,
            file.get_modification_time_as_integer() or 0,
            file.get_access_time_as_integer() or 0,
            (device[0], device[1]) if device else None,
        )

    def names(self, number: int) -> list[Name]:
        raw = self._inode(number)
        if kind_of(int.from_bytes(raw[2:4], "big")) != "directory":
            raise Damaged(f"inode {number} is no directory")
        if raw[5] == LOCAL:
            return short(self._literal(raw), self._shape.file_types)
        found: list[Name] = []
        for block in self._blocks(number):
            if block[:4] in HEADER:
                found += entries(block, self._shape.file_types)
        return found

    def read(self, number: int, offset: int, length: int) -> bytes:
        found: bytes = self._file(number).read_buffer_at_offset(length, offset)
        return found

    def target(self, number: int) -> bytes:
        raw = self._inode(number)
        size = int.from_bytes(raw[56:64], "big")
        if not 0 < size <= LONGEST_LINK:
            raise Damaged(f"a symbolic link of {size} bytes")
        if raw[5] == LOCAL:
            return self._literal(raw)[:size]
        found = b"".join(self._link_parts(number))
        if len(found) < size:
            raise Damaged("a symbolic link that is cut short")
        return found[:size]

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
        shape: Geometry = self._shape
        raw = exactly(self._disk, shape.inode_at(number), shape.inode_size)
        if raw[:2] != b"IN":
            raise Damaged(f"inode {number} has no magic number")
        return raw

    def _literal(self, raw: bytes) -> bytes:
        """The part of an inode that holds the data, up to the extended attributes (di_forkoff, in 8 bytes)."""
        start = 176 if raw[4] >= 3 else 100
        return raw[start : start + raw[82] * 8] if raw[82] else raw[start:]

    def _link_parts(self, number: int) -> Iterator[bytes]:
        """The parts of a target outside of its inode. In version 5 each extent, not each block, begins with a header;
        the library takes it for a part of the target."""
        file = self._file(number)
        for n in range(min(file.number_of_extents, 3)):
            offset, length, _flags = file.get_extent(n)
            raw = exactly(self._disk, self._shape.at(offset // self._shape.block_size), min(length, LONGEST_EXTENT))
            if self._shape.version == 5:
                if raw[:4] != b"XSLM":
                    raise Damaged("a symbolic link without its header")
                raw = raw[LINK_HEADER : LINK_HEADER + int.from_bytes(raw[8:12], "big")]
            yield raw

    def _blocks(self, number: int) -> Iterator[bytes]:
        """A directory's blocks. Data, hashes and free list each begin at a multiple of the block's size."""
        return self._pieces(number, self._shape.directory_block)

    def _pieces(self, number: int, size: int) -> Iterator[bytes]:
        file, rest, seen = self._file(number), b"", 0
        unit = self._shape.block_size
        for n in range(file.number_of_extents):
            offset, length, flags = file.get_extent(n)
            if flags & HOLE:
                continue
            seen += length
            if seen > LONGEST_DIRECTORY:
                raise Damaged("a directory without end")
            start = self._shape.at(offset // unit)  # the library counts as block numbers do, groups padded
            for at in range(start, start + length, unit):
                rest += exactly(self._disk, at, unit)
                if len(rest) >= size:
                    yield rest[:size]
                    rest = rest[size:]


def short(raw: bytes, types: bool) -> list[Name]:
    """The names of a directory that lies in its inode (xfs_dir2_sf_hdr)."""
    count, wide = raw[0], 8 if raw[1] else 4
    found, at = [], 2 + wide
    for _ in range(count):
        size = raw[at]
        name = raw[at + 3 : at + 3 + size]
        at += 3 + size + types
        number = raw[at : at + wide]
        if not size or len(number) != wide:
            raise Damaged("a directory is cut short")
        found.append((name, int.from_bytes(number, "big")))
        at += wide
    return found


def entries(block: bytes, types: bool) -> list[Name]:
    """The names in a directory's data block, without `.` and `..`."""
    end = len(block)
    if block[:4] in ONE_BLOCK:  # its hashes stand at its end
        end -= 8 + 8 * int.from_bytes(block[-8:-4], "big")
    found, at = [], HEADER[block[:4]]
    while at + 11 <= end:
        if block[at : at + 2] == b"\xff\xff":  # a gap
            (length,) = struct.unpack_from(">H", block, at + 2)
            if length < 8 or length % 8:
                raise Damaged("a gap of an impossible length in a directory")
            at += length
            continue
        size = block[at + 8]
        name = block[at + 9 : at + 9 + size]
        if not size or at + 9 + size > end:
            raise Damaged("a directory entry of an impossible length")
        if name not in (b".", b".."):
            found.append((name, int.from_bytes(block[at : at + 8], "big")))
        at += -(-(9 + size + types + 2) // 8) * 8
    return found
