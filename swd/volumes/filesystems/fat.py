# SPDX-License-Identifier: Apache-2.0
"""The boot sector of FAT12, FAT16 and FAT32 (Microsoft: FAT32 File System Specification 1.03), the flags that say
whether it was unmounted, and how many clusters are free. exFAT is recognised, and not read.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from typing import Final

from swd.errors import FileSystemError
from swd.volumes.filesystems.record import FileSystem, Look, Readable, text

SECTOR: Final = 512
DIRTY_BYTE: Final = {
    12: 37,
    16: 37,
    32: 65,
}  # the byte of the boot sector whose bit 0 Windows and Linux set while mounted
PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a FAT file system: bits of an entry of its table, and where the table is. Sizes in bytes."""

    bits: int
    cluster: int
    clusters: int
    table: int
    total: int


def parse(look: Look) -> FileSystem | None:
    """The file system at the start of the disk; None if there is none. Raises FileSystemError for a damaged one."""
    if look.size < SECTOR:
        return None
    raw = look.at(0, SECTOR)
    if raw[3:11] == b"EXFAT   ":
        return FileSystem("exfat", "", "", 0, 0, unsupported="exFAT is not read by this version", mark=look.mark())
    if raw[54:62] not in (b"FAT12   ", b"FAT16   ", b"FAT     ") and raw[82:90] != b"FAT32   ":
        return None
    if raw[510:512] != b"\x55\xaa":
        return None
    shape = shape_of(raw)
    extended = 64 if shape.bits == 32 else 36
    serial = int.from_bytes(raw[extended + 3 : extended + 7], "little")
    return FileSystem(
        kind=f"fat{shape.bits}",
        label=text(raw[extended + 7 : extended + 18], "cp437"),
        uuid=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
        block_size=shape.cluster,
        size_bytes=shape.clusters * shape.cluster,
        dirty=_dirty(look, raw, shape),
        unsupported="" if shape.total <= look.size else f"it claims {shape.total} bytes, and the disk has {look.size}",
        mark=look.mark(),
    )


def free_bytes(disk: Readable) -> int:
    """Counts the free entries of the table, which is read whole."""
    look = Look(disk)
    shape = shape_of(look.at(0, SECTOR))
    free, done, end = 0, 0, shape.clusters + 2
    step = PIECE - PIECE % 3  # FAT12 packs two entries into three bytes
    while done < end:
        entries = min(end - done, step * 8 // shape.bits)
        raw = look.at(shape.table + done * shape.bits // 8, -(-entries * shape.bits // 8))
        free += _zeros(raw, shape.bits, entries, skip=2 if done == 0 else 0)
        done += entries
    return free * shape.cluster


def _zeros(raw: bytes, bits: int, entries: int, skip: int) -> int:
    if bits == 12:
        packed = raw + bytes(2)
        values = (
            int.from_bytes(packed[n * 3 // 2 : n * 3 // 2 + 2], "little") >> (4 * (n & 1)) & 0xFFF
            for n in range(skip, entries)
        )
        return sum(not value for value in values)
    words = array("H" if bits == 16 else "I", raw)[skip:entries]
    if bits == 16:
        return words.count(0)
    if sys.byteorder == "big":
        words.byteswap()
    return sum(not word & 0x0FFFFFFF for word in words)  # the upper four bits are not the entry's


def shape_of(raw: bytes) -> Shape:
    sector, per_cluster, reserved, tables, root, small, _media, per_table = struct.unpack_from("<HBHBHHBH", raw, 11)
    total = small or int.from_bytes(raw[32:36], "little")
    per_table = per_table or int.from_bytes(raw[36:40], "little")
    right = sector in (512, 1024, 2048, 4096) and per_cluster and not per_cluster & (per_cluster - 1)
    if not (right and reserved and tables and per_table):
        raise FileSystemError("the FAT boot sector makes no sense (sizes).\nRun fsck.fat on a copy of it.")
    data = reserved + tables * per_table + -(-root * 32 // sector)
    clusters = (total - data) // per_cluster
    if clusters < 1:
        raise FileSystemError("the FAT boot sector leaves no room for data.\nRun fsck.fat on a copy of it.")
    bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
    if (bits == 32) != (raw[82:90] == b"FAT32   ") or (clusters + 2) * bits > per_table * sector * 8:
        raise FileSystemError(
            "the FAT boot sector contradicts itself (number of clusters).\nRun fsck.fat on a copy of it."
        )
    return Shape(bits, per_cluster * sector, clusters, reserved * sector, total * sector)


def _dirty(look: Look, raw: bytes, shape: Shape) -> str:
    mounted = "it is mounted somewhere, or was not unmounted"
    if raw[DIRTY_BYTE[shape.bits]] & 1:
        return mounted
    if shape.bits == 12:
        return ""
    width = shape.bits // 8
    second = int.from_bytes(look.at(shape.table + width, width), "little")
    clean, no_errors = 1 << (15 if width == 2 else 27), 1 << (14 if width == 2 else 26)
    if not second & clean:
        return mounted
    return "" if second & no_errors else "errors of the medium were met when it was last mounted"
