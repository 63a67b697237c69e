# SPDX-License-Identifier: Apache-2.0
"""Streams: every block in its turn, few buffers, and nothing of them left when they end, however they end."""

from __future__ import annotations

import ctypes
import gc
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from pump_peer import BLOCK, TEST_UNIT_READY, Peer, Played, connected, content
from test_batch import lbas
from test_coalescing import low_water

from swd._fastpath import Pump, Stream
from swd.errors import BadDescriptor, ConnectionLost, DeadlineExceeded, InvalidArgument, SwdError
from swd.proto import pdu

MANY = 300


def never(*what: object) -> None:
    raise AssertionError(f"not expected: {what}")


def stream(
    pump: Pump,
    wanted: Iterable[int],
    *,
    blocks: int = 1,
    queue_depth: int = 32,
    timeout: float = 30.0,
    settle: Callable[..., Any] = never,
    on_error: Callable[[SwdError], object] = never,
) -> Stream:
    return pump.stream(0, lbas(*wanted), blocks, blocks * BLOCK, queue_depth, timeout, settle, on_error)


def address(view: memoryview) -> int:
    class Buffer(ctypes.Structure):
        _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_byte * 256))

    found = Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(found), 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))
    return int(found.buf)


def open_tasks(pump: Pump) -> int:
    return int(pump.statistics()["open_tasks"])


@pytest.mark.parametrize("queue_depth", [1, 2, 3, 32, 1000])
@pytest.mark.parametrize("blocks", [1, 9, 200])
def test_blocks_come_in_the_order_of_their_places(queue_depth: int, blocks: int) -> None:
    wanted = [(n * 7919) % 65536 * 300 for n in range(60)] + [1 << 33]
    with connected(Peer.serve) as (pump, _):
        found = [bytes(block) for block in stream(pump, wanted, blocks=blocks, queue_depth=queue_depth)]
        assert found == [content(lba, blocks) for lba in wanted]
        assert open_tasks(pump) == 0
        assert list(stream(pump, [])) == []


def test_answers_in_any_order() -> None:
    def script(peer: Peer) -> None:
        for _ in range(MANY // 5):
            for command in [peer.command() for _ in range(5)][::-1]:
                peer.answer(command)

    with connected(script) as (pump, _):
        found = [bytes(block) for block in stream(pump, range(MANY), queue_depth=5)]
        assert found == [content(lba, 1) for lba in range(MANY)]


def test_a_target_that_answers_in_order_needs_few_buffers() -> None:
    with connected(Peer.serve) as (pump, _):
        used = {address(block) for block in stream(pump, range(MANY), blocks=300, queue_depth=64)}
        assert len(used) <= 4


def test_a_block_is_read_only_and_lasts_as_long_as_its_view() -> None:
    with connected(Peer.serve) as (pump, _):
        blocks = stream(pump, range(MANY), queue_depth=8)
        first = next(blocks)
        assert first.readonly
        with pytest.raises(TypeError):
            first[0] = 1
        assert bytes(first) == content(0, 1)
        kept = [first, *blocks]  # the same memory again and again, which must not go away
        del blocks
        gc.collect()
        assert len({bytes(view) for view in kept}) <= 17
        assert bytes(kept[-1]) == content(MANY - 1, 1)


@pytest.mark.parametrize("way", ["close", "del", "stop"])
def test_leaving_early_lets_go_of_what_is_under_way(way: str) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        commands = [peer.command() for _ in range(32)]
        for command in commands[:2]:
            peer.answer(command)
        assert go.wait(20)
        for command in commands[2:]:
            peer.answer(command)
        peer.serve()

    with connected(script) as (pump, _):
        blocks: Stream | None = stream(pump, range(32))
        assert blocks is not None
        first, was = (block := next(blocks)), bytes(block)
        assert was == content(0, 1)
        second = next(blocks)
        was = bytes(first)  # its memory is free again, and would be the next to be used
        if way == "close":
            blocks.close()
            assert list(blocks) == []
        elif way == "stop":
            blocks.stop()
            for _ in range(2):
                with pytest.raises(BadDescriptor):
                    next(blocks)
        else:
            blocks = None
        go.set()
        assert pump.command(0, TEST_UNIT_READY) is None  # the late answers came before its own,
        assert bytes(first) == was  # and went nowhere
        assert bytes(second) == content(1, 1)
        assert open_tasks(pump) == 0


def test_what_does_not_end_well_is_settled_in_its_turn() -> None:
    """The policy fills the buffer of one, and raises for another: that ends the stream, what came before is whole."""

    def script(peer: Peer) -> None:
        for n in range(40):
            command = peer.command()
            if n in (7, 20):
                peer.send(pdu.ScsiResponse(itt=command.itt, status=8, underflow=True, residual_count=BLOCK))
            elif n == 9:  # some data, and then a status
                peer.send(pdu.DataIn(itt=command.itt), bytes(100))
                peer.send(pdu.ScsiResponse(itt=command.itt, status=8, underflow=True, residual_count=BLOCK - 100))
            else:
                peer.answer(command)
        peer.serve()

    settled = []

    def settle(index: int, buffer: memoryview, end: Any) -> None:
        settled.append((index, end.status))
        if index == 20:
            raise ConnectionLost("no more")
        buffer[:] = b"%d" % (index % 10) * BLOCK

    with connected(script) as (pump, _):
        found = []
        with pytest.raises(ConnectionLost, match="no more"):
            found.extend(bytes(block) for block in stream(pump, range(40), settle=settle))
        assert settled == [(7, 8), (9, 8), (20, 8)]
        assert found[7] == b"7" * BLOCK
        assert found[9] == b"9" * BLOCK
        assert found[:7] + found[10:] == [content(lba, 1) for lba in (*range(7), *range(10, 20))]
        assert pump.command(0, TEST_UNIT_READY) is None
        assert open_tasks(pump) == 0


def test_a_silent_target_ends_at_the_deadline() -> None:
    told = []

    def script(peer: Peer) -> None:
        peer.answer(peer.command())
        while peer.receive() is not None:
            pass

    with connected(script) as (pump, _):
        blocks = stream(pump, range(8), timeout=0.3, on_error=told.append)
        assert bytes(next(blocks)) == content(0, 1)
        with pytest.raises(DeadlineExceeded) as caught:
            next(blocks)
        assert told == [caught.value]
        assert len(caught.value.tags) == 7
        assert list(blocks) == []


def test_what_the_caller_takes_for_a_block_is_no_time_of_the_target() -> None:
    looked = threading.Event()

    def script(peer: Peer) -> None:
        peer.answer(peer.command())
        late = [peer.command() for _ in range(3)]
        assert looked.wait(20)
        threading.Event().wait(0.5)  # longer than a slice: the deadlines are looked at
        for command in late:
            peer.answer(command)

    with connected(script) as (pump, _):
        blocks = stream(pump, range(4), timeout=1.0)
        assert bytes(next(blocks)) == content(0, 1)
        threading.Event().wait(1.3)
        looked.set()
        assert [bytes(block) for block in blocks] == [content(lba, 1) for lba in (1, 2, 3)]


def test_a_lost_connection_and_a_closed_pump() -> None:
    def script(peer: Peer) -> None:
        peer.answer(peer.command())
        peer.command()
        peer.sock.shutdown(2)

    with connected(script) as (pump, _):
        blocks = stream(pump, range(8))
        next(blocks)
        with pytest.raises(ConnectionLost):
            next(blocks)
    with connected(Peer.serve) as (pump, _):
        blocks = stream(pump, range(MANY), queue_depth=2)
        next(blocks)
        pump.close()
        with pytest.raises(BadDescriptor):
            for _ in blocks:
                pass
        with pytest.raises(BadDescriptor):
            stream(pump, range(8))


def test_one_thread_at_a_time() -> None:
    asked, go = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        command = peer.command()
        asked.set()
        assert go.wait(20)
        peer.answer(command)
        peer.serve()

    with connected(script) as (pump, _):
        blocks = stream(pump, range(MANY), queue_depth=1)
        found: list[bytes] = []
        other = Played(lambda: found.append(bytes(next(blocks))))
        assert asked.wait(20)
        for use in (lambda: next(blocks), blocks.close):
            with pytest.raises(InvalidArgument, match="another thread"):
                use()
        blocks.stop()  # which may come from any thread, and at any time
        go.set()
        other.join()
        assert found == [content(0, 1)]
        with pytest.raises(BadDescriptor):
            next(blocks)
        assert pump.command(0, TEST_UNIT_READY) is None
        assert open_tasks(pump) == 0


def test_a_stream_that_nobody_asks_does_not_take_the_role_of_the_reader() -> None:
    """Else the thread that waits for the role would sleep a slice (0.25 s) each time that it goes to the stream."""
    rounds = 8
    came: queue.Queue[pdu.ScsiCommand] = queue.Queue()
    done = threading.Event()

    def script(peer: Peer) -> None:
        for _ in range(3 * rounds):
            came.put(peer.command())
        assert done.wait(20)

    def read(lba: int) -> Played:
        thread = Played(lambda: pump.blocks(False, 0, lba, 1, bytearray(BLOCK)))
        threads.append((thread, came.get(timeout=20)))
        return thread

    with connected(script) as (pump, peer):
        slept = 0.0
        for n in range(rounds):
            threads: list[tuple[Played, pdu.ScsiCommand]] = []
            reader, waiter = read(n), read(n + 100)  # the first has the role
            blocks = stream(pump, [n + 200])
            answering = Played(lambda: peer.answer(came.get(timeout=20)))
            assert bytes(next(blocks)) == content(n + 200, 1)
            answering.join()
            peer.answer(threads[0][1])
            reader.join()
            began = time.monotonic()
            peer.answer(threads[1][1])
            waiter.join()
            slept += time.monotonic() - began
            del blocks
        done.set()
        assert slept < 0.8


def test_ends_of_a_process_that_was_forked() -> None:
    with connected(Peer.serve) as (pump, _):
        blocks = stream(pump, range(MANY), queue_depth=4)
        next(blocks)
        child = os.fork()
        if child == 0:
            try:
                next(blocks)
            except BadDescriptor:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert [bytes(block) for block in blocks] == [content(lba, 1) for lba in range(1, MANY)]


@pytest.mark.parametrize(("queue_depth", "size"), [(0, BLOCK), (-1, BLOCK), (4, 0)])
def test_numbers_that_make_no_sense(queue_depth: int, size: int) -> None:
    with connected(Peer.serve) as (pump, _), pytest.raises(InvalidArgument):
        pump.stream(0, lbas(1), 1, size, queue_depth, 1.0, never, never)


def test_more_memory_than_there_is() -> None:
    with connected(Peer.serve) as (pump, _):
        with pytest.raises(MemoryError):
            pump.stream(0, lbas(*range(4096)), 1 << 22, 0xFFFFFE00, 256, 1.0, never, never)
        assert pump.command(0, TEST_UNIT_READY) is None


@pytest.mark.skipif(sys.platform != "linux", reason="SO_RCVLOWAT is set, but not heeded, elsewhere")
@pytest.mark.parametrize("end", [300 * BLOCK, 1000 * BLOCK])
def test_a_long_segment_that_comes_in_pieces(end: int) -> None:
    """A receive waits for a good part of it, but not for ever; and the mark is gone when anybody else waits."""

    def script(peer: Peer) -> None:
        command = peer.command()
        whole = peer.packed(pdu.DataIn(itt=command.itt, status_present=True), content(0, 2000))
        for at in range(0, end, 8 * BLOCK):
            peer.sock.sendall(whole[at : min(at + 8 * BLOCK, end)])
        threading.Event().wait(0.6)  # more than a slice
        peer.sock.sendall(whole[end:])
        peer.serve()

    with connected(script, tcp=True) as (pump, _):
        (found,) = (bytes(block) for block in stream(pump, [0], blocks=2000))
        assert found == content(0, 2000)
        assert low_water(pump) == 1
        assert pump.statistics()["receives"] < 60  # of 250 pieces
        assert pump.command(0, TEST_UNIT_READY) is None


@pytest.mark.skipif(sys.platform != "linux", reason="SO_RCVLOWAT is set, but not heeded, elsewhere")
def test_a_long_segment_that_stops_in_the_middle() -> None:
    """The deadline holds, and the mark does not stay behind for whoever waits next."""

    def script(peer: Peer) -> None:
        command = peer.command()
        whole = peer.packed(pdu.DataIn(itt=command.itt, status_present=True), content(0, 2000))
        peer.sock.sendall(whole[: 800 * BLOCK])
        while peer.receive() is not None:
            pass

    with connected(script, tcp=True) as (pump, _):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            pump.blocks(False, 0, 0, 2000, bytearray(2000 * BLOCK), timeout=0.6)
        assert time.monotonic() - began < 6
        assert low_water(pump) == 1
