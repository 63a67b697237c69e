# SPDX-License-Identifier: Apache-2.0
"""The engine and its oracle side by side before a random target: each call goes to both, and both must say the same."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

from model import wire
from model.oracle import Model
from model.target_stream import RandomTarget
from model.wire import Pdu

from swd._engine import Engine
from swd.errors import SwdError
from swd.values import Completion, Event, Negotiated

GUARD = bytes(range(0xA0, 0xE0))  # what stands before and after each buffer, and must stay
LUN = bytes([0, 5, 0, 0, 0, 0, 0, 0])
READ, WRITE, TEST_UNIT_READY = b"\x28" + bytes(9), b"\x2a" + bytes(9), bytes(6)


class Guarded:
    """A buffer of `length` bytes between two guards; `view` is what the engine gets."""

    def __init__(self, length: int, fill: int = 0xEE) -> None:
        self.whole = bytearray(GUARD + bytes([fill]) * length + GUARD)
        self.view = memoryview(self.whole)[len(GUARD) : len(GUARD) + length]

    def intact(self) -> bool:
        return self.whole.startswith(GUARD) and self.whole.endswith(GUARD)


def agreement(rng: random.Random, **fixed: object) -> Negotiated:
    """A random outcome of login; small lengths, so that there are many PDUs, and numbers that run over."""
    start = rng.choice([1, 0xFFFFFFF0, 0x7FFFFFF8])
    made = Negotiated(
        cmd_sn=start,
        max_cmd_sn=(start + rng.choice([-1, 0, 1, 7])) & 0xFFFFFFFF,
        exp_stat_sn=rng.choice([1, 0xFFFFFFFA, 0x7FFFFFFA]),
        header_digest=rng.random() < 0.5,
        data_digest=rng.random() < 0.5,
        max_recv_data_segment_length=rng.choice([512, 1021, 4096, 8192]),
        target_max_recv_data_segment_length=rng.choice([512, 1022, 4096]),
        max_burst_length=rng.choice([512, 2048, 8192]),
        first_burst_length=rng.choice([512, 1023, 8192]),
        initial_r2t=rng.random() < 0.5,
        immediate_data=rng.random() < 0.5,
        max_outstanding_r2t=rng.choice([1, 1, 3, 16]),
    )
    made = dataclasses.replace(made, first_burst_length=min(made.first_burst_length, made.max_burst_length))
    return dataclasses.replace(made, **fixed)  # type: ignore[arg-type]


def pieces(rng: random.Random, data: bytes, how: str) -> Iterator[bytes]:
    """The stream cut up: "whole", "bytes" (one at a time), or "random"."""
    at = 0
    while at < len(data):
        n = {"whole": len(data), "bytes": 1}.get(how) or rng.choice([1, 3, 47, 48, 52, rng.randint(1, 5000)])
        yield data[at : at + n]
        at += n


def grouped(pdus: list[Pdu]) -> dict[tuple[str, int], list[tuple[bytes, bytes]]]:
    """PDUs by the streams in which their order counts: pings, immediate, numbered, the Data-Outs of each task."""
    groups: dict[tuple[str, int], list[tuple[bytes, bytes]]] = {}
    for made in pdus:
        if made.opcode == wire.DATA_OUT:
            key = ("data", made.itt)
        elif made.immediate:
            key = ("ping" if made.itt == wire.RESERVED else "immediate", 0)
        else:
            key = ("numbered", 0)
        groups.setdefault(key, []).append((bytes(made.bhs), made.data))
    return groups


class Pair:
    """Engine and oracle of one connection, and the buffers of its commands."""

    def __init__(self, agreed: Negotiated, *, slots: int = 64, ring: int = 262144) -> None:
        self.agreed = agreed
        self.engine = Engine(agreed, slots=slots, ring=ring)
        self.model = Model(agreed)
        self.sent = wire.Splitter(agreed.header_digest, agreed.data_digest)
        self.reads: dict[int, tuple[Guarded, bytearray]] = {}
        self.writes: dict[int, bytes] = {}
        self.done: list[tuple[int, Completion | Event]] = []
        self.events: list[Event] = []
        self.fault: SwdError | None = None

    def read(self, length: int, cdb: bytes = READ) -> int:
        guarded, plain = Guarded(length), bytearray(b"\xee" * length)
        itt = self.engine.submit(LUN, cdb, None, guarded.view)
        self.model.submit(itt, LUN, cdb, data_in=plain)
        self.reads[itt] = guarded, plain
        return itt

    def write(self, data: bytes, cdb: bytes = WRITE) -> int:
        itt = self.engine.submit(LUN, cdb, data)
        self.model.submit(itt, LUN, cdb, data)
        self.writes[itt] = data
        return itt

    def plain(self) -> int:
        itt = self.engine.submit(LUN, TEST_UNIT_READY)
        self.model.submit(itt, LUN, TEST_UNIT_READY)
        return itt

    def ask(self, opcode: int, answer: int, data: bytes = b"", *, immediate: bool = False) -> int:
        bhs = bytes(wire.pdu(opcode | 0x40 * immediate, lun=LUN, ttt=wire.RESERVED).bhs)
        itt = self.engine.control(bhs, data, answer=answer)
        self.model.control(itt, bhs, data, answer)
        return itt

    def let_go(self, itt: int) -> None:
        self.engine.let_go(itt)
        self.model.let_go(itt)

    def output(self) -> list[Pdu]:
        """What the engine sends; asserts that it is what the oracle would send."""
        pdus = self.sent.take(self.engine.output())
        assert not self.sent.rest, "half a PDU was sent"
        assert grouped(pdus) == grouped(self.model.output())
        return pdus

    def feed(self, parts: Iterator[bytes]) -> None:
        """Bytes from the target, to both; then both must agree."""
        for part in parts:
            self.model.feed(part)
            if self.fault is None:
                try:
                    self.engine.feed(part)
                except SwdError as error:
                    self.fault = error
        self.agree()

    def agree(self) -> None:
        assert (None if self.fault is None else type(self.fault).__name__) == self.model.fault
        done = self.engine.completions()
        assert done == self.model.completions()
        self.done += done
        events = self.engine.take_events()
        assert events == self.model.take_events()
        self.events += events
        assert all(guarded.intact() for guarded, _ in self.reads.values())
        for itt, end in done:
            if itt in self.reads and isinstance(end, Completion):
                guarded, plain = self.reads[itt]
                assert guarded.view == plain

    def frame(self, pdus: list[Pdu]) -> bytes:
        return b"".join(wire.frame(made, self.agreed.header_digest, self.agreed.data_digest) for made in pdus)


def begin_something(rng: random.Random, pair: Pair, size: int) -> None:
    """A random request."""
    kind = rng.randrange(10)
    if kind < 4:
        pair.read(rng.choice([1, 2, 511, 512, rng.randint(1, size)]))
    elif kind < 8:
        pair.write(rng.randbytes(rng.choice([1, 3, 512, rng.randint(1, size)])))
    elif kind == 8:
        pair.plain()
    else:
        opcode, answer = rng.choice(
            [
                (wire.NOP_OUT, wire.NOP_IN),
                (wire.TEXT, wire.TEXT_ANSWER),
                (wire.TASK_MANAGEMENT, wire.TASK_MANAGEMENT_ANSWER),
            ]
        )
        data = rng.randbytes(rng.randrange(100)) if opcode != wire.TASK_MANAGEMENT else b""
        pair.ask(opcode, answer, data, immediate=rng.random() < 0.5)


def exchange(rng: random.Random, pair: Pair, target: RandomTarget) -> list[Pdu]:
    """One round trip up to the target's next PDUs: the initiator's output, then a few steps."""
    target.receive(pair.output())
    return [target.step() for _ in range(rng.randint(1, 8))]


def converse(rng: random.Random, pair: Pair, target: RandomTarget, *, how: str, commands: int, size: int) -> None:
    """A whole valid conversation of `commands` requests; ends when all have ended."""
    begun = 0
    for _ in range(2000):
        while begun < commands and rng.random() < 0.6:
            begin_something(rng, pair, size)
            begun += 1
        stream = pair.frame(exchange(rng, pair, target))
        pair.feed(pieces(rng, stream, how))
        assert pair.fault is None, pair.fault
        if begun == commands == len(pair.done):
            return
    raise AssertionError("the conversation does not end")
