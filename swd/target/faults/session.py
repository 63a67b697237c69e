# SPDX-License-Identifier: Apache-2.0
"""A session under a fault plan: each request, when its turn has come, is held against it before it is carried out.

Faults of what a command does (wrong data, a lost write, a ghost) are kept by task tag until the device server has
answered; a slow command waits with the data that came behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.target import management
from swd.target.faults import requests
from swd.target.framing import Frame
from swd.target.normal import NormalSession
from swd.target.scsi.reply import TASK_SET_FULL, Outcome, Reply
from swd.target.session import Session
from swd.target.window import Held
from swd.values import RESERVED_TAG

if TYPE_CHECKING:
    from swd.target.faults.connection import PlannedConnection

_IMMEDIATE = 0x40
_ABORT_TASK, _SETS = 1, (2, 4, 5)  # task management functions: of one task, of a unit, all others of the target


class _Planned(Session):
    """What both kinds of session share. `connection` has the plan."""

    connection: PlannedConnection

    def _handle(self, frame: Frame) -> None:
        event = self.connection.judge.came(frame.bhs)
        injector = self.connection.injector
        for fault in injector.due("request", event, lambda fault: requests.fits(self, fault, frame)):
            action = requests.ACTIONS[fault.kind.name]
            taken = action(self, frame, fault)
            if fault.kind.name not in requests.COUNT_THEMSELVES:
                injector.injected(fault)
            if taken:
                return
        super()._handle(frame)


class PlannedDiscovery(_Planned):
    """A discovery session."""


class PlannedNormal(_Planned, NormalSession):
    """A session with a target. `waiting`: commands that were taken and are not carried out (yet), with what came
    behind them. `twists`: what is done to a command's outcome, by task tag.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waiting: dict[int, Held] = {}
        self.twists: dict[int, list[requests.Twist]] = {}

    @property
    def open_tasks(self) -> int:
        return super().open_tasks + len(self.waiting)

    def execute(self, command: pdu.ScsiCommand) -> Outcome:
        outcome = super().execute(command)
        for twist in self.twists.pop(command.itt, ()):
            outcome = twist(outcome)
        return outcome

    def answer(self, frame: Frame, reply: Reply) -> None:
        """End a command without carrying it out."""
        self._respond(pdu.ScsiCommand.unpack(frame.bhs), reply)

    def put_off(self, frame: Frame, seconds: float | None) -> None:
        """Carry a command out later, or (None) never; until then it is an open task and can be aborted."""
        if frame.bhs[0] & _IMMEDIATE and self.crowded:
            self.answer(frame, Reply(TASK_SET_FULL))
            return
        itt = _itt(frame)
        mine = self.waiting[itt] = Held(frame, itt, self.agreed.first_burst_length)

        def now() -> None:
            if self.waiting.get(itt) is mine:
                del self.waiting[itt]
                for each in mine.frames:
                    super(_Planned, self)._handle(each)

        if seconds is not None:
            self.connection.at(seconds, now)

    def _handle(self, frame: Frame) -> None:
        if frame.opcode == Opcode.DATA_OUT and int.from_bytes(frame.bhs[20:24], "big") == RESERVED_TAG:
            waiting = self.waiting.get(_itt(frame))
            if waiting is not None:
                waiting.add(frame)
                return
        super()._handle(frame)

    def _scsi_command(self, frame: Frame) -> None:
        super()._scsi_command(frame)
        self.twists.pop(_itt(frame), None)  # of a command that was refused before it came so far

    def _task_management(self, frame: Frame) -> None:
        """Commands that wait here are tasks, too."""
        request = pdu.TaskManagementRequest.unpack(frame.bhs)
        if request.function == _ABORT_TASK and self.waiting.pop(request.referenced_task_tag, None) is not None:
            self.twists.pop(request.referenced_task_tag, None)
            response = management.COMPLETE
            self.outbox.put(pdu.TaskManagementResponse(itt=request.itt, response=response, **self.numbers()))
            return
        if request.function > _ABORT_TASK:
            lun = request.lun.to_bytes(8, "big") if request.function in _SETS else None
            self.waiting = {
                itt: held for itt, held in self.waiting.items() if lun is not None and held.frames[0].bhs[8:16] != lun
            }
            self.twists = {itt: twists for itt, twists in self.twists.items() if itt in self.waiting}
        super()._task_management(frame)


def _itt(frame: Frame) -> int:
    return int.from_bytes(frame.bhs[16:20], "big")


PlannedNormal.handlers = {
    **NormalSession.handlers,
    Opcode.SCSI_COMMAND: PlannedNormal._scsi_command,
    Opcode.TASK_MANAGEMENT_REQUEST: PlannedNormal._task_management,
}
