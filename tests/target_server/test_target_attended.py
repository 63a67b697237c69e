# SPDX-License-Identifier: Apache-2.0
"""Sessions that are spoken to while they wait: pings, asynchronous messages, commands that end later."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_initiator import INITIATOR, RawInitiator, read_10

import swd
from swd.errors import InvalidArgument, MediumError
from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.attended import Mailbox, Pings
from swd.values import RESERVED_TAG

NAME = "iqn.2026-01.org.example:attended"
SIZE = 1 << 20


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))}, attended=True)]) as server:
        yield server


@pytest.fixture
def raw(server: TargetServer) -> Iterator[RawInitiator]:
    with RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready()
        yield raw


# Asynchronous messages


@pytest.mark.parametrize(
    ("say", "event", "parameters"),
    [
        (lambda announce: announce.logout(within=7), 1, (0, 0, 7)),
        (lambda announce: announce.negotiate(within=9), 4, (0, 0, 9)),
        (lambda announce: announce.vendor(17, b"words"), 255, (0, 0, 0)),
        (lambda announce: announce.sense(0, 6, 0x2A, 0x09), 0, (0, 0, 0)),
        (lambda announce: announce.drop(4, 5), 2, (0, 4, 5)),
        (lambda announce: announce.drop(4, 5, session=True), 3, (0, 4, 5)),
    ],
    ids=["logout", "negotiate", "vendor", "sense", "drop connection", "drop session"],
)
def test_messages_reach_an_initiator_that_is_silent(
    server: TargetServer, raw: RawInitiator, say: object, event: int, parameters: tuple[int, int, int]
) -> None:
    before = raw.run(read_10(0, 1), expect=512).pdus[-1].header
    assert say(server.announce) == 1  # type: ignore[operator]
    header, data = raw.receive()
    assert isinstance(header, pdu.AsyncMessage)
    assert isinstance(before, pdu.DataIn)
    assert (header.async_event, header.itt, header.stat_sn) == (event, RESERVED_TAG, before.stat_sn + 1)
    assert (header.parameter1, header.parameter2, header.parameter3) == parameters
    if event == 0:
        assert (data[:2], data[4], data[14:16]) == (b"\0\x12", 6, b"\x2a\x09")
    elif event == 255:
        assert (header.async_vcode, data) == (17, b"words")
    if event in (2, 3):
        assert raw.closed()
    else:
        after = raw.run(read_10(0, 1), expect=512).pdus[-1].header
        assert isinstance(after, pdu.DataIn)
        assert after.stat_sn == header.stat_sn + 1


def test_messages_go_to_those_who_are_meant(server: TargetServer, raw: RawInitiator) -> None:
    with swd.connect(str(server.portal), NAME, initiator_name="iqn.2026-01.org.example:other"):
        assert server.announce.vendor(1, initiator=INITIATOR) == 1
        assert server.announce.vendor(1, initiator="iqn.2026-01.org.example:nobody") == 0
        assert server.announce.vendor(1, target=NAME) == 2
        assert server.announce.vendor(1, target=NAME + "x") == 0
    for _ in range(2):
        assert isinstance(raw.receive().header, pdu.AsyncMessage)


def test_swd_logs_out_and_in_again_when_it_is_asked_to(server: TargetServer) -> None:
    with swd.connect(str(server.portal), NAME) as session, session.unit(0) as disk:
        disk.pwrite(b"x" * 512, 0)
        assert server.announce.logout(within=2) == 1
        again = threading.Event()

        def read_until_it_is_another_session() -> None:
            while server.statistics["logins"] < 2:
                assert disk.pread(512, 0) == b"x" * 512
            again.set()

        thread = threading.Thread(target=read_until_it_is_another_session, daemon=True)
        thread.start()
        assert again.wait(20)
        thread.join()
        assert disk.pread(512, 0) == b"x" * 512
        assert server.statistics["pdus_in"]["LOGOUT_REQUEST"] == 1


def test_without_attended_targets_nothing_can_be_said() -> None:
    with TargetServer([TargetConfig(NAME)]) as server, pytest.raises(InvalidArgument, match="attended"):
        server.announce.logout()


@pytest.mark.parametrize("seconds", [-1, 65536])
def test_numbers_that_do_not_fit(server: TargetServer, seconds: int) -> None:
    with pytest.raises(InvalidArgument):
        server.announce.logout(within=seconds)
    with pytest.raises(InvalidArgument):
        server.announce.vendor(seconds)


# Pings


def pinging(interval: float, timeout: float) -> TargetServer:
    config = TargetConfig(NAME, {0: Lun(RamMedium(SIZE))}, attended=True, nop_interval=interval, nop_timeout=timeout)
    return TargetServer([config])


def test_a_silent_initiator_is_pinged_as_long_as_it_answers() -> None:
    with pinging(0.05, 10) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        tags = []
        for _ in range(3):
            header = raw.receive().header
            assert isinstance(header, pdu.NopIn)
            assert (header.itt, header.ttt != RESERVED_TAG) == (RESERVED_TAG, True)
            tags.append(header.ttt)
            raw.send(pdu.NopOut(immediate=True, itt=RESERVED_TAG, ttt=header.ttt, cmd_sn=raw.cmd_sn))
        assert len(set(tags)) == 3
        assert len(server.sessions) == 1


def test_an_initiator_that_does_not_answer_is_dropped() -> None:
    with pinging(0.05, 0.1) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        assert isinstance(raw.receive().header, pdu.NopIn)
        raw.send(pdu.NopOut(immediate=True, itt=RESERVED_TAG, ttt=0x7777, cmd_sn=raw.cmd_sn))  # not that ping's
        assert raw.closed()


def test_swd_answers_pings() -> None:
    with pinging(0.02, 5) as server, swd.connect(str(server.portal), NAME) as session:
        done = threading.Event()

        def look() -> None:
            while server.statistics["pdus_in"].get("NOP_OUT", 0) < 5:
                session.ping()
            done.set()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        assert done.wait(20)
        thread.join()
        assert server.statistics["logins"] == 1


@given(times=st.lists(st.integers(0, 3), max_size=12))
def test_pings_are_due_after_silence_only(times: list[int]) -> None:
    """Of whole seconds: an interval of one, a timeout of two."""
    pings, now, heard, asked = Pings(1, 2, 0), 0, 0, None
    for step in times:
        now += step
        if asked is not None and now >= asked + 2.0:
            with pytest.raises(TimeoutError):
                pings.due(now)
            return
        if pings.due(now):
            assert asked is None
            assert now >= heard + 1.0
            pings.asked(5, now)
            asked = now
        elif asked is None:
            assert now < heard + 1.0
            pings.heard(now)
            heard = now
        patience = pings.patience(now)
        assert patience is not None
        assert 0 <= patience <= 2.0


@pytest.mark.parametrize("settings", [{"nop_interval": 1}, {"nop_interval": -1}, {"nop_timeout": 0}])
def test_pings_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        TargetConfig(NAME, **settings)  # type: ignore[arg-type]


# Commands that end later

SANITIZE, TUR = b"\x48\x02" + bytes(8), bytes(6)


class Gated(RamMedium):
    """Its erasing waits until it may go on."""

    def __init__(self) -> None:
        super().__init__(SIZE)
        self.reached, self.gate, self.broken = threading.Event(), threading.Event(), False

    def zero(self, offset: int, length: int) -> None:
        self.reached.set()
        assert self.gate.wait(20)
        if self.broken:
            raise MediumError("broken")
        super().zero(offset, length)


def serving(medium: Gated) -> TargetServer:
    return TargetServer([TargetConfig(NAME, {0: Lun(medium)}, attended=True)])


@pytest.mark.parametrize("broken", [False, True])
def test_a_session_goes_on_while_sanitize_runs(broken: bool) -> None:
    medium = Gated()
    medium.broken = broken
    with serving(medium) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready()
        task = raw.command(SANITIZE)
        assert medium.reached.wait(20)
        for _ in range(3):
            assert raw.run(TUR).sense == (2, 0x04, 0x1B)
        medium.gate.set()
        ended = raw.finish(task)
        assert ended.sense == ((3, 0x31, 3) if broken else None)
        assert raw.run(TUR).sense == ended.sense


@pytest.mark.parametrize("function", [1, 5])
def test_an_aborted_command_says_nothing_when_it_ends(function: int) -> None:
    medium = Gated()
    with serving(medium) as server, RawInitiator(server.portal) as raw:
        raw.login(NAME)
        raw.ready()
        task = raw.command(SANITIZE)
        assert medium.reached.wait(20)
        request = pdu.TaskManagementRequest(
            function=function, immediate=True, itt=raw.tag(), referenced_task_tag=task, ref_cmd_sn=raw.cmd_sn - 1,
            cmd_sn=raw.cmd_sn,
        )  # fmt: skip
        raw.send(request)
        answer = raw.receive().header
        assert isinstance(answer, pdu.TaskManagementResponse)
        assert answer.response == 0
        medium.gate.set()
        for thread in threading.enumerate():
            if thread.name == "swd-target-later":
                thread.join(20)
        answers = [raw.run(TUR).sense for _ in range(2)]  # and nothing of the other task comes between
        assert answers == ([None, None] if function == 1 else [(6, 0x29, 3), None])


def test_a_session_that_ends_leaves_its_command_alone() -> None:
    medium = Gated()
    medium.write(0, b"x" * SIZE)
    with serving(medium) as server:
        with RawInitiator(server.portal) as raw:
            raw.login(NAME)
            raw.ready()
            raw.command(SANITIZE)
            assert medium.reached.wait(20)
        medium.gate.set()
        for thread in threading.enumerate():
            if thread.name == "swd-target-later":
                thread.join(20)
        assert not any(medium.read(0, SIZE))


def test_a_mailbox_is_read_in_order_and_may_be_full_or_closed() -> None:
    mailbox, seen = Mailbox(), list[int]()
    for number in range(100_000):  # more than a socket takes
        mailbox.post(lambda number=number: seen.append(number))  # type: ignore[misc]
    mailbox.run()
    assert seen == list(range(100_000))
    mailbox.close()
    mailbox.close()
    mailbox.post(lambda: seen.append(-1))
    assert seen[-1] == 99_999


def test_a_target_that_is_not_attended_is_served_as_ever() -> None:
    """Beside one that is: no mailbox, and the compiled path."""
    plain = TargetConfig(NAME + "2", {0: Lun(RamMedium(SIZE))})
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))}, attended=True), plain]) as server:
        with swd.connect(str(server.portal), plain.name) as session, session.unit(0) as disk:
            disk.pwrite(b"y" * 4096, 0)
            assert disk.pread(4096, 0) == b"y" * 4096
            assert server.announce.logout() == 0
        assert Opcode.ASYNC_MESSAGE.name not in server.statistics["pdus_out"]
        with socket.create_connection((server.portal.host, server.portal.port)):
            assert server.announce.logout() == 0  # not yet a session
