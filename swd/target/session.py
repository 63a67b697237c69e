# SPDX-License-Identifier: Apache-2.0
"""The full-feature phase of one connection: PDUs in, PDUs out, no socket and no clock.

`receive` takes one frame and queues the answers in the outbox. Requests pass the command window and then a table of
handlers. What stands here is all that a discovery session may do; `normal.NormalSession` adds SCSI. A ProtocolViolation
that comes out of `receive` means that the connection is over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import ClassVar, NamedTuple, Protocol, TypedDict

from swd.errors import ProtocolViolation
from swd.proto import pdu, serial
from swd.proto.pdu import Opcode
from swd.target.framing import Frame, Outbox
from swd.target.tasks import TaskSet
from swd.target.textual import TextExchange
from swd.target.window import Window
from swd.values import RESERVED_TAG, Negotiated

SNACK_REJECTED, PROTOCOL_ERROR, UNSUPPORTED, TASK_IN_PROGRESS, INVALID_FIELD = 0x03, 0x04, 0x05, 0x07, 0x09  # 11.17.1

_CLOSE_CONNECTION, _RECOVER = 1, 2  # logout reasons (11.14.1); 0 closes the session, which is this connection
_CLOSED, _NO_SUCH_CID, _NO_RECOVERY = 0, 1, 2  # logout responses (11.15.1)
_NUMBERED = frozenset(  # requests that carry a CmdSN (4.2.2.1)
    {Opcode.NOP_OUT, Opcode.SCSI_COMMAND, Opcode.TASK_MANAGEMENT_REQUEST, Opcode.TEXT_REQUEST, Opcode.LOGOUT_REQUEST}
)
_IMMEDIATE = 0x40


class Numbers(TypedDict):
    """What every answer carries."""

    stat_sn: int
    exp_cmd_sn: int
    max_cmd_sn: int


class Position(NamedTuple):
    """Where a session is in its numbers: the next StatSN, the last tag given, and the command window."""

    stat_sn: int
    ttt: int
    exp_cmd_sn: int
    max_cmd_sn: int


class Directory(Protocol):
    """What SendTargets asks the server for."""

    def addresses(self, target_name: str | None) -> list[tuple[str, list[str]]]:
        """(name, ["address:port,group"...]) of every target, or of one if it exists, as this peer reaches them."""


def _no_need() -> None:
    """Nobody sends meanwhile."""


class Session:
    """A session in the full-feature phase.

    `agreed` is what login ended in, said from the initiator's side: its `max_recv_data_segment_length` is the
    initiator's own, its sequence numbers are the next ones. `drop` ends the connection and may be called from any
    thread. `closing` is True once the connection is to end as soon as the outbox has gone out. `observed` is for
    whoever has to see every PDU (a trace, a fault plan): such a session does without the compiled data path.
    `relieve` is called between two requests that came due together: it waits while too much is unsent, or raises.
    """

    handlers: ClassVar[dict[int, Callable[..., None]]]

    def __init__(
        self, agreed: Negotiated, outbox: Outbox, directory: Directory, drop: Callable[[], None], depth: int = 16
    ) -> None:
        self.agreed = agreed
        self.outbox = outbox
        self.drop = drop
        self.tasks = TaskSet()
        self.window = Window(agreed.cmd_sn, depth, agreed.first_burst_length)
        self.closing = False
        self.observed = False
        self.relieve: Callable[[], object] = _no_need
        self._directory = directory
        self._stat_sn = agreed.exp_stat_sn
        self._ttt = 0
        self._text = TextExchange()

    def receive(self, frame: Frame) -> None:
        """Take one PDU and queue what there is to say. Raises ProtocolViolation when the connection must end."""
        if frame.opcode in _NUMBERED and not frame.bhs[0] & _IMMEDIATE:
            itt, cmd_sn = int.from_bytes(frame.bhs[16:20], "big"), int.from_bytes(frame.bhs[24:28], "big")
            self.run(self.window.arrive(frame, cmd_sn, itt))
        else:
            self._handle(frame)

    def run(self, frames: Iterable[Frame]) -> None:
        """Carry out requests whose turn has come: one may have held up a whole window of long reads."""
        for frame in frames:
            self._handle(frame)
            self.relieve()

    def numbers(self, *, status: bool = True) -> Numbers:
        """The session's numbers for an answer; one that carries status takes a StatSN (4.2.2.2)."""
        self.window.open_for(self.open_tasks)
        stat_sn = self._stat_sn
        if status:
            self._stat_sn = serial.add(stat_sn, 1)
        return {"stat_sn": stat_sn, "exp_cmd_sn": self.window.exp_cmd_sn, "max_cmd_sn": self.window.max_cmd_sn}

    @property
    def open_tasks(self) -> int:
        """Commands that have come and are not answered: so many fewer may come."""
        return len(self.tasks)

    def reject(self, frame: Frame, reason: int) -> None:
        """Refuse one PDU and go on (11.17)."""
        self.outbox.put(pdu.Reject(reason=reason, **self.numbers()), frame.bhs)

    @property
    def position(self) -> Position:
        """For the compiled data path, which gives numbers, too: it and the session set each other's in turn."""
        return Position(self._stat_sn, self._ttt, self.window.exp_cmd_sn, self.window.max_cmd_sn)

    @position.setter
    def position(self, position: tuple[int, int, int, int]) -> None:
        self._stat_sn, self._ttt, self.window.exp_cmd_sn, self.window.max_cmd_sn = position

    def new_ttt(self) -> int:
        """A Target Transfer Tag that is not in use and not the reserved one."""
        self._ttt = (self._ttt + 1) % RESERVED_TAG
        return self._ttt

    def end(self) -> None:
        """The connection has ended: drop what is open. Idempotent."""
        self.tasks.abort()

    def _handle(self, frame: Frame) -> None:
        handler = self.handlers.get(frame.opcode)
        if handler is None:
            self.reject(frame, SNACK_REJECTED if frame.opcode == Opcode.SNACK_REQUEST else UNSUPPORTED)
        else:
            handler(self, frame)

    def _nop_out(self, frame: Frame) -> None:
        """A ping is echoed up to what the initiator takes; without a task tag none is wanted (11.18.1)."""
        ping = pdu.NopOut.unpack(frame.bhs)
        if ping.itt != RESERVED_TAG:
            data = bytes(frame.data[: self.agreed.max_recv_data_segment_length])
            self.outbox.put(pdu.NopIn(lun=ping.lun, itt=ping.itt, **self.numbers()), data)

    def _text_request(self, frame: Frame) -> None:
        request = pdu.TextRequest.unpack(frame.bhs)
        limit = self.agreed.max_recv_data_segment_length
        try:
            answer, data = self._text.receive(request, bytes(frame.data), self._answer_text, limit, self.new_ttt)
        except ProtocolViolation:
            self._text = TextExchange()
            self.reject(frame, INVALID_FIELD)
        else:
            self.outbox.put(dataclasses.replace(answer, **self.numbers()), data)

    def _answer_text(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        answers: list[tuple[str, str]] = []
        for key, value in pairs:
            if key == "SendTargets":
                answers += self._send_targets(value)
            else:
                answers.append((key, "NotUnderstood"))
        return answers

    def _send_targets(self, value: str) -> list[tuple[str, str]]:
        """Appendix C: All in a discovery session only, nothing (meaning this target) in a normal one only."""
        discovery = self.agreed.session_type == "Discovery"
        if (value == "All" and not discovery) or (not value and discovery):
            return [("SendTargets", "Reject")]
        wanted = None if value == "All" else value or self.agreed.target_name
        if not discovery and wanted != self.agreed.target_name:
            return []
        answers = []
        for name, addresses in self._directory.addresses(wanted):
            answers.append(("TargetName", name))
            answers += [("TargetAddress", address) for address in addresses]
        return answers

    def _logout(self, frame: Frame) -> None:
        request = pdu.LogoutRequest.unpack(frame.bhs)
        response = _CLOSED
        if request.reason >= _RECOVER:
            response = _NO_RECOVERY
        elif request.reason == _CLOSE_CONNECTION and request.cid != self.agreed.cid:
            response = _NO_SUCH_CID
        self.outbox.put(
            pdu.LogoutResponse(
                itt=request.itt,
                response=response,
                time2wait=self.agreed.default_time2wait,
                time2retain=0,  # recovery level 0 keeps no task
                **self.numbers(),
            )
        )
        self.closing = response == _CLOSED

    def _login_again(self, _frame: Frame) -> None:
        raise ProtocolViolation("a Login Request came in the full-feature phase", clause="6.3")


Session.handlers = {
    Opcode.NOP_OUT: Session._nop_out,
    Opcode.TEXT_REQUEST: Session._text_request,
    Opcode.LOGOUT_REQUEST: Session._logout,
    Opcode.LOGIN_REQUEST: Session._login_again,
}
