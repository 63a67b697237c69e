# SPDX-License-Identifier: Apache-2.0
"""What a session says beside SCSI commands, and what it makes of what nobody asked for: pings both ways, text, rejects,
asynchronous messages, a link that breaks, and the end."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest
from support.peer import NAME, Talk, playing, text

import swd
from swd.errors import BadDescriptor, ConnectionLost, InvalidArgument, ProtocolViolation, SwdError
from swd.iscsi import keeper
from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.values import RESERVED_TAG

TEST_UNIT_READY = bytes(6)


@pytest.fixture
def quick_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "INTERVAL", 0.02)


def ordinary(talk: Talk) -> list[Opcode]:
    talk.log_in()
    return talk.serve()


# ---- pings and text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4, 1021, 65536])
def test_a_ping_comes_back_as_it_was(size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    with playing(ordinary) as peer, swd.connect(str(peer.portal), NAME) as session:
        assert session.ping(data) == data
        with pytest.raises(InvalidArgument):
            session.ping(bytes(65537))  # more than the target takes in one PDU
    assert peer.results == [[Opcode.NOP_OUT, Opcode.LOGOUT_REQUEST]]


def test_a_ping_that_comes_back_changed_ends_the_session() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        ping, data = talk.take(Opcode.NOP_OUT)
        talk.send(pdu.NopIn(itt=ping.itt), data[::-1])
        return talk.until_closed()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        with pytest.raises(ProtocolViolation, match="ping"):
            session.ping(b"there")
        assert not session.alive


def test_text_both_ways_in_many_pieces() -> None:
    """A question longer than the target's segment goes out cut, and comes back so."""
    question = {f"X-org.example.{number}": "v" * 100 for number in range(20)}

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in(MaxRecvDataSegmentLength="512")
        whole, request = b"", None
        while request is None or not request.final:
            request, piece = talk.take(Opcode.TEXT_REQUEST)
            assert len(piece) <= 512
            whole += piece
            if not request.final:
                assert request.continued
                talk.send(pdu.TextResponse(itt=request.itt, final=False, ttt=3))
        assert whole == text(question.items())
        talk.send(pdu.TextResponse(itt=request.itt), whole)
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        assert session.text(question) == list(question.items())


# ---- what nobody asked for -------------------------------------------------------------------------------------------


def test_the_keeper_answers_a_ping_while_nobody_waits(quick_keeper: None) -> None:
    answered = threading.Event()

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        for _ in range(3):
            talk.send(pdu.NopIn(ttt=77, lun=5), numbered=False)
            answer, data = talk.take(Opcode.NOP_OUT)
            assert (answer.itt, answer.ttt, answer.lun) == (RESERVED_TAG, 77, 5)
            assert data == b""
        answered.set()
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        assert answered.wait(5)
        assert session.alive
    assert peer.results == [[Opcode.LOGOUT_REQUEST]]


def test_a_ping_without_a_wish_for_an_answer_gets_none() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.send(pdu.NopIn(), numbered=False)
        talk.good(command)
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        assert session.execute(TEST_UNIT_READY, lun=0).status == 0
    assert peer.results == [[Opcode.LOGOUT_REQUEST]]


def test_the_keeper_notices_a_link_that_is_gone(quick_keeper: None) -> None:
    gone = threading.Event()

    def script(talk: Talk) -> None:
        talk.log_in()
        gone.wait(5)

    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        gone.set()
        until(lambda: not session.alive)
        with pytest.raises(ConnectionLost):
            session.execute(TEST_UNIT_READY, lun=0)
        session.close()


def until(happened: Callable[[], bool]) -> None:
    """What another thread brings about within a moment."""
    waiting = threading.Event()
    for _ in range(500):
        if happened():
            return
        waiting.wait(0.01)
    pytest.fail("it did not happen")


@pytest.mark.parametrize("event", [2, 3], ids=["connection", "all connections"])
def test_a_drop_that_is_announced_is_a_lost_connection(event: int) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        talk.send(pdu.AsyncMessage(async_event=event, parameter2=2, parameter3=0))
        return talk.until_closed()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        with pytest.raises(ConnectionLost, match="announced") as caught:
            session.execute(TEST_UNIT_READY, lun=0)
        assert caught.value.errno == errno.EIO
        assert not session.alive
    assert peer.results == [[]]


def test_a_logout_that_is_asked_for_is_made(quick_keeper: None) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.send(pdu.AsyncMessage(async_event=1, parameter3=3))
        return talk.serve()

    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        until(lambda: not session.alive)
        with pytest.raises(SwdError):
            session.execute(TEST_UNIT_READY, lun=0)
        session.close()
    assert peer.results == [[Opcode.LOGOUT_REQUEST]]


@pytest.mark.parametrize("event", [0, 4, 255], ids=["SCSI event", "negotiate", "vendor's own"])
def test_other_messages_leave_the_session_alone(event: int) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.send(pdu.AsyncMessage(async_event=event), b"\0\x12" + bytes(18) if event == 0 else b"")
        talk.good(command)
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        assert session.execute(TEST_UNIT_READY, lun=0).status == 0
        assert session.ping(b"x") == b"x"


@pytest.mark.parametrize(
    ("reason", "words"),
    [(0x02, "data digest"), (0x04, "protocol error"), (0x05, "not supported"), (0x09, "invalid PDU"), (0x77, "0x77")],
)
def test_a_reject_is_a_broken_protocol(reason: int, words: str) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.send(pdu.Reject(reason=reason), command.pack())
        return talk.until_closed()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        with pytest.raises(ProtocolViolation, match=words) as caught:
            session.execute(TEST_UNIT_READY, lun=0)
        assert caught.value.errno == errno.EPROTO
        assert not session.alive


@pytest.mark.parametrize("bytes_of_answer", [0, 1, 47, 48])
def test_a_link_that_breaks_is_told_to_whoever_waits(bytes_of_answer: int) -> None:
    """Wherever in the answer it breaks, and with other commands open."""

    def script(talk: Talk) -> None:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.take(Opcode.SCSI_COMMAND)
        header = pdu.DataIn(
            itt=command.itt, stat_sn=talk.stat_sn, exp_cmd_sn=3, max_cmd_sn=30, data_segment_length=512
        ).pack()
        talk.sock.sendall(header[:bytes_of_answer])

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        tasks = [session.submit(b"\x12\0\0\x02\0\0", lun=0, data_in=512) for _ in range(2)]
        for task in tasks:
            with pytest.raises(ConnectionLost) as caught:
                task.result()
            assert caught.value.errno == errno.EIO
        assert not session.alive


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_close_logs_out_once() -> None:
    with playing(ordinary) as peer:
        session = swd.connect(str(peer.portal), NAME)
        session.close()
        session.close()
        for call in (lambda: session.execute(TEST_UNIT_READY, lun=0), session.ping, lambda: session.text({})):
            with pytest.raises(BadDescriptor) as caught:
                call()
            assert caught.value.errno == errno.EBADF
    assert peer.results == [[Opcode.LOGOUT_REQUEST]]


def test_a_forced_close_says_nothing() -> None:
    with playing(ordinary) as peer:
        swd.connect(str(peer.portal), NAME).close(force=True)
    assert peer.results == [[]]


def test_a_logout_that_is_not_answered_is_not_waited_for_long() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        return talk.until_closed()

    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        session.logout(timeout=0.1)
        assert not session.alive
    assert peer.results == [[Opcode.LOGOUT_REQUEST]]


def test_close_ends_the_wait_of_another_thread() -> None:
    asked = threading.Event()

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        asked.set()
        return talk.serve()

    caught: list[BaseException] = []

    def wait() -> None:
        with pytest.raises(SwdError) as error:
            session.execute(TEST_UNIT_READY, lun=0)
        caught.append(error.value)

    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        waiter = threading.Thread(target=wait)
        waiter.start()
        assert asked.wait(5)
        session.close()
        waiter.join(5)
        assert [type(error) for error in caught] == [BadDescriptor]


def test_leaving_by_an_interrupt_does_not_wait_for_an_answer() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        return talk.until_closed()

    with playing(script) as peer, pytest.raises(KeyboardInterrupt), swd.connect(str(peer.portal), NAME):
        raise KeyboardInterrupt
    assert peer.results == [[]]


def test_a_close_below_an_interrupt_does_not_wait_for_long() -> None:
    """As the last disk of a session does that is left by Ctrl-C."""

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        return talk.until_closed()

    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            try:
                raise KeyboardInterrupt
            finally:
                session.close()
        assert time.monotonic() - began < 3  # a logout in peace waits five seconds
    assert peer.results == [[Opcode.LOGOUT_REQUEST]]
