# SPDX-License-Identifier: Apache-2.0
"""Silence: in whatever state the target stops to speak, the operation ends by its deadline and says so."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import pytest
from hostile_rig import PATIENCE, bounded, connect, open_disk, refused, serving
from target.disk import BLOCK, INQUIRY, READ, WRITE, Disk, pattern
from target.script import TARGET, ChapPart, Connection, Peer
from target.wire import Op, Pdu

import swd
from swd.errors import BadDescriptor, DeadlineExceeded, NoSuchDevice, SwdError

pytestmark = pytest.mark.usefixtures("impatient")

SHORT = 0.4  # seconds
BOUND = 2.5  # a deadline, two rungs of the ladder, and a logout that nobody answers
PART = ChapPart()


def quiet(target: Connection) -> None:
    target.silent = True


def after_the_request(target: Connection) -> None:
    target.silent = True
    target.expect(Op.LOGIN)


def in_the_header(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "CHAP"})[:47])


def in_the_text(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "CHAP"})[:-1])


def after_the_method(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "CHAP"}))
    target.expect(Op.LOGIN)


def after_the_challenge(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "CHAP"}))
    target.challenge(PART)


def after_the_security_stage(target: Connection) -> None:
    target.security(PART)
    target.expect(Op.LOGIN)


LOGIN_STATES = {
    "at-once": quiet,
    "after-the-request": after_the_request,
    "in-a-header": in_the_header,
    "in-a-text": in_the_text,
    "after-the-method": after_the_method,
    "after-the-challenge": after_the_challenge,
    "after-the-security-stage": after_the_security_stage,
}


@pytest.mark.parametrize("state", LOGIN_STATES)
def test_silent_in_login(state: str) -> None:
    chap = swd.Chap("host1", PART.secret)
    with Peer(LOGIN_STATES[state]) as peer, bounded(BOUND), refused(NoSuchDevice, errno.ENXIO, "silent for 0.4 s"):
        connect(peer, chap=chap, login_timeout=SHORT)


def test_a_portal_where_nobody_accepts() -> None:
    """The backlog is full: the kernel drops the SYN, as a dead host does."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        portal = "{}:{}".format(*listener.getsockname())
        with bounded(BOUND), refused(NoSuchDevice, errno.ENXIO):
            swd.connect(portal, TARGET, **{**PATIENCE, "login_timeout": SHORT})


def test_silent_in_discovery() -> None:
    def script(target: Connection) -> None:
        target.login()
        target.silent = True

    with Peer(script) as peer, bounded(BOUND), pytest.raises(SwdError) as caught:
        swd.discover(peer.portal, **{**PATIENCE, "timeout": SHORT})
    assert caught.value.errno == errno.ENXIO


def silent_part(send: Callable[[Connection, Pdu], bytes]) -> Callable[[Connection, Pdu], object]:
    """Sends this much, then reads on and says nothing."""

    def part(target: Connection, command: Pdu) -> None:
        target.silent = True
        target.send(send(target, command))
        target.until_closed()

    return part


COMMAND_STATES: dict[str, tuple[int, Callable[[Connection, Pdu], bytes]]] = {
    "after-a-read": (READ, lambda t, c: b""),
    "in-a-header": (READ, lambda t, c: t.data_in(c, pattern(0, 1))[:20]),
    "in-the-data": (READ, lambda t, c: t.data_in(c, pattern(0, 1))[:100]),
    "one-byte-before-the-end": (READ, lambda t, c: t.data_in(c, pattern(0, 1), status=0)[:-1]),
    "between-data-and-status": (READ, lambda t, c: t.data_in(c, pattern(0, 1))),
    "in-the-sense": (READ, lambda t, c: t.response(c, 2, sense=bytes(18))[:-4]),
    "after-a-write": (WRITE, lambda t, c: b""),
    "after-an-r2t": (WRITE, lambda t, c: t.r2t(c, 0, BLOCK)),
    "in-an-r2t": (WRITE, lambda t, c: t.r2t(c, 0, BLOCK)[:40]),
}


@pytest.mark.parametrize("state", COMMAND_STATES)
def test_silent_in_a_command(state: str) -> None:
    opcode, send = COMMAND_STATES[state]
    buffer = bytearray(b"\xee" * BLOCK)
    with Peer(serving({opcode: silent_part(send)})) as peer, open_disk(peer, timeout=SHORT) as disk:
        with bounded(BOUND), refused(DeadlineExceeded, errno.ETIMEDOUT, "no answer within 0.4 s"):
            disk.pread_into(buffer, 0) if opcode == READ else disk.pwrite(buffer, 0)
        with bounded(BOUND), pytest.raises(SwdError) as caught:  # nothing is half alive
            disk.pread_into(buffer, 0)
        assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)


def test_silent_when_the_unit_is_opened() -> None:
    with Peer(serving({INQUIRY: silent_part(lambda t, c: b"")})) as peer, bounded(BOUND):
        with refused(DeadlineExceeded, errno.ETIMEDOUT):
            open_disk(peer, timeout=SHORT)


def test_silent_to_a_ping() -> None:
    def script(target: Connection) -> None:
        target.login()
        target.silent = True

    with Peer(script) as peer, bounded(BOUND), connect(peer, timeout=SHORT) as session:
        with refused(DeadlineExceeded, errno.ETIMEDOUT):
            session.ping(b"hello")


def test_silent_to_a_logout() -> None:
    def script(target: Connection) -> None:
        target.login()
        target.silent = True

    with Peer(script) as peer:
        session = connect(peer)
        with bounded(BOUND):
            session.close()
        assert not session.alive
    assert len(peer.of(Op.LOGOUT)) == 1


def test_silent_to_one_command_of_many() -> None:
    """A task that is never answered is aborted; the others, and the session, go on."""
    disk = Disk()

    def part(target: Connection, command: Pdu) -> None:
        if command.cdb[5] != 3:
            disk.answer(target, command)

    with Peer(serving({READ: part}, disk)) as peer, open_disk(peer, timeout=SHORT) as opened:
        with bounded(BOUND), refused(DeadlineExceeded, errno.ETIMEDOUT):
            opened.pread(BLOCK, 3 * BLOCK)
        assert opened.pread(BLOCK, 4 * BLOCK) == pattern(4, 1)
    assert len(peer.of(Op.TASK_MANAGEMENT)) == 1
    assert peer.connections == 1


def test_silent_when_closed_from_another_thread() -> None:
    import threading

    def script(target: Connection) -> None:
        target.login()
        target.silent = True
        target.receive()
        threading.Thread(target=lambda: session.close(force=True)).start()

    with Peer(script) as peer:
        session = connect(peer, timeout=30)
        with bounded(BOUND), refused(BadDescriptor, errno.EBADF):
            session.ping()


def test_the_descriptor_is_free_afterwards() -> None:
    with Peer(after_the_request) as peer:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            with refused(NoSuchDevice, errno.ENXIO):
                connect(peer, login_timeout=0.1)
        # The peer's own end of a connection lives as long as its script.
        assert len(os.listdir("/proc/self/fd")) <= before + 1
