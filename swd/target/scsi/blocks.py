# SPDX-License-Identifier: Apache-2.0
"""The commands that touch blocks: READ, WRITE, VERIFY, PRE-FETCH, SYNCHRONIZE CACHE (SBC-3 section 5).

`unit.media_range` turns LBA and count into bytes, and has refused what is out of range before any data moves.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from swd.target.scsi.cdb import allocation, blocks_of, check_range
from swd.target.scsi.reply import (
    CONDITION_MET,
    MISCOMPARE,
    CheckCondition,
    Outcome,
    Reply,
    Request,
    WantData,
    invalid_field,
)

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit

_PROTECT = 0xE0  # RDPROTECT, WRPROTECT, VRPROTECT: no protection information here
FUA = 0x08


def flags_of(cdb: bytes) -> int:
    """Byte 1 of a CDB of 10 bytes or more; that of a 6-byte one belongs to the address."""
    flags = cdb[1] if cdb[0] >> 5 else 0
    if flags & _PROTECT:
        raise invalid_field()
    return flags


def read(unit: LogicalUnit, request: Request) -> Reply:
    flags_of(request.cdb)
    offset, length = unit.media_range(*blocks_of(request.cdb))
    return Reply(data=unit.load(offset, length)) if length else Reply()


def write(unit: LogicalUnit, request: Request) -> Outcome:
    durable = bool(flags_of(request.cdb) & FUA) or not unit.state.write_cache
    offset, length = unit.media_range(*blocks_of(request.cdb))
    if not length:
        return Reply()
    place = unit.medium.place(offset, length)
    return WantData(length, partial(_written, unit, offset, place, durable), place)


def _written(unit: LogicalUnit, offset: int, place: memoryview | None, durable: bool, data: memoryview) -> Reply:
    if data is not place:
        with unit.state.changes:
            unit.medium.write(offset, data[: unit.whole_blocks(len(data))])
    else:
        unit.medium.place(offset, len(data))  # once more: UNMAP may have come between, and the blocks are in use now
    if durable:
        unit.medium.flush()
    return Reply()


def write_and_verify(unit: LogicalUnit, request: Request) -> Outcome:
    """The data goes to the medium itself; with BYTCHK it is read back and compared (SBC-3 5.47)."""
    flags = flags_of(request.cdb)
    compare = (flags >> 1) & 0x03
    if compare > 1:
        raise invalid_field()
    offset, length = unit.media_range(*blocks_of(request.cdb))
    return WantData(length, partial(_written_and_verified, unit, offset, bool(compare))) if length else Reply()


def _written_and_verified(unit: LogicalUnit, offset: int, compare: bool, data: memoryview) -> Reply:
    data = data[: unit.whole_blocks(len(data))]
    unit.store(offset, data, durable=True)
    return _compared(unit, offset, len(data), data) if compare else Reply()


def pre_fetch(unit: LogicalUnit, request: Request) -> Reply:
    """CONDITION MET: the host caches what it can, and nothing fails to fit (SBC-3 5.12); no blocks means to the end."""
    check_range(*blocks_of(request.cdb), unit.blocks)
    return Reply(CONDITION_MET)


def read_defect_data(_unit: LogicalUnit, request: Request) -> Reply:
    """There are no defects: a header alone, in whatever format was asked for (SBC-3 5.17)."""
    long = request.cdb[0] >> 5 == 5
    formats = request.cdb[1 if long else 2] & 0x1F
    header = bytes([0, formats]) + bytes(6 if long else 2)
    return Reply(data=allocation(request.cdb, slice(6, 10) if long else slice(7, 9), header))


def verify(unit: LogicalUnit, request: Request) -> Outcome:
    """BYTCHK 0 checks the range only; 1 compares all blocks, 3 compares each with the one sent (SBC-3 5.33)."""
    compare = (flags_of(request.cdb) >> 1) & 0x03
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
