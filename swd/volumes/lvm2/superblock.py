# SPDX-License-Identifier: Apache-2.0
"""What device-mapper writes about a raid array: the superblock on each leg's metadata volume, and the bitmap behind it.

The layouts are those of Linux's drivers/md/dm-raid.c (struct dm_raid_superblock) and md-bitmap.h (bitmap_super_s).
Nothing is judged here; `raidstate` does that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"DmRd"
ALL: Final = (1 << 64) - 1  # MaxSector: recovery or resync is complete
BITMAP_AT: Final = 4096  # bytes
MOST_BITMAP: Final = 16 << 20
SUPPORTS_V190: Final = 1

_FIRST = struct.Struct("<4sIIIQQQQIII")
_SECOND = struct.Struct("<IQIIIIQQQQ3QI")
_BITMAP = struct.Struct("<4sI16sQQQIII")
_BITMAP_HEADER: Final = 256
_STALE, _WRITE_ERROR = 2, 4  # flags of a bitmap's state


@dataclass(frozen=True, slots=True)
class Superblock:
    """Offsets in sectors; `failed` are the positions of the legs that the array goes on without."""

    devices: int
    position: int
    events: int
    failed: frozenset[int]
    recovery: int
    resync: int
    level: int
    layout: int
    stripe: int
    reshaping: bool
    data_offset: int
    incompatible: int


def parse(block: bytes) -> Superblock | None:
    """None where there is none: a leg that was never used."""
    if not block.startswith(MAGIC):
        return None
    _magic, compatible, devices, position, events, failed, recovery, resync, level, layout, stripe = _FIRST.unpack_from(
        block
    )
    reshaping, data_offset, incompatible, bits = False, 0, 0, [failed]
    if compatible & SUPPORTS_V190:
        flags, _at, new_level, new_layout, new_stripe, delta, _size, data_offset, new_offset, _used, *more = (
            _SECOND.unpack_from(block, _FIRST.size)
        )
        changes = (new_level, new_layout, new_stripe, delta, new_offset) != (level, layout, stripe, 0, data_offset)
        reshaping = bool(flags) or changes
        bits += more[:3]
        incompatible = more[3]
    return Superblock(
        devices,
        position,
        events,
        frozenset(64 * word + bit for word, value in enumerate(bits) for bit in range(64) if value >> bit & 1),
        recovery,
        resync,
        level,
        layout,
        stripe,
        reshaping,
        data_offset,
        incompatible,
    )


@dataclass(frozen=True, slots=True)
class Bitmap:
    """Which chunks of `chunk` sectors may differ between the legs: a bit each, the first in bit 0 of byte 0."""

    chunk: int
    bits: bytes
    events: int

    def dirty(self, first: int, last: int) -> bool:
        """Whether any chunk of these sectors, both included, is dirty; so is one that the bitmap does not have."""
        low, high = first // self.chunk, last // self.chunk
        if high >= 8 * len(self.bits):
            return True
        return any(self.bits[bit >> 3] >> (bit & 7) & 1 for bit in range(low, high + 1))


def bitmap(content: bytes) -> Bitmap | None:
    """The bitmap that begins `content`; None for one that is not there or says that it is not to be trusted."""
    if len(content) < _BITMAP_HEADER:
        return None
    magic, version, _uuid, events, _cleared, size, state, chunk, _sleep = _BITMAP.unpack_from(content)
    if magic != b"bitm" or version not in (3, 4, 5) or state & (_STALE | _WRITE_ERROR):
        return None
    if chunk < 512 or chunk & (chunk - 1):
        return None
    sectors = chunk // 512
    length = (-(-size // sectors) + 7) // 8
    return Bitmap(sectors, content[_BITMAP_HEADER : _BITMAP_HEADER + length], events)
