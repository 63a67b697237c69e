# SPDX-License-Identifier: Apache-2.0
"""Long answers: a receive that finds nothing sleeps for many of them at once, and nobody waits in vain."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from pump_peer import BLOCK, TEST_UNIT_READY, Peer, connected, content
from test_batch import lbas
from test_coalescing import low_water

from swd._fastpath import Pump, Stream
from swd.proto import pdu

LONG = 128  # blocks: 64 KiB
DEPTH = 32
COUNT = 3 * DEPTH
EIGHTH = DEPTH * (LONG * BLOCK + 48) // 8

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_RCVLOWAT is set, but not heeded, elsewhere")


def batch(pump: Pump, blocks: int, count: int) -> list[tuple[int, object]]:
    buffer = bytearray(count * blocks * BLOCK)
    places = range(0, count * blocks, blocks)
    odd = pump.batch(False, 0, lbas(*places), blocks, buffer, queue_depth=DEPTH)
    assert odd or buffer == content(0, count * blocks)
    return list(odd)


def stream(pump: Pump, blocks: int, count: int) -> list[tuple[int, object]]:
    places = np.arange(0, count * blocks, blocks, dtype=np.int64)
    odd: list[tuple[int, object]] = []

    def settle(index: int, _buffer: object, end: object) -> None:
        odd.append((index, end))

    views = Stream(pump, 0, places, blocks, blocks * BLOCK, DEPTH, 30, settle, odd.append)
    for at, view in zip(places, views, strict=True):
        assert odd or view == content(int(at), blocks)
    return odd


class Hesitant:
    """Answers nothing before the socket's mark has been at `mark`, or the time is up: once, in the midst."""

    def __init__(self, mark: int, count: int) -> None:
        self.mark, self.count = mark, count
        self.marks: set[int] = set()
        self.pump: Pump | None = None

    def __call__(self, peer: Peer) -> None:
        for _ in range(self.count // 2):
            peer.answer(peer.command())
        until = time.monotonic() + (2 if self.mark > 1 else 0.05)
        while self.mark not in self.marks - {1} and time.monotonic() < until:
            assert self.pump is not None
            self.marks.add(low_water(self.pump))
        peer.serve()


@pytest.mark.parametrize("read", [batch, stream])
@pytest.mark.parametrize(
    ("blocks", "count", "coalesce", "mark"),
    [(LONG, COUNT, True, EIGHTH), (LONG, COUNT, False, 1), (LONG // 2, COUNT, True, 1), (LONG, 4, True, 1)],
    ids=["an eighth of what is due", "switched off", "short answers", "few of them"],
)
def test_what_is_slept_for(
    read: Callable[[Pump, int, int], object], blocks: int, count: int, coalesce: bool, mark: int
) -> None:
    peer = Hesitant(mark, count)
    with connected(peer, tcp=True, coalesce=coalesce) as (pump, _):
        peer.pump = pump
        assert read(pump, blocks, count) == []
        assert max(peer.marks) == mark
        assert low_water(pump) == 1
        assert pump.command(0, TEST_UNIT_READY) is None


@pytest.mark.parametrize("read", [batch, stream])
def test_answers_that_stay_below_it_are_seen_soon(read: Callable[[Pump, int, int], list[tuple[int, object]]]) -> None:
    """Half way the target answers with a short status only, and waits for what that brings."""

    def script(peer: Peer) -> None:
        for _ in range(COUNT // 2):
            peer.answer(peer.command())
        for _ in range(COUNT // 2):
            command = peer.command()
            peer.send(pdu.ScsiResponse(itt=command.itt, status=8, underflow=True, residual_count=LONG * BLOCK))

    with connected(script, tcp=True) as (pump, _):
        began = time.monotonic()
        odd = read(pump, LONG, COUNT)
        assert {index for index, _ in odd} == set(range(COUNT // 2, COUNT))
        assert time.monotonic() - began < 10
        assert low_water(pump) == 1


def test_a_target_that_says_nothing_is_not_asked_again_and_again() -> None:
    """The mark is waited for once, a millisecond; then the receive sleeps until something comes."""
    receives: list[int] = []
    pumps: list[Pump] = []

    def script(peer: Peer) -> None:
        for _ in range(COUNT // 2):
            peer.answer(peer.command())
        receives.append(pumps[0].statistics()["receives"])
        threading.Event().wait(0.3)
        receives.append(pumps[0].statistics()["receives"])
        peer.serve()

    with connected(script, tcp=True) as (pump, _):
        pumps.append(pump)
        assert batch(pump, LONG, COUNT) == []
        assert receives[1] - receives[0] < COUNT
