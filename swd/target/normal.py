# SPDX-License-Identifier: Apache-2.0
"""A normal session: SCSI commands and their data, over what every session can do.

A read is answered at once. A write becomes a `WriteTask` until its data is there. Reads and writes that are open at the
same time may see each other's bytes, as the standards allow for SIMPLE tasks; for any other task attribute, what is on
its way out (the compiled path lends its memory) is made the session's own first.

Whatever may change a medium is done in the session's `turn`, and who ends tasks of another session takes that: a write
is either over or does nothing when the answer to a reset goes out. The compiled path has its own lock for that.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.target import management
from swd.target.framing import Frame, Outbox
from swd.target.media import Buffer
from swd.target.node import TargetNode
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reply import GOOD, TASK_SET_FULL, CheckCondition, Later, Outcome, Reply, Request, WantData
from swd.target.session import TASK_IN_PROGRESS, Directory, Session
from swd.target.tasks import WriteTask
from swd.values import RESERVED_TAG, Negotiated

_SIMPLE = 1
_LAST_COMMAND = 5.0  # seconds that a session which is reinstated has for the command that it is at
_IMMEDIATE_FACTOR = 2  # immediate commands pass the window: so many times its depth, then TASK SET FULL


class Residual(NamedTuple):
    """How far the initiator's ExpectedDataTransferLength missed what the command moves (RFC 7143 11.4.5)."""

    overflow: bool
    underflow: bool
    length: int


def residual(promised: int, wanted: int) -> Residual:
    """Bytes promised by the initiator against bytes that the command has or wants."""
    return Residual(wanted > promised, wanted < promised, abs(promised - wanted))


def nexus_of(agreed: Negotiated) -> NexusId:
    """The I_T nexus of a session: initiator port and target port."""
    return NexusId(agreed.initiator_name, agreed.isid, agreed.target_name, agreed.target_portal_group_tag or 1)


class NormalSession(Session):
    """A session with a target. Creating it makes the I_T nexus, with its unit attentions."""

    def __init__(
        self, agreed: Negotiated, outbox: Outbox, directory: Directory, drop: Callable[[], None], node: TargetNode
    ) -> None:
        super().__init__(agreed, outbox, directory, drop, node.config.queue_depth)
        self.node = node
        self.nexus = node.scsi.nexuses.enter(nexus_of(agreed))
        self.post: Callable[[Callable[[], object]], None] | None = None  # if it can be woken: the way to its thread
        self.turn = threading.Lock()  # who has it carries a command out, or is another's thread (`TargetNode.still`)
        self._over = threading.Event()

    def end(self) -> None:
        super().end()
        self.node.leave(self)
        self._over.set()

    def reinstate(self) -> None:
        """Another session of this initiator port is to take its place: end, from that one's thread. What this one has
        begun is over when it returns, else a write could come after those of the new session. Raises
        ConnectionAbortedError where it takes too long.
        """
        self.closing = True
        self.tasks.abort()
        self.drop()
        if not self._over.wait(_LAST_COMMAND):
            raise ConnectionAbortedError("the session to be reinstated is still at a command")

    def _scsi_command(self, frame: Frame) -> None:
        command = pdu.ScsiCommand.unpack(frame.bhs)
        if command.itt in self.tasks:
            self.reject(frame, TASK_IN_PROGRESS)
            return
        if command.attributes > _SIMPLE:
            self.outbox.own()
        if command.immediate and self.crowded:
            self._respond(command, Reply(TASK_SET_FULL))
            return
        with self.turn:
            if self.closing:  # by another's doing; nobody is there to be told of an attention
                return
            outcome = self.execute(command)
            task = self._open(command, outcome) if isinstance(outcome, WantData) else None
        if task is not None:
            self._advance(task, partial(task.immediate, frame.data))
        elif not isinstance(outcome, WantData):
            self._answer(command, outcome, partial(self._respond, command))

    @property
    def crowded(self) -> bool:
        """Whether no more immediate commands are taken, which the window does not hold back."""
        return self.open_tasks >= _IMMEDIATE_FACTOR * self.node.config.queue_depth

    def execute(self, command: pdu.ScsiCommand) -> Outcome:
        """What the device server makes of a command."""
        promised = command.expected_data_transfer_length if command.write else 0
        return self.node.scsi.execute(command.lun, Request(command.cdb, self.nexus, promised))

    def _open(self, command: pdu.ScsiCommand, want: WantData) -> WriteTask:
        task = WriteTask(command, self.node.scsi.units[command.lun], want, self.agreed)
        self.tasks.add(task)
        return task

    def _data_out(self, frame: Frame) -> None:
        """Data of a task that is not there is dropped: it was aborted, or answered before all of its data had come."""
        header = pdu.DataOut.unpack(frame.bhs)
        task = self.tasks.get(header.itt)
        if task is None:
            if header.ttt == RESERVED_TAG:
                self.window.hold_data(frame, header.itt)
            return
        self._advance(task, partial(task.data_out, header, frame.data))

    def _advance(self, task: WriteTask, take: Callable[[], object]) -> None:
        """Take data of a write; then ask for more, or carry the command out. Nothing, if somebody has ended it."""
        command = task.command
        outcome: Reply | Later | None = None
        with self.turn:
            if self.tasks.get(command.itt) is not task:
                return
            try:
                take()
            except CheckCondition as error:
                outcome = error.reply
            if outcome is None and task.complete:
                outcome = task.unit.finish(task.want, task.buffer)
                self.node.scsi.executed(command.lun, command.cdb)
            if outcome is not None:
                self.tasks.take(command.itt)
        if outcome is None:
            self._ask(task)
        else:
            self._answer(command, outcome, partial(self._respond_write, task))

    def _ask(self, task: WriteTask) -> None:
        for ask in task.asks(self.new_ttt):
            self.outbox.put(
                pdu.R2T(
                    lun=task.command.lun,
                    itt=task.command.itt,
                    ttt=ask.ttt,
                    r2t_sn=ask.r2t_sn,
                    buffer_offset=ask.offset,
                    desired_data_transfer_length=ask.length,
                    **self.numbers(status=False),
                )
            )

    def _answer(self, command: pdu.ScsiCommand, outcome: Reply | Later, respond: Callable[[Reply], None]) -> None:
        """Respond now, or when a thread has done the work, if this session can be woken then. Without the turn: what
        comes later may want those of other sessions."""
        if isinstance(outcome, Reply):
            respond(outcome)
        elif self.post is None:
            respond(outcome.work())
        else:
            self.tasks.defer(command.itt, command.lun)
            work = partial(self._work, command.itt, outcome, respond, self.post)
            threading.Thread(target=work, name="swd-target-later", daemon=True).start()

    def _work(
        self, itt: int, later: Later, respond: Callable[[Reply], None], post: Callable[[Callable[[], object]], None]
    ) -> None:
        """The body of that thread."""
        reply = later.work()
        post(lambda: respond(reply) if self.tasks.settle(itt) else None)

    def announce(self, message: pdu.AsyncMessage, data: bytes = b"", *, then_close: bool = False) -> None:
        """Say something without being asked (11.9); in the session's own thread."""
        self.outbox.put(dataclasses.replace(message, **self.numbers()), data)
        self.closing = self.closing or then_close

    def _respond_write(self, task: WriteTask, reply: Reply) -> None:
        self._status(task.command, reply, residual(task.promised, task.want.length))

    def _respond(self, command: pdu.ScsiCommand, reply: Reply) -> None:
        """Answer a command that needs no more data: Data-In with the status in its last PDU, or status alone."""
        promised = command.expected_data_transfer_length
        if reply.status != GOOD:
            self._status(command, reply, residual(promised, 0))
            return
        if command.write or not command.read:  # the data, if there is any, has no way to go
            self._status(command, reply, residual(0, len(reply.data)) if reply.data else residual(promised, 0))
            return
        rest = residual(promised, len(reply.data))
        data = memoryview(reply.data)[:promised]
        if data:
            self._data_in(command, data, rest)
        else:
            self._status(command, reply, rest)

    def _data_in(self, command: pdu.ScsiCommand, data: memoryview, rest: Residual) -> None:
        """Data-In PDUs of at most the initiator's MaxRecvDataSegmentLength; each MaxBurstLength ends with F."""
        segment, burst = self.agreed.max_recv_data_segment_length, self.agreed.max_burst_length
        offset = data_sn = 0
        while offset < len(data):
            burst_end = min((offset // burst + 1) * burst, len(data))
            end = min(offset + segment, burst_end)
            last = end == len(data)
            header = pdu.DataIn(
                itt=command.itt,
                final=end == burst_end,
                status_present=last,
                overflow=last and rest.overflow,
                underflow=last and rest.underflow,
                residual_count=rest.length if last else 0,
                data_sn=data_sn,
                buffer_offset=offset,
                **self.numbers(status=last),
            )
            self.outbox.put(header, data[offset:end])
            offset, data_sn = end, data_sn + 1

    def _status(self, command: pdu.ScsiCommand, reply: Reply, rest: Residual) -> None:
        data: Buffer = len(reply.sense).to_bytes(2, "big") + reply.sense if reply.sense else b""
        self.outbox.put(
            pdu.ScsiResponse(
                itt=command.itt,
                status=reply.status,
                overflow=rest.overflow,
                underflow=rest.underflow,
                residual_count=rest.length,
                **self.numbers(),
            ),
            data,
        )

    def _task_management(self, frame: Frame) -> None:
        request = pdu.TaskManagementRequest.unpack(frame.bhs)
        response = management.perform(self, request)
        self.outbox.put(pdu.TaskManagementResponse(itt=request.itt, response=response, **self.numbers()))
        self.run(self.window.released())  # an aborted number may have been the gap that others waited for


NormalSession.handlers = {
    **Session.handlers,
    Opcode.SCSI_COMMAND: NormalSession._scsi_command,
    Opcode.DATA_OUT: NormalSession._data_out,
    Opcode.TASK_MANAGEMENT_REQUEST: NormalSession._task_management,
}
