# SPDX-License-Identifier: Apache-2.0
"""The commands that give blocks back or fill them without sending them all: UNMAP, WRITE SAME,
and GET LBA STATUS, which tells where blocks have gone (SBC-3 5.36, 5.45, 5.6)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from swd.target.scsi.cdb import blocks_of, check_range
from swd.target.scsi.reply import (
    Outcome,
    Reply,
    Request,
    WantData,
    invalid_field,
    invalid_parameter,
    parameter_list_length,
)

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit

_ANCHOR, _UNMAP, _NDOB = 0x10, 0x08, 0x01
_WRITE_SAME_16 = 0x93
_DESCRIPTOR = 16
_CHUNK = 1 << 20
_MAX_STATUS = 256  # descriptors of one answer
_MAPPED, _DEALLOCATED = 0, 1


def write_same(unit: LogicalUnit, request: Request) -> Outcome:
    """One block of Data-Out over the whole range; zeros with the UNMAP bit give the storage back (LBPRZ=1)."""
    flags = request.cdb[1]
    no_data = request.cdb[0] == _WRITE_SAME_16 and bool(flags & _NDOB)
    if flags & 0xE0 or flags & _ANCHOR or (flags & _UNMAP and not unit.thin):
        raise invalid_field()
    lba, blocks = blocks_of(request.cdb)
    check_range(lba, blocks, unit.blocks)
    if not blocks or blocks > unit.max_write_same:  # WSNZ=1 in the Block Limits page
        raise invalid_field()
    request.exactly(0 if no_data else unit.block_size)
    fill = partial(_filled, unit, lba * unit.block_size, blocks * unit.block_size)
    return fill(memoryview(bytes(unit.block_size))) if no_data else WantData(unit.block_size, fill)


def _filled(unit: LogicalUnit, offset: int, length: int, block: memoryview) -> Reply:
    if not any(block):
        with unit.state.changes:
            unit.medium.zero(offset, length)
        return _settled(unit)
    pattern = bytes(block) * (min(length, _CHUNK) // unit.block_size)
    for done in range(0, length, len(pattern)):
        with unit.state.changes:
            unit.medium.write(offset + done, pattern[: length - done])
    return _settled(unit)


def _settled(unit: LogicalUnit) -> Reply:
    """Without a write cache, what was written is durable when the command ends."""
    if not unit.state.write_cache:
        unit.medium.flush()
    return Reply()


def unmap(unit: LogicalUnit, request: Request) -> Outcome:
    """All descriptors are judged before any block is touched (SBC-3 5.36.1: a bad one fails the command)."""
    if request.cdb[1] & 0x01:  # ANCHOR
        raise invalid_field()
    length = int.from_bytes(request.cdb[7:9], "big")
    return WantData(length, partial(_unmapped, unit)) if length else Reply()


def _unmapped(unit: LogicalUnit, data: memoryview) -> Reply:
    ranges = _descriptors(data)
    if len(ranges) > unit.max_unmap_descriptors or sum(blocks for _, blocks in ranges) > unit.max_write_same:
        raise invalid_parameter()
    for lba, blocks in ranges:
        if blocks:
            check_range(lba, blocks, unit.blocks)
    for lba, blocks in ranges:
        if blocks:
            with unit.state.changes:
                unit.medium.zero(lba * unit.block_size, blocks * unit.block_size)
    return Reply()


def get_lba_status(unit: LogicalUnit, request: Request) -> Reply:
    """Runs of mapped and deallocated blocks from an LBA on, as many as fit (SBC-3 5.6)."""
    lba, room = int.from_bytes(request.cdb[2:10], "big"), int.from_bytes(request.cdb[10:14], "big")
    check_range(lba, 1, unit.blocks)
    runs = b""
    while lba < unit.blocks and len(runs) < min(room, _MAX_STATUS * _DESCRIPTOR):
        status, blocks = _run(unit, lba)
        runs += lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + bytes([status, 0, 0, 0])
        lba += blocks
    return Reply(data=((4 + len(runs)).to_bytes(4, "big") + bytes(4) + runs)[:room])


def _run(unit: LogicalUnit, lba: int) -> tuple[int, int]:
    """(provisioning status, blocks) at an LBA; a block of which any part has storage is mapped."""
    used, length = unit.medium.extent(lba * unit.block_size)
    whole = length // unit.block_size
    limit = min(unit.blocks - lba, 0xFFFFFFFF)
    if used or not whole:
        return _MAPPED, min(max(-(-length // unit.block_size), 1), limit)
    return _DEALLOCATED, min(whole, limit)


def _descriptors(data: memoryview) -> list[tuple[int, int]]:
    """(LBA, blocks) of the parameter list; a truncated last descriptor is ignored as the standard asks (5.36.2)."""
    if len(data) < 8:
        raise parameter_list_length()
    end = min(8 + int.from_bytes(data[2:4], "big"), len(data))
    whole = range(8, end - _DESCRIPTOR + 1, _DESCRIPTOR)
    return [(int.from_bytes(data[at : at + 8], "big"), int.from_bytes(data[at + 8 : at + 12], "big")) for at in whole]
