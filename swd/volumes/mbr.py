# SPDX-License-Identifier: Apache-2.0
"""The MBR and its chain of extended boot records. Addresses in it are in logical blocks of the disk.

A chain that goes in a circle, leaves its extended partition or never ends is cut where that shows.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from swd.disk import Disk
from swd.volumes.table import Partition

PROTECTIVE: Final = 0xEE  # the whole disk is a GPT's (UEFI 5.2.3)
EXTENDED: Final = frozenset({0x05, 0x0F, 0x85})
MOST: Final = 255  # partitions; Linux stops at 256 minus the disk itself
MOST_EMPTY: Final = 100  # extended boot records in a row without a partition; Linux's limit

_SLOTS, _SLOT, _MAGIC = 446, 16, b"\x55\xaa"
_FIRST_LOGICAL: Final = 5


class Slot(NamedTuple):
    """One of the four entries, in blocks."""

    boot: int
    type: int
    start: int
    length: int


def slots(block: bytes) -> list[Slot] | None:
    """The four entries of an MBR; None if the block is none. A FAT boot sector ends with the same two bytes; only its
    boot flags, which are code there, tell it apart.
    """
    if len(block) < 512 or block[510:512] != _MAGIC:
        return None
    found = [_slot(block[at : at + _SLOT]) for at in range(_SLOTS, 510, _SLOT)]
    return None if any(slot.boot & 0x7F for slot in found) else found


def _slot(entry: bytes) -> Slot:
    boot, kind = entry[0], entry[4]
    return Slot(boot, kind, *struct.unpack_from("<II", entry, 8))


def read(disk: Disk, primary: Sequence[Slot]) -> list[Partition]:
    """The primary partitions, by slot, then the logical ones of every extended partition. The extended ones themselves
    are containers, no partitions to open.
    """
    found = [
        _partition(disk, number, slot.start, slot)
        for number, slot in enumerate(primary, 1)
        if slot.length and slot.type not in EXTENDED
    ]
    number = _FIRST_LOGICAL
    for slot in primary:
        if slot.length and slot.type in EXTENDED:
            for start, logical in _logical(disk, slot):
                if number > MOST:
                    return found
                found.append(_partition(disk, number, start, logical))
                number += 1
    return found


def _logical(disk: Disk, extended: Slot) -> Iterator[tuple[int, Slot]]:
    """Where each logical partition starts, with its entry: a walk along the extended boot records."""
    at, count, empty = extended.start, extended.length, 0
    seen: set[int] = set()
    while at not in seen and empty <= MOST_EMPTY and at < disk.size // disk.block_size:
        seen.add(at)
        entries = slots(disk.pread(disk.block_size, at * disk.block_size))
        if entries is None:
            return
        empty += 1
        for index, one in enumerate(entries):
            if not one.length or one.type in EXTENDED or not _belongs(index, at, count, one, extended):
                continue
            empty = 0
            yield at + one.start, one
        link = next((one for one in entries if one.length and one.type in EXTENDED), None)
        if link is None:
            return
        at, count = extended.start + link.start, link.length


def _belongs(index: int, at: int, count: int, one: Slot, extended: Slot) -> bool:
    """Entries 2 and 3 are often left over from something else: only those that lie inside count, as in Linux."""
    if index < 2:
        return True
    start = at + one.start
    inside_record = one.start + one.length <= count
    return inside_record and extended.start <= start and start + one.length <= extended.start + extended.length


def _partition(disk: Disk, number: int, start: int, slot: Slot) -> Partition:
    size = disk.block_size
    return Partition(number, start * size, slot.length * size, f"{slot.type:02x}")
