# SPDX-License-Identifier: Apache-2.0
"""PERSISTENT RESERVE IN and OUT, RESERVE(6) and RELEASE(6): CDBs and parameter data (SPC-4 6.15, 6.16; SPC-2 7.21).

What a service action does to the table is `reservations`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from swd.errors import MediumError
from swd.target.scsi import reservations as rules
from swd.target.scsi import transportid
from swd.target.scsi.cdb import allocation
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reply import (
    HARDWARE_ERROR,
    ILLEGAL_REQUEST,
    CheckCondition,
    Later,
    Outcome,
    Reply,
    Request,
    WantData,
    conflict,
    invalid_field,
    invalid_parameter,
    parameter_list_length,
)
from swd.target.scsi.reservations import BadParameter, BadRelease, Conflict, Step, Table

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit

_IN_LENGTH, _OUT_LENGTH = slice(7, 9), slice(5, 9)
_BASIC = 24  # bytes of a parameter list without TransportIDs
_MAX_LIST = 64 << 10
REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE, REGISTER_AND_MOVE = range(8)
_TYPE_MASK = b"\xea\x01"  # all six types (SPC-4 table 219)


def _list(table: Table, body: bytes) -> bytes:
    return table.generation.to_bytes(4, "big") + len(body).to_bytes(4, "big") + body


def read_keys(unit: LogicalUnit, request: Request) -> Reply:
    table = unit.state.registry.table
    data = _list(table, b"".join(key.to_bytes(8, "big") for key in table.keys.values()))
    return Reply(data=allocation(request.cdb, _IN_LENGTH, data))


def read_reservation(unit: LogicalUnit, request: Request) -> Reply:
    table = unit.state.registry.table
    body = table.reservation_key.to_bytes(8, "big") + bytes(5) + bytes([table.kind, 0, 0]) if table.kind else b""
    return Reply(data=allocation(request.cdb, _IN_LENGTH, _list(table, body)))


def report_capabilities(unit: LogicalUnit, request: Request) -> Reply:
    """SIP_C and ATP_C; PTPL_C where a file keeps reservations; TMV: the type mask is valid."""
    registry = unit.state.registry
    keeps = registry.keeper is not None
    data = b"\0\x08" + bytes([0x0C | keeps, 0x80 | registry.table.aptpl]) + _TYPE_MASK + b"\0\0"
    return Reply(data=allocation(request.cdb, _IN_LENGTH, data))


def read_full_status(unit: LogicalUnit, request: Request) -> Reply:
    table = unit.state.registry.table
    body = b"".join(_full_status(table, nexus, key) for nexus, key in table.keys.items())
    return Reply(data=allocation(request.cdb, _IN_LENGTH, _list(table, body)))


def _full_status(table: Table, nexus: NexusId, key: int) -> bytes:
    """One descriptor (SPC-4 6.15.5); the relative target port is the portal group."""
    holds = table.holds(nexus)
    name = transportid.encode(nexus.initiator_name, nexus.isid)
    head = key.to_bytes(8, "big") + bytes(4) + bytes([holds, table.kind if holds else 0]) + bytes(4)
    return head + nexus.portal_group.to_bytes(2, "big") + len(name).to_bytes(4, "big") + name


class Parameters(NamedTuple):
    """A PERSISTENT RESERVE OUT, taken apart. `rest`: TransportIDs behind the 24 bytes."""

    action: int
    kind: int
    key: int
    action_key: int
    flags: int
    rest: bytes
    move: bytes  # bytes 16 to 24, which REGISTER AND MOVE lays out in another way

    @property
    def aptpl(self) -> bool:
        return bool((self.move[1] if self.action == REGISTER_AND_MOVE else self.flags) & 0x01)


def reserve_out(unit: LogicalUnit, request: Request) -> Outcome:
    """PERSISTENT RESERVE OUT with a service action that there is (`operations` has a row for each)."""
    action, scope, kind = request.cdb[1] & 0x1F, request.cdb[2] >> 4, request.cdb[2] & 0x0F
    if action in (RESERVE, RELEASE, PREEMPT, PREEMPT_AND_ABORT) and (scope or kind not in rules.TYPES):
        raise invalid_field()
    length = int.from_bytes(request.cdb[_OUT_LENGTH], "big")
    longer = action in (REGISTER, REGISTER_AND_MOVE)
    if length < _BASIC or length > _MAX_LIST or (length != _BASIC and not longer):
        raise parameter_list_length()
    return WantData(length, partial(_with_parameters, unit, request, length))


def _with_parameters(unit: LogicalUnit, request: Request, length: int, data: memoryview) -> Reply | Later:
    given = bytes(data)
    if len(given) < length:
        raise parameter_list_length()
    asked = Parameters(
        action=request.cdb[1] & 0x1F,
        kind=request.cdb[2] & 0x0F,
        key=int.from_bytes(given[:8], "big"),
        action_key=int.from_bytes(given[8:16], "big"),
        flags=given[20],
        rest=given[24:],
        move=given[16:24],
    )
    return _perform(unit, request.nexus.identity, asked)


def _perform(unit: LogicalUnit, nexus: NexusId, asked: Parameters) -> Reply | Later:
    """Check what all actions share, let the rules decide, and act: attentions, and tasks to abort."""
    state = unit.state
    if asked.aptpl and asked.action in (REGISTER, REGISTER_AND_IGNORE, REGISTER_AND_MOVE) and not state.registry.keeper:
        raise invalid_parameter()
    try:
        step = state.registry.change(lambda table: _decide(unit, table, nexus, asked))
    except Conflict:
        return conflict()
    except BadRelease:
        raise CheckCondition(ILLEGAL_REQUEST, 0x26, 0x04) from None  # INVALID RELEASE OF PERSISTENT RESERVATION
    except (BadParameter, transportid.BadTransportId):
        raise invalid_parameter() from None
    except MediumError:
        raise CheckCondition(HARDWARE_ERROR, 0x44) from None  # INTERNAL TARGET FAILURE: it cannot be kept
    if asked.action == PREEMPT_AND_ABORT:
        return Later(partial(_abort, unit, step))
    state.tell_each(step.told)
    return Reply()


def _abort(unit: LogicalUnit, step: Step) -> Reply:
    """End the commands of who was preempted. None of his begins behind that: the table is another already, and compiled
    paths were told so when the command that brings us here had its data (`ScsiTarget.executed`)."""
    for target, lun in unit.state.everywhere():
        target.abort_tasks_of(lun, step.aborted)
    unit.state.tell_each(step.told)
    return Reply()


def _decide(unit: LogicalUnit, table: Table, nexus: NexusId, asked: Parameters) -> Step:
    known = table.keys.get(nexus)
    if asked.action != REGISTER_AND_IGNORE and asked.key != (known or 0):
        raise Conflict("the reservation key is not that of this nexus")
    if known is None and asked.action not in (REGISTER, REGISTER_AND_IGNORE):
        raise Conflict("this nexus is not registered")
    return _ACTIONS[asked.action](unit, table, nexus, asked)


def _register(unit: LogicalUnit, table: Table, nexus: NexusId, asked: Parameters) -> Step:
    """With SPEC_I_PT other initiator ports are registered too, with ALL_TG_PT by all target ports (5.12.7)."""
    if bool(asked.rest) != bool(asked.flags & 0x08) or (asked.rest and asked.action == REGISTER_AND_IGNORE):
        raise BadParameter("TransportIDs go with SPEC_I_PT")
    initiators = [(nexus.initiator_name, nexus.isid)]
    if asked.rest:
        size = int.from_bytes(asked.rest[:4], "big")
        if size != len(asked.rest) - 4:
            raise BadParameter("the length of the list of TransportIDs")
        if nexus in table.keys or not asked.action_key:
            raise BadParameter("SPEC_I_PT goes with a new registration")
        initiators += transportid.decode_all(asked.rest[4:])
    groups = unit.device.portal_groups if asked.flags & 0x04 else (nexus.portal_group,)
    nexuses = [NexusId(*who, nexus.target_name, group) for who in initiators for group in groups]
    if asked.rest and any(other in table.keys for other in nexuses):
        raise Conflict("one of the ports is registered")
    if not asked.action_key and nexus not in table.keys:
        return Step(table)  # nothing to take away (5.12.7, table 65)
    return rules.register(table, sorted(set(nexuses), key=nexuses.index), asked.action_key, aptpl=asked.aptpl)


def _move(unit: LogicalUnit, table: Table, nexus: NexusId, asked: Parameters) -> Step:
    group = int.from_bytes(asked.move[2:4], "big")
    if len(asked.rest) != int.from_bytes(asked.move[4:8], "big") or group not in unit.device.portal_groups:
        raise BadParameter("the TransportID or the target port")
    if not table.holds(nexus):
        raise Conflict("only the holder can move a reservation")
    name, isid, _ = transportid.decode(asked.rest)
    to = NexusId(name, isid, nexus.target_name, group)
    unreg = bool(asked.move[1] & 0x02)
    return rules.move(table, nexus, to, asked.action_key, unregister_old=unreg, aptpl=asked.aptpl)


_Action = Callable[["LogicalUnit", Table, NexusId, Parameters], Step]
_ACTIONS: dict[int, _Action] = {
    REGISTER: _register,
    RESERVE: lambda _unit, table, nexus, asked: rules.reserve(table, nexus, asked.kind),
    RELEASE: lambda _unit, table, nexus, asked: rules.release(table, nexus, asked.kind),
    CLEAR: lambda _unit, table, nexus, _asked: rules.clear(table, nexus),
    PREEMPT: lambda _unit, table, nexus, asked: rules.preempt(table, nexus, asked.action_key, asked.kind),
    PREEMPT_AND_ABORT: lambda _unit, table, nexus, asked: rules.preempt(table, nexus, asked.action_key, asked.kind),
    REGISTER_AND_IGNORE: _register,
    REGISTER_AND_MOVE: _move,
}


def reserve_6(unit: LogicalUnit, request: Request) -> Reply:
    """The whole unit for one nexus, until RELEASE, a reset, or the end of the nexus; extents and third parties: no."""
    if request.cdb[1] & 0x1F:
        raise invalid_field()
    return Reply() if unit.state.registry.reserve_legacy(request.nexus.identity) else conflict()


def release_6(unit: LogicalUnit, request: Request) -> Reply:
    if request.cdb[1] & 0x1F:
        raise invalid_field()
    return Reply() if unit.state.registry.release_legacy(request.nexus.identity) else conflict()
