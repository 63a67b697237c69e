# SPDX-License-Identifier: Apache-2.0
"""The device server of one logical unit: which commands there are, and the checks that all of them share.

`TABLE` is the whole of what the unit can do; a new command is a new row and a test. What is not in it ends with
INVALID COMMAND OPERATION CODE, which initiators read as "not supported".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from swd.errors import InvalidArgument, MediumError
from swd.proto import lun as lun_field
from swd.target.config import Lun
from swd.target.media import Medium
from swd.target.scsi import blocks, inquiry, modes, provisioning
from swd.target.scsi.cdb import allocation, check_range
from swd.target.scsi.nexus import Nexus
from swd.target.scsi.reply import (
    DATA_PROTECT,
    ILLEGAL_REQUEST,
    MEDIUM_ERROR,
    UNIT_ATTENTION,
    CheckCondition,
    Outcome,
    Reply,
    Request,
    WantData,
    fixed_sense,
    invalid_field,
)

MAX_TRANSFER = 32 << 20  # bytes of one command: what a write may make the target hold
MAX_WRITE_SAME = 1 << 29  # bytes; also of one UNMAP
MAX_UNMAP_DESCRIPTORS = 256


class LogicalUnit:
    """A `Lun` of the configuration, ready to take commands from any thread. Attributes in blocks, sizes in bytes."""

    def __init__(self, target_name: str, portal_group: int, lun: int, config: Lun) -> None:
        self.target_name = target_name
        self.portal_group = portal_group
        self.lun = lun_field.field(lun)  # unit attentions are kept by field
        self.medium: Medium = config.medium
        self.block_size = config.block_size
        self.physical_block_size = max(config.physical_block_size or 0, config.block_size)
        self.blocks = config.medium.size // config.block_size
        self.read_only = config.read_only or config.medium.read_only
        self.thin = config.thin
        self.script = config.script
        self.vendor, self.product = config.vendor, config.product
        self.serial = config.serial or inquiry.naa(f"{target_name}/{lun}")[-8:].hex()
        self.max_transfer = MAX_TRANSFER // self.block_size
        self.max_write_same = MAX_WRITE_SAME // self.block_size
        self.max_unmap_descriptors = MAX_UNMAP_DESCRIPTORS
        if not self.blocks:
            raise InvalidArgument(f"LUN {lun} of {target_name} is smaller than one block of {self.block_size} bytes")

    def execute(self, request: Request) -> Outcome:
        """Start a command. Never raises: what goes wrong comes back as a Reply with CHECK CONDITION."""
        row = find(request.cdb)
        try:
            if row is None:
                raise CheckCondition(ILLEGAL_REQUEST, 0x20)
            if not row.attention_free and (attention := request.nexus.take(self.lun)):
                raise CheckCondition(UNIT_ATTENTION, *attention)
            if row.changes and (self.read_only or self.script.write_protected):
                raise CheckCondition(DATA_PROTECT, 0x27)
            if row.changes and self.script.full:
                raise CheckCondition(DATA_PROTECT, 0x27, 0x07)  # SPACE ALLOCATION FAILED WRITE PROTECT (SBC-3 4.7.3.6)
            outcome = row.handler(self, request)
        except (CheckCondition, MediumError) as error:
            return _failed(error)
        return outcome

    def unhindered(self, nexus: Nexus) -> tuple[bool, bool]:
        """Whether plain reads, and plain writes, of this nexus would now pass what `execute` checks before it acts.

        The compiled data path goes by it until the target's gate is touched.
        """
        attention = nexus.waits(self.lun)
        locked = self.read_only or self.script.write_protected or self.script.full
        return not attention, not attention and not locked

    def finish(self, want: WantData, data: memoryview) -> Reply:
        """End a command whose Data-Out has come. Never raises, as `execute`."""
        try:
            return want.finish(data)
        except (CheckCondition, MediumError) as error:
            return _failed(error)

    def media_range(self, lba: int, count: int) -> tuple[int, int]:
        """(offset, length) in bytes of a transfer, which lies on the medium and is not too long for one command."""
        check_range(lba, count, self.blocks)
        self.check_transfer(count)
        return lba * self.block_size, count * self.block_size

    def check_transfer(self, count: int) -> None:
        """Refuse more blocks than MAXIMUM TRANSFER LENGTH of the Block Limits page (SBC-3 6.6.3)."""
        if count > self.max_transfer:
            raise invalid_field()

    def whole_blocks(self, length: int) -> int:
        """`length` rounded down to whole blocks."""
        return length // self.block_size * self.block_size


def _failed(error: CheckCondition | MediumError) -> Reply:
    """The store's own failure is a MEDIUM ERROR without further words (11h/00 would claim a read, 0Ch/00 a write)."""
    return error.reply if isinstance(error, CheckCondition) else CheckCondition(MEDIUM_ERROR, 0x00).reply


def absent(request: Request) -> Reply:
    """What the target says for a LUN that it has not (SPC-4 6.6.2, 6.39; SAM-5 5.11)."""
    cdb = request.cdb
    if cdb[0] == 0x12 and not cdb[1] & 0x03 and not cdb[2]:
        return Reply(data=allocation(cdb, slice(3, 5), inquiry.standard(None)))
    sense = CheckCondition(ILLEGAL_REQUEST, 0x25)  # LOGICAL UNIT NOT SUPPORTED
    if cdb[0] == 0x03:
        return Reply(data=allocation(cdb, slice(4, 5), sense.reply.sense))
    return sense.reply


def _test_unit_ready(_unit: LogicalUnit, _request: Request) -> Reply:
    return Reply()


def _request_sense(unit: LogicalUnit, request: Request) -> Reply:
    """A pending unit attention is reported here too, as data, and thereby cleared (SPC-4 6.39)."""
    if request.cdb[1] & 0x01:  # DESC: descriptor format is not built
        raise invalid_field()
    attention = request.nexus.take(unit.lun)
    sense = fixed_sense(UNIT_ATTENTION, *attention) if attention else fixed_sense(0, 0, 0)
    return Reply(data=allocation(request.cdb, slice(4, 5), sense))


def _read_capacity_10(unit: LogicalUnit, request: Request) -> Reply:
    """FFFFFFFFh says: too large for this command, use READ CAPACITY(16) (SBC-3 5.15)."""
    if request.cdb[8] & 0x01 == 0 and any(request.cdb[2:6]):
        raise invalid_field()
    return Reply(data=min(unit.blocks - 1, 0xFFFFFFFF).to_bytes(4, "big") + unit.block_size.to_bytes(4, "big"))


def _read_capacity_16(unit: LogicalUnit, request: Request) -> Reply:
    """SBC-3 5.16.2; LBPME and LBPRZ as in the Logical Block Provisioning page."""
    exponent = (unit.physical_block_size // unit.block_size).bit_length() - 1
    data = (unit.blocks - 1).to_bytes(8, "big") + unit.block_size.to_bytes(4, "big")
    data += bytes([0, exponent, 0xC0 if unit.thin else 0, 0]) + bytes(16)
    return Reply(data=allocation(request.cdb, slice(10, 14), data))


def _start_stop_unit(unit: LogicalUnit, request: Request) -> Reply:
    """Power conditions and ejecting are refused; starting and stopping change nothing, as on a disk array."""
    if request.cdb[4] & 0xF2:
        raise invalid_field()
    if not unit.read_only:
        unit.medium.flush()  # stopping implies it (SBC-3 5.25)
    return Reply()


def _prevent_allow(_unit: LogicalUnit, request: Request) -> Reply:
    if request.cdb[4] & 0x02:
        raise invalid_field()
    return Reply()  # the medium is not removable


class Operation(NamedTuple):
    """One command. `changes`: refused if write protected. `attention_free`: unit attentions wait (SAM-5 5.14)."""

    name: str
    handler: Callable[[LogicalUnit, Request], Outcome]
    changes: bool = False
    attention_free: bool = False


TABLE: dict[int | tuple[int, int], Operation] = {  # operation code, or (operation code, service action)
    0x00: Operation("TEST UNIT READY", _test_unit_ready),
    0x03: Operation("REQUEST SENSE", _request_sense, attention_free=True),
    0x08: Operation("READ(6)", blocks.read),
    0x0A: Operation("WRITE(6)", blocks.write, changes=True),
    0x12: Operation("INQUIRY", inquiry.inquiry, attention_free=True),
    0x1A: Operation("MODE SENSE(6)", modes.mode_sense_6),
    0x1B: Operation("START STOP UNIT", _start_stop_unit),
    0x1E: Operation("PREVENT ALLOW MEDIUM REMOVAL", _prevent_allow),
    0x25: Operation("READ CAPACITY(10)", _read_capacity_10),
    0x28: Operation("READ(10)", blocks.read),
    0x2A: Operation("WRITE(10)", blocks.write, changes=True),
    0x2F: Operation("VERIFY(10)", blocks.verify),
    0x35: Operation("SYNCHRONIZE CACHE(10)", blocks.synchronize_cache),
    0x41: Operation("WRITE SAME(10)", provisioning.write_same, changes=True),
    0x42: Operation("UNMAP", provisioning.unmap, changes=True),
    0x5A: Operation("MODE SENSE(10)", modes.mode_sense_10),
    0x88: Operation("READ(16)", blocks.read),
    0x8A: Operation("WRITE(16)", blocks.write, changes=True),
    0x8F: Operation("VERIFY(16)", blocks.verify),
    0x91: Operation("SYNCHRONIZE CACHE(16)", blocks.synchronize_cache),
    0x93: Operation("WRITE SAME(16)", provisioning.write_same, changes=True),
    (0x9E, 0x10): Operation("READ CAPACITY(16)", _read_capacity_16),
    (0x9E, 0x12): Operation("GET LBA STATUS", provisioning.get_lba_status),
    0xA8: Operation("READ(12)", blocks.read),
    0xAA: Operation("WRITE(12)", blocks.write, changes=True),
    0xAF: Operation("VERIFY(12)", blocks.verify),
}


def find(cdb: bytes) -> Operation | None:
    """The row of a CDB, by operation code, then by operation code and service action."""
    return TABLE.get(cdb[0]) or TABLE.get((cdb[0], cdb[1] & 0x1F))
