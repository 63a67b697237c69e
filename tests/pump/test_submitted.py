# SPDX-License-Identifier: Apache-2.0
"""Submitted commands: waited for, waited for in vain, cancelled, dropped, forgotten; their buffers, in each case."""

from __future__ import annotations

import gc
import threading
import time

import pytest
from pump_peer import BLOCK, CANARY, PATIENCE, READ_ONE, TEST_UNIT_READY, Peer, Played, connected, content

from swd.errors import DeadlineExceeded, InvalidArgument, ProtocolViolation
from swd.proto import pdu
from swd.values import Event


def in_turn(gate: threading.Event) -> object:
    """A script: the first command is answered when the gate opens, then everything."""

    def script(peer: Peer) -> None:
        command = peer.command()
        assert gate.wait(PATIENCE)
        peer.answer(command) if command.read else peer.good(command)
        peer.serve()

    return script


def test_submitted_commands_end_in_any_order() -> None:
    with connected(Peer.serve) as (pump, _):
        buffers = [bytearray(BLOCK) for _ in range(20)]
        commands = [
            pump.submit(0, bytes([0x28, 0, 0, 0, 0, n, 0, 0, 1, 0]), None, buffer) for n, buffer in enumerate(buffers)
        ]
        assert [command.wait() for command in reversed(commands)] == [None] * 20
        assert all(command.ended for command in commands)
        assert commands[3].wait() is None, "the outcome is kept"
        assert [bytes(buffer) for buffer in buffers] == [content(n, 1) for n in range(20)]


def test_waiting_in_vain_leaves_the_command_running() -> None:
    gate = threading.Event()
    with connected(in_turn(gate)) as (pump, _):  # type: ignore[arg-type]
        buffer = bytearray(BLOCK)
        command = pump.submit(0, READ_ONE, None, buffer)
        with pytest.raises(TimeoutError, match="has not ended"):
            command.wait(0.01)
        with pytest.raises(BufferError):
            buffer += b"pinned"
        gate.set()
        assert command.wait() is None
        assert buffer == content(7, 1)
        buffer += b"free"


def test_an_outcome_that_comes_while_a_wait_breaks_off_is_kept() -> None:
    """The waiter's event handler sees the command end, and raises: the next wait still gets the outcome."""
    gate = threading.Event()

    def script(peer: Peer) -> None:
        command = peer.command()
        peer.send(pdu.AsyncMessage(async_event=4))
        assert gate.wait(PATIENCE)
        peer.send(pdu.ScsiResponse(itt=command.itt, status=8))
        peer.serve()

    def on_event(event: Event) -> None:
        gate.set()
        assert pump.command(0, TEST_UNIT_READY) is None  # its answer comes after the other's
        raise RuntimeError("from the handler")

    with connected(script, on_event=on_event) as (pump, _):
        command = pump.submit(0, TEST_UNIT_READY)
        with pytest.raises(RuntimeError, match="from the handler"):
            command.wait()
        end = command.wait()
        assert end is not None
        assert end.status == 8


def test_a_cancelled_command_has_no_outcome_and_a_free_buffer() -> None:
    gate = threading.Event()
    with connected(in_turn(gate)) as (pump, _):  # type: ignore[arg-type]
        buffer = bytearray(CANARY * BLOCK)
        command = pump.submit(0, READ_ONE, None, buffer)
        command.cancel()
        command.cancel()
        assert command.ended
        buffer += b"free"
        gate.set()
        assert pump.command(0, TEST_UNIT_READY) is None
        assert buffer == CANARY * BLOCK + b"free"
        with pytest.raises(InvalidArgument, match="cancelled"):
            command.wait()


def test_cancelling_a_command_ends_the_wait_of_another_thread() -> None:
    gate, waiting = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        command = peer.command()
        peer.send(pdu.AsyncMessage(async_event=4))  # the thread that waits hands it out
        assert gate.wait(PATIENCE)
        peer.answer(command)
        peer.serve()

    with connected(script, on_event=lambda event: waiting.set()) as (pump, _):
        buffer = bytearray(CANARY * BLOCK)
        command = pump.submit(0, READ_ONE, None, buffer)

        def wait() -> None:
            with pytest.raises(InvalidArgument, match="cancelled"):
                command.wait()

        waiter = Played(wait)
        assert waiting.wait(PATIENCE)
        with pytest.raises(InvalidArgument, match="another thread waits"):
            command.wait()
        began = time.monotonic()
        command.cancel()
        waiter.join()
        assert time.monotonic() - began < 2
        gate.set()
        assert pump.command(0, TEST_UNIT_READY) is None
        assert buffer == CANARY * BLOCK


def test_two_threads_may_not_wait_for_one_command_but_both_survive() -> None:
    with connected(Peer.serve) as (pump, _):
        outcomes: list[object] = []
        start = threading.Barrier(3)

        def wait_for_all() -> None:
            for command in commands:
                start.wait(PATIENCE)
                try:
                    outcomes.append(command.wait())
                except InvalidArgument:
                    outcomes.append("refused")

        commands = [pump.submit(0, TEST_UNIT_READY) for _ in range(100)]
        threads = [Played(wait_for_all) for _ in range(3)]
        for thread in threads:
            thread.join()
        assert len(outcomes) == 300
        assert outcomes.count(None) >= 100


def test_a_command_that_is_dropped_is_cancelled() -> None:
    gate = threading.Event()
    with connected(in_turn(gate)) as (pump, _):  # type: ignore[arg-type]
        buffer = bytearray(CANARY * BLOCK)
        command = pump.submit(0, READ_ONE, None, buffer)
        del command
        gc.collect()
        buffer += b"free"
        gate.set()
        assert pump.command(0, TEST_UNIT_READY) is None
        assert buffer == CANARY * BLOCK + b"free"
        assert pump.statistics()["open_tasks"] == 0


def test_too_many_commands() -> None:
    with connected(Peer.serve, slots=2) as (pump, _):
        commands = [pump.submit(0, TEST_UNIT_READY) for _ in range(2)]
        with pytest.raises(BlockingIOError, match="too many commands"):
            pump.submit(0, TEST_UNIT_READY)
        with pytest.raises(DeadlineExceeded):
            pump.command(0, TEST_UNIT_READY, timeout=0.1)  # nobody takes the two outcomes
        assert [command.wait() for command in commands] == [None, None]
        assert pump.command(0, TEST_UNIT_READY) is None


def test_a_task_that_is_forgotten_in_the_middle_of_its_data_is_a_violation() -> None:
    """The target confirms an abort and begins to send data for the task all the same."""
    begun, forgotten = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        read = peer.command()
        other = peer.command()
        stream = peer.packed(pdu.ScsiResponse(itt=other.itt))
        stream += peer.packed(pdu.DataIn(itt=read.itt, status_present=True), content(7, 1))
        peer.sock.sendall(stream[:200])
        begun.set()
        assert forgotten.wait(PATIENCE)
        peer.sock.sendall(stream[200:])

    with connected(script) as (pump, _):
        command = pump.submit(0, READ_ONE, None, bytearray(BLOCK))
        command.cancel()
        assert pump.command(0, TEST_UNIT_READY) is None
        assert begun.wait(PATIENCE)
        pump.service()
        pump.forget(command.itt)
        forgotten.set()
        with pytest.raises(ProtocolViolation, match="not open"):
            pump.command(0, TEST_UNIT_READY)
