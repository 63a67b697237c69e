# SPDX-License-Identifier: Apache-2.0
"""Threads that share a pump: who reads, who is woken, and that nobody holds up the others."""

from __future__ import annotations

import os
import select
import threading
import time

import pytest
from pump_peer import BLOCK, PATIENCE, TEST_UNIT_READY, Peer, Played, connected, content, place

from swd._fastpath import Pump
from swd.errors import BadDescriptor, ConnectionLost, DeadlineExceeded, SwdError
from swd.proto import pdu


def test_eight_threads_read_what_they_asked_for() -> None:
    def read(pump: Pump, number: int) -> None:
        buffer = bytearray(2 * BLOCK)
        for n in range(200):
            lba = number * 1000 + n
            assert pump.blocks(False, 0, lba, 2, buffer) is None
            assert buffer == content(lba, 2)

    with connected(Peer.serve) as (pump, _):
        threads = [Played(lambda number=number: read(pump, number)) for number in range(8)]  # type: ignore[misc]
        for thread in threads:
            thread.join()
        assert pump.statistics()["commands"] == 1600
        assert pump.statistics()["open_tasks"] == 0


def test_long_reads_and_short_ones_and_writes_together() -> None:
    """Long segments go straight into the buffer of a thread that may not be the one that receives them."""

    def run(pump: Pump, number: int) -> None:
        blocks = [1, 400, 7, 1500][number]
        buffer = bytearray(blocks * BLOCK)
        for n in range(20):
            lba = number * 100_000 + n
            assert pump.blocks(False, 0, lba, blocks, buffer) is None
            assert buffer == content(lba, blocks)
            assert pump.blocks(True, 0, lba, blocks, buffer) is None
            assert peer.disk[lba] == buffer

    with connected(Peer.serve) as (pump, peer):
        threads = [Played(lambda number=number: run(pump, number)) for number in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.join()


def failing(kind: type[SwdError], call: object) -> Played:
    """A thread whose call must raise that error."""

    def run() -> None:
        with pytest.raises(kind):
            call()  # type: ignore[operator]

    return Played(run)


def wait_on_a_silent_peer(pump: Pump, came: threading.Semaphore, kind: type[SwdError]) -> list[Played]:
    """Three threads that wait for their commands, which the peer has got."""
    waiting = [failing(kind, lambda: pump.command(0, TEST_UNIT_READY)) for _ in range(3)]
    for _ in waiting:
        assert came.acquire(timeout=PATIENCE)
    return waiting


def take_three(peer: Peer, came: threading.Semaphore) -> None:
    for _ in range(3):
        peer.command()
        came.release()


def test_close_sends_all_waiters_away() -> None:
    came = threading.Semaphore(0)
    with connected(lambda peer: take_three(peer, came)) as (pump, _):
        waiting = wait_on_a_silent_peer(pump, came, BadDescriptor)
        began = time.monotonic()
        pump.close()
        for thread in waiting:
            thread.join()
        assert time.monotonic() - began < 1
        assert pump.fileno() == -1, "the last one out closes the descriptor"


def test_a_peer_that_hangs_up_ends_all_waits() -> None:
    came, leave = threading.Semaphore(0), threading.Event()

    def script(peer: Peer) -> None:
        take_three(peer, came)
        assert leave.wait(PATIENCE)
        peer.sock.shutdown(2)

    with connected(script) as (pump, _):
        waiting = wait_on_a_silent_peer(pump, came, ConnectionLost)
        began = time.monotonic()
        leave.set()
        for thread in waiting:
            thread.join()
        assert time.monotonic() - began < 1


def test_others_run_while_a_thread_waits_for_a_silent_peer() -> None:
    """The peer answers only after another thread has counted far: so the waiting thread has let the GIL go."""
    far, done = threading.Event(), threading.Event()
    counter = 0

    def count() -> None:
        nonlocal counter
        while not done.is_set():
            counter += 1
            if counter == 200_000:
                far.set()

    def script(peer: Peer) -> None:
        command = peer.command()
        assert far.wait(PATIENCE)
        peer.good(command)

    with connected(script) as (pump, _):
        counting = Played(count)
        try:
            assert pump.command(0, TEST_UNIT_READY) is None
        finally:
            done.set()
            counting.join()
    assert counter >= 200_000


def test_the_role_of_the_reader_is_handed_on_at_once() -> None:
    """The first thread reads, and ends first: the second gets its answer, which comes later, without a slice's wait."""
    rounds = 12
    came, first_ended = threading.Semaphore(0), threading.Semaphore(0)

    def script(peer: Peer) -> None:
        for _ in range(rounds):
            first = peer.command()
            came.release()
            second = peer.command()
            peer.good(first)
            assert first_ended.acquire(timeout=PATIENCE)
            peer.good(second)

    def run(pump: Pump) -> None:
        assert pump.command(0, TEST_UNIT_READY) is None
        first_ended.release()

    with connected(script) as (pump, _):
        waited = 0.0
        for _ in range(rounds):
            first = Played(lambda: run(pump))
            assert came.acquire(timeout=PATIENCE)
            began = time.monotonic()
            assert pump.command(0, TEST_UNIT_READY) is None
            waited += time.monotonic() - began
            first.join()
    assert waited < rounds * 0.1  # a slice is 0.25 s


def test_a_deadline_while_another_thread_receives_into_the_buffer() -> None:
    """The reader sits in the late one's buffer with half of a segment: it must come out before the buffer is free."""
    half, freed = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        reader, late = peer.command(), peer.command()
        stream = peer.packed(pdu.DataIn(itt=late.itt, status_present=True), content(0, 2048))
        peer.sock.sendall(stream[: 1 << 19])
        half.set()
        assert freed.wait(PATIENCE)
        peer.sock.sendall(stream[1 << 19 :])
        peer.good(reader)

    with connected(script) as (pump, _):
        reader = Played(lambda: pump.command(0, TEST_UNIT_READY))
        while pump.statistics()["commands"] == 0:
            threading.Event().wait(0.001)
        buffer = bytearray(1 << 20)
        with pytest.raises(DeadlineExceeded):
            pump.blocks(False, 0, 0, 2048, buffer, timeout=0.5)
        assert half.wait(PATIENCE)
        buffer[:] = b"\x55" * (1 << 20)
        freed.set()
        reader.join()
        assert buffer == b"\x55" * (1 << 20)


def ask_for_the_rest(peer: Peer, command: pdu.ScsiCommand, sent: int) -> None:
    """An R2T for all that did not come with a write."""
    missing = command.expected_data_transfer_length - sent
    peer.send(pdu.R2T(itt=command.itt, ttt=9, buffer_offset=sent, desired_data_transfer_length=missing))


def until_full(pump: Pump) -> None:
    """Until the pump's socket has no room: the next send finds none either."""
    with os.fdopen(os.dup(pump.fileno()), "rb", buffering=0) as ours:
        while select.select([], [ours], [], 0)[1]:
            threading.Event().wait(0.001)


def test_two_threads_write_to_a_peer_that_does_not_read() -> None:
    """The socket is full (EAGAIN), and both wait for room in it; when the peer reads on, both writes arrive whole."""
    full = threading.Event()
    data = [os.urandom(4 << 20) for _ in range(2)]
    taken: dict[int, tuple[pdu.ScsiCommand, bytearray]] = {}
    asked = threading.Event()

    def script(peer: Peer) -> None:
        for received in [peer.receive(), peer.receive()]:
            assert received is not None
            command, immediate = received
            assert isinstance(command, pdu.ScsiCommand)
            taken[command.itt] = command, bytearray(immediate)
        for command, immediate in taken.values():
            ask_for_the_rest(peer, command, len(immediate))
        asked.set()
        assert full.wait(PATIENCE)
        while any(len(got) < 4 << 20 for _, got in taken.values()):
            received = peer.receive()
            assert received is not None
            record, part = received
            assert isinstance(record, pdu.DataOut)
            assert record.buffer_offset == len(taken[record.itt][1])
            taken[record.itt][1].extend(part)
        for command, _ in taken.values():
            peer.good(command)

    with connected(script) as (pump, _):
        writers = [Played(lambda n=n: pump.blocks(True, 0, n, 8192, data[n])) for n in range(2)]  # type: ignore[misc]
        assert asked.wait(PATIENCE)
        until_full(pump)
        assert pump.statistics()["bytes_out"] < 4 << 20
        full.set()
        for writer in writers:
            writer.join()
        assert {place(command)[0]: bytes(got) for command, got in taken.values()} == dict(enumerate(data))
