# SPDX-License-Identifier: Apache-2.0
"""Commands that read and write in one step: COMPARE AND WRITE, ORWRITE, WRITE ATOMIC (SBC-3 5.2, 5.11; SBC-4 5.47).

None is begun with more or less data than its CDB asks for. They exclude each other, and a READ sees the blocks before
or after one of them (`LogicalUnit.alone`). Whatever else changes blocks waits for them, and they for it, but a plain
WRITE to memory stores its blocks one transfer at a time.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from swd.target.scsi.blocks import FUA, flags_of
from swd.target.scsi.cdb import blocks_of, check_range
from swd.target.scsi.reply import (
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

MAX_COMPARE = 255  # blocks of one COMPARE AND WRITE: its field has a byte


def compare_and_write(unit: LogicalUnit, request: Request) -> Outcome:
    """Twice the blocks come: what is to be there, and what is then to be written."""
    durable = bool(flags_of(request.cdb) & FUA)
    lba, blocks = int.from_bytes(request.cdb[2:10], "big"), request.cdb[13]
    check_range(lba, blocks, unit.blocks)
    length = blocks * unit.block_size
    request.exactly(2 * length)
    if not blocks:
        return Reply()
    return WantData(2 * length, partial(_compared, unit, lba * unit.block_size, length, durable))


def _compared(unit: LogicalUnit, offset: int, length: int, durable: bool, data: memoryview) -> Reply:
    with unit.alone():
        found = bytes(unit.medium.read(offset, length))
        expected = bytes(data[:length])
        if found != expected:
            differs = next(at for at in range(length) if found[at] != expected[at])
            raise CheckCondition(MISCOMPARE, 0x1D, information=differs)  # MISCOMPARE DURING VERIFY OPERATION
        unit.store(offset, data[length:], durable=durable)
    return Reply()


def or_write(unit: LogicalUnit, request: Request) -> Outcome:
    """What comes is ORed into what is there."""
    durable = bool(flags_of(request.cdb) & FUA)
    offset, length = unit.media_range(*blocks_of(request.cdb))
    request.exactly(length)
    return WantData(length, partial(_ored, unit, offset, length, durable)) if length else Reply()


def _ored(unit: LogicalUnit, offset: int, length: int, durable: bool, data: memoryview) -> Reply:
    with unit.alone():
        both = int.from_bytes(unit.medium.read(offset, length), "big") | int.from_bytes(data, "big")
        unit.store(offset, memoryview(both.to_bytes(length, "big")), durable=durable)
    return Reply()


def write_atomic(unit: LogicalUnit, request: Request) -> Outcome:
    """All blocks or none: they are gathered, and stored in one piece. Alignment and granularity: a physical block."""
    durable = bool(flags_of(request.cdb) & FUA)
    lba, boundary = int.from_bytes(request.cdb[2:10], "big"), int.from_bytes(request.cdb[10:12], "big")
    blocks = int.from_bytes(request.cdb[12:14], "big")
    check_range(lba, blocks, unit.blocks)
    if boundary or blocks > unit.max_atomic or lba % unit.atomic_granularity or blocks % unit.atomic_granularity:
        raise invalid_field()
    offset, length = unit.media_range(lba, blocks)
    request.exactly(length)
    return WantData(length, partial(_atomically, unit, offset, durable)) if length else Reply()


def _atomically(unit: LogicalUnit, offset: int, durable: bool, data: memoryview) -> Reply:
    with unit.alone():
        unit.store(offset, data, durable=durable)
    return Reply()

