# SPDX-License-Identifier: Apache-2.0
"""Target port groups on the wire: REPORT and SET TARGET PORT GROUPS, and what a group's state refuses (SPC-4 5.11,
6.37, 6.45). Without `PortGroups` in the configuration every port is active, and neither command is there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from swd.errors import InvalidArgument
from swd.target.portgroups import BY_SET, STATES, PortGroups
from swd.target.scsi.cdb import allocation
from swd.target.scsi.reply import (
    NOT_READY,
    CheckCondition,
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

IMPLICIT, EXPLICIT = 0x10, 0x20  # TPGS of the standard INQUIRY data
ALWAYS, STANDBY, ACTIVE = 0, 1, 2  # the least of access that a command needs
_LENGTH = slice(6, 10)
_SUPPORTED = 0x8F  # T_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP; not offline, no LBA dependence
_REFUSALS = {  # state -> (what still runs, ASCQ of NOT READY, LOGICAL UNIT NOT ACCESSIBLE)
    STATES["standby"]: (STANDBY, 0x0B),
    STATES["unavailable"]: (ALWAYS, 0x0C),
    STATES["transitioning"]: (ALWAYS, 0x0A),
}


def check(groups: PortGroups, portal_group: int, need: int) -> None:
    """Refuse a command that the state of its port group does not allow. Raises CheckCondition."""
    refusal = _REFUSALS.get(groups.code(portal_group))
    if refusal is not None and need > refusal[0]:
        raise CheckCondition(NOT_READY, 0x04, refusal[1])


def offered(unit: LogicalUnit) -> bool:
    return unit.device.groups is not None


def settable(unit: LogicalUnit) -> bool:
    return unit.device.groups is not None and unit.device.groups.explicit


def tpgs(unit: LogicalUnit) -> int:
    """The TPGS bits of the standard INQUIRY data."""
    return (IMPLICIT if offered(unit) else 0) | (EXPLICIT if settable(unit) else 0)


def report(unit: LogicalUnit, request: Request) -> Reply:
    """One descriptor a group, with its one port; the extended header tells an implicit transition time of 0."""
    groups = unit.device.groups
    style = request.cdb[1] >> 5
    if groups is None or style > 1:
        raise invalid_field()
    body = b"\x10\0\0\0" if style else b""
    for tag in groups.tags:
        state = groups.code(tag) | (0x80 if tag == groups.preferred else 0)
        body += bytes([state, _SUPPORTED]) + tag.to_bytes(2, "big") + bytes([0, groups.cause(tag), 0, 1])
        body += bytes(2) + tag.to_bytes(2, "big")
    return Reply(data=allocation(request.cdb, _LENGTH, len(body).to_bytes(4, "big") + body))


def set_groups(unit: LogicalUnit, request: Request) -> Outcome:
    length = int.from_bytes(request.cdb[_LENGTH], "big")
    if not length:
        return Reply()
    if length % 4 or not 8 <= length <= 4096:
        raise parameter_list_length()
    return WantData(length, partial(_set, unit, request, length))


def _set(unit: LogicalUnit, request: Request, length: int, data: memoryview) -> Reply:
    groups = unit.device.groups
    if groups is None or len(data) < length:
        raise parameter_list_length()
    wanted = {int.from_bytes(data[at + 2 : at + 4], "big"): data[at] & 0x0F for at in range(4, length, 4)}
    if not set(wanted.values()) <= set(STATES.values()) - {STATES["transitioning"]}:
        raise invalid_parameter()
    try:
        groups.change(wanted, BY_SET, id(request.nexus))
    except InvalidArgument:
        raise invalid_parameter() from None
    return Reply()
