# SPDX-License-Identifier: Apache-2.0
"""The second login: a target that is another one now, or wants less security than the first time, gets not one byte of
what was open; one that kills a single command does not take the others with it."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hostile_rig import bounded, connect, open_disk, payload
from target.disk import BLOCK, INQUIRY, READ, WRITE, Disk, pattern, place
from target.script import ANSWERS, ChapPart, Connection, Peer
from target.wire import Op, Pdu

import swd
from swd.errors import AuthenticationFailed, ConnectionLost, LoginRefused, ProtocolViolation, StaleIdentity, SwdError

PART = ChapPart()
COMPARE_AND_WRITE = 0x89
OTHER = 0x6001405CCCCCCCCCCCCCCCCCCCCCCCCC
COMES_BACK = {"replacement_timeout": 1.5, "default_time2wait": 0, "path_settle": 0.0}


def dies_at(opcode: int, disk: Disk) -> Callable[[Connection], None]:
    """The first connection: serves until this command comes, and drops."""

    def serve(target: Connection) -> None:
        disk.serve(target, {opcode: lambda here, _command: here.close()})

    return serve


def lost_write(second: Callable[[Connection], object], chap: swd.Chap | None = None, **options: Any) -> Peer:
    """A write during which the link is lost, and `second` plays all connections after that. Raises what the write
    raises, when it is certain that nobody was sent a byte of it but the first connection."""

    def script(target: Connection) -> None:
        if target.number:
            second(target)
            return
        answers = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"} if options.get("header_digest") else {}
        target.login(PART if chap else None, **answers)
        dies_at(WRITE, Disk())(target)

    with Peer(script) as peer, connect(peer, chap=chap, **{**COMES_BACK, **options}) as session:
        disk = session.unit(0)
        with bounded():
            disk.pwrite(payload(BLOCK), 0)
    return peer


def counting(second: Callable[[Connection], object], seen: list[Pdu]) -> Callable[[Connection], object]:
    """Plays `second`, and keeps what came on those connections."""

    def script(target: Connection) -> None:
        target.received = seen
        second(target)
        target.until_closed()

    return script


def refuses(status: int) -> Callable[[Connection], object]:
    def script(target: Connection) -> None:
        target.send(target.login_response(target.expect(Op.LOGIN), transit=False, status=status))

    return script


def drops_chap(target: Connection) -> None:
    target.send(target.login_response(target.expect(Op.LOGIN), {"AuthMethod": "None"}))
    target.operational()


def proves_nothing(target: Connection) -> None:
    target.login(PART._replace(own=b"another-target--"))


def without_digests(target: Connection) -> None:
    target.login()
    Disk().serve(target)


def wrong_isid(target: Connection) -> None:
    target.send(target.login_response(target.expect(Op.LOGIN), {"AuthMethod": "None"}, isid=1))


def another_identity(target: Connection) -> None:
    target.login()
    Disk(naa=OTHER).serve(target)


def another_size(target: Connection) -> None:
    target.login()
    Disk(blocks=128).serve(target)


def unit_is_gone(target: Connection) -> None:
    sense = bytes([0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x25, 0, 0, 0, 0, 0])

    def gone(here: Connection, command: Pdu) -> None:
        here.send(here.response(command, 2, sense=sense, residual=command.expected))

    target.login()
    Disk().serve(target, {0x12: gone, 0x9E: gone, 0x00: gone, WRITE: gone, READ: gone})


def closes_at_once(target: Connection) -> None:
    target.expect(Op.LOGIN)
    target.close()


ONE_WAY = swd.Chap("host1", PART.secret)
MUTUAL = swd.Chap("host1", PART.secret, target_secret=PART.own)
DIGESTS = {"header_digest": "crc32c!", "data_digest": "crc32c!"}

# Who answers the second login -> the error of the write that was open.
CHANGED: dict[str, tuple[Callable[[Connection], object], dict[str, Any], tuple[type[SwdError], ...], set[int]]] = {
    "refuses-authentication": (refuses(0x0201), {}, (AuthenticationFailed, ConnectionLost), {errno.EIO, errno.EACCES}),
    "target-removed": (refuses(0x0204), {}, (LoginRefused, ConnectionLost), {errno.EIO, errno.ENODEV}),
    "out-of-resources": (refuses(0x0302), {}, (ConnectionLost,), {errno.EIO}),
    "drops-chap": (drops_chap, {"chap": ONE_WAY}, (AuthenticationFailed, ConnectionLost), {errno.EIO, errno.EACCES}),
    "proves-nothing": (
        proves_nothing,
        {"chap": MUTUAL},
        (AuthenticationFailed, ConnectionLost),
        {errno.EIO, errno.EACCES},
    ),
    "without-required-digests": (
        without_digests,
        DIGESTS,
        (LoginRefused, ConnectionLost),
        {errno.EIO, errno.EOPNOTSUPP},
    ),
    "another-isid": (wrong_isid, {}, (ProtocolViolation,), {errno.EPROTO}),
    "another-identity": (another_identity, {}, (StaleIdentity,), {errno.ESTALE}),
    "another-size": (another_size, {}, (StaleIdentity,), {errno.ESTALE}),
    "unit-is-gone": (unit_is_gone, {}, (SwdError,), {errno.ESTALE, errno.EIO, errno.ENXIO}),
    "closes-at-once": (closes_at_once, {}, (ConnectionLost,), {errno.EIO}),
}


@pytest.mark.parametrize("change", CHANGED)
def test_not_one_byte_is_written_to_what_came_back(change: str) -> None:
    second, options, kinds, numbers = CHANGED[change]
    seen: list[Pdu] = []
    with pytest.raises(SwdError) as caught:
        lost_write(counting(second, seen), **options)
    assert isinstance(caught.value, kinds)
    assert caught.value.errno in numbers
    assert seen  # there was a second login
    assert not [pdu for pdu in seen if pdu.opcode == Op.DATA_OUT or (pdu.opcode == Op.COMMAND and pdu.cdb[0] == WRITE)]


def test_compare_and_write_is_never_sent_again() -> None:
    """Done twice it does something else than done once; whoever asked for it is told that it may have been done."""
    seen: list[Pdu] = []
    again = threading.Event()

    def comes_back(target: Connection) -> None:
        target.login()
        again.set()
        Disk().serve(target)

    def script(target: Connection) -> None:
        if target.number:
            counting(comes_back, seen)(target)
            return
        target.login()
        dies_at(COMPARE_AND_WRITE, Disk())(target)

    cdb = bytes([COMPARE_AND_WRITE, *bytes(12), 1, 0, 0])
    with Peer(script) as peer, connect(peer, **COMES_BACK) as session:
        with bounded(), pytest.raises(ConnectionLost, match="may have been done"):
            session.execute(cdb, lun=0, data_out=payload(2 * BLOCK))
        assert again.wait(5)
        assert session.ping(b"here") == b"here"
    assert not [pdu for pdu in seen if pdu.opcode == Op.COMMAND and pdu.cdb[0] == COMPARE_AND_WRITE]


def test_swapped_luns_get_not_one_byte() -> None:
    """Two disks of one size; after the loss each answers under the LUN of the other."""
    disks = {0: Disk(), 1 << 48: Disk(naa=OTHER)}
    untouched = bytes(disks[0].content)

    def script(target: Connection) -> None:
        target.login()
        while True:
            command = target.receive()
            if command.opcode == Op.LOGOUT:
                target.send(target.logout_response(command))
            elif target.number == 0 and command.cdb[0] == WRITE:
                target.close()
            elif command.opcode == Op.COMMAND:
                disks[command.lun ^ (1 << 48 if target.number else 0)].answer(target, command)

    with Peer(script) as peer, connect(peer, **COMES_BACK) as session:
        pair = [session.unit(0), session.unit(1)]
        for disk in pair:
            with bounded(), pytest.raises(StaleIdentity) as caught:
                disk.pwrite(payload(BLOCK), 0)
            assert caught.value.errno == errno.ESTALE
    assert all(bytes(disk.content) == untouched and disk.writes == [] for disk in disks.values())


COMING_BACK: dict[str, tuple[dict[str, str], int]] = {
    "the-same": ({}, 1),
    "another-tsih": ({}, 77),
    "another-portal-group": ({"TargetPortalGroupTag": "9"}, 1),
    "no-portal-group": ({"TargetPortalGroupTag": ""}, 1),
    "smaller-bursts": ({"MaxBurstLength": "512"}, 1),
    "digests-where-none-were": ({"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}, 1),
}


@pytest.mark.parametrize("way", COMING_BACK)
def test_the_same_disk_comes_back_in_whatever_way(way: str) -> None:
    """The write is sent again, once, under the same ISID, by the rules of the second login."""
    answers, tsih = COMING_BACK[way]
    disk = Disk()

    def script(target: Connection) -> None:
        if target.number == 0:
            target.login()
            dies_at(WRITE, disk)(target)
        target.security()
        request = target.expect(Op.LOGIN)
        keys = {**ANSWERS, **answers}
        if way == "no-portal-group":
            del keys["TargetPortalGroupTag"]
        target.send(target.login_response(request, keys, tsih=tsih))
        target.header_digest = target.data_digest = keys["HeaderDigest"] == "CRC32C"
        disk.serve(target)

    with bounded(), Peer(script) as peer, open_disk(peer, **COMES_BACK) as opened:
        assert opened.pwrite(payload(BLOCK), 3 * BLOCK) == BLOCK
        assert opened.pread(BLOCK, 3 * BLOCK) == payload(BLOCK)
    assert disk.writes == [3]
    assert len({pdu.lun for pdu in peer.of(Op.LOGIN)}) == 1  # ISID, and TSIH 0


def test_a_redirect_on_the_second_login_is_followed_to_the_same_disk() -> None:
    disk = Disk()

    def first(target: Connection) -> None:
        if target.number == 0:
            target.login()
            dies_at(WRITE, disk)(target)
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, {"TargetAddress": there.portal}, transit=False, status=0x0101))

    def elsewhere(target: Connection) -> None:
        target.login()
        disk.serve(target)

    with bounded(), Peer(elsewhere) as there, Peer(first) as here, open_disk(here, **COMES_BACK) as opened:
        assert opened.pwrite(payload(BLOCK), 0) == BLOCK
    assert disk.writes == [0]


def test_a_redirect_on_the_second_login_to_another_disk_is_stale() -> None:
    other = Disk(naa=OTHER)

    def second(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, {"TargetAddress": there.portal}, transit=False, status=0x0101))

    def elsewhere(target: Connection) -> None:
        target.login()
        other.serve(target)

    with Peer(elsewhere) as there, pytest.raises(StaleIdentity):
        lost_write(second)
    assert other.writes == []


def test_an_outage_is_no_time_of_the_commands_that_wait_for_its_end() -> None:
    """It lasts longer than their deadline: one that was open, and one that comes while the link is down. Nor does
    waiting for it cost any."""
    disk, over = Disk(), threading.Event()
    lost = threading.Event()
    spent: list[float] = []

    def script(target: Connection) -> None:
        if target.number == 0:
            target.login()
            dies_at(WRITE, disk)(target)
        lost.set()
        if not over.is_set():
            closes_at_once(target)
        target.login()
        disk.serve(target, {INQUIRY: slowly})

    def slowly(target: Connection, command: Pdu) -> None:
        threading.Event().wait(0.3)  # the units take their time to say who they are
        disk.answer(target, command)

    options = {**COMES_BACK, "replacement_timeout": 20.0, "timeout": 0.8}
    with bounded(20), Peer(script) as peer, open_disk(peer, **options) as opened:

        def write() -> None:
            before = time.thread_time()
            opened.pwrite(payload(BLOCK), 3 * BLOCK)
            spent.append(time.thread_time() - before)

        writer = threading.Thread(target=write)
        writer.start()
        assert lost.wait(10)
        threading.Timer(1.2, over.set).start()
        assert opened.pread(BLOCK, 0) == pattern(0, 1)
        writer.join()
        assert opened.pread(BLOCK, 3 * BLOCK) == payload(BLOCK)
    assert disk.writes == [3]
    assert spent[0] < 0.2


@pytest.mark.parametrize("opcode", [0x12, 0x9E], ids=["inquiry", "read capacity"])
def test_a_link_that_is_lost_while_a_unit_is_being_opened(opcode: int) -> None:
    """Recovery asks the units in use who they are; one that is just being asked must not be waited for."""
    disk = Disk()

    def script(target: Connection) -> None:
        target.login()
        if target.number == 0:
            dies_at(opcode, disk)(target)
        disk.serve(target)

    with bounded(), Peer(script) as peer, connect(peer, **COMES_BACK) as session:
        assert session.unit(0).pread(BLOCK, 0) == pattern(0, 1)


def test_a_unit_that_cannot_be_reset_on_the_other_path_gets_nothing() -> None:
    """`failover_fence=lun_reset` against a target that answers no to the reset, each time."""
    disk = Disk()

    def script(target: Connection) -> None:
        if target.number == 0:
            target.login()
            dies_at(WRITE, disk)(target)
        target.security()
        target.operational(TargetPortalGroupTag=str(8 + target.number))
        while True:
            request = target.receive()
            if request.opcode == Op.TASK_MANAGEMENT:
                target.send(target.task_management_response(request, 5))
            elif request.opcode == Op.COMMAND:
                disk.answer(target, request)

    with Peer(script) as peer, pytest.raises(ConnectionLost) as caught:
        with connect(peer, **COMES_BACK, failover_fence="lun_reset") as session, bounded():
            session.unit(0).pwrite(payload(BLOCK), 0)
    assert caught.value.errno == errno.EIO
    assert peer.of(Op.TASK_MANAGEMENT)
    assert disk.writes == []


def test_a_target_that_dies_at_every_login_gives_up_in_time() -> None:
    """`replacement_timeout` is not prolonged by connections that come to nothing."""

    def script(target: Connection) -> None:
        target.login()
        Disk().serve(target, {READ: lambda here, _command: here.close()})

    with Peer(script) as peer, open_disk(peer, **COMES_BACK) as opened:
        with bounded(4), pytest.raises(ConnectionLost) as caught:
            opened.pread(BLOCK, 0)
    assert caught.value.errno == errno.EIO


def test_the_poisonous_command_dies_alone() -> None:
    """The target drops the connection whenever block 13 is read: that read fails after its replays, the others do
    not."""
    disk = Disk()

    def poisoned(target: Connection, command: Pdu) -> None:
        if place(command)[0] == 13:
            target.close()
        else:
            disk.answer(target, command)

    def script(target: Connection) -> None:
        target.login()
        disk.serve(target, {READ: poisoned})

    outcomes: dict[int, bytes | SwdError] = {}

    def read(opened: swd.Disk, lba: int) -> None:
        try:
            outcomes[lba] = opened.pread(BLOCK, lba * BLOCK)
        except SwdError as error:
            outcomes[lba] = error

    options = {**COMES_BACK, "replacement_timeout": 20.0}
    with bounded(10), Peer(script) as peer, open_disk(peer, **options) as opened:
        threads = [threading.Thread(target=read, args=(opened, lba)) for lba in range(10, 17)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        read(opened, 20)
    poison = outcomes.pop(13)
    assert isinstance(poison, ConnectionLost)
    assert poison.errno == errno.EIO
    assert outcomes == {lba: pattern(lba, 1) for lba in (10, 11, 12, 14, 15, 16, 20)}
    asked = [pdu for pdu in peer.of(Op.COMMAND) if pdu.cdb[0] == READ and place(pdu)[0] == 13]
    assert len(asked) == 6  # once, and five replays
