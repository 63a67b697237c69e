# SPDX-License-Identifier: Apache-2.0
"""Data-In: nothing is placed but the next bytes of a live read (RFC 7143 11.7), whole or byte by byte."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hostile_rig import bounded, connect, open_disk, read_against, refused, serving
from target.disk import BLOCK, READ, Disk, pattern, reply
from target.script import Connection, Peer
from target.wire import Pdu

from swd.errors import DigestMismatch, ProtocolViolation, ScsiError

SIZE = 8 * BLOCK
DATA = pattern(0, 8)
HALF = SIZE // 2

Sender = Callable[[Connection, Pdu], bytes]

# What is sent for a read of SIZE bytes -> words of the refusal.
WRONG: dict[str, tuple[Sender, str]] = {
    "longer-than-asked": (lambda t, c: t.data_in(c, DATA + bytes(4), status=0), "transfer of 4096"),
    "one-byte-too-many-in-the-second": (
        lambda t, c: (
            t.data_in(c, DATA[:HALF], final=False) + t.data_in(c, bytes(HALF + 1), offset=HALF, sn=1, status=0)
        ),
        "transfer of 4096",
    ),
    "offset-beyond-the-end": (lambda t, c: t.data_in(c, DATA[:HALF], offset=SIZE), "expected offset 0"),
    "offset-wraps-around": (lambda t, c: t.data_in(c, DATA[:HALF], offset=0xFFFFFF00), "expected offset 0"),
    "offset-leaves-a-hole": (lambda t, c: t.data_in(c, DATA[:HALF], offset=HALF, status=0), "expected offset 0"),
    "offset-goes-back": (
        lambda t, c: t.data_in(c, DATA[:HALF], final=False) + t.data_in(c, DATA[HALF:], sn=1, status=0),
        "expected offset 2048",
    ),
    "datasn-begins-with-1": (lambda t, c: t.data_in(c, DATA, sn=1, status=0), "DataSN is 1"),
    "datasn-repeated": (
        lambda t, c: t.data_in(c, DATA[:HALF], final=False) + t.data_in(c, DATA[HALF:], offset=HALF, status=0),
        "DataSN is 0",
    ),
    "datasn-skipped": (
        lambda t, c: t.data_in(c, DATA[:HALF], final=False) + t.data_in(c, DATA[HALF:], offset=HALF, sn=2, status=0),
        "DataSN is 2",
    ),
    "unknown-tag": (lambda t, c: t.data_in(c, DATA, itt=c.itt ^ 0x1000, status=0), "not open"),
    "tag-of-a-slot-that-is-not-there": (lambda t, c: t.data_in(c, DATA, itt=c.itt | 0xFFF), "not open"),
    "reserved-tag": (lambda t, c: t.data_in(c, DATA, itt=0xFFFFFFFF), "not open"),
    "after-the-end": (
        lambda t, c: t.data_in(c, DATA, status=0) + t.data_in(c, bytes(SIZE), sn=1, status=0),
        "",
    ),
    "asks-for-a-dataack": (lambda t, c: t.data_in(c, DATA, flags=0x40), "DataACK"),
    "status-without-final": (lambda t, c: t.data_in(c, DATA, final=False, status=0), "carries status"),
    "status-check-condition": (lambda t, c: t.data_in(c, DATA, status=2), "carries status"),
    "status-with-wrong-statsn": (lambda t, c: t.data_in(c, DATA, status=0, stat_sn=5), "StatSN is 5"),
    "segment-longer-than-agreed": (lambda t, c: t.raw(0x25, length=(1 << 20) + 4, itt=c.itt), "over the 1048576"),
    "segment-of-16-MiB": (lambda t, c: t.raw(0x25, length=0xFFFFFF, itt=c.itt), "over the 1048576"),
    "good-after-half": (lambda t, c: t.data_in(c, DATA[:HALF], status=0), "GOOD status after 2048"),
    "good-after-nothing": (lambda t, c: t.response(c), "GOOD status after 0"),
    "empty-with-status": (lambda t, c: t.data_in(c, b"", status=0), "GOOD status after 0"),
    "residual-lies": (lambda t, c: t.data_in(c, DATA[:HALF], status=0, residual=100), "residual count says 100"),
    "additional-header": (lambda t, c: t.raw(0x25, ahs=1, itt=c.itt), "additional header"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_data_in_ends_the_session(mistake: str) -> None:
    sender, words = WRONG[mistake]

    def part(target: Connection, command: Pdu) -> None:
        target.send(sender(target, command))

    if mistake == "after-the-end":  # the read itself was right; whoever comes next learns of it
        with Peer(serving({READ: part})) as peer, open_disk(peer) as disk, refused(ProtocolViolation, errno.EPROTO):
            assert disk.pread(SIZE, 0) == DATA
            disk.pread(SIZE, 0)
        return
    with refused(ProtocolViolation, errno.EPROTO, words):
        read_against(part)


RIGHT: dict[str, Sender] = {
    "status-in-a-response": lambda t, c: t.data_in(c, DATA) + t.response(c),
    "zero-length-with-status-at-the-end": (
        lambda t, c: t.data_in(c, DATA, final=False) + t.data_in(c, b"", offset=SIZE, sn=1, status=0)
    ),
    "zero-length-in-between": (
        lambda t, c: (
            t.data_in(c, DATA[:HALF], final=False)
            + t.data_in(c, b"", offset=HALF, sn=1, final=False)
            + t.data_in(c, DATA[HALF:], offset=HALF, sn=2, status=0)
        )
    ),
    "pieces-that-are-no-blocks": (
        lambda t, c: (
            b"".join(
                t.data_in(c, DATA[at : at + 100], offset=at, sn=at // 100, final=at + 100 >= SIZE)
                for at in range(0, SIZE, 100)
            )
            + t.response(c)
        )
    ),
}
DIGESTS = {
    "no-digests": {},
    "header-digest": {"HeaderDigest": "CRC32C"},
    "data-digest": {"DataDigest": "CRC32C"},
    "both-digests": {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"},
}


@pytest.mark.parametrize("digests", DIGESTS)
@pytest.mark.parametrize("way", RIGHT)
def test_a_strange_but_right_way_gives_the_data_byte_by_byte(way: str, digests: str) -> None:
    """The boundary of each receive falls on every byte, trailers and digests included."""
    with bounded():
        data = read_against(lambda t, c: t.send_slowly(RIGHT[way](t, c)), **DIGESTS[digests])
    assert data == DATA


@pytest.mark.parametrize("digests", DIGESTS)
def test_every_split_point(digests: str) -> None:
    """One read for each way of cutting its answer in two."""

    def part(target: Connection, command: Pdu) -> None:
        answer = target.data_in(command, pattern(0, 1)[:BLOCK], status=0)
        cut = next(cuts) % len(answer)
        target.send(answer[:cut])
        target.send(answer[cut:])

    cuts = iter(range(1, 2000))
    with bounded(), Peer(serving({READ: part}, **DIGESTS[digests])) as peer, open_disk(peer) as disk:
        for _ in range(48 + 4 + BLOCK + 4):
            assert disk.pread(BLOCK, 0) == pattern(0, 1)


def corrupted(target: Connection, pdu: bytes, at: int) -> None:
    target.send(pdu[:at] + bytes([pdu[at] ^ 1]) + pdu[at + 1 :])


@pytest.mark.parametrize(
    ("at", "words"),
    [(20, "header digest"), (49, "header digest"), (60, "data digest"), (-1, "data digest")],
    ids=["a-header-bit", "a-bit-of-the-header-digest", "a-data-bit", "a-bit-of-the-data-digest"],
)
def test_a_digest_that_does_not_match(at: int, words: str) -> None:
    def part(target: Connection, command: Pdu) -> None:
        pdu = target.data_in(command, DATA, status=0)
        corrupted(target, pdu, at % len(pdu))

    with refused(DigestMismatch, errno.EBADMSG, words):
        read_against(part, HeaderDigest="CRC32C", DataDigest="CRC32C")


def test_a_data_digest_that_is_late_is_no_closed_connection() -> None:
    """All but the digest comes; the ping in between shows that the initiator waits on, and is answered after it."""

    def part(target: Connection, command: Pdu) -> None:
        pdu = target.data_in(command, DATA, status=0)
        target.send(pdu[:-4])
        target.send_slowly(pdu[-4:])

    with bounded():
        assert read_against(part, DataDigest="CRC32C") == DATA


def test_data_for_a_write_is_refused() -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(target.data_in(command, DATA))

    with Peer(serving({0x2A: part})) as peer, open_disk(peer) as disk:
        with refused(ProtocolViolation, errno.EPROTO, "reads nothing"):
            disk.pwrite(DATA, 0)


def test_data_for_a_ping_is_refused() -> None:
    def script(target: Connection) -> None:
        target.login()
        ping = target.receive()
        target.send(target.data_in(ping, DATA))

    with Peer(script) as peer, connect(peer) as session, refused(ProtocolViolation, errno.EPROTO, "not open"):
        session.ping(b"x")


def test_a_transfer_that_fell_short_is_not_taken_for_data() -> None:
    with refused(ScsiError, errno.EIO, "2048 bytes too few"):
        read_against(lambda t, c: reply(t, c, DATA[:HALF]))


def test_data_of_an_aborted_task_goes_nowhere() -> None:
    """The deadline passes, the task is aborted; what still comes for it is read past, and the next read is right."""
    disk = Disk()
    late: list[Pdu] = []

    def part(target: Connection, command: Pdu) -> None:
        if not late:
            late.append(command)
            target.send(target.data_in(command, DATA[:HALF], final=False))
            ping = target.receive()
            target.send(target.nop_in(itt=ping.itt))
            abort = target.receive()
            target.send(target.data_in(command, b"\xff" * HALF, offset=HALF, sn=1))
            target.send(target.task_management_response(abort))
            return
        disk.answer(target, command)

    buffer = bytearray(b"\xee" * SIZE)
    with Peer(serving({READ: part}, disk)) as peer, open_disk(peer, timeout=0.5) as opened:
        with bounded(), pytest.raises(OSError, match="no answer within") as caught:
            opened.pread_into(buffer, 0)
        assert caught.value.errno == errno.ETIMEDOUT
        assert buffer[HALF:] == b"\xee" * HALF
        assert opened.pread(SIZE, 0) == DATA
