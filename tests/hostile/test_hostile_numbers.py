# SPDX-License-Identifier: Apache-2.0
"""StatSN, the command window, task tags and opcodes, in full-feature phase (RFC 7143 4.2.2)."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hostile_rig import bounded, connect, open_disk, refused, serving
from target.disk import BLOCK, READ, Disk, pattern
from target.script import Connection, Peer
from target.wire import RESERVED, Op, Pdu

from swd.errors import DeadlineExceeded, ProtocolViolation

Sender = Callable[[Connection, Pdu], bytes]

# What a ping is answered with.
WRONG: dict[str, tuple[Sender, str]] = {
    "statsn-skipped": (lambda t, p: t.nop_in(itt=p.itt, stat_sn=t.stat_sn + 1), "StatSN"),
    "statsn-repeated": (lambda t, p: t.nop_in(itt=p.itt, stat_sn=t.stat_sn - 1), "StatSN"),
    "statsn-far-away": (lambda t, p: t.nop_in(itt=p.itt, stat_sn=t.stat_sn ^ 0x80000000), "StatSN"),
    "statsn-wrong-in-a-message": (lambda t, p: t.async_message(255, stat_sn=1), "StatSN"),
    "another-tag": (lambda t, p: t.nop_in(itt=p.itt ^ 1), "not open"),
    "another-generation": (lambda t, p: t.nop_in(itt=p.itt + 0x1000), "not open"),
    "tag-0": (lambda t, p: t.nop_in(itt=0), "not open"),
    "other-data": (lambda t, p: t.nop_in(itt=p.itt, data=b"pong"), "does not carry what was sent"),
    "no-data": (lambda t, p: t.nop_in(itt=p.itt), "does not carry what was sent"),
    "a-scsi-response": (lambda t, p: t.response(p), "not open"),
    "a-logout-response": (lambda t, p: t.logout_response(p), "not open"),
    "a-task-management-response": (lambda t, p: t.task_management_response(p), "not open"),
    "a-login-response": (lambda t, p: t.raw(Op.LOGIN_RESPONSE, itt=p.itt), "unknown opcode 0x23"),
    "an-initiator-opcode": (lambda t, p: t.raw(Op.COMMAND, itt=p.itt), "unknown opcode 0x01"),
    "a-reserved-opcode": (lambda t, p: t.raw(0x2A, itt=p.itt), "unknown opcode 0x2a"),
    "a-vendor-opcode": (lambda t, p: t.raw(0x3E, itt=p.itt), "unknown opcode 0x3e"),
    "additional-headers": (lambda t, p: t.raw(Op.NOP_IN, ahs=255, itt=p.itt), "additional header"),
    "a-segment-of-16-MiB": (lambda t, p: t.raw(Op.NOP_IN, length=0xFFFFFF, itt=p.itt), "over the 1048576"),
    "a-reject-of-ours": (lambda t, p: t.reject(0x04), "protocol error"),
    "a-reject-for-an-unknown-reason": (lambda t, p: t.reject(0xEE), "reason 0xee"),
    "a-reject-without-a-header": (lambda t, p: t.reject(0x09, b""), "invalid PDU field"),
    "zeros": (lambda t, p: bytes(480), "unknown opcode 0x00"),
    "all-ones": (lambda t, p: b"\xff" * 480, "additional header"),
    "a-web-page": (lambda t, p: b"HTTP/1.1 200 OK\r\n" * 30, ""),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_answer_to_a_ping(mistake: str) -> None:
    sender, words = WRONG[mistake]

    def script(target: Connection) -> None:
        target.login()
        target.send(sender(target, target.receive()))

    with Peer(script) as peer, connect(peer) as session:
        with refused(ProtocolViolation, errno.EPROTO, words):
            session.ping(b"ping")
        assert not session.alive


def test_a_response_twice() -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(target.data_in(command, pattern(0, 1), status=0), target.response(command))

    with Peer(serving({READ: part})) as peer, open_disk(peer) as disk:
        with refused(ProtocolViolation, errno.EPROTO, "not open"):
            disk.pread(BLOCK, 0)
            disk.pread(BLOCK, 0)


def test_statsn_wraps_around() -> None:
    def script(target: Connection) -> None:
        target.stat_sn = 0xFFFFFFFC
        target.login()
        Disk().serve(target)

    with bounded(), Peer(script) as peer, open_disk(peer) as disk:
        for lba in range(32):
            assert disk.pread(BLOCK, lba * BLOCK) == pattern(lba, 1)


def test_cmdsn_wraps_around() -> None:
    def script(target: Connection) -> None:
        target.security()
        request = target.expect(Op.LOGIN)
        window = (0xFFFFFFF8, 0xFFFFFFF8 + 16)
        target.send(target.login_response(request, target.answers(request), tsih=1, window=window))
        Disk().serve(target)

    with bounded(), Peer(script) as peer, open_disk(peer) as disk:
        for lba in range(32):
            assert disk.pread(BLOCK, lba * BLOCK) == pattern(lba, 1)
    numbers = [pdu.cmd_sn for pdu in peer.of(Op.COMMAND)]
    assert numbers == [(0xFFFFFFF8 + at) & RESERVED for at in range(len(numbers))]


def test_a_window_that_never_opens() -> None:
    """The command never leaves, four times its deadline ends it; immediate commands may pass, nothing is aborted."""

    def script(target: Connection) -> None:
        target.window = 0
        target.login()
        Disk().serve(target)

    with Peer(script) as peer, connect(peer, timeout=0.1) as session:
        began = time.monotonic()
        with refused(DeadlineExceeded, errno.ETIMEDOUT, "not sent: the target's command window stayed shut"):
            session.execute(bytes(6), lun=0)
        assert 0.4 <= time.monotonic() - began < 3
        assert session.ping(b"still here") == b"still here"
    assert peer.of(Op.COMMAND) == []
    assert peer.of(Op.TASK_MANAGEMENT) == []


def test_a_window_that_opens_late_costs_the_command_no_time() -> None:
    """A deadline begins when the command is sent: it waits in the queue for longer than that, and ends well."""
    timeout = 0.3

    def script(target: Connection) -> None:
        target.window = 0
        target.login()
        threading.Event().wait(2 * timeout)
        target.window = 8
        target.send(target.nop_in())
        Disk().serve(target)

    with Peer(script) as peer, connect(peer, timeout=timeout) as session:
        began = time.monotonic()
        assert session.execute(bytes(6), lun=0).status == 0
        assert time.monotonic() - began > timeout


def test_a_window_of_one_is_never_overrun() -> None:
    """Sixteen reads at once, and no command before the answer to the one before."""
    open_now: list[int] = []

    def script(target: Connection) -> None:
        target.window = 1
        target.login()
        disk = Disk()

        def part(here: Connection, command: Pdu) -> None:
            open_now.append(command.itt)
            here.send(here.nop_in(ttt=5))  # its answer comes next, unless a command overtakes it
            assert here.receive().opcode == Op.NOP_OUT
            disk.answer(here, command)

        # ExpCmdSN counts what came; the window moves only when the answer says so.
        disk.serve(target, {READ: part})

    offsets = np.arange(16, dtype=np.int64) * BLOCK
    with bounded(), Peer(script) as peer, open_disk(peer) as disk:
        rows = disk.read_many(offsets, BLOCK)
    assert rows.tobytes() == pattern(0, 16)
    assert len(open_now) == 16


@pytest.mark.parametrize(
    ("exp", "last"),
    [(0, -5), (0, -(1 << 31)), (5, 3), (-100, -50)],
    ids=["ends-before-it-begins", "half-the-circle-away", "contradicts-itself", "of-long-ago"],
)
def test_a_window_that_cannot_be_is_ignored(exp: int, last: int) -> None:
    """RFC 7143 4.2.2.1: such a pair is ignored, and the window that was open stays open."""

    def script(target: Connection) -> None:
        target.login()
        honest = target._window
        Disk().serve(target, {READ: lambda t, c: odd(t, c, honest)})

    def odd(target: Connection, command: Pdu, honest: Callable[[], tuple[int, int]]) -> None:
        target._window = lambda: ((honest()[0] + exp) & RESERVED, (honest()[0] + last) & RESERVED)  # type: ignore[method-assign]
        Disk().answer(target, command)

    with bounded(), Peer(script) as peer, open_disk(peer) as disk:
        for lba in range(8):
            assert disk.pread(BLOCK, lba * BLOCK) == pattern(lba, 1)


def test_a_window_without_bounds_makes_nobody_send_without_bounds() -> None:
    """A target that opens 2^31 - 1 commands gets the queue depth that was asked for."""

    def script(target: Connection) -> None:
        target.window = (1 << 31) - 1
        target.login()
        Disk(blocks=256).serve(target)

    offsets = np.arange(256, dtype=np.int64) * BLOCK
    with bounded(), Peer(script) as peer, open_disk(peer) as disk:
        assert disk.read_many(offsets, BLOCK, queue_depth=8).tobytes() == pattern(0, 256)
