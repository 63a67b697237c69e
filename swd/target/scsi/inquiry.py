# SPDX-License-Identifier: Apache-2.0
"""INQUIRY and REPORT LUNS: who the unit says it is. Layouts: SPC-4 6.6, 7.8 and SBC-3 6.6."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from swd.target.scsi import atomic, ports
from swd.target.scsi.cdb import allocation
from swd.target.scsi.reply import Reply, Request, invalid_field

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit

REVISION = "1"
_VERSION_DESCRIPTORS = (0x00A0, 0x0460, 0x04C0, 0x0960)  # SAM-5, SPC-4, SBC-3, iSCSI: "no version claimed"
# The company id of an NAA 6 name is IEEE's to give. Ours has the locally-administered bit (02h) set, so IEEE never
# assigns it: "SW" after it keeps two vendors of such ids apart.
_LOCAL_COMPANY_ID = 0x025357
_ALLOCATION_LENGTH = slice(3, 5)


def naa(serial: str) -> bytes:
    """A 16-byte NAA IEEE Registered Extended identifier that depends on the serial number only (SPC-4 7.8.6.6.5)."""
    digest = int.from_bytes(hashlib.sha256(serial.encode()).digest()[:13], "big") & ((1 << 100) - 1)
    return (0x6 << 124 | _LOCAL_COMPANY_ID << 100 | digest).to_bytes(16, "big")


def inquiry(unit: LogicalUnit, request: Request) -> Reply:
    """Standard data, or one vital product data page; a page code without EVPD is refused (SPC-4 6.6.1)."""
    evpd, page = request.cdb[1] & 0x01, request.cdb[2]
    if request.cdb[1] & 0x02 or (page and not evpd):
        raise invalid_field()
    data = _page(unit, page, request.nexus.identity.portal_group) if evpd else standard(unit)
    return Reply(data=allocation(request.cdb, _ALLOCATION_LENGTH, data))


def standard(unit: LogicalUnit | None) -> bytes:
    """Standard INQUIRY data; without a unit, that of an absent one (peripheral qualifier 3, type 1Fh)."""
    data = bytearray(96)
    data[0] = 0x7F if unit is None else 0x00
    data[1] = 0x80 if unit is not None and unit.removable else 0x00
    data[2] = 0x06  # SPC-4
    data[3] = 0x12  # HISUP, response data format 2
    data[4] = len(data) - 5
    data[5] = (0x08 | ports.tpgs(unit)) if unit is not None else 0x00  # 3PC: EXTENDED COPY; TPGS
    data[7] = 0x02  # CMDQUE: the full task management model
    data[8:16] = _ascii(unit.vendor if unit else "SWD", 8)
    data[16:32] = _ascii(unit.product if unit else "", 16)
    data[32:36] = _ascii(REVISION, 4)
    for at, descriptor in enumerate(_VERSION_DESCRIPTORS):
        data[58 + 2 * at : 60 + 2 * at] = descriptor.to_bytes(2, "big")
    return bytes(data)


def _page(unit: LogicalUnit, code: int, portal_group: int) -> bytes:
    page = PAGES.get(code)
    if page is None:
        raise invalid_field()
    body = page(unit, portal_group)
    return bytes([0, code]) + len(body).to_bytes(2, "big") + body


def _supported(_unit: LogicalUnit, _portal_group: int) -> bytes:
    return bytes(sorted(PAGES))


def _serial_number(unit: LogicalUnit, _portal_group: int) -> bytes:
    return unit.serial.encode("ascii", "replace")


def _identification(unit: LogicalUnit, portal_group: int) -> bytes:
    """Designators (SPC-4 7.8.6): NAA 6 and T10 of the unit; of the target port that the command came by its relative
    number, its group and its SCSI name string. Group and port are one, so they have one number."""
    port_name = f"{unit.target_name},t,0x{portal_group:04x}".encode() + b"\0"
    return (
        _designator(0x01, 0x03, naa(unit.serial))
        + _designator(0x02, 0x01, _ascii(unit.vendor, 8) + unit.serial.encode("ascii", "replace"))
        + _designator(0x51, 0x94, portal_group.to_bytes(4, "big"))
        + (_designator(0x51, 0x95, portal_group.to_bytes(4, "big")) if ports.offered(unit) else b"")
        + _designator(0x53, 0x98, port_name + b"\0" * (-len(port_name) & 3))
    )


def _designator(protocol_and_code_set: int, association_and_type: int, value: bytes) -> bytes:
    return bytes([protocol_and_code_set, association_and_type, 0, len(value)]) + value


def _block_limits(unit: LogicalUnit, _portal_group: int) -> bytes:
    """SBC-3 6.6.3."""
    body = bytearray(60)
    body[0] = 0x01  # WSNZ: a WRITE SAME of zero blocks is refused
    body[1] = atomic.MAX_COMPARE
    body[2:4] = (unit.physical_block_size // unit.block_size).to_bytes(2, "big")
    body[4:8] = unit.max_transfer.to_bytes(4, "big")
    body[8:12] = unit.max_transfer.to_bytes(4, "big")
    if unit.thin:
        body[16:20] = unit.max_write_same.to_bytes(4, "big")  # MAXIMUM UNMAP LBA COUNT
        body[20:24] = unit.max_unmap_descriptors.to_bytes(4, "big")
        body[24:28] = (unit.physical_block_size // unit.block_size).to_bytes(4, "big")
    body[32:40] = unit.max_write_same.to_bytes(8, "big")
    body[40:44] = unit.max_atomic.to_bytes(4, "big")
    body[44:48] = unit.atomic_granularity.to_bytes(4, "big")  # ATOMIC ALIGNMENT
    body[48:52] = unit.atomic_granularity.to_bytes(4, "big")
    return bytes(body)


def _characteristics(unit: LogicalUnit, _portal_group: int) -> bytes:
    """SBC-3 6.6.2: non-rotating; blocks may be read after an erasing SANITIZE (WABEREQ, WACEREQ 01b), where there is
    one."""
    return bytes([0, 1, 0, 0x50 if unit.thin else 0x00]) + bytes(56)


def _provisioning(unit: LogicalUnit, _portal_group: int) -> bytes:
    """SBC-3 6.6.4: LBPU, LBPWS, LBPWS10 and LBPRZ, thin; or nothing of it, fully provisioned."""
    return bytes([0, 0xE4, 0x02, 0]) if unit.thin else bytes(4)


PAGES: dict[int, Callable[[LogicalUnit, int], bytes]] = {
    0x00: _supported,
    0x80: _serial_number,
    0x83: _identification,
    0xB0: _block_limits,
    0xB1: _characteristics,
    0xB2: _provisioning,
}


def report_luns(luns: tuple[int, ...], cdb: bytes) -> Reply:
    """The LUNs of the target (SPC-4 6.33), as SAM fields; there are no well-known units to list for SELECT REPORT 1."""
    select, length = cdb[2], int.from_bytes(cdb[6:10], "big")
    if select > 0x02 or length < 16:
        raise invalid_field()
    listed = b"" if select == 0x01 else b"".join(lun.to_bytes(8, "big") for lun in luns)
    return Reply(data=(len(listed).to_bytes(4, "big") + bytes(4) + listed)[:length])


def _ascii(text: str, width: int) -> bytes:
    return text.encode("ascii", "replace")[:width].ljust(width)
