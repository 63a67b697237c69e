# SPDX-License-Identifier: Apache-2.0
"""A pump that reads, one command or many, in a batch or by a stream, from a target that has said all that it will say
when the first command goes out: the tags that an engine gives out are always the same. What it says lies in the socket:
answers that are right but for a few bytes, or rubbish; then the connection ends.

What must hold: no byte beside a buffer; of an honest target no wrong byte in a block that is given out; blocks come in
their order, and all of them or an error; only the errors that belong to a connection; no command is left behind.
"""

from __future__ import annotations

import socket
from array import array
from dataclasses import replace

from harness.choices import Choices
from harness.engine import DEATHS, GUARD, Open, Speaker, agreement
from swd._engine import Engine
from swd._fastpath import Pump
from swd.errors import SwdError
from swd.values import Completion, Negotiated

SLOTS = 32
BLOCK = 512
READ_10 = b"\x28" + bytes(9)
MOST_BYTES = 100_000  # of what the target says; it has to fit into a socket
MOST_PDUS = 120
MOST_BLOCKS = 400
PATTERN = bytes(range(251)) * (MOST_BLOCKS * BLOCK // 251 + 2)


class Target(Speaker):
    """Answers in the order of the commands, most of the time."""

    def __init__(self, choices: Choices, agreed: Negotiated, tags: list[int], length: int) -> None:
        super().__init__(choices, agreed)
        self.tags = tags
        self.reads = {itt: Open(length=length, buffer=bytearray()) for itt in tags}
        self.open = dict(self.reads)

    def content(self, itt: int, offset: int, length: int) -> bytes:
        return contents(self.tags.index(itt), offset + length)[offset:] if itt in self.tags else bytes(length)

    def speech(self) -> bytes:
        said = bytearray()
        for _ in range(MOST_PDUS):
            if not self.choices.left or len(said) > MOST_BYTES:
                break
            first = next((itt for itt, read in self.reads.items() if not self.over(read)), None)
            self.open = dict(self.reads) if first is None or self.choices.byte() < 60 else {first: self.reads[first]}
            if self.choices.byte() > 250:
                said += self.choices.some(self.choices.byte())
                self.honest = False
            else:
                said += self.compose()
        return bytes(said)

    def over(self, read: Open) -> bool:
        return read.offset >= read.length


def contents(number: int, length: int) -> bytes:
    """What the read of that number brings."""
    return PATTERN[number : number + length]


class Caller:
    """Who reads `count` times `size` bytes, and knows what should come of an honest target."""

    def __init__(self, choices: Choices) -> None:
        agreed = agreement(choices)
        self.agreed = replace(agreed, max_cmd_sn=(agreed.cmd_sn + choices.pick((63, 63, 63, 3))) & 0xFFFFFFFF)
        self.how = choices.byte() % 4
        self.count = 1 if self.how == 3 else 1 + choices.byte() % SLOTS
        self.size = BLOCK * choices.pick((1, 1, 2, 9, 160, MOST_BLOCKS))
        self.ring = choices.pick((4096, 5000, 262144))
        self.coalesce = choices.bit()
        self.target = Target(choices, self.agreed, self.tags(), self.size)

    def tags(self) -> list[int]:
        """Those that the engine will give out, in their order."""
        twin = Engine(self.agreed, slots=SLOTS, ring=self.ring)
        return [twin.submit(bytes(8), READ_10, None, bytearray(1)) for _ in range(self.count)]

    def run(self) -> None:
        said = self.target.speech()
        ours, theirs = socket.socketpair()
        pump = Pump(Engine(self.agreed, slots=SLOTS, ring=self.ring), ours.detach(), coalesce=self.coalesce)
        try:
            with theirs:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MOST_BYTES + 4 * len(PATTERN))
                theirs.sendall(said)
                theirs.shutdown(socket.SHUT_WR)
                (self.by_stream, self.by_stream, self.by_batch, self.by_one)[self.how](pump)
                pump.leftover()
        finally:
            pump.close()

    def lbas(self) -> array[int]:
        return array("q", [number * (self.size // BLOCK) for number in range(self.count)])

    def by_stream(self, pump: Pump) -> None:
        settled: set[int] = set()

        def settle(index: int, buffer: memoryview, end: Completion | SwdError) -> None:
            assert isinstance(end, (Completion, SwdError))
            assert len(buffer) == self.size
            settled.add(index)
            buffer[:] = contents(index, self.size)
            if isinstance(end, Completion) and end.status == 8:
                raise SwdError("the caller gives up")

        stream = pump.stream(
            0, self.lbas(), self.size // BLOCK, self.size, self.count, 30.0, settle, lambda _error: None
        )
        index = 0
        try:
            for index, block in enumerate(stream, 1):
                assert len(block) == self.size
                self.judge(index - 1, block)
        except (*DEATHS, SwdError):
            assert index < self.count, "an error after the last block"
        else:
            assert index == self.count, "a stream ends before its last block"
            assert pump.statistics()["open_tasks"] == 0, "a slot is lost"
        assert all(number <= index for number in settled), "settled before its turn"

    def by_batch(self, pump: Pump) -> None:
        whole = bytearray(GUARD + b"\xee" * (self.count * self.size) + GUARD)
        view = memoryview(whole)[len(GUARD) : -len(GUARD)]
        try:
            failed = dict(pump.batch(False, 0, self.lbas(), self.size // BLOCK, view, queue_depth=self.count))
        except DEATHS:
            failed = None
        assert whole.startswith(GUARD)
        assert whole.endswith(GUARD)
        for number in range(self.count if failed is not None else 0):
            if number not in failed:
                self.judge(number, view[number * self.size : (number + 1) * self.size])

    def by_one(self, pump: Pump) -> None:
        whole = bytearray(GUARD + b"\xee" * self.size + GUARD)
        view = memoryview(whole)[len(GUARD) : -len(GUARD)]
        try:
            end = pump.blocks(False, 0, 0, self.size // BLOCK, view)
        except DEATHS:
            end = Completion
        assert whole.startswith(GUARD)
        assert whole.endswith(GUARD)
        if end is None:
            self.judge(0, view)

    def judge(self, number: int, block: memoryview) -> None:
        assert not self.target.honest or block == contents(number, self.size), "wrong bytes"


def run(data: bytes) -> None:
    Caller(Choices(data)).run()
