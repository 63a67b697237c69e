# SPDX-License-Identifier: Apache-2.0
"""What is overdue is aborted, and the session lives; where the target does not confirm that, the session ends."""

from __future__ import annotations

import array
import errno
import select
import threading
import time

import pytest
from support.pace import unhurried
from support.peer import NAME, Script, Talk, playing

import swd
from swd.errors import ConnectionLost, DeadlineExceeded
from swd.iscsi import session as session_module
from swd.proto import pdu
from swd.proto.pdu import Opcode

TEST_UNIT_READY = bytes(6)
INQUIRY = b"\x12\0\0\0\x24\0"
READ = b"\x28" + bytes(7) + b"\x08\0"  # 8 blocks
WRITE = b"\x2a" + bytes(7) + b"\x80\0"  # 128 blocks
TIMEOUT = 0.15
SLACK = 2.0


@pytest.fixture
def short_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    """For targets that do not answer an abort; who does has the seconds of everyday, however busy the machine is."""
    monkeypatch.setattr(session_module, "ABORT_TIMEOUT", 0.3)


def taking_abort(response: int, *, late: bool = False) -> Script:
    """A script: the first command is not answered; an abort of exactly that is answered; then all is ordinary."""

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.overdue()
        abort, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
        assert abort.function == 1  # ABORT TASK
        assert (abort.referenced_task_tag, abort.ref_cmd_sn, abort.lun) == (command.itt, command.cmd_sn, command.lun)
        if late:  # the answer had been on its way already (RFC 7143 11.5.1)
            talk.good(command, bytes(command.expected_data_transfer_length))
        talk.send(pdu.TaskManagementResponse(itt=abort.itt, response=response))
        return talk.serve()

    return script


@pytest.mark.parametrize("response", [0, 1], ids=["function complete", "task does not exist"])
@pytest.mark.parametrize("late", [False, True], ids=["no answer", "a late answer"])
@pytest.mark.parametrize(("cdb", "data_in"), [(TEST_UNIT_READY, 0), (READ, 4096)], ids=["test unit ready", "read"])
def test_an_overdue_command_is_aborted_and_the_session_lives(
    response: int, late: bool, cdb: bytes, data_in: int
) -> None:
    with playing(taking_abort(response, late=late)) as peer:
        with swd.connect(str(peer.portal), NAME) as session:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded) as caught:
                session.execute(cdb, lun=3, data_in=data_in, timeout=TIMEOUT)
            assert TIMEOUT <= time.monotonic() - started < TIMEOUT + SLACK
            assert caught.value.errno == errno.ETIMEDOUT
            assert session.alive
            assert session.statistics["open_tasks"] == 0
            assert session.execute(INQUIRY, lun=3, data_in=36).data == bytes(36)
            assert session.ping(b"still here") == b"still here"
        assert peer.accepts == 1
    assert peer.results == [[Opcode.SCSI_COMMAND, Opcode.NOP_OUT, Opcode.LOGOUT_REQUEST]]


def test_an_overdue_write_is_aborted_and_its_buffer_let_go() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in(ImmediateData="No", InitialR2T="Yes")
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.send(pdu.R2T(itt=command.itt, ttt=5, buffer_offset=0, desired_data_transfer_length=512), numbered=False)
        talk.take(Opcode.DATA_OUT)
        talk.overdue()
        abort, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
        # An R2T that crosses the abort on the wire is no fault of anybody's.
        talk.send(
            pdu.R2T(itt=command.itt, ttt=6, r2t_sn=1, buffer_offset=512, desired_data_transfer_length=512),
            numbered=False,
        )
        talk.send(pdu.TaskManagementResponse(itt=abort.itt))
        return talk.serve()

    buffer = bytearray(128 * 512)
    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        with pytest.raises(DeadlineExceeded):
            session.execute(WRITE, lun=0, data_out=buffer, timeout=TIMEOUT)
        buffer.append(0)  # BufferError if it were still exported
        assert session.execute(TEST_UNIT_READY, lun=0).status == 0


@pytest.mark.usefixtures("short_abort")
@pytest.mark.parametrize(
    "answer",
    [None, 255, 5],
    ids=["ignored", "rejected", "not supported"],
)
def test_a_target_that_does_not_abort_loses_the_session(answer: int | None) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        talk.overdue()
        for function in (1, 5):  # ABORT TASK, then LOGICAL UNIT RESET
            request, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
            assert request.function == function
            if answer is not None:
                talk.send(pdu.TaskManagementResponse(itt=request.itt, response=answer))
        return talk.until_closed()

    buffer = bytearray(4096)
    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        with pytest.raises(DeadlineExceeded) as caught:
            session.read_blocks(0, 0, 8, buffer, TIMEOUT)
        assert caught.value.errno == errno.ETIMEDOUT
        assert not session.alive
        buffer.append(0)
        with pytest.raises(ConnectionLost, match="could not be aborted"):
            session.execute(TEST_UNIT_READY, lun=0)
        session.close()
    assert peer.results == [[]]  # closed, without a logout on a link that is given up


@pytest.mark.usefixtures("short_abort")
def test_a_silent_link_is_given_up_without_an_abort() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        talk.overdue(answer=False)
        return talk.until_closed()

    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        with pytest.raises(DeadlineExceeded):
            session.execute(TEST_UNIT_READY, lun=0, timeout=TIMEOUT)
        assert not session.alive
        session.close()


def test_every_overdue_command_of_a_batch_is_aborted() -> None:
    aborted: list[int] = []

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        commands = [talk.take(Opcode.SCSI_COMMAND)[0] for _ in range(4)]
        talk.good(commands[0], bytes(4096))
        commands = [*commands[1:], talk.take(Opcode.SCSI_COMMAND)[0]]
        talk.overdue()
        for _ in commands:
            abort, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
            aborted.append(abort.referenced_task_tag)
            talk.send(pdu.TaskManagementResponse(itt=abort.itt))
        assert sorted(aborted) == sorted(command.itt for command in commands)
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        with pytest.raises(DeadlineExceeded):
            session.batch(
                False, 0, array.array("q", range(0, 64, 8)), 8, bytearray(8 * 4096), queue_depth=4, timeout=TIMEOUT
            )
        assert session.alive
        assert session.statistics["open_tasks"] == 0
        assert session.execute(INQUIRY, lun=0, data_in=36).data == bytes(36)


def test_others_on_the_session_are_not_hurt_by_one_abort() -> None:
    """Another thread's command stays open while the first is aborted, and gets its answer."""
    answer_the_other = threading.Event()

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        other, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.take(Opcode.SCSI_COMMAND)
        talk.overdue()
        abort, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
        assert abort.referenced_task_tag != other.itt
        talk.send(pdu.TaskManagementResponse(itt=abort.itt))
        assert answer_the_other.wait(5)
        talk.good(other, b"x" * 36)
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        other = session.submit(INQUIRY, lun=0, data_in=36)
        with pytest.raises(DeadlineExceeded):
            session.execute(TEST_UNIT_READY, lun=0, timeout=TIMEOUT)
        answer_the_other.set()
        assert other.result().data == b"x" * 36


@pytest.mark.usefixtures("short_abort")
def test_a_batch_past_its_deadline_ends_whole() -> None:
    """Some of it answered, some not: no buffer is in use any more when the caller hears of it."""

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        first, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.good(first, bytes(4096))
        return talk.until_closed()

    buffer = bytearray(8 * 4096)
    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        with pytest.raises(DeadlineExceeded):
            session.batch(False, 0, array.array("q", range(0, 64, 8)), 8, buffer, queue_depth=4, timeout=TIMEOUT)
        buffer.append(0)
        session.close(force=True)
    assert len(peer.results) == 1


def test_the_wait_for_a_submitted_task_may_end_before_it_does() -> None:
    go_on = threading.Event()

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        assert go_on.wait(5)
        talk.good(command)
        return talk.serve()

    with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
        task = session.submit(TEST_UNIT_READY, lun=0)
        with pytest.raises(TimeoutError):
            task.result(timeout=0.05)
        assert not task.ended
        go_on.set()
        assert task.result().status == 0
        assert task.ended


def test_a_submitted_task_is_aborted_on_request() -> None:
    with playing(taking_abort(0)) as peer, swd.connect(str(peer.portal), NAME) as session:
        task = session.submit(READ, lun=0, data_in=4096)
        session.abort(task)
        assert task.ended
        session.abort(task)  # once more: nothing is said
        assert session.execute(INQUIRY, lun=0, data_in=36).status == 0
    assert peer.results == [[Opcode.SCSI_COMMAND, Opcode.LOGOUT_REQUEST]]


def test_a_submitted_task_past_its_deadline_is_aborted_by_whoever_waits() -> None:
    with playing(taking_abort(0)) as peer, swd.connect(str(peer.portal), NAME) as session:
        task = session.submit(READ, lun=0, data_in=4096, timeout=TIMEOUT)
        with pytest.raises(DeadlineExceeded):
            task.result()
        assert session.alive
        assert session.ping(b"x") == b"x"


def dripping(steps: int, pause: float, *, ends: bool) -> Script:
    """A script: a read whose data comes in `steps` pieces of 512 bytes, `pause` seconds apart, and then its status;
    until swd says something.
    """

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        for step in range(steps):
            talk.send(
                pdu.DataIn(itt=command.itt, data_sn=step, buffer_offset=512 * step, final=False),
                bytes([step + 1]) * 512,
                numbered=False,
            )
            if select.select([talk.sock], [], [], pause)[0]:
                break
        if ends:
            talk.send(pdu.ScsiResponse(itt=command.itt))
            return talk.serve()
        talk.overdue()
        abort, _ = talk.take(Opcode.TASK_MANAGEMENT_REQUEST)
        assert abort.referenced_task_tag == command.itt
        talk.send(pdu.TaskManagementResponse(itt=abort.itt))
        return talk.serve()

    return script


@pytest.mark.parametrize("face", ["execute", "read_blocks", "submit", "batch"])
def test_a_read_that_makes_progress_is_not_overdue(face: str) -> None:
    """Its data takes twice the deadline; each piece comes within it."""

    def attempt(timeout: float) -> None:
        buffer, script = bytearray(4096), dripping(8, timeout / 4, ends=True)
        started = time.monotonic()
        with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
            if face == "execute":
                buffer[:] = session.execute(READ, lun=0, data_in=4096, timeout=timeout).data
            elif face == "submit":
                buffer[:] = session.submit(READ, lun=0, data_in=4096, timeout=timeout).result().data
            elif face == "batch":
                assert session.batch(False, 0, array.array("q", [0]), 8, buffer, timeout=timeout) == []
            else:
                assert session.read_blocks(0, 0, 8, buffer, timeout) is None
            assert time.monotonic() - started > 1.5 * timeout
            assert session.statistics["timeouts"] == 0
        assert bytes(buffer) == b"".join(bytes([step + 1]) * 512 for step in range(8))

    unhurried(attempt, TIMEOUT)


def test_a_read_that_drips_for_ever_ends_at_four_deadlines() -> None:
    def attempt(timeout: float) -> None:
        script = dripping(1000, timeout / 3, ends=False)
        with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="though its data went on"):
                session.execute(READ, lun=0, data_in=512 * 1000, timeout=timeout)
            assert 4 * timeout <= time.monotonic() - started < 4 * timeout + SLACK
            assert session.alive

    unhurried(attempt, TIMEOUT)


def test_a_read_whose_data_stops_ends_one_deadline_later() -> None:
    def attempt(timeout: float) -> None:
        script = dripping(2, 0.01, ends=False)
        with playing(script) as peer, swd.connect(str(peer.portal), NAME) as session:
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded, match="no answer within"):
                session.execute(READ, lun=0, data_in=4096, timeout=timeout)
            assert timeout <= time.monotonic() - started < 3 * timeout

    unhurried(attempt, TIMEOUT)


@pytest.mark.parametrize("submitted", [False, True])
def test_a_command_that_may_take_longer_has_a_deadline_of_its_own(submitted: bool) -> None:
    """START STOP UNIT has four times that of others, where the caller gives none."""

    def attempt(timeout: float) -> None:
        def script(talk: Talk) -> list[Opcode]:
            talk.log_in()
            command, _ = talk.take(Opcode.SCSI_COMMAND)
            threading.Event().wait(2 * timeout)
            talk.good(command)
            return talk.serve()

        start = b"\x1b\0\0\0\x01\0"
        with playing(script) as peer, swd.connect(str(peer.portal), NAME, timeout=timeout) as session:
            ended = session.submit(start, lun=0).result() if submitted else session.execute(start, lun=0)
            assert ended.status == 0
            assert session.statistics["timeouts"] == 0

    unhurried(attempt, TIMEOUT)
