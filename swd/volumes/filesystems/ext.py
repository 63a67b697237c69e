# SPDX-License-Identifier: Apache-2.0
"""The superblock of ext2, ext3 and ext4 (Linux: Documentation/filesystems/ext4/super.rst): what it is, whether it is
clean, and which features the reader is known to read right. Any other feature refuses the file system.
"""

from __future__ import annotations

import struct
import uuid
from typing import Final

from swd._crc32c import crc32c
from swd.errors import FileSystemError
from swd.volumes.filesystems.record import FileSystem, Look, text

OFFSET: Final = 1024
SIZE: Final = 1024
MAGIC: Final = 0xEF53

STATE_VALID: Final = 1
STATE_ERROR: Final = 2

COMPAT_JOURNAL: Final = 0x4
INCOMPAT_RECOVER: Final = 0x4
INCOMPAT_64BIT: Final = 0x80
RO_METADATA_CSUM: Final = 0x400
RO_ORPHAN_PRESENT: Final = 0x10000

# Bits of the feature words -> their names (e2fsprogs). `True`: tests show that the reader is right with it.
INCOMPAT: Final[dict[int, tuple[str, bool]]] = {
    0x1: ("compression", False),
    0x2: ("filetype", True),
    0x4: ("needs_recovery", True),  # judged as dirty, below
    0x8: ("journal_dev", False),
    0x10: ("meta_bg", False),
    0x40: ("extent", True),
    0x80: ("64bit", True),
    0x100: ("mmp", False),  # another host may have it mounted, and the superblock would not say so
    0x200: ("flex_bg", True),
    0x400: ("ea_inode", True),
    0x1000: ("dirdata", False),
    0x2000: ("metadata_csum_seed", True),
    0x4000: ("large_dir", False),
    0x8000: ("inline_data", False),  # the reader gives wrong bytes for small files
    0x10000: ("encrypt", False),
    0x20000: ("casefold", False),
}
# Of the features that any kernel may ignore, the ones that the reader does not know and refuses.
COMPAT_REFUSED: Final[dict[int, str]] = {0x200: "sparse_super2", 0x400: "fast_commit", 0x800: "stable_inodes"}
# Read-only features do not matter to who only reads, but for these.
RO_COMPAT: Final[dict[int, str]] = {0x200: "bigalloc", 0x4000: "replica", 0x100: "quota"}
RO_REFUSED: Final = 0x4000

# offset and format of the fields that are used
_HEAD: Final = struct.Struct("<IIIIIII")  # inodes, blocks, reserved, free blocks, free inodes, first block, log size


def parse(look: Look) -> FileSystem | None:
    """The file system at the start of the disk; None if there is none. Raises FileSystemError for a damaged one."""
    if look.size < OFFSET + SIZE:
        return None
    raw = look.at(OFFSET, SIZE)
    if _u16(raw, 56) != MAGIC:
        return None
    compat, incompat, ro_compat = struct.unpack_from("<III", raw, 92) if _u32(raw, 76) else (0, 0, 0)
    if ro_compat & RO_METADATA_CSUM and _u32(raw, 1020) != crc32c(raw[:1020]) ^ 0xFFFFFFFF:
        raise FileSystemError("the checksum of the ext4 superblock is wrong.\nRun e2fsck on a copy of it.")
    inodes, blocks, _reserved, free, free_inodes, _first, log_size = _HEAD.unpack_from(raw, 0)
    if incompat & INCOMPAT_64BIT:
        blocks |= _u32(raw, 336) << 32
        free |= _u32(raw, 344) << 32
    if log_size > 6 or not blocks or not inodes or not _u32(raw, 32) or not _u32(raw, 40):
        raise FileSystemError(
            "the ext superblock makes no sense (sizes, inodes or groups).\nRun e2fsck on a copy of it."
        )
    block_size = 1024 << log_size
    return FileSystem(
        kind=_kind(compat, incompat, ro_compat),
        label=text(raw[120:136]),
        uuid=str(uuid.UUID(bytes=raw[104:120])),
        block_size=block_size,
        size_bytes=blocks * block_size,
        free_bytes=min(free, blocks) * block_size,
        files=max(inodes - free_inodes, 0),
        dirty=_dirty(_u16(raw, 58), incompat, ro_compat),
        unsupported=_unsupported(compat, incompat, ro_compat) or _too_long(blocks * block_size, look.size),
        mark=look.mark(),
    )


def _kind(compat: int, incompat: int, ro_compat: int) -> str:
    """As blkid names them: ext4 is what ext3 cannot mount, ext3 is what has a journal."""
    if incompat & ~0x16 or ro_compat & ~0x7:
        return "ext4"
    return "ext3" if compat & COMPAT_JOURNAL else "ext2"


def _dirty(state: int, incompat: int, ro_compat: int) -> str:
    if incompat & INCOMPAT_RECOVER:
        return "its journal must be replayed (needs_recovery): it is mounted somewhere, or was not unmounted"
    if state & STATE_ERROR:
        return "the kernel has marked errors in it"
    if not state & STATE_VALID:
        return "it was not unmounted cleanly"
    if ro_compat & RO_ORPHAN_PRESENT:
        return "it has orphaned files that were not cleaned up"
    return ""


def _unsupported(compat: int, incompat: int, ro_compat: int) -> str:
    bad = [
        INCOMPAT.get(bit, (f"0x{bit:x}", False))[0] for bit in _bits(incompat) if not INCOMPAT.get(bit, ("", False))[1]
    ]
    bad += [name for bit, name in COMPAT_REFUSED.items() if compat & bit]
    bad += [RO_COMPAT.get(bit, f"0x{bit:x}") for bit in _bits(ro_compat & RO_REFUSED)]
    return f"feature {', '.join(bad)}" if bad else ""


def _too_long(claimed: int, there: int) -> str:
    return f"it claims {claimed} bytes, and the disk has {there}" if claimed > there else ""


def _bits(word: int) -> list[int]:
    return [1 << n for n in range(32) if word >> n & 1]


def _u16(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 2], "little")


def _u32(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 4], "little")
