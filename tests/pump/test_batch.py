# SPDX-License-Identifier: Apache-2.0
"""Batches: the right data in the right place, the odd ones reported, and no Python for each command."""

from __future__ import annotations

import array
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from pump_peer import BLOCK, CANARY, PATIENCE, TEST_UNIT_READY, Peer, Played, connected, content

from swd._fastpath import Pump
from swd.errors import BadDescriptor, ConnectionLost, DeadlineExceeded, InvalidArgument
from swd.proto import pdu


def lbas(*numbers: int) -> array.array[int]:
    return array.array("q", numbers)


def python_calls(pump: Pump, count: int) -> int:
    """Reads that many blocks in one batch, asserts what they hold, and gives the number of calls that Python saw."""
    wanted = lbas(*range(5, 5 + count))
    buffer = bytearray(count * BLOCK)
    seen: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, argument: seen.update([event]))
    try:
        odd = pump.batch(False, 0, wanted, 1, buffer, queue_depth=64)
    finally:
        sys.setprofile(None)
    assert odd == []
    assert buffer == content(5, count)
    return seen.total()


def test_a_long_batch_makes_as_many_python_calls_as_a_short_one() -> None:
    def script(peer: Peer) -> None:
        peer.serve_reads(100 + 1000 + 10_000)

    with connected(script) as (pump, _):
        python_calls(pump, 100)
        assert python_calls(pump, 1000) == python_calls(pump, 10_000) <= 5
        assert pump.statistics()["open_tasks"] == 0


def test_rows_that_are_not_what_they_should_be() -> None:
    """Nothing is sent: the pump knows two strides, the bytes of a part in one piece, and as many parts as I/Os."""
    block = np.zeros((4, 2 * BLOCK), np.uint8)
    with connected(Peer.serve) as (pump, peer):
        for rows in (block[:, :BLOCK], block.reshape(4, 1, -1)[:, :, ::2], block.reshape(2, 2, -1)[:, :1, :BLOCK]):
            with pytest.raises(InvalidArgument):
                pump.batch(True, 0, lbas(*range(4)), 1, rows)
        words = np.zeros((4, BLOCK), np.uint16)  # half of each would lie behind what NumPy lends
        words = np.lib.stride_tricks.as_strided(words, (4, 1, BLOCK // 2), (2 * BLOCK, 2 * BLOCK, 1), writeable=False)
        with pytest.raises(InvalidArgument):
            pump.batch(True, 0, lbas(*range(4)), 1, words)
        with pytest.raises((BufferError, ValueError)):
            pump.batch(False, 0, lbas(*range(4)), 1, block.reshape(4, 1, -1)[:, :, :BLOCK])
        assert peer.disk == {}


@pytest.mark.parametrize("queue_depth", [1, 2, 32, 1000])
@pytest.mark.parametrize("blocks", [1, 200])
def test_reads_and_writes(queue_depth: int, blocks: int) -> None:
    """I/O number i uses the i-th part of the buffer, whatever the order; from 128 blocks on another rule refills."""
    wanted = lbas(*((n * 7919) % 65536 * 300 for n in range(40)), 1 << 33)
    size = blocks * BLOCK
    with connected(Peer.serve) as (pump, peer):
        buffer = bytearray(len(wanted) * size)
        assert pump.batch(False, 0, wanted, blocks, buffer, queue_depth=queue_depth) == []
        assert all(buffer[n * size : (n + 1) * size] == content(lba, blocks) for n, lba in enumerate(wanted))
        assert pump.batch(True, 0, wanted, blocks, buffer, queue_depth=queue_depth) == []
        assert peer.disk == {lba: content(lba, blocks) for lba in wanted}


def test_the_queue_is_never_deeper_than_asked_for() -> None:
    deepest = 0

    def script(peer: Peer) -> None:
        nonlocal deepest
        open_ = []
        peer.sock.settimeout(0.2)
        for _ in range(12):
            open_.append(peer.command())
            if len(open_) == 4:
                deepest = max(deepest, pump.statistics()["open_tasks"])
                for command in open_:
                    peer.answer(command)
                open_ = []

    with connected(script) as (pump, _):
        assert pump.batch(False, 0, lbas(*range(12)), 1, bytearray(12 * BLOCK), queue_depth=4) == []
    assert deepest == 4


def test_those_that_did_not_end_well_are_listed() -> None:
    def script(peer: Peer) -> None:
        for n in range(300):
            command = peer.command()
            if n % 3:
                peer.answer(command)
            else:
                peer.send(pdu.ScsiResponse(itt=command.itt, status=8, underflow=True, residual_count=BLOCK))

    with connected(script) as (pump, _):
        buffer = bytearray(300 * BLOCK)
        odd = pump.batch(False, 0, lbas(*range(300)), 1, buffer, queue_depth=8)
        assert sorted(index for index, _ in odd) == list(range(0, 300, 3))
        assert {end.status for _, end in odd} == {8}
        assert buffer[BLOCK : 3 * BLOCK] == content(1, 2)
        assert pump.statistics()["open_tasks"] == 0


def test_a_deadline_frees_the_whole_buffer() -> None:
    late = threading.Event()

    def script(peer: Peer) -> None:
        commands = [peer.command() for _ in range(4)]
        peer.answer(commands[0])
        assert late.wait(PATIENCE)
        for command in commands[1:]:
            peer.answer(command)
        peer.serve()

    with connected(script) as (pump, _):
        buffer = bytearray(4 * BLOCK)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            pump.batch(False, 0, lbas(0, 1, 2, 3), 1, buffer, queue_depth=4, timeout=0.3)
        assert time.monotonic() - began < 2
        buffer[:] = CANARY * len(buffer)
        late.set()
        assert pump.command(0, TEST_UNIT_READY) is None
        assert buffer == CANARY * len(buffer)


@pytest.mark.parametrize("close", [True, False])
def test_a_connection_that_ends_frees_the_whole_buffer(close: bool) -> None:
    came = threading.Event()

    def script(peer: Peer) -> None:
        for _ in range(8):
            peer.command()
        came.set()
        if not close:
            peer.sock.shutdown(2)

    with connected(script) as (pump, _):
        buffer = bytearray(8 * BLOCK)
        kind = BadDescriptor if close else ConnectionLost

        def run() -> None:
            with pytest.raises(kind):
                pump.batch(False, 0, lbas(*range(8)), 1, buffer)

        thread = Played(run)
        assert came.wait(PATIENCE)
        if close:
            pump.close()
        thread.join()
        buffer += b"it can be resized"


def test_batches_of_several_threads_share_the_slots() -> None:
    """Fewer slots than the queues ask for together."""

    def run(pump: Pump, number: int) -> None:
        wanted = lbas(*range(number * 1000, number * 1000 + 100))
        buffer = bytearray(100 * BLOCK)
        assert pump.batch(False, 0, wanted, 1, buffer, queue_depth=16) == []
        assert buffer == content(number * 1000, 100)

    with connected(Peer.serve, slots=20) as (pump, _):
        threads = [Played(lambda number=number: run(pump, number)) for number in range(4)]  # type: ignore[misc]
        for thread in threads:
            thread.join()


def test_wrong_arguments() -> None:
    with connected(Peer.serve) as (pump, _):
        assert pump.batch(False, 0, lbas(), 1, bytearray()) == []
        for buffer, depth in ((bytearray(1000), 4), (bytearray(), 4), (bytearray(3 * BLOCK), 0)):
            with pytest.raises(InvalidArgument):
                pump.batch(False, 0, lbas(1, 2, 3), 1, buffer, queue_depth=depth)
        with pytest.raises(BufferError):
            pump.batch(False, 0, lbas(1), 1, bytes(BLOCK))
        with pytest.raises(ValueError, match="Buffer dtype"):
            pump.batch(False, 0, array.array("i", [1]), 1, bytearray(BLOCK))
