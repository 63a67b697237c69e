# SPDX-License-Identifier: Apache-2.0
"""One thread and its commands: how they end, and what a peer can do to them."""

from __future__ import annotations

import errno
import threading
import time
import traceback

import pytest
from pump_peer import BLOCK, CANARY, PATIENCE, READ_ONE, TEST_UNIT_READY, Peer, connected, content

from swd.errors import (
    BadDescriptor,
    ConnectionLost,
    DeadlineExceeded,
    DigestMismatch,
    InvalidArgument,
)
from swd.proto import pdu
from swd.values import RESERVED_TAG, Event


def test_read_and_write() -> None:
    with connected(Peer.serve) as (pump, peer):
        buffer = bytearray(4 * BLOCK)
        assert pump.blocks(False, 0, 40, 4, buffer) is None
        assert buffer == content(40, 4)
        assert pump.blocks(True, 0, 1 << 33, 300, bytes(300 * BLOCK)) is None
        assert peer.disk == {1 << 33: bytes(300 * BLOCK)}
        assert pump.command(0, TEST_UNIT_READY) is None


def test_a_read_is_two_system_calls() -> None:
    with connected(Peer.serve) as (pump, _):
        buffer = bytearray(BLOCK)
        pump.blocks(False, 0, 1, 1, buffer)
        before = pump.statistics()
        for lba in range(50):
            assert pump.blocks(False, 0, lba, 1, buffer) is None
        after = pump.statistics()
        assert (after["sends"] - before["sends"], after["receives"] - before["receives"]) == (50, 50)


def test_a_bad_status_is_a_completion() -> None:
    sense = bytes.fromhex("0012 7000050000000000 0a 00000000 24 00 00 000000")

    def script(peer: Peer) -> None:
        peer.send(pdu.ScsiResponse(itt=peer.command().itt, status=2, underflow=True, residual_count=BLOCK), sense)

    with connected(script) as (pump, _):
        end = pump.command(0, READ_ONE, None, bytearray(BLOCK))
        assert end is not None
        assert (end.status, end.residual, end.data) == (2, BLOCK, sense)


def test_bytes_that_come_one_at_a_time() -> None:
    def script(peer: Peer) -> None:
        command = peer.command()
        for byte in peer.packed(pdu.DataIn(itt=command.itt, status_present=True), content(7, 1)):
            peer.sock.sendall(bytes([byte]))

    with connected(script) as (pump, _):
        buffer = bytearray(BLOCK)
        assert pump.command(0, READ_ONE, None, buffer) is None
        assert buffer == content(7, 1)


def test_events_are_delivered_while_somebody_waits_and_by_service() -> None:
    events: list[Event] = []
    asked = threading.Event()

    def script(peer: Peer) -> None:
        command = peer.command()
        peer.send(pdu.AsyncMessage(async_event=4))
        peer.send(pdu.NopIn(ttt=5))
        answer = peer.receive()
        assert answer is not None
        assert isinstance(answer[0], pdu.NopOut)
        assert (answer[0].ttt, answer[0].itt) == (5, RESERVED_TAG)
        peer.good(command)
        peer.send(pdu.AsyncMessage(async_event=1))
        asked.set()

    with connected(script, on_event=events.append) as (pump, _):
        assert pump.command(0, TEST_UNIT_READY) is None
        assert [pdu.AsyncMessage.unpack(event.bhs).async_event for event in events] == [4]
        assert asked.wait(PATIENCE)
        pump.service()
        assert [pdu.AsyncMessage.unpack(event.bhs).async_event for event in events] == [4, 1]


def test_a_control_request_gets_its_answer() -> None:
    with connected(Peer.serve) as (pump, _):
        answer = pump.control(pdu.NopOut(itt=0, immediate=True).pack(), b"ping", answer=0x20)
        assert answer.data == b"ping"


# ---- deadlines and ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent_before", [0, 20, 48, 100])
def test_a_deadline_frees_the_buffer(sent_before: int) -> None:
    """Whatever came before, no byte goes there afterwards; and the connection lives on."""
    late = threading.Event()

    def script(peer: Peer) -> None:
        stream = peer.packed(pdu.DataIn(itt=peer.command().itt, status_present=True), content(7, 1))
        peer.sock.sendall(stream[:sent_before])
        assert late.wait(PATIENCE)
        peer.sock.sendall(stream[sent_before:])
        peer.serve()

    with connected(script) as (pump, _):
        buffer = bytearray(BLOCK)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.2 s") as caught:
            pump.command(0, READ_ONE, None, buffer, timeout=0.2)
        assert 0.2 <= time.monotonic() - began < 2
        assert len(caught.value.tags) == 1
        buffer[:] = CANARY * BLOCK
        buffer += b"it can be resized"
        late.set()
        assert pump.command(0, TEST_UNIT_READY) is None
        assert buffer == CANARY * BLOCK + b"it can be resized"


def test_a_write_that_is_late_still_sends_what_it_had() -> None:
    late = threading.Event()
    taken = bytearray()

    def script(peer: Peer) -> None:
        command = peer.command()
        assert late.wait(PATIENCE)
        peer.take(command, bytes(65536))
        taken.extend(peer.disk[0])
        peer.serve()

    with connected(script) as (pump, _):
        buffer = bytearray(b"\x11" * (1 << 20))
        with pytest.raises(DeadlineExceeded):
            pump.blocks(True, 0, 0, 2048, buffer, timeout=0.1)
        buffer[:] = CANARY * (1 << 20)
        late.set()
        assert pump.command(0, TEST_UNIT_READY) is None
        assert taken[65536:] == b"\x11" * ((1 << 20) - 65536)


def test_a_peer_that_hangs_up_is_a_lost_connection() -> None:
    def script(peer: Peer) -> None:
        peer.command()
        peer.sock.shutdown(2)

    with connected(script) as (pump, _):
        with pytest.raises(ConnectionLost, match="the target closed the connection"):
            pump.command(0, TEST_UNIT_READY)
        assert not pump.alive
        with pytest.raises(ConnectionLost):
            pump.command(0, TEST_UNIT_READY)
        assert len(pump.leftover().tasks) <= 1


def test_a_reset_is_a_lost_connection() -> None:
    gone = threading.Event()

    def script(peer: Peer) -> None:
        peer.command()
        peer.file.close()
        peer.sock.close()  # with bytes of ours unread
        gone.set()

    with connected(script) as (pump, _):
        first = pump.submit(0, TEST_UNIT_READY)
        assert gone.wait(PATIENCE)
        with pytest.raises(ConnectionLost, match=r"the connection broke|closed the connection") as caught:
            pump.blocks(True, 0, 0, 128, bytes(65536))
        assert caught.value.errno == errno.EIO
        assert not first.ended


def test_a_closed_pump_is_a_bad_descriptor() -> None:
    with connected(Peer.serve) as (pump, _):
        command = pump.submit(0, TEST_UNIT_READY)
        pump.close()
        pump.close()
        assert pump.fileno() == -1
        calls = [
            lambda: pump.command(0, TEST_UNIT_READY),
            lambda: pump.blocks(False, 0, 0, 1, bytearray(512)),
            lambda: pump.submit(0, TEST_UNIT_READY),
            lambda: pump.control(bytes(48), answer=0x20),
            lambda: pump.batch(False, 0, memoryview(bytes(8)).cast("q"), 1, bytearray(512)),
            command.wait,
            pump.service,
        ]
        for call in calls:
            with pytest.raises(BadDescriptor) as caught:
                call()
            assert caught.value.errno == errno.EBADF


def test_python_may_end_the_connection_for_a_reason_of_its_own() -> None:
    with connected(Peer.serve) as (pump, _):
        reason = DigestMismatch("for a reason")
        pump.fail(reason)
        pump.fail(ConnectionLost("later"))
        with pytest.raises(DigestMismatch) as caught:
            pump.command(0, TEST_UNIT_READY)
        assert (type(caught.value), str(caught.value)) == (DigestMismatch, "for a reason")


def depth(error: BaseException) -> int:
    return len(list(traceback.walk_tb(error.__traceback__)))


@pytest.mark.parametrize("barred", [False, True], ids=["a dead link", "a barred unit"])
def test_who_asks_again_and_again_gets_an_error_of_its_own(barred: bool) -> None:
    """Raised twice, an exception has the frames of both calls: one that is kept would grow without end."""
    reason = ConnectionLost("it did not come back")
    reason.__cause__ = OSError("why")
    with connected(Peer.serve) as (pump, _):
        if barred:
            pump.bar({0: reason})
        else:
            pump.fail(reason)
        errors = []
        for _ in range(3):
            with pytest.raises(ConnectionLost) as caught:
                pump.command(0, TEST_UNIT_READY)
            errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3
    assert len({depth(error) for error in errors}) == 1
    assert depth(reason) == 0
    assert {(str(error), error.errno, error.__cause__) for error in errors} == {
        (str(reason), errno.EIO, reason.__cause__)
    }


def test_wrong_arguments() -> None:
    with connected(Peer.serve) as (pump, _):
        with pytest.raises(InvalidArgument, match="1 to 16 bytes"):
            pump.command(0, b"")
        with pytest.raises(InvalidArgument, match="one way"):
            pump.command(0, READ_ONE, b"x", bytearray(1))
        with pytest.raises(BufferError):
            pump.blocks(False, 0, 0, 1, bytes(512))
        with pytest.raises(TypeError):
            pump.blocks(True, 0, 0, 1, "text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="48 bytes"):
            pump.control(bytes(47), answer=0x20)
