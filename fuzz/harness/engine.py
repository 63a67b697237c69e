# SPDX-License-Identifier: Apache-2.0
"""The engine before a target that sends anything: commands are open, PDUs come that are right but for a few bytes, or
that are rubbish, cut anywhere; tasks are let go, the connection dies and another one takes over.

What must hold: no byte outside of a buffer, and none in one that was let go; every command ends once; only the errors
that belong to a connection; what is sent is what the caller gave, once; nothing is sent on a dead connection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from harness.choices import Choices
from swd._crc32c import crc32c
from swd._engine import Engine
from swd.errors import ConnectionLost, DigestMismatch, ProtocolViolation, SwdError
from swd.values import RESERVED_TAG, Completion, Event, Leftover, Negotiated

GUARD = b"\xa5" * 32
LENGTHS = (1, 512, 513, 3000, 4096, 0, 70000, 200000)
OPCODES = (0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F)
CONTROLS = ((0x00, 0x20), (0x04, 0x24), (0x02, 0x22), (0x06, 0x26))
FLUSH = b"\x35" + bytes(9)
MOST_OPERATIONS = 200
DEATHS = (ProtocolViolation, DigestMismatch, ConnectionLost)


@dataclass
class Open:
    """A task as the target should see it. `data` is what a write sends, `buffer` where a read puts it."""

    control: int = 0
    length: int = 0
    data: bytes = b""
    buffer: bytearray | None = None
    copy: bytes | None = None  # what was in the buffer when the task was let go
    data_sn: int = 0
    offset: int = 0
    r2t_sn: int = 0
    sent: int = 0


def agreement(choices: Choices) -> Negotiated:
    flags = choices.byte()
    burst = choices.pick((512, 4096, 262144))
    start = choices.pick((1, 0xFFFFFFFC, 0x7FFFFFFE))
    return Negotiated(
        header_digest=bool(flags & 1),
        data_digest=bool(flags & 2),
        initial_r2t=bool(flags & 4),
        immediate_data=bool(flags & 8),
        max_recv_data_segment_length=choices.pick((512, 1021, 8192, 262144)),
        target_max_recv_data_segment_length=choices.pick((512, 1022, 65536)),
        max_burst_length=burst,
        first_burst_length=min(burst, choices.pick((512, 1023, 65536))),
        max_outstanding_r2t=choices.pick((1, 3, 16, 40)),
        cmd_sn=start,
        max_cmd_sn=(start + choices.byte() % 8 - 1) & 0xFFFFFFFF,
        exp_stat_sn=choices.pick((1, 0xFFFFFFFE)),
    )


class Speaker:
    """A target's side of the wire: what it would say now to the commands that are open. `honest`: it has not yet said
    anything that is not so.
    """

    def __init__(self, choices: Choices, agreed: Negotiated) -> None:
        self.choices = choices
        self.agreed = agreed
        self.open: dict[int, Open] = {}
        self.stat_sn = agreed.exp_stat_sn
        self.honest = True

    def content(self, _itt: int, _offset: int, length: int) -> bytes:
        """What a read brings."""
        return bytes(length)

    def compose(self) -> bytes:
        """A PDU that would be right now, for an open task or for none, then a few of its bytes changed."""
        choices, tags = self.choices, list(self.open)
        opcode, itt = choices.pick(OPCODES), choices.pick(tags) if tags and choices.byte() < 250 else RESERVED_TAG
        task = self.open.get(itt, Open())
        if choices.byte() < 160:  # an opcode that fits the task
            reads = task.buffer is not None and task.offset < task.length
            opcode = task.control or (0x25 if reads else 0x31 if task.data and choices.bit() else 0x21)
        flags, data, numbers, status = 0x80, b"", (0, 0, 0), opcode not in (0x25, 0x31)
        if opcode == 0x25:
            most = min(self.agreed.max_recv_data_segment_length, max(0, task.length - task.offset))
            data = self.content(itt, task.offset, choices.pick((most, min(most, 512), min(most, 1), 0)))
            numbers = (task.data_sn, task.offset, 0)
            task.data_sn, task.offset = task.data_sn + 1, task.offset + len(data)
            status = task.offset >= task.length and choices.bit()
            flags = 0x81 if status else 0x80 * choices.bit()
        elif opcode == 0x31:
            task.offset = max(task.offset, task.sent)
            length = min(task.length - task.offset, self.agreed.max_burst_length, choices.pick((1 << 24, 512, 1)))
            numbers = (task.r2t_sn, task.offset, max(0, length))
            task.r2t_sn, task.offset = task.r2t_sn + 1, task.offset + max(0, length)
        elif opcode == 0x21 and task.offset < task.length and choices.bit():
            flags, numbers = 0x82, (0, 0, task.length - task.offset)
        elif opcode in (0x20, 0x24, 0x32, 0x3F):
            data = choices.some(choices.byte() % 64)
        ttt = choices.pick((RESERVED_TAG, 7)) if opcode in (0x20, 0x31) else RESERVED_TAG
        made = bytearray(struct.pack(">BBBB4x8xIIIIIIII", opcode, flags, 0, choices.pick((0, 0, 0, 2, 8)), itt, ttt,
            self.stat_sn, 1, (self.agreed.cmd_sn + choices.byte()) & 0xFFFFFFFF, *numbers)
        )  # fmt: skip
        self.stat_sn = (self.stat_sn + (status and (opcode != 0x20 or itt != RESERVED_TAG))) & 0xFFFFFFFF
        made[5:8] = len(data).to_bytes(3, "big")
        for _ in range(max(0, choices.byte() - 208) % 4):
            made[choices.byte() % 48] ^= choices.byte()
            self.honest = False
        return self.frame(bytes(made), data)

    def frame(self, header: bytes, data: bytes) -> bytes:
        wrong = self.choices.byte() == 0xFF
        if self.agreed.header_digest:
            header += (crc32c(header) ^ wrong).to_bytes(4, "little")
        if data:
            data += bytes(-len(data) & 3)
            if self.agreed.data_digest:
                data += (crc32c(data) ^ wrong).to_bytes(4, "little")
        return header + data


class Conversation(Speaker):
    """One engine, and what a target and a caller would know of it."""

    def __init__(self, choices: Choices) -> None:
        super().__init__(choices, agreement(choices))
        self.engine = Engine(self.agreed, slots=choices.pick((4, 1, 16)), ring=choices.pick((4096, 5000, 262144)))
        self.gone: list[Open] = []
        self.pending = b""
        self.outgoing = bytearray()
        self.dead: SwdError | None = None
        self.now = 0.0

    # ---- the caller -----------------------------------------------------------------------------------------------

    def submit(self, task: Open) -> None:
        choices, lun = self.choices, bytes([0, self.choices.byte() % 3, 0, 0, 0, 0, 0, 0])
        try:
            if task.control:
                opcode, task.control = choices.pick(CONTROLS)
                header = bytes([opcode | 0x40 * choices.bit(), 0x80]) + bytes(46)
                itt = self.engine.control(header, task.data, answer=task.control, now=self.now)
            elif task.buffer is not None:
                view = memoryview(task.buffer)[len(GUARD) : len(GUARD) + task.length]
                itt = self.engine.submit(lun, b"\x28" + bytes(9), None, view, now=self.now)
            else:
                cdb = choices.pick((b"\x2a" + bytes(9), FLUSH, bytes(6)))
                itt = self.engine.submit(lun, cdb, task.data or None, now=self.now)
        except BlockingIOError:
            return  # no slot is free
        except DEATHS as error:
            assert self.dead is not None, f"a connection that lives refuses a command: {error!r}"
            return
        assert itt not in self.open, "a tag is given twice"
        self.open[itt] = task

    def begin(self) -> None:
        kind, length = self.choices.byte() % 5, self.choices.pick(LENGTHS)
        data = (bytes(range(251)) * (length // 251 + 1))[:length]
        if kind < 2:
            whole = bytearray(GUARD + b"\xee" * length + GUARD)
            self.submit(Open(length=length, buffer=whole))
        elif kind < 4:
            self.submit(Open(length=length, data=data))
        else:
            self.submit(Open(control=1, length=length % 4096, data=data[: length % 4096]))

    def let_go(self) -> None:
        tags = [itt for itt, task in self.open.items() if not task.control]
        if tags:
            itt = self.choices.pick(tags)
            task = self.open.pop(itt)
            if task.buffer is not None:
                task.copy = bytes(task.buffer)
            self.engine.let_go(itt)
            self.gone.append(task)

    def claim(self) -> None:
        for itt, end in self.engine.completions():
            task = self.open.pop(itt)  # KeyError: it ended twice, or was let go
            assert isinstance(end, (Completion, Event, SwdError))
            if isinstance(end, Completion):
                assert not task.control
                assert end.itt == itt
                assert end.received <= task.length
                assert end.residual >= 0
            self.check(task)
        for event in self.engine.take_events():
            assert event.opcode in (0x32, 0x3F)
            assert len(event.bhs) == 48
            assert len(event.data) <= self.agreed.max_recv_data_segment_length

    def check(self, task: Open) -> None:
        if task.buffer is not None:
            assert task.buffer.startswith(GUARD)
            assert task.buffer.endswith(GUARD)
            assert task.copy is None or task.copy == task.buffer, "a buffer was written after it was let go"

    def look(self) -> None:
        left = self.engine.leftover()
        assert isinstance(left, Leftover)
        assert {task.itt for task in left.tasks if task.itt in self.open} <= set(self.open)
        statistics = self.engine.statistics()
        assert statistics["open_tasks"] >= len(self.open)
        assert len(self.engine.last_headers()) <= 64
        self.engine.latencies_seen()
        self.engine.faults_seen()
        for itt in self.open:
            self.engine.deadline(itt)

    def restart(self) -> None:
        """A new connection under the same tasks; some are sent again, the others are lost."""
        left = self.engine.leftover().tasks
        order = [task.itt for task in left if task.was_sent and self.choices.byte() < 200]
        order += [self.choices.number(4)] * self.choices.bit()
        self.agreed = agreement(self.choices)
        losses = {task.itt: ConnectionLost("not again") for task in left if self.choices.byte() < 100}
        self.engine.restart(self.agreed, order[:4000], losses, self.choices.bit(), self.now)
        self.stat_sn, self.pending, self.dead = self.agreed.exp_stat_sn, b"", None
        self.outgoing.clear()
        for task in self.open.values():
            task.data_sn = task.offset = task.r2t_sn = task.sent = 0
        assert self.engine.fault is None

    # ---- the wire -------------------------------------------------------------------------------------------------

    def send(self) -> None:
        sent = self.engine.output(self.choices.pick((-1, -1, 1, 50, 700)), self.now)
        assert not (sent and self.dead), "something is sent on a dead connection"
        self.outgoing += sent
        while (size := self.whole(self.outgoing)) is not None:
            self.judge(bytes(self.outgoing[:size]))
            del self.outgoing[:size]

    def whole(self, data: bytearray) -> int | None:
        """The length of the PDU that stands first; None if it is not complete."""
        if len(data) < 48:
            return None
        length = int.from_bytes(data[5:8], "big")
        assert length <= max(4096, self.agreed.target_max_recv_data_segment_length)
        size = 48 + 4 * self.agreed.header_digest + length + (-length & 3)
        size += 4 if length and self.agreed.data_digest else 0
        return size if len(data) >= size else None

    def judge(self, pdu: bytes) -> None:
        """A PDU of ours: digests, and data that is the caller's."""
        length, itt = int.from_bytes(pdu[5:8], "big"), int.from_bytes(pdu[16:20], "big")
        start = 48 + 4 * self.agreed.header_digest
        body = pdu[start : start + length]
        if self.agreed.header_digest:
            assert crc32c(pdu[:48]) == int.from_bytes(pdu[48:52], "little")
        if self.agreed.data_digest and length:
            assert crc32c(pdu[start:-4]) == int.from_bytes(pdu[-4:], "little")
        task = self.open.get(itt)
        if task is None or pdu[0] & 0x3F not in (0x01, 0x05):
            return
        offset = int.from_bytes(pdu[40:44], "big") if pdu[0] & 0x3F == 0x05 else 0
        assert body == task.data[offset : offset + length], "other bytes are sent than were given"
        task.sent += length
        assert task.sent <= len(task.data), "bytes are sent twice on one connection"

    def receive(self, data: bytes) -> None:
        """Feeds what is there, in pieces; a part may stay for later."""
        self.pending += data
        sizes = self.choices.sizes(len(self.pending))
        keep = len(sizes) > 1 and self.choices.bit()
        for size in sizes[: len(sizes) - keep]:
            piece, self.pending = self.pending[:size], self.pending[size:]
            try:
                self.engine.feed(piece, self.now)
                assert self.dead is None, "a dead connection took bytes"
            except DEATHS as error:
                self.dead = self.dead or error
                assert type(self.engine.fault) is type(self.dead)
                return

    def step(self) -> None:
        self.now += 0.5
        what = self.choices.byte()
        if what < 60:
            self.begin()
            self.send()
        elif what < 160:
            self.receive(self.compose())
        elif what < 190:
            self.send()
        elif what < 205:
            self.claim()
        elif what < 220:
            self.let_go()
        elif what < 230:
            self.look()
        elif what < 245:
            self.receive(self.choices.some(self.choices.byte()))
        else:
            self.restart()

    def finish(self) -> None:
        """A last connection on which nothing is sent again: whatever was open ends, once."""
        self.claim()
        self.engine.restart(self.agreed)
        self.engine.output()
        self.engine.restart(self.agreed)
        self.claim()
        assert not [task for task in self.open.values() if task.control], "a task did not end"
        for itt in [task.itt for task in self.engine.leftover().tasks]:
            del self.open[itt]
            self.engine.let_go(itt)
        assert not self.open, "a task did not end"
        assert self.engine.statistics()["open_tasks"] == 0, "a slot is lost"
        for task in self.gone:
            self.check(task)


def stream(data: bytes) -> None:
    conversation = Conversation(Choices(data))
    for _ in range(MOST_OPERATIONS):
        if not conversation.choices.left:
            break
        conversation.step()
    conversation.finish()
