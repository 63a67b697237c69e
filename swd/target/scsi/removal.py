# SPDX-License-Identifier: Apache-2.0
"""START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL (SBC-3 5.25, SPC-4 6.15): a removable unit can lose its medium.

On a unit that is not removable, starting and stopping change nothing, as on a disk array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swd.target.scsi.nexus import MEDIUM_CHANGED
from swd.target.scsi.reply import ILLEGAL_REQUEST, CheckCondition, Reply, Request, invalid_field

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit

_START, _LOEJ, _NO_FLUSH = 0x01, 0x02, 0x04


def start_stop_unit(unit: LogicalUnit, request: Request) -> Reply:
    """With a power condition, LOEJ and START say nothing (SBC-3 5.25); there is but one condition: active."""
    flags = request.cdb[4]
    if flags & _LOEJ and not unit.removable:
        raise invalid_field()
    if not flags & _NO_FLUSH and not unit.read_only:
        unit.medium.flush()  # stopping implies it
    if flags & _LOEJ and not flags >> 4:
        _move(unit, request, load=bool(flags & _START))
    return Reply()


def _move(unit: LogicalUnit, request: Request, *, load: bool) -> None:
    """Eject or load; a prevention holds for both. Who finds another medium there is told so."""
    with unit.state.lock:
        if unit.state.prevented:
            raise CheckCondition(ILLEGAL_REQUEST, 0x53, 0x02)  # MEDIUM REMOVAL PREVENTED
        was, unit.state.present = unit.state.present, load
    if load and not was:
        me = request.nexus.identity
        unit.state.tell(MEDIUM_CHANGED, lambda nexus: nexus != me)


def prevent_allow(unit: LogicalUnit, request: Request) -> Reply:
    """PREVENT 1: this nexus forbids the removal, until it allows it, is lost, or the unit is reset."""
    prevent = request.cdb[4] & 0x03
    if prevent & 0x02:
        raise invalid_field()
    with unit.state.lock:
        if prevent and unit.removable:
            unit.state.prevented.add(request.nexus.identity)
        else:
            unit.state.prevented.discard(request.nexus.identity)
    return Reply()
