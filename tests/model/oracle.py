# SPDX-License-Identifier: Apache-2.0
"""The initiator's side of the full-feature phase at recovery level 0, in the plainest Python that says it.

`Model` takes the calls that the engine takes and says what must come of them: completions, events, bytes placed,
PDUs to send, and the class of the error that ends the connection. It keeps whole PDUs, copies everything, and is in no
hurry. The caller says which Initiator Task Tag a command got: the choice is the
initiator's own (RFC 7143 11.2.1.8).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from model import wire
from model.wire import Pdu
from swd.values import Completion, Event, Negotiated

HALF = 1 << 31
MASK = (1 << 32) - 1
VIOLATION, MISMATCH = "ProtocolViolation", "DigestMismatch"  # names of classes of swd.errors
ANSWERS = {wire.TASK_MANAGEMENT_ANSWER, wire.TEXT_ANSWER, wire.LOGOUT_ANSWER}
WITHOUT_DATA = {wire.R2T, wire.TASK_MANAGEMENT_ANSWER, wire.LOGOUT_ANSWER}
GOOD, CONDITION_MET, INTERMEDIATE, INTERMEDIATE_CONDITION_MET = 0x00, 0x04, 0x10, 0x14


def before(a: int, b: int) -> bool:
    """Serial number arithmetic (RFC 1982)."""
    return 0 < (b - a) % (1 << 32) < HALF


class Broken(Exception):
    """The target broke a rule; the argument is the class of the error."""


def demand(condition: bool) -> None:
    if not condition:
        raise Broken(VIOLATION)


@dataclass
class Burst:
    """Data that may be sent: unsolicited, or for one R2T."""

    ttt: int
    start: int
    end: int


@dataclass
class Task:
    """A command, or another request with the opcode that ends it in `answer`."""

    itt: int
    lun: bytes
    cdb: bytes = b""
    write: bytes = b""
    read: bytearray | None = None
    expected: int = 0  # bytes to read
    answer: int = 0
    request: bytes = b""
    sent: bool = False  # the target knows it
    received: int = 0
    data_sn: int = 0
    r2t_sn: int = 0
    asked: int = 0  # an R2T may ask for what lies from here on
    given: int = 0  # bytes of the write that went out
    bursts: list[Burst] = field(default_factory=list)
    wanted: bool = True  # somebody waits for it


class Model:
    """Model(negotiated): as swd's engine, but slow."""

    def __init__(self, negotiated: Negotiated) -> None:
        self.agreed = negotiated
        self.cmd_sn = negotiated.cmd_sn
        self.exp_stat_sn = negotiated.exp_stat_sn
        self.max_cmd_sn = negotiated.max_cmd_sn
        self.splitter = wire.Splitter(negotiated.header_digest, negotiated.data_digest)
        self.tasks: dict[int, Task] = {}
        self.waiting: list[Task] = []
        self.urgent: list[Task] = []
        self.pings: list[Pdu] = []
        self.ended: list[tuple[int, Completion | Event]] = []
        self.events: list[Event] = []
        self.judged = False  # the header that stands first
        self.fault: str | None = None

    # ---- the caller ----------------------------------------------------------------------------------------------

    def submit(self, itt: int, lun: bytes, cdb: bytes, data_out: bytes = b"", data_in: bytearray | None = None) -> None:
        expected = 0 if data_in is None else len(data_in)
        task = Task(itt, lun, cdb.ljust(16, b"\0"), bytes(data_out), data_in, expected)
        self.tasks[itt] = task
        self.waiting.append(task)

    def control(self, itt: int, bhs: bytes, data: bytes, answer: int) -> None:
        task = Task(itt, bhs[8:16], write=data, answer=answer, request=bhs)
        self.tasks[itt] = task
        (self.urgent if bhs[0] & 0x40 else self.waiting).append(task)

    def let_go(self, itt: int) -> None:
        """Nobody waits: a command that the target does not know vanishes, of another the target's data is dropped."""
        task = self.tasks[itt]
        task.read = None
        task.wanted = False
        if task in self.waiting and not task.answer:
            self.waiting.remove(task)
            del self.tasks[itt]

    def completions(self) -> list[tuple[int, Completion | Event]]:
        taken, self.ended = self.ended, []
        return taken

    def take_events(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken

    # ---- sending -------------------------------------------------------------------------------------------------

    def output(self) -> list[Pdu]:
        """All that may be sent now. The order between tasks is the initiator's choice, but for that of CmdSN."""
        if self.fault:
            return []
        out = [self.ping_answer(ping) for ping in self.pings]
        out += [self.build_request(task) for task in self.urgent]
        self.pings, self.urgent = [], []
        while self.waiting and not before(self.max_cmd_sn, self.cmd_sn):
            task = self.waiting.pop(0)
            out.append(self.build_request(task) if task.answer else self.build_command(task))
        for task in self.tasks.values():
            out += self.build_data(task)
        return out

    def ping_answer(self, ping: Pdu) -> Pdu:
        """11.18: the target's NOP-In had a TTT; it goes back with its LUN, immediate, without a tag of ours."""
        return wire.pdu(
            wire.NOP_OUT | 0x40, lun=ping.lun, itt=wire.RESERVED, ttt=ping.ttt, n24=self.cmd_sn, n28=self.exp_stat_sn
        )

    def build_request(self, task: Task) -> Pdu:
        made = Pdu(bytearray(task.request), task.write)
        made.bhs[5:8] = len(task.write).to_bytes(3, "big")
        made.put(16, task.itt)
        self.number(made, task, immediate=made.immediate)
        return made

    def number(self, made: Pdu, task: Task, *, immediate: bool) -> None:
        """4.2.2.1: an immediate request carries the next CmdSN without using it up."""
        made.put(24, self.cmd_sn)
        made.put(28, self.exp_stat_sn)
        self.cmd_sn = (self.cmd_sn + (not immediate)) & MASK
        task.sent = True

    def build_command(self, task: Task) -> Pdu:
        """11.3, 4.2.5.2: immediate data, then unsolicited Data-Out, together at most FirstBurstLength."""
        length = len(task.write)
        first = min(self.agreed.first_burst_length, self.agreed.max_burst_length, length)
        immediate = min(first, self.agreed.target_max_recv_data_segment_length) if self.agreed.immediate_data else 0
        unsolicited = immediate if self.agreed.initial_r2t else first
        flags = 1 | (wire.READ if task.expected else 0) | (wire.WRITE if length else 0)
        if unsolicited == immediate:
            flags |= wire.FINAL
        else:
            task.bursts.append(Burst(wire.RESERVED, immediate, unsolicited))
        task.asked, task.given = unsolicited, immediate
        data, expected = task.write[:immediate], length or task.expected
        made = wire.pdu(wire.SCSI_COMMAND, flags, data=data, lun=task.lun, itt=task.itt, ttt=expected)
        made.bhs[32:48] = task.cdb
        self.number(made, task, immediate=False)
        return made

    def build_data(self, task: Task) -> list[Pdu]:
        """11.7: DataSN counts within a burst, F ends it."""
        out = []
        for burst in task.bursts:
            at, data_sn = burst.start, 0
            while at < burst.end:
                end = min(at + self.agreed.target_max_recv_data_segment_length, burst.end)
                flags = wire.FINAL if end == burst.end else 0
                part = task.write[at:end]
                numbers = {"itt": task.itt, "ttt": burst.ttt, "n28": self.exp_stat_sn, "n36": data_sn, "n40": at}
                out.append(wire.pdu(wire.DATA_OUT, flags, data=part, lun=task.lun, **numbers))
                task.given += len(part)
                at, data_sn = end, data_sn + 1
        task.bursts = []
        return out

    # ---- receiving -----------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Takes note of bytes from the target; after a fault nothing counts any more."""
        if self.fault:
            return
        self.splitter.rest += data
        try:
            while self.step():
                pass
        except Broken as broken:
            self.fault = str(broken)
        except wire.WrongDigest:
            self.fault = MISMATCH

    def step(self) -> bool:
        header = self.splitter.header()
        if header is None:
            return False
        if not self.judged:
            self.judge(header)
            self.judged = True
        made = self.splitter.next()
        if made is None:
            return False
        self.judged = False
        self.move_window(made)
        self.take(made)
        return True

    def judge(self, made: Pdu) -> None:
        """What a header alone gives away, before any of its data may be placed."""
        demand(made.bhs[4] == 0)
        demand(made.length <= self.agreed.max_recv_data_segment_length)
        demand(not (made.opcode in WITHOUT_DATA and made.length))
        if made.opcode == wire.DATA_IN:
            self.judge_data_in(made, self.command(made))

    def judge_data_in(self, made: Pdu, task: Task) -> None:
        """11.7: in order, within the expected length, and a status only with F and only one without sense."""
        demand(task.expected > 0)
        demand(made.number_36 == task.data_sn)
        demand(made.length == 0 or made.offset == task.received)
        demand(task.received + made.length <= task.expected)
        demand(not made.flags & wire.ACKNOWLEDGE)
        if made.flags & wire.STATUS:
            demand(bool(made.flags & wire.FINAL))
            demand(made.bhs[3] in (GOOD, CONDITION_MET, INTERMEDIATE, INTERMEDIATE_CONDITION_MET))

    def command(self, made: Pdu) -> Task:
        """The open SCSI command that a PDU names."""
        task = self.tasks.get(made.itt)
        if task is None or not task.sent or task.answer:
            raise Broken(VIOLATION)
        return task

    def move_window(self, made: Pdu) -> None:
        """4.2.2.1: a MaxCmdSN below ExpCmdSN - 1 is ignored; the window never shrinks."""
        if not before(made.max_cmd_sn, made.number_28 - 1) and before(self.max_cmd_sn, made.max_cmd_sn):
            self.max_cmd_sn = made.max_cmd_sn

    def take(self, made: Pdu) -> None:
        if made.opcode == wire.DATA_IN:
            self.take_data_in(made)
        elif made.opcode == wire.SCSI_RESPONSE:
            self.end(self.command(made), made, response=made.bhs[2], data=made.data)
        elif made.opcode == wire.R2T:
            self.take_r2t(made, self.command(made))
        elif made.opcode in ANSWERS or (made.opcode == wire.NOP_IN and made.itt != wire.RESERVED):
            self.take_answer(made)
        elif made.opcode == wire.NOP_IN:
            if made.ttt != wire.RESERVED:
                self.pings.append(made)
        else:
            demand(made.opcode in (wire.ASYNC, wire.REJECT))
            self.take_stat_sn(made)
            self.events.append(Event(made.opcode, bytes(made.bhs), made.data))

    def take_stat_sn(self, made: Pdu) -> None:
        demand(made.number_24 == self.exp_stat_sn)
        self.exp_stat_sn = (self.exp_stat_sn + 1) & MASK

    def take_data_in(self, made: Pdu) -> None:
        task = self.command(made)
        if task.read is not None:
            task.read[task.received : task.received + made.length] = made.data
        task.received += made.length
        task.data_sn += 1
        if made.flags & wire.STATUS:
            self.end(task, made, response=0, data=b"")

    def take_answer(self, made: Pdu) -> None:
        task = self.tasks.get(made.itt)
        if task is None or not task.sent or task.answer != made.opcode:
            raise Broken(VIOLATION)
        self.take_stat_sn(made)
        del self.tasks[made.itt]
        if task.wanted:
            self.ended.append((task.itt, Event(made.opcode, bytes(made.bhs), made.data)))

    def take_r2t(self, made: Pdu, task: Task) -> None:
        """11.8: within what was not sent yet, at most MaxBurstLength, at most MaxOutstandingR2T of them."""
        start, length = made.offset, made.number_44
        demand(made.number_36 == task.r2t_sn)
        demand(made.ttt != wire.RESERVED)
        demand(0 < length <= self.agreed.max_burst_length)
        demand(task.asked <= start and start + length <= len(task.write))
        demand(sum(burst.ttt != wire.RESERVED for burst in task.bursts) < self.agreed.max_outstanding_r2t)
        task.r2t_sn += 1
        task.asked = start + length
        task.bursts.append(Burst(made.ttt, start, start + length))

    def end(self, task: Task, made: Pdu, *, response: int, data: bytes) -> None:
        """11.4: a command that ends GOOD moved all its data, or its residual count says what is missing."""
        self.take_stat_sn(made)
        overflow, underflow = bool(made.flags & wire.OVERFLOW), bool(made.flags & wire.UNDERFLOW)
        residual = made.number_44 if overflow or underflow else 0
        status = made.bhs[3]
        if response == 0 and status == GOOD:
            excused = residual if underflow else 0
            if task.expected:
                demand(task.expected - task.received == excused)
            demand(len(task.write) - task.given <= excused or not task.write)
        del self.tasks[task.itt]
        if task.wanted:
            done = Completion(task.itt, response, status, underflow, overflow, residual, task.received, data)
            self.ended.append((task.itt, done))
