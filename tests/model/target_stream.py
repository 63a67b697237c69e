# SPDX-License-Identifier: Apache-2.0
"""A target that answers in every way that RFC 7143 allows, chosen at random, and one that breaks exactly one rule.

`RandomTarget` reads what the initiator sent (and asserts that it kept the rules) and gives one PDU after another;
nothing here knows how the initiator is built. `break_one` spoils one PDU of a list.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from model import wire
from model.wire import RESERVED, Pdu
from swd.values import Negotiated

SENSE = bytes.fromhex("0012 70 00 05 00 00 00 00 0a 00 00 00 00 24 00 00 00 00 00")  # SenseLength, ILLEGAL REQUEST
CHECK_CONDITION, BUSY = 0x02, 0x08
ANSWER_TO = {
    wire.NOP_OUT: wire.NOP_IN,
    wire.TEXT: wire.TEXT_ANSWER,
    wire.TASK_MANAGEMENT: wire.TASK_MANAGEMENT_ANSWER,
    wire.LOGOUT: wire.LOGOUT_ANSWER,
}


@dataclass
class Ask:
    """An R2T that is being answered."""

    ttt: int
    at: int
    end: int
    data_sn: int = 0


@dataclass
class Job:
    """A command that the target works on, and what it has decided to do with it."""

    command: Pdu
    expected: int
    send: bytes = b""  # read: what it has, at most `expected` bytes
    sent: int = 0
    data_sn: int = 0
    take: int = 0  # write: it will ask for no byte from here on
    got: dict[int, bytes] = field(default_factory=dict)
    unsolicited: Ask | None = None
    asks: list[Ask] = field(default_factory=list)
    asked: int = 0
    r2t_sn: int = 0
    status: int = 0
    overflow: int = 0
    collapse: bool = False

    @property
    def itt(self) -> int:
        itt: int = self.command.itt
        return itt

    @property
    def moved(self) -> int:
        return self.sent + sum(map(len, self.got.values()))


class RandomTarget:
    """RandomTarget(rng, negotiated): the target's side of one connection.

    `found` maps the tag of each read to the bytes that it finds, `done` the tag of each write that has ended to the
    bytes taken, by offset. `chatter` is how often it says something that nobody asked for.
    """

    def __init__(self, rng: random.Random, agreed: Negotiated, *, chatter: float = 0.1) -> None:
        self.rng = rng
        self.agreed = agreed
        self.chatter = chatter
        self.exp_cmd_sn = agreed.cmd_sn
        self.max_cmd_sn = agreed.cmd_sn + (agreed.max_cmd_sn - agreed.cmd_sn) % (1 << 32)
        if self.max_cmd_sn - agreed.cmd_sn > 1 << 31:
            self.max_cmd_sn = agreed.cmd_sn - 1  # closed
        self.stat_sn = agreed.exp_stat_sn
        self.jobs: list[Job] = []
        self.answers: list[Pdu] = []
        self.pings: set[int] = set()
        self.asyncs = 0
        self.ttt = 0
        self.done: dict[int, dict[int, bytes]] = {}
        self.found: dict[int, bytes] = {}  # tag of a read: what it finds

    # ---- what the initiator sends --------------------------------------------------------------------------------

    def receive(self, pdus: list[Pdu]) -> None:
        for made in pdus:
            assert made.length <= self.agreed.target_max_recv_data_segment_length
            if made.opcode == wire.DATA_OUT:
                self.receive_data(made)
                continue
            self.receive_number(made)
            if made.opcode == wire.SCSI_COMMAND:
                self.jobs.append(self.begin(made))
            elif made.opcode == wire.NOP_OUT and made.itt == RESERVED:
                self.pings.remove(made.ttt)
            else:
                self.answers.append(made)
        self.asyncs = 0

    def receive_number(self, made: Pdu) -> None:
        """CmdSN without gaps and within the window; immediate ones carry the next number."""
        assert made.number_24 == self.exp_cmd_sn % (1 << 32)
        if not made.immediate:
            assert self.exp_cmd_sn <= self.max_cmd_sn, "a command outside the window"
            self.exp_cmd_sn += 1

    def begin(self, made: Pdu) -> Job:
        job = Job(made, made.ttt)  # the Expected Data Transfer Length stands at 20
        if made.flags & wire.READ:
            self.plan_read(job)
        elif made.flags & wire.WRITE:
            self.plan_write(job)
        else:
            job.status = self.rng.choice([0, 0, CHECK_CONDITION, BUSY])
        return job

    def plan_read(self, job: Job) -> None:
        fate = self.rng.random()
        have = job.expected
        if fate < 0.15:
            have = self.rng.randrange(job.expected + 1)
        elif fate < 0.25:
            job.overflow = self.rng.randrange(1, 4096)
        elif fate < 0.35:
            job.status = CHECK_CONDITION
            have = self.rng.randrange(job.expected + 1)
        job.send = self.found[job.itt] = self.rng.randbytes(have)
        job.collapse = job.status == 0 and self.rng.random() < 0.6

    def plan_write(self, job: Job) -> None:
        """Immediate data lies in the command; F tells whether unsolicited Data-Out follows (4.2.5.2)."""
        made, agreed = job.command, self.agreed
        first = min(agreed.first_burst_length, job.expected)
        assert agreed.immediate_data or not made.data
        assert made.length <= first
        job.take = job.expected
        job.asked = made.length
        if made.data:
            job.got[0] = made.data
        if not made.flags & wire.FINAL:
            assert not agreed.initial_r2t
            job.unsolicited = Ask(RESERVED, made.length, first)
            job.asked = first
        else:
            assert agreed.initial_r2t or made.length == first, "F, but the first burst is not complete"
        if self.rng.random() < 0.2:
            job.take = self.rng.randrange(job.asked, job.expected + 1)
            job.status = self.rng.choice([0, CHECK_CONDITION])

    def receive_data(self, made: Pdu) -> None:
        job = next(job for job in self.jobs if job.itt == made.itt)
        ask = job.unsolicited if made.ttt == RESERVED else job.asks[0]
        assert ask is not None
        assert made.lun == job.command.lun
        assert (made.ttt, made.number_36, made.offset) == (ask.ttt, ask.data_sn, ask.at)
        assert made.data, "an empty Data-Out"
        job.got[ask.at] = made.data
        ask.at += made.length
        ask.data_sn += 1
        assert ask.at <= ask.end
        assert bool(made.flags & wire.FINAL) == (ask.at == ask.end), "F where the burst goes on, or none at its end"
        if ask.at < ask.end:
            return
        if ask is job.unsolicited:
            job.unsolicited = None
        else:
            del job.asks[0]

    # ---- what the target sends -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether it can go on by itself."""
        return bool(self.answers) or any(self.ready(job) for job in self.jobs)

    def ready(self, job: Job) -> bool:
        return self.may_ask(job) or not (job.unsolicited or job.asks)

    def may_ask(self, job: Job) -> bool:
        return job.asked < job.take and len(job.asks) < self.agreed.max_outstanding_r2t

    def step(self) -> Pdu:
        """One PDU: an answer, the next part of a job, or something that nobody asked for."""
        jobs = [job for job in self.jobs if self.ready(job)]
        if self.rng.random() < self.chatter or not (jobs or self.answers):
            return self.unasked()
        if self.answers and (not jobs or self.rng.random() < 0.5):
            return self.answer(self.answers.pop(0))
        return self.go_on(self.rng.choice(jobs))

    def numbered(self, made: Pdu, *, status: bool) -> Pdu:
        """StatSN (used up when there is a status), ExpCmdSN, MaxCmdSN."""
        window = self.rng.choice([0, 0, 1, 3, 30])
        self.max_cmd_sn = max(self.max_cmd_sn, self.exp_cmd_sn - 1 + window)
        made.put(24, self.stat_sn)
        made.put(28, self.exp_cmd_sn)
        older = self.rng.random() < 0.2  # changes nothing
        made.put(32, self.exp_cmd_sn - 1 if older else self.max_cmd_sn)
        self.stat_sn = (self.stat_sn + status) % (1 << 32)
        return made

    def unasked(self) -> Pdu:
        kind = self.rng.randrange(4)
        lun = self.rng.randbytes(8)
        if kind == 0 and len(self.pings) < 8:
            self.ttt += 1
            self.pings.add(self.ttt)
            return self.numbered(wire.pdu(wire.NOP_IN, lun=lun, itt=RESERVED, ttt=self.ttt), status=False)
        if kind == 1 and self.asyncs < 8:
            self.asyncs += 1
            made = wire.pdu(wire.ASYNC, lun=lun, itt=RESERVED, data=self.rng.randbytes(self.rng.choice([0, 20])))
            return self.numbered(made, status=True)
        if kind == 2 and self.asyncs < 8:
            self.asyncs += 1
            return self.numbered(wire.pdu(wire.REJECT, byte2=9, itt=RESERVED, data=self.rng.randbytes(48)), status=True)
        made = self.numbered(wire.pdu(wire.NOP_IN, itt=RESERVED, ttt=RESERVED), status=False)
        self.max_cmd_sn = max(self.max_cmd_sn, self.exp_cmd_sn + 3)
        made.put(32, self.max_cmd_sn)
        return made

    def answer(self, request: Pdu) -> Pdu:
        opcode = ANSWER_TO[request.opcode]
        data = b""
        if opcode == wire.NOP_IN:
            data = request.data
        elif opcode == wire.TEXT_ANSWER:
            data = b"TargetName=iqn.2026-01.org.example:x\0"
        return self.numbered(wire.pdu(opcode, data=data, itt=request.itt, ttt=RESERVED), status=True)

    def go_on(self, job: Job) -> Pdu:
        if self.may_ask(job):
            return self.ask(job)
        if job.sent < len(job.send) or (job.collapse and job.command.flags & wire.READ):
            return self.data_in(job)
        made = wire.pdu(wire.SCSI_RESPONSE, wire.FINAL, itt=job.itt, data=self.sense(job))
        return self.finish(job, made)

    def sense(self, job: Job) -> bytes:
        """A CHECK CONDITION without sense is legal, and so is one cut short."""
        return SENSE[: self.rng.choice([0, 2, 10, len(SENSE)])] if job.status == CHECK_CONDITION else b""

    def ask(self, job: Job) -> Pdu:
        length = self.rng.randrange(min(self.agreed.max_burst_length, job.take - job.asked)) + 1
        self.ttt += 1
        numbers = {"itt": job.itt, "ttt": self.ttt, "n36": job.r2t_sn, "n40": job.asked, "n44": length}
        job.asks.append(Ask(self.ttt, job.asked, job.asked + length))
        job.asked += length
        job.r2t_sn += 1
        return self.numbered(wire.pdu(wire.R2T, lun=job.command.lun, **numbers), status=False)

    def data_in(self, job: Job) -> Pdu:
        """The next part, of a random length; the last one may carry the status (11.7.3)."""
        most = min(self.agreed.max_recv_data_segment_length, len(job.send) - job.sent)
        length = self.rng.choice([most, most, self.rng.randint(min(1, most), most)])
        part = job.send[job.sent : job.sent + length]
        last = job.sent + length == len(job.send)
        numbers = {"itt": job.itt, "ttt": RESERVED, "n36": job.data_sn, "n40": job.sent}
        made = wire.pdu(wire.DATA_IN, wire.FINAL if last or self.rng.random() < 0.2 else 0, data=part, **numbers)
        job.sent += length
        job.data_sn += 1
        if last and job.collapse:
            made.bhs[1] |= wire.STATUS
            return self.finish(job, made)
        return self.numbered(made, status=False)

    def finish(self, job: Job, made: Pdu) -> Pdu:
        made.bhs[3] = job.status
        missing = job.expected - job.moved
        if job.overflow:
            made.bhs[1] |= wire.OVERFLOW
            made.put(44, job.overflow)
        elif missing:
            made.bhs[1] |= wire.UNDERFLOW
            made.put(44, missing)
        if job.command.flags & wire.WRITE:
            self.done[job.itt] = job.got
        self.jobs.remove(job)
        return self.numbered(made, status=True)


# ---- one rule broken ---------------------------------------------------------------------------------------------


def has_status(made: Pdu) -> bool:
    """Whether a PDU uses up a StatSN."""
    if made.opcode == wire.DATA_IN:
        return bool(made.flags & wire.STATUS)
    return made.opcode != wire.R2T and (made.opcode != wire.NOP_IN or made.itt != RESERVED)


def good_with_missing(made: Pdu) -> bool:
    ends = made.opcode == wire.SCSI_RESPONSE or (made.opcode == wire.DATA_IN and made.flags & wire.STATUS)
    return bool(ends and made.flags & wire.UNDERFLOW and made.bhs[3] == 0)


def of(*opcodes: int) -> Callable[[Pdu], bool]:
    return lambda made: made.opcode in opcodes


def with_data(made: Pdu) -> bool:
    return made.opcode == wire.DATA_IN and bool(made.data)


def shift(offset: int, by: int) -> Callable[[Pdu], None]:
    return lambda made: made.put(offset, made.number(offset) + by)


def put(offset: int, value: int) -> Callable[[Pdu], None]:
    return lambda made: made.put(offset, value)


def flip(at: int, bits: int) -> Callable[[Pdu], None]:
    def change(made: Pdu) -> None:
        made.bhs[at] ^= bits

    return change


def wrap(made: Pdu) -> None:
    """Offset and length whose sum is small again in 32 bits."""
    made.put(40, 0xFFFFFFF0)
    made.put(44, 0x20)


def spoil(which: str) -> Callable[[Pdu], None]:
    return lambda made: setattr(made, "spoil", which)


# name: where it can be done, how.
BREAKS: dict[str, tuple[Callable[[Pdu], bool], Callable[[Pdu], None]]] = {
    "StatSN ahead": (has_status, shift(24, 1)),
    "StatSN behind": (has_status, shift(24, -1)),
    "StatSN half a circle off": (has_status, shift(24, 1 << 31)),
    "DataSN ahead": (of(wire.DATA_IN), shift(36, 1)),
    "Buffer Offset ahead": (with_data, shift(40, 4)),
    "Buffer Offset behind": (with_data, shift(40, -4)),
    "tag of another generation": (of(wire.DATA_IN, wire.SCSI_RESPONSE, wire.R2T), flip(18, 0x10)),
    "reserved tag": (of(wire.DATA_IN, wire.SCSI_RESPONSE, wire.R2T), put(16, RESERVED)),
    "opcode that does not exist": (lambda made: True, flip(0, 0x0B)),
    "additional header segment": (lambda made: True, flip(4, 1)),
    "segment longer than agreed": (lambda made: True, flip(5, 0xFF)),
    "header digest": (lambda made: True, spoil("header")),
    "data digest": (lambda made: bool(made.data), spoil("data")),
    "residual one less": (good_with_missing, shift(44, -1)),
    "residual not said": (good_with_missing, flip(1, wire.UNDERFLOW)),
    "R2TSN ahead": (of(wire.R2T), shift(36, 1)),
    "R2T without tag": (of(wire.R2T), put(20, RESERVED)),
    "R2T of nothing": (of(wire.R2T), put(44, 0)),
    "R2T whose end wraps": (of(wire.R2T), wrap),
    "R2T past the end": (of(wire.R2T), put(44, 1 << 31)),
    "R2T for what was sent": (of(wire.R2T), shift(40, -1)),
    "DataACK asked for": (of(wire.DATA_IN), flip(1, wire.ACKNOWLEDGE)),
    "status without F": (lambda made: made.opcode == wire.DATA_IN and has_status(made), flip(1, wire.FINAL)),
    "bad status in Data-In": (lambda made: made.opcode == wire.DATA_IN and has_status(made), flip(3, CHECK_CONDITION)),
}


def break_one(rng: random.Random, pdus: list[Pdu], name: str) -> bool:
    """Breaks rule `name` in one PDU of the list, in place. False if none of them has a place for it."""
    applies, change = BREAKS[name]
    places = [made for made in pdus if applies(made)]
    if places:
        change(rng.choice(places))
    return bool(places)
