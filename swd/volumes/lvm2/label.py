# SPDX-License-Identifier: Apache-2.0
"""The label of a physical volume: which disk of which volume group this is, and where its metadata lies.

A label stands in one of the first four sectors of 512 bytes, whatever the disk's blocks are. Nothing in it is believed
beyond the disk's own end, and its lists are short.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final, Protocol

SECTOR: Final = 512
SCANNED: Final = 4  # sectors
_ID, _TYPE = b"LABELONE", b"LVM2 001"
_INITIAL_CRC: Final = 0xF597A6CF
_LABEL = struct.Struct("<8sQII8s")
_CRC_FROM: Final = 20  # the checksum covers the sector from here on
_AREA = struct.Struct("<QQ")
MOST_AREAS: Final = 16  # LVM makes one data area and up to two metadata areas
USED: Final = 1  # flag of the header's extension: a volume group has this disk


class Source(Protocol):
    """What is read from: a `swd.disk.Disk`, or anything else with bytes at offsets."""

    @property
    def size(self) -> int: ...
    def pread(self, length: int, offset: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes start..start+size-1 of a disk; in a label size 0 means up to the end."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Label:
    """`uuid` in LVM's spelling; `size` of the device in bytes, as it was when the label was written."""

    uuid: str
    size: int
    sector: int
    data: tuple[Extent, ...]
    metadata: tuple[Extent, ...]
    used: bool | None  # None: written by a version that did not say


def checksum(*parts: bytes) -> int:
    """LVM's CRC-32: the usual polynomial with a start of its own, and not inverted at the end."""
    value = _INITIAL_CRC ^ 0xFFFFFFFF
    for part in parts:
        value = zlib.crc32(part, value)
    return value ^ 0xFFFFFFFF


def uuid_text(raw: bytes) -> str | None:
    """32 letters and digits as LVM writes them, 6-4-4-4-4-4-6; None if they are anything else."""
    if len(raw) != 32 or not raw.isalnum():
        return None
    text, groups, at = raw.decode("ascii"), [], 0
    for length in (6, 4, 4, 4, 4, 4, 6):
        groups.append(text[at : at + length])
        at += length
    return "-".join(groups)


def find(disk: Source) -> tuple[Label | None, list[str]]:
    """The first sound label of a disk, if it has one, and what is wrong with those before it."""
    start = disk.pread(SCANNED * SECTOR, 0)
    problems: list[str] = []
    for sector in range(len(start) // SECTOR):
        block = start[sector * SECTOR : (sector + 1) * SECTOR]
        if not block.startswith(_ID):
            continue
        found = _read(block, sector)
        if isinstance(found, Label):
            return found, problems
        problems.append(f"the label in sector {sector} is damaged: {found}")
    return None, problems


def _read(block: bytes, sector: int) -> Label | str:
    _id, where, crc, offset, kind = _LABEL.unpack_from(block)
    if where != sector:
        return f"it belongs to sector {where}"
    if checksum(block[_CRC_FROM:]) != crc:
        return "wrong checksum"
    if kind != _TYPE:
        return f"of a type that is not known, {kind!r}"
    header = block[offset:] if offset < SECTOR else b""
    uuid = uuid_text(header[:32])
    if uuid is None or len(header) < 40:
        return "no UUID"
    (size,) = struct.unpack_from("<Q", header, 32)
    data, at = _areas(header, 40)
    metadata, at = _areas(header, at)
    if data is None or metadata is None:
        return "a list of areas without end"
    return Label(uuid, size, sector, data, metadata, _used(header, at))


def _areas(header: bytes, at: int) -> tuple[tuple[Extent, ...] | None, int]:
    """A list that ends with an area of zeros, and where the next thing begins; None for one that does not end."""
    found: list[Extent] = []
    while at + _AREA.size <= len(header) and len(found) < MOST_AREAS:
        start, size = _AREA.unpack_from(header, at)
        at += _AREA.size
        if not start:
            return tuple(found), at
        found.append(Extent(start, size))
    return None, at


def _used(header: bytes, at: int) -> bool | None:
    if at + 8 > len(header):
        return None
    version, flags = struct.unpack_from("<II", header, at)
    return bool(flags & USED) if version >= 1 else None
