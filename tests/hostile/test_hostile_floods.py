# SPDX-License-Identifier: Apache-2.0
"""Floods: whatever a target sends without end costs bounded time and bounded memory."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hostile_rig import PATIENCE, bounded, connect, open_disk, refused, serving
from target.disk import BLOCK, READ, WRITE, Disk, pattern
from target.script import TARGET, Connection, Peer
from target.wire import Op, Pdu

import swd
from swd.errors import ConnectionLost, DeadlineExceeded, ProtocolViolation, SwdError

pytestmark = pytest.mark.usefixtures("impatient")

GROWTH = 24 << 20  # bytes of this process, the scripted target included


@contextmanager
def flat_memory(growth: int = GROWTH) -> Iterator[None]:
    before = high_water()
    yield
    assert high_water() - before < growth


def high_water() -> int:
    """Most bytes of memory that this process ever had."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))


def endless(make: Callable[[Connection], bytes], at_once: int = 100) -> Callable[[Connection, Pdu], object]:
    """Answers a command with this, again and again, until the initiator has had enough."""

    def part(target: Connection, _command: Pdu) -> None:
        while True:
            target.send(*(make(target) for _ in range(at_once)))

    return part


# What comes instead of an answer to a read, and how it may end: by its own mistake, or at the deadline.
FLOODS: dict[str, Callable[[Connection], bytes]] = {
    "pings-to-be-answered": lambda t: t.nop_in(ttt=7),
    "pings-to-be-answered-with-data": lambda t: t.nop_in(ttt=7, data=bytes(4096)),
    "pings-that-want-no-answer": lambda t: t.nop_in(),
    "pings-of-60-kib": lambda t: t.nop_in(data=bytes(60000)),
    "messages-of-the-vendor": lambda t: t.async_message(255, data=bytes(1000)),
    "messages-about-scsi": lambda t: t.async_message(0),
    "messages-nobody-knows": lambda t: t.async_message(99),
    "rejects": lambda t: t.reject(0x0C),
    "r2ts": lambda t: t.r2t(_NOTHING, 0, 512),
    "text-answers": lambda t: t.text_response(_NOTHING, b"TargetName=x\0" * 100),
    "scsi-responses": lambda t: t.response(_NOTHING),
    "data-in": lambda t: t.data_in(_NOTHING, bytes(4096)),
    "zeros": lambda _t: bytes(4800),
    "noise": lambda _t: bytes((at * 167 + 13) & 0xFF for at in range(4096)),
}
_NOTHING = Pdu(0, 0, False, 0, 0x1234, (0,) * 7, b"", b"")


@pytest.mark.parametrize("at_once", [1, 100])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_in_place_of_an_answer(flood: str, at_once: int) -> None:
    with Peer(serving({READ: endless(FLOODS[flood], at_once)})) as peer, flat_memory():
        with open_disk(peer, timeout=0.3) as disk, bounded(), pytest.raises(SwdError) as caught:
            disk.pread(BLOCK, 0)
    assert type(caught.value) in (ProtocolViolation, DeadlineExceeded)
    assert caught.value.errno in (errno.EPROTO, errno.ETIMEDOUT)


def test_thousands_of_pings_before_an_answer_are_answered_and_the_data_is_right() -> None:
    def part(target: Connection, command: Pdu) -> None:
        for number in range(2000):
            target.send(target.nop_in(ttt=number))
            answer = target.expect(Op.NOP_OUT)
            assert (answer.itt, answer.ttt) == (0xFFFFFFFF, number)
        Disk().answer(target, command)

    with bounded(), flat_memory(), Peer(serving({READ: part})) as peer, open_disk(peer) as disk:
        assert disk.pread(BLOCK, 0) == pattern(0, 1)


def endless_text(piece: bytes, *, continued: bool) -> Callable[[Connection], object]:
    def script(target: Connection) -> None:
        target.login()
        while True:
            request = target.expect(Op.TEXT)
            target.send(target.text_response(request, piece, final=False, continued=continued))

    return script


TEXTS = {
    "in-pieces-of-nothing": endless_text(b"", continued=True),
    "in-pieces-of-one-byte": endless_text(b"x", continued=True),
    "in-pieces-of-64-kib": endless_text(b"TargetName=" + b"x" * 65525, continued=True),
    "of-whole-answers-of-nothing": endless_text(b"", continued=False),
    "of-whole-answers": endless_text(b"TargetName=iqn.2026-01.org.example:x\0", continued=False),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_without_end(text: str) -> None:
    """Its budget ends it, or the deadline that the whole exchange shares."""
    with Peer(TEXTS[text]) as peer, flat_memory(96 << 20), bounded(), pytest.raises(SwdError) as caught:
        swd.discover(peer.portal, **PATIENCE)
    assert caught.value.errno in (errno.EPROTO, errno.ETIMEDOUT, errno.ENXIO)


def login_without_end(keys: bytes, *, continued: bool) -> Callable[[Connection], object]:
    def script(target: Connection) -> None:
        target.security()
        while True:
            request = target.expect(Op.LOGIN)
            target.send(target.login_response(request, keys, transit=False, continued=continued))

    return script


LOGINS = {
    "of-empty-answers": login_without_end(b"", continued=False),
    "of-pieces-of-nothing": login_without_end(b"", continued=True),
    "of-pieces-of-one-byte": login_without_end(b"x", continued=True),
    "of-pieces-of-60-kib": login_without_end(b"A" * 60000, continued=True),
}


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_without_end(login: str) -> None:
    with Peer(LOGINS[login]) as peer, flat_memory(), refused(ProtocolViolation, errno.EPROTO):
        connect(peer)
    assert len(peer.of(Op.LOGIN)) <= 70


def test_a_login_that_is_asked_new_keys_for_ever() -> None:
    def script(target: Connection) -> None:
        target.security()
        for number in range(1000):
            request = target.expect(Op.LOGIN)
            target.send(target.login_response(request, {f"X-org.example.k{number}": "1"}, transit=False))

    with Peer(script) as peer, refused(ProtocolViolation, errno.EPROTO, "rounds"):
        connect(peer)


def test_a_login_text_of_noise_before_the_target_is_known() -> None:
    def script(target: Connection) -> None:
        while True:
            target.send(bytes((at * 89 + 7) & 0xFF for at in range(65536)))

    with Peer(script) as peer, flat_memory(), bounded(), pytest.raises(SwdError) as caught:
        connect(peer)
    assert caught.value.errno in (errno.EPROTO, errno.ENXIO)


def test_data_in_one_byte_a_pdu() -> None:
    def part(target: Connection, command: Pdu) -> None:
        data = pattern(0, 8)
        for at in range(len(data)):
            target.send(target.data_in(command, data[at : at + 1], offset=at, sn=at, final=at == len(data) - 1))
        target.send(target.response(command))

    with bounded(), flat_memory(), Peer(serving({READ: part})) as peer, open_disk(peer) as disk:
        assert disk.pread(8 * BLOCK, 0) == pattern(0, 8)


def test_data_in_of_nothing_for_ever() -> None:
    """Each is well formed, none moves anything: the deadline ends it."""

    def part(target: Connection, command: Pdu) -> None:
        sn = 0
        while True:
            target.send(*(target.data_in(command, b"", sn=sn + at, final=False) for at in range(100)))
            sn += 100

    with Peer(serving({READ: part})) as peer, flat_memory(), open_disk(peer, timeout=0.3) as disk:
        with refused(DeadlineExceeded, errno.ETIMEDOUT):
            disk.pread(BLOCK, 0)


def test_a_session_byte_by_byte() -> None:
    """Everything the target says, login included, in segments of one byte."""

    def script(target: Connection) -> None:
        whole = target.send
        target.send = lambda *pdus: [whole(bytes([byte])) for byte in b"".join(pdus)]  # type: ignore[method-assign]
        target.login(HeaderDigest="CRC32C", DataDigest="CRC32C")
        Disk().serve(target)

    with bounded(), Peer(script) as peer, open_disk(peer) as disk:
        assert disk.pread(8 * BLOCK, 0) == pattern(0, 8)
        assert disk.pwrite(b"\x11" * BLOCK, 0) == BLOCK
        assert disk.pread(BLOCK, 0) == b"\x11" * BLOCK


def test_a_target_that_drips_through_login() -> None:
    """A byte now and then is no progress: the deadline is that of the whole login."""

    def script(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        for byte in target.login_response(request, {"AuthMethod": "None"}):
            target.send(bytes([byte]))
            target.pause(0.05)

    with Peer(script) as peer, bounded(2), pytest.raises(SwdError) as caught:
        connect(peer, login_timeout=0.5)
    assert caught.value.errno == errno.ENXIO


def test_a_target_that_stops_reading() -> None:
    """It asks for all of a write and takes none of it: the deadline ends it, though the socket is full."""
    size = 15 << 20

    def script(target: Connection) -> None:
        target.login(MaxBurstLength=str(size))
        target.send(target.r2t(target.expect(Op.COMMAND), 0, size))
        target.hold()

    cdb = bytes([WRITE, 0, 0, 0, 0, 0, 0, size // BLOCK >> 8, 0, 0])
    data = bytes(size)
    with Peer(script) as peer, flat_memory(2 * size + GROWTH), connect(peer, timeout=0.3) as session:
        with refused(DeadlineExceeded, errno.ETIMEDOUT):
            session.execute(cdb, lun=0, data_out=data)
        with refused(ConnectionLost, errno.EIO):
            session.ping()


def test_connections_that_are_accepted_and_dropped() -> None:
    with Peer(lambda target: target.close()) as peer, flat_memory():
        for _ in range(100):
            with pytest.raises(SwdError) as caught, bounded():
                swd.connect(peer.portal, TARGET, **PATIENCE)
            assert caught.value.errno == errno.ENXIO
