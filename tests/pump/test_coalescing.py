# SPDX-License-Identifier: Apache-2.0
"""Waiting for several answers at once, and spinning: when it is done, what ends it, and that nobody waits in vain."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pump_peer import AGREED, BLOCK, TEST_UNIT_READY, Peer, Played, connected, content, place, tcp_pair
from test_batch import lbas

from swd._asyncqueue import AsyncQueue
from swd._fastpath import Pump
from swd.errors import ConnectionLost, DeadlineExceeded
from swd.proto import pdu

COUNT = 2000
ROUNDS = 120
CPUS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_RCVLOWAT is set, but not heeded, elsewhere")


def low_water(pump: Pump) -> int:
    """As the kernel has it."""
    with socket.socket(fileno=os.dup(pump.fileno())) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT)


class Dripping:
    """Answers reads one by one, each in a system call of its own, and notes the highest mark it saw."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.highest = 0
        self.pump: Pump | None = None

    def __call__(self, peer: Peer) -> None:
        for n in range(self.count):
            peer.answer(peer.command())
            if n % 16 == 0 and self.pump is not None:
                self.highest = max(self.highest, low_water(self.pump))
        peer.serve()


def read_all(pump: Pump, count: int = COUNT) -> None:
    buffer = bytearray(count * BLOCK)
    assert pump.batch(False, 0, lbas(*range(count)), 1, buffer, queue_depth=32) == []
    assert buffer == content(0, count)


def test_one_receive_takes_many_answers_of_a_target_that_drips() -> None:
    drip = Dripping(COUNT)
    with connected(drip, tcp=True) as (pump, _):
        drip.pump = pump
        read_all(pump)
        assert 4 * BLOCK < drip.highest <= 1 << 16
        assert low_water(pump) == 1
        assert pump.command(0, TEST_UNIT_READY) is None


def test_it_can_be_switched_off() -> None:
    drip = Dripping(COUNT)
    with connected(drip, tcp=True, coalesce=False) as (pump, _):
        drip.pump = pump
        read_all(pump)
        assert drip.highest == 1


def test_answers_that_stay_below_the_mark_are_seen_soon() -> None:
    """Half way the target answers with a short status only, and then waits for what that brings."""

    def script(peer: Peer) -> None:
        for _ in range(COUNT // 2):
            peer.answer(peer.command())
        for _ in range(COUNT // 2):
            command = peer.command()
            peer.send(pdu.ScsiResponse(itt=command.itt, status=8, underflow=True, residual_count=BLOCK))

    with connected(script, tcp=True) as (pump, _):
        began = time.monotonic()
        odd = pump.batch(False, 0, lbas(*range(COUNT)), 1, bytearray(COUNT * BLOCK), queue_depth=32)
        assert {index for index, _ in odd} == set(range(COUNT // 2, COUNT))
        assert time.monotonic() - began < 10
        assert low_water(pump) == 1


def test_a_second_thread_ends_it() -> None:
    """While others have commands under way their answers are not made to wait for ours."""
    stop = threading.Event()
    marks: list[int] = []

    def script(peer: Peer) -> None:
        while (received := peer.receive()) is not None:
            command = received[0]
            assert isinstance(command, pdu.ScsiCommand)
            if command.read:
                peer.answer(command)
            else:
                marks.append(low_water(pump))
                peer.good(command)

    def ask(pump: Pump) -> None:
        while not stop.is_set():
            assert pump.command(0, TEST_UNIT_READY) is None

    with connected(script, tcp=True) as (pump, _):
        asking = Played(lambda: ask(pump))
        try:
            for _ in range(3):
                read_all(pump)
        finally:
            stop.set()
        asking.join()
        assert low_water(pump) == 1
        assert marks.count(1) > len(marks) // 2


def test_the_mark_is_down_again_when_a_batch_breaks_off() -> None:
    """An event loop that joins now would not be told of what comes."""

    def script(peer: Peer) -> None:
        for _ in range(COUNT // 2):
            peer.answer(peer.command())
        peer.send(pdu.AsyncMessage(async_event=255))
        peer.serve()

    def upset(_event: object) -> None:
        raise KeyboardInterrupt

    with connected(script, tcp=True, on_event=upset) as (pump, _):
        with pytest.raises(KeyboardInterrupt):
            read_all(pump)
        assert low_water(pump) == 1


@pytest.mark.parametrize("after", [COUNT // 2, COUNT - 1])
def test_the_mark_is_gone_when_the_link_is(after: int) -> None:
    def script(peer: Peer) -> None:
        for _ in range(after):
            peer.answer(peer.command())
        peer.sock.shutdown(socket.SHUT_RDWR)

    with connected(script, tcp=True) as (pump, _), pytest.raises(ConnectionLost):
        read_all(pump)


def test_writes_that_wait_for_r2ts_do_not_coalesce() -> None:
    marks: list[int] = []

    def script(peer: Peer) -> None:
        while (received := peer.receive()) is not None:
            command, data = received
            assert isinstance(command, pdu.ScsiCommand)
            marks.append(low_water(pump))
            peer.take(command, data)

    with connected(script, tcp=True, initial_r2t=True, immediate_data=False) as (pump, peer):
        data = content(0, 300)
        assert pump.batch(True, 0, lbas(*range(300)), 1, data, queue_depth=32) == []
        assert b"".join(peer.disk[lba] for lba in range(300)) == data
    assert set(marks) == {1}


@pytest.mark.parametrize("spin", [0.00005, 0.001])
def test_a_wait_that_spins_reads_the_same(spin: float) -> None:
    with connected(Peer.serve, tcp=True, spin=spin) as (pump, _):
        buffer = bytearray(BLOCK)
        for lba in range(200):
            assert pump.blocks(False, 0, lba, 1, buffer) is None
            assert buffer == content(lba, 1)
        read_all(pump, 300)


def on_cpu(number: int) -> None:
    """The calling thread stays on one of the CPUs that this process may use."""
    os.sched_setaffinity(0, {sorted(CPUS)[number]})


@pytest.fixture
def two_cpus() -> Iterator[None]:
    """We on the first, the peer on the second: the socket is fed by the other one, and a wait does spin."""
    if len(CPUS) < 2:
        pytest.skip("needs two CPUs")
    on_cpu(0)
    yield
    os.sched_setaffinity(0, CPUS)


def test_a_wait_that_spins_sleeps_in_the_end(two_cpus: None) -> None:
    """The peer falls silent: after its microseconds the wait costs nothing, and the deadline holds."""

    def script(peer: Peer) -> None:
        on_cpu(1)
        for _ in range(100):
            peer.answer(peer.command())
        assert peer.command().cdb[0] == 0

    with connected(script, tcp=True, spin=0.001) as (pump, _):
        for lba in range(100):
            assert pump.blocks(False, 0, lba, 1, bytearray(BLOCK)) is None
        cpu, began = time.thread_time(), time.monotonic()
        with pytest.raises(DeadlineExceeded):
            pump.command(0, TEST_UNIT_READY, timeout=1.0)
        assert 0.9 < time.monotonic() - began < 3
        assert time.thread_time() - cpu < 0.5


SLEEPS = """
import os, resource, sys
sys.path.insert(0, sys.argv[2])
from pump_peer import AGREED, BLOCK
from swd._engine import Engine
from swd._fastpath import Pump
pump = Pump(Engine(AGREED), int(sys.argv[1]), spin=float(sys.argv[3]))
before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
for lba in range(300):
    assert pump.blocks(False, 0, lba, 1, bytearray(BLOCK)) is None
print(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)
pump.close()
"""


def test_a_wait_that_spins_does_so_where_another_cpu_feeds_it(two_cpus: None) -> None:
    """The same waits, sleeping and spinning: most of those that spin end without the thread having slept.

    In a process of its own: beside the peer's thread it would sleep for the interpreter's lock too.
    """

    def sleeps(spin: float) -> int:
        on_cpu(0)
        ours, theirs = tcp_pair()
        with ours, subprocess.Popen(
            [sys.executable, "-c", SLEEPS, str(ours.fileno()), str(Path(__file__).parent), str(spin)],
            pass_fds=[ours.fileno()],
            stdout=subprocess.PIPE,
        ) as process:
            ours.close()
            on_cpu(1)
            peer = Peer(theirs, AGREED)
            with theirs, peer.file:
                peer.play(Peer.serve)
            assert process.stdout is not None
            return int(process.stdout.read())

    assert sleeps(0.0) > 250
    assert min(sleeps(0.01) for _ in range(4)) < 100  # on a busy machine the peer may take longer now and then


@pytest.mark.parametrize("write", [False, True])
def test_a_batch_takes_its_answers_in_parts_where_another_cpu_works_on_them(two_cpus: None, write: bool) -> None:
    """All 32 at once would leave the target idle meanwhile. On one CPU the parts would only be more system calls."""

    def receives(cpu: int, *, coalesce: bool = True) -> float:
        def script(peer: Peer) -> None:
            on_cpu(cpu)
            for _ in range(ROUNDS):
                taken = [peer.receive() for _ in range(32)]
                commands = [entry[0] for entry in taken if entry is not None]
                out = b""
                for command in commands:
                    assert isinstance(command, pdu.ScsiCommand)
                    if write:
                        out += peer.packed(pdu.ScsiResponse(itt=command.itt))
                    else:
                        data_in = pdu.DataIn(itt=command.itt, status_present=True)
                        out += peer.packed(data_in, content(place(command)[0], 1))
                peer.sock.sendall(out)

        with connected(script, tcp=True, coalesce=coalesce) as (pump, _):
            data = bytearray(content(0, 32 * ROUNDS))
            before = pump.statistics()["receives"]
            assert pump.batch(write, 0, lbas(*range(32 * ROUNDS)), 1, data, queue_depth=32) == []
            assert data == content(0, 32 * ROUNDS)
            return (pump.statistics()["receives"] - before) / ROUNDS

    assert receives(0) < 1.6
    assert receives(1) > 2
    assert receives(1, coalesce=False) < 1.6


def test_so_does_the_queue_of_an_event_loop(two_cpus: None) -> None:
    def script(peer: Peer) -> None:
        on_cpu(1)
        for _ in range(ROUNDS):
            commands = [peer.command() for _ in range(32)]
            answers = (pdu.DataIn(itt=command.itt, status_present=True) for command in commands)
            data = [content(place(command)[0], 1) for command in commands]
            peer.sock.sendall(b"".join(map(peer.packed, answers, data)))

    with connected(script, tcp=True) as (pump, _):
        loop = asyncio.new_event_loop()
        queue = AsyncQueue(pump, loop, -1)
        for n in range(ROUNDS):
            reads = [queue.read(0, 32 * n + at, 1, BLOCK, 30.0) for at in range(32)]
            assert queue.flush()
            while queue.pending:
                select.select([pump.fileno()], [], [], 20)
                queue.poll()
            found = [read.future.result() for read in reads if read is not None]
            assert found == [content(32 * n + at, 1) for at in range(32)]
        assert pump.statistics()["receives"] / ROUNDS > 2
        queue.close()
        loop.close()
