# SPDX-License-Identifier: Apache-2.0
"""Task management: one function a row, each giving the response code of RFC 7143 11.6.1.

Only writes that wait for data can be aborted: everything else has been answered by the time a request of that session
is read, and what another session is at ends before anything is aborted there (`TargetNode.still`). So nothing that was
begun before a reset reaches a medium after the answer to it; in the compiled path, too, where what is under way is
found by `abort`, and what begins meets a gate that was touched before that, with the unit attention behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from swd.proto import serial
from swd.proto.pdu import TaskManagementRequest
from swd.target.scsi.nexus import BUS_RESET, POWER_ON

if TYPE_CHECKING:
    from swd.target.node import TargetNode
    from swd.target.normal import NormalSession

COMPLETE, NO_SUCH_TASK, NO_SUCH_LUN, NO_REASSIGNMENT, UNSUPPORTED = 0, 1, 2, 4, 5


def perform(session: NormalSession, request: TaskManagementRequest) -> int:
    """Carry a function out and return the response code."""
    function = FUNCTIONS.get(request.function)
    return UNSUPPORTED if function is None else function(session, request)


def _abort_task(session: NormalSession, request: TaskManagementRequest) -> int:
    """A task that has not come yet counts as received from now on, if its number could still come (11.6.1)."""
    if session.tasks.drop(request.referenced_task_tag):
        return COMPLETE
    earlier = serial.lt(request.ref_cmd_sn, request.cmd_sn)
    return COMPLETE if earlier and session.window.skip(request.ref_cmd_sn) else NO_SUCH_TASK


def _abort_task_set(session: NormalSession, request: TaskManagementRequest) -> int:
    if request.lun not in session.node.scsi.units:
        return NO_SUCH_LUN
    session.tasks.abort(request.lun)
    return COMPLETE


def _clear_task_set(session: NormalSession, request: TaskManagementRequest) -> int:
    unit = session.node.scsi.units.get(request.lun)
    if unit is None:
        return NO_SUCH_LUN
    for target, lun in unit.state.everywhere():
        with target.still() as sessions:
            for other in sessions:
                if other.tasks.abort(lun) and other is not session:
                    target.cleared(lun, other.nexus)
    return COMPLETE


def _lun_reset(session: NormalSession, request: TaskManagementRequest) -> int:
    unit = session.node.scsi.units.get(request.lun)
    if unit is None:
        return NO_SUCH_LUN
    for target, lun in unit.state.everywhere():
        with target.still() as sessions:
            target.reset_unit(lun)
            for each in sessions:
                each.tasks.abort(lun)
    return COMPLETE


def _target_warm_reset(session: NormalSession, _request: TaskManagementRequest) -> int:
    with session.node.still() as sessions:
        _reset(session.node, sessions, BUS_RESET)
    return COMPLETE


def _target_cold_reset(session: NormalSession, _request: TaskManagementRequest) -> int:
    """As power on: every connection ends, this one after its answer (11.5.1). What has been received there already is
    not carried out, nor takes it the attention that whoever comes back is to see."""
    with session.node.still() as sessions:
        _reset(session.node, sessions, POWER_ON)
        for each in sessions:
            each.closing = True
            if each is not session:
                each.drop()
    return COMPLETE


def _reset(node: TargetNode, sessions: list[NormalSession], attention: tuple[int, int]) -> None:
    """Of all units, for all sessions, which are still."""
    node.scsi.reset(attention)
    for each in sessions:
        each.tasks.abort()


def _task_reassign(_session: NormalSession, _request: TaskManagementRequest) -> int:
    return NO_REASSIGNMENT


FUNCTIONS: dict[int, Callable[[NormalSession, TaskManagementRequest], int]] = {  # 11.5.1; CLEAR ACA is not among them
    1: _abort_task,
    2: _abort_task_set,
    4: _clear_task_set,
    5: _lun_reset,
    6: _target_warm_reset,
    7: _target_cold_reset,
    8: _task_reassign,
}
