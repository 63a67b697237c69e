# SPDX-License-Identifier: Apache-2.0
"""The commands that touch blocks: READ, WRITE, VERIFY, SYNCHRONIZE CACHE (SBC-3 section 5).

`unit.media_range` turns LBA and count into bytes, and has refused what is out of range before any data moves.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from swd.target.scsi.cdb import blocks_of, check_range
from swd.target.scsi.reply import MISCOMPARE, CheckCondition, Outcome, Reply, Request, WantData, invalid_field

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit

_PROTECT = 0xE0  # RDPROTECT, WRPROTECT, VRPROTECT: no protection information here
_FUA = 0x08


def _flags(cdb: bytes) -> int:
    """Byte 1 of a CDB of 10 bytes or more; that of a 6-byte one belongs to the address."""
    flags = cdb[1] if cdb[0] >> 5 else 0
    if flags & _PROTECT:
        raise invalid_field()
    return flags


def read(unit: LogicalUnit, request: Request) -> Reply:
    _flags(request.cdb)
    offset, length = unit.media_range(*blocks_of(request.cdb))
    return Reply(data=unit.medium.read(offset, length)) if length else Reply()


def write(unit: LogicalUnit, request: Request) -> Outcome:
    durable = bool(_flags(request.cdb) & _FUA)
    offset, length = unit.media_range(*blocks_of(request.cdb))
    if not length:
        return Reply()
    place = unit.medium.place(offset, length)
    return WantData(length, partial(_written, unit, offset, place, durable), place)


def _written(unit: LogicalUnit, offset: int, place: memoryview | None, durable: bool, data: memoryview) -> Reply:
    if data is not place:
        unit.medium.write(offset, data[: unit.whole_blocks(len(data))])
    else:
        unit.medium.place(offset, len(data))  # once more: UNMAP may have come between, and the blocks are in use now
    if durable:
        unit.medium.flush()
    return Reply()


def verify(unit: LogicalUnit, request: Request) -> Outcome:
    """BYTCHK 0 checks the range only; 1 compares all blocks, 3 compares each with the one sent (SBC-3 5.33)."""
    compare = (_flags(request.cdb) >> 1) & 0x03
    lba, blocks = blocks_of(request.cdb)
    check_range(lba, blocks, unit.blocks)
    if compare == 2:
        raise invalid_field()
    if not compare or not blocks:
        return Reply()
    unit.check_transfer(blocks)
    length = unit.block_size * (1 if compare == 3 else blocks)
    return WantData(length, partial(_compared, unit, lba * unit.block_size, blocks * unit.block_size))


def _compared(unit: LogicalUnit, offset: int, length: int, data: memoryview) -> Reply:
    expected = bytes(data) * (length // len(data)) if data else b""
    found = bytes(unit.medium.read(offset, len(expected)))
    if found == expected:
        return Reply()
    differs = next(at for at, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
    raise CheckCondition(MISCOMPARE, 0x1D, information=differs)  # MISCOMPARE DURING VERIFY OPERATION


def synchronize_cache(unit: LogicalUnit, request: Request) -> Reply:
    """Everything is flushed, whatever the range; zero blocks means up to the end (SBC-3 5.29)."""
    check_range(*blocks_of(request.cdb), unit.blocks)
    if not unit.read_only:
        unit.medium.flush()
    return Reply()
