# SPDX-License-Identifier: Apache-2.0
"""The superblock of XFS (xfsprogs: XFS Algorithms & Data Structures, 3rd edition): what it is, whether its log is
clean, and which features the reader is known to read right. Any other feature refuses the file system.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Final

from swd._crc32c import crc32c
from swd.errors import FileSystemError
from swd.volumes.filesystems import xfs_log
from swd.volumes.filesystems.record import FileSystem, Look, text

MAGIC: Final = b"XFSB"
SIZE: Final = 512

V4_REFUSED: Final = 0x0800 | 0x4000  # 2-part sectors, ASCII-only case-insensitive names: never tested here
INCOMPAT: Final[dict[int, tuple[str, bool]]] = {
    0x1: ("ftype", True),
    0x2: ("sparse inodes", True),
    0x4: ("meta_uuid", False),
    0x8: ("bigtime", True),
    0x10: ("needsrepair", False),
    0x20: ("nrext64", True),
    0x40: ("exchange", False),
    0x80: ("parent", False),
    0x100: ("metadir", False),
}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where things are. Sizes in bytes, `log_start` on the disk; 0 where the log is on another device."""

    block_size: int
    group_blocks: int
    group_bits: int
    groups: int
    inode_size: int
    inode_bits: int  # of an inode number: its place in a block
    directory_block: int
    version: int
    file_types: bool

    def at(self, block: int) -> int:
        """The byte on the disk of a file-system block number, which holds a group's number in its high bits."""
        group, inside = block >> self.group_bits, block & ((1 << self.group_bits) - 1)
        if group >= self.groups or inside >= self.group_blocks:
            raise FileSystemError(f"XFS block number {block} is outside of the file system: it is damaged")
        return (group * self.group_blocks + inside) * self.block_size

    def inode_at(self, number: int) -> int:
        """The byte on the disk of an inode."""
        return self.at(number >> self.inode_bits) + (number & ((1 << self.inode_bits) - 1)) * self.inode_size


def geometry(raw: bytes) -> Geometry:
    """From a superblock. Raises FileSystemError if its numbers do not fit together."""
    block_size, group_blocks, groups = _u32(raw, 4), _u32(raw, 84), _u32(raw, 88)
    version, inode_size = _u16(raw, 100) & 15, _u16(raw, 104)
    block_bits, inode_bits, group_bits, directory_bits = raw[120], raw[123], raw[124], raw[192]
    right = (
        version in (4, 5)
        and 9 <= block_bits <= 16
        and block_size == 1 << block_bits
        and inode_size in (256, 512, 1024, 2048)
        and block_size == inode_size << inode_bits
        and 1 <= group_bits <= 31
        and 0 < group_blocks <= 1 << group_bits
        and groups
        and directory_bits <= 7
    )
    if not right:
        raise _senseless()
    types = bool(_u32(raw, 216) & 1) if version == 5 else bool(_u16(raw, 100) & 0x8000 and _u32(raw, 200) & 0x200)
    return Geometry(
        block_size,
        group_blocks,
        group_bits,
        groups,
        inode_size,
        inode_bits,
        block_size << directory_bits,
        version,
        types,
    )


def parse(look: Look) -> FileSystem | None:
    """The file system at the start of the disk; None if there is none. Raises FileSystemError for a damaged one."""
    if look.size < SIZE:
        return None
    raw = look.at(0, SIZE)
    if raw[:4] != MAGIC:
        return None
    shape = geometry(raw)
    if shape.version == 5:
        whole = raw.ljust(_u16(raw, 102), b"\0") if _u16(raw, 102) <= SIZE else look.at(0, min(_u16(raw, 102), 32768))
        if int.from_bytes(raw[224:228], "little") != crc32c(whole[:224] + bytes(4) + whole[228:]):
            raise FileSystemError("the checksum of the XFS superblock is wrong.\nRun xfs_repair on a copy of it.")
    log = _u32(raw, 96) if _u64(raw, 48) else 0
    blocks = _u64(raw, 8) - log  # as df counts them
    if blocks <= 0:
        raise _senseless()
    unsupported = _unsupported(raw, shape, look.size)
    return FileSystem(
        kind="xfs",
        label=text(raw[108:120]),
        uuid=str(uuid.UUID(bytes=raw[32:48])),
        block_size=shape.block_size,
        size_bytes=blocks * shape.block_size,
        free_bytes=min(_u64(raw, 144), blocks) * shape.block_size,
        files=max(_u64(raw, 128) - _u64(raw, 136), 0),
        dirty="" if unsupported else _dirty(look, raw, shape),
        unsupported=unsupported,
        mark=look.mark(),
    )


def _senseless() -> FileSystemError:
    return FileSystemError("the XFS superblock makes no sense (sizes do not fit together).\nRun xfs_repair on a copy.")


def _dirty(look: Look, raw: bytes, shape: Geometry) -> str:
    start, blocks = _u64(raw, 48), _u32(raw, 96)
    if not start:
        return "its log is on another device, and nobody can say here whether it is clean"
    offset, length = shape.at(start), blocks * shape.block_size
    if not xfs_log.is_clean(look, offset, length):
        return "its log must be replayed: it is mounted somewhere, or was not unmounted"
    return ""


def _unsupported(raw: bytes, shape: Geometry, there: int) -> str:
    if raw[126]:
        return "mkfs.xfs did not finish"
    if _u64(raw, 16):
        return "a realtime device"
    if _u64(raw, 8) * shape.block_size > there:
        return f"it claims {_u64(raw, 8) * shape.block_size} bytes, and the disk has {there}"
    if shape.version == 4:
        return "feature of version 4" if _u16(raw, 100) & V4_REFUSED else ""
    word = _u32(raw, 216)
    bits = [1 << n for n in range(32) if word >> n & 1]
    bad = [INCOMPAT.get(bit, (f"0x{bit:x}", False))[0] for bit in bits if not INCOMPAT.get(bit, ("", False))[1]]
    return f"feature {', '.join(bad)}" if bad else ""


def _u16(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 2], "big")


def _u32(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 4], "big")


def _u64(raw: bytes, offset: int) -> int:
    return int(struct.unpack_from(">Q", raw, offset)[0])
