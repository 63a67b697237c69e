# SPDX-License-Identifier: Apache-2.0
"""TEST UNIT READY, REQUEST SENSE, READ CAPACITY: how a unit is, and how large (SPC-4 6.47, 6.39; SBC-3 5.15, 5.16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swd.target.scsi.cdb import allocation
from swd.target.scsi.reply import NOT_READY, UNIT_ATTENTION, Reply, Request, fixed_sense, invalid_field
from swd.target.scsi.sanitize import progress

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit


def unit_ready(_unit: LogicalUnit, _request: Request) -> Reply:
    return Reply()


def request_sense(unit: LogicalUnit, request: Request) -> Reply:
    """A pending unit attention is reported here too, as data, and thereby cleared (SPC-4 6.39)."""
    if request.cdb[1] & 0x01:  # DESC: descriptor format is not built
        raise invalid_field()
    done = unit.state.sanitizing
    if done is not None:
        sense = fixed_sense(NOT_READY, 0x04, 0x1B, specific=progress(done))
    elif attention := request.nexus.take(unit.lun):
        sense = fixed_sense(UNIT_ATTENTION, *attention)
    else:
        sense = fixed_sense(0, 0, 0)
    return Reply(data=allocation(request.cdb, slice(4, 5), sense))


def read_capacity_10(unit: LogicalUnit, request: Request) -> Reply:
    """FFFFFFFFh says: too large for this command, use READ CAPACITY(16) (SBC-3 5.15)."""
    if request.cdb[8] & 0x01 == 0 and any(request.cdb[2:6]):
        raise invalid_field()
    return Reply(data=min(unit.blocks - 1, 0xFFFFFFFF).to_bytes(4, "big") + unit.block_size.to_bytes(4, "big"))


def read_capacity_16(unit: LogicalUnit, request: Request) -> Reply:
    """SBC-3 5.16.2; LBPME and LBPRZ as in the Logical Block Provisioning page."""
    exponent = (unit.physical_block_size // unit.block_size).bit_length() - 1
    data = (unit.blocks - 1).to_bytes(8, "big") + unit.block_size.to_bytes(4, "big")
    data += bytes([0, exponent, 0xC0 if unit.thin else 0, 0]) + bytes(16)
    return Reply(data=allocation(request.cdb, slice(10, 14), data))
