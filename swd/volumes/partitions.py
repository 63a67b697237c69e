# SPDX-License-Identifier: Apache-2.0
"""Partition tables: which partitions a disk has, and one of them as a Disk of its own.

The rules are those of the Linux kernel, so that a partition has the number here that it has there: a GPT counts where
the MBR says so with a partition of type EEh; of its two headers the first is used if header and entries have the right
checksums, else the second, with a warning; logical partitions are 5 and up. `gpt` and `mbr` read one kind each.
"""

from __future__ import annotations

from dataclasses import dataclass

from swd.disk import Disk
from swd.errors import NoSuchDevice
from swd.volumes import gpt, mbr
from swd.volumes.table import Partition
from swd.volumes.window import Window

__all__ = ["Partition", "Table", "find", "read", "view"]


@dataclass(frozen=True, slots=True)
class Table:
    """`scheme` is "gpt", "mbr", or "" where there is no table. `warnings` are whole sentences."""

    scheme: str
    partitions: tuple[Partition, ...] = ()
    warnings: tuple[str, ...] = ()


def read(disk: Disk) -> Table:
    """The table of a disk. Raises `NoSuchDevice` where it says GPT and neither header is whole; else what reading does.

    Partitions that begin behind the end are left out, those that end behind it are cut, both with a warning.
    """
    first = disk.pread(disk.block_size, 0)
    slots = mbr.slots(first)
    if slots is None:
        return Table("")
    if any(slot.type == mbr.PROTECTIVE for slot in slots):
        found, warnings = gpt.read(disk)
        return Table("gpt", *_inside(disk, found, warnings))
    return Table("mbr", *_inside(disk, mbr.read(disk, slots), []))


def _inside(disk: Disk, found: list[Partition], warnings: list[str]) -> tuple[tuple[Partition, ...], tuple[str, ...]]:
    kept = []
    for one in found:
        if one.start + one.size <= disk.size:
            kept.append(one)
        elif one.start < disk.size:
            warnings.append(f"partition {one.number} ends behind the disk, and is cut there")
            kept.append(one.cut(disk.size - one.start))
        else:
            warnings.append(f"partition {one.number} begins behind the disk, and is left out")
    return tuple(kept), tuple(warnings)


def find(disk: Disk, number: int) -> tuple[Partition, tuple[str, ...]]:
    """Partition `number`, and the warnings of the table. Raises `NoSuchDevice` where there is none of that number."""
    table = read(disk)
    for one in table.partitions:
        if one.number == number:
            return one, table.warnings
    if not table.scheme:
        raise NoSuchDevice(f"{disk.identity} has no partition table: leave partition={number} out")
    there = ", ".join(str(one.number) for one in table.partitions) or "none"
    raise NoSuchDevice(f"{disk.identity} has no partition {number}: its table ({table.scheme}) has {there}")


def view(disk: Disk, partition: Partition) -> Disk:
    """The partition as a Disk. `disk` belongs to it from now on: closing the one closes the other."""
    size = disk.block_size
    name = f"{disk.identity}-part{partition.number}"
    window = Window(disk.unit, partition.start // size, partition.size // size, name)
    return Disk(window, writable=disk.writable, on_close=disk.close)
