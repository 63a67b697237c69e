# SPDX-License-Identifier: Apache-2.0
"""R2T: within the write, not empty, no longer than a burst, in order, no more than agreed (RFC 7143 11.8)."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hostile_rig import bounded, connect, open_disk, payload, read_against, refused, serving, write_against
from target.disk import BLOCK, WRITE
from target.script import Connection, Peer
from target.wire import RESERVED, Op, Pdu

from swd.errors import ConnectionLost, ProtocolViolation

SIZE = 8 * BLOCK
BURST = 2048

Sender = Callable[[Connection, Pdu], bytes]

# What is sent for a write of SIZE bytes with MaxBurstLength=BURST, InitialR2T=Yes, ImmediateData=No.
WRONG: dict[str, tuple[Sender, str]] = {
    "of-nothing": (lambda t, c: t.r2t(c, 0, 0), "outside what is left"),
    "offset-at-the-end": (lambda t, c: t.r2t(c, SIZE, 1), "outside what is left"),
    "beyond-the-end": (lambda t, c: t.r2t(c, SIZE - 512, 513), "outside what is left"),
    "offset-plus-length-wraps-around": (lambda t, c: t.r2t(c, 0xFFFFFF00, 0x200), "outside what is left"),
    "length-wraps-around": (lambda t, c: t.r2t(c, 512, 0xFFFFFE00), "outside what is left"),
    "longer-than-a-burst": (lambda t, c: t.r2t(c, 0, BURST + 1), "MaxBurstLength is 2048"),
    "all-at-once": (lambda t, c: t.r2t(c, 0, SIZE), "MaxBurstLength is 2048"),
    "r2tsn-begins-with-1": (lambda t, c: t.r2t(c, 0, BURST, sn=1), "R2TSN is 1"),
    "r2tsn-repeated": (lambda t, c: t.r2t(c, 0, 4) + t.r2t(c, 4, 4), "R2TSN is 0"),
    "one-too-many": (lambda t, c: t.r2t(c, 0, 4) + t.r2t(c, 4, 4, sn=1, ttt=2), "more than 1 R2Ts"),
    "without-a-tag": (lambda t, c: t.r2t(c, 0, BURST, ttt=RESERVED), "without a Target Transfer Tag"),
    "for-an-unknown-task": (lambda t, c: t.r2t(c, 0, BURST, itt=c.itt ^ 0x1000), "not open"),
    "for-no-task": (lambda t, c: t.r2t(c, 0, BURST, itt=RESERVED), "not open"),
    "with-data": (lambda t, c: t.r2t(c, 0, BURST, data=b"data"), "data segment of 4"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_r2t_ends_the_session(mistake: str) -> None:
    sender, words = WRONG[mistake]
    with refused(ProtocolViolation, errno.EPROTO, words):
        write_against(lambda t, c: t.send(sender(t, c)), SIZE, MaxBurstLength=str(BURST))


def test_a_byte_that_was_sent_is_not_sent_again() -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(target.r2t(command, 0, BURST))
        target.expect(Op.DATA_OUT)
        target.send(target.r2t(command, BURST - 4, BURST, sn=1, ttt=2))

    with refused(ProtocolViolation, errno.EPROTO, "outside what is left"):
        write_against(part, SIZE, MaxBurstLength=str(BURST))


def test_an_r2t_for_a_read() -> None:
    with refused(ProtocolViolation, errno.EPROTO, "writes nothing"):
        read_against(lambda t, c: t.send(t.r2t(c, 0, BLOCK)))


def test_an_r2t_for_a_ping() -> None:
    def script(target: Connection) -> None:
        target.login()
        target.send(target.r2t(target.receive(), 0, 4))

    with Peer(script) as peer, connect(peer) as session, refused(ProtocolViolation, errno.EPROTO, "not open"):
        session.ping(b"data")


def test_an_r2t_after_the_end() -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(target.r2t(command, 0, BURST))
        target.expect(Op.DATA_OUT)
        target.send(target.response(command, 2, residual=SIZE - BURST), target.r2t(command, BURST, BURST, sn=1))

    with Peer(serving({WRITE: part}, MaxBurstLength=str(BURST))) as peer, open_disk(peer) as disk:
        with pytest.raises(OSError, match="ended with"), bounded():
            disk.pwrite(payload(SIZE), 0)
        with refused(ProtocolViolation, errno.EPROTO, "not open"):
            disk.pwrite(payload(SIZE), 0)
    assert len(peer.of(Op.DATA_OUT)) == 1


@pytest.mark.parametrize("segment", [512, 1000, 4096])
@pytest.mark.parametrize("burst", [512, 516, 1536, 4096])
def test_bursts_of_any_size_carry_the_right_bytes(burst: int, segment: int) -> None:
    """Offsets, DataSN per burst, F on the last PDU of each, never more than a segment: put together it is the data."""
    taken = bytearray(SIZE)

    def part(target: Connection, command: Pdu) -> None:
        for number, offset in enumerate(range(0, SIZE, burst)):
            length = min(burst, SIZE - offset)
            target.send(target.r2t(command, offset, length, sn=number, ttt=number + 9))
            take(target, offset, length, number + 9, segment, taken)
        target.send(target.response(command))

    with bounded():
        write_against(part, SIZE, MaxBurstLength=str(burst), MaxRecvDataSegmentLength=str(segment))
    assert taken == payload(SIZE)


def take(target: Connection, offset: int, length: int, ttt: int, segment: int, into: bytearray) -> None:
    end, data_sn = offset + length, 0
    while offset < end:
        pdu = target.expect(Op.DATA_OUT)
        assert (pdu.offset, pdu.data_sn, pdu.ttt) == (offset, data_sn, ttt)
        assert 0 < len(pdu.data) <= segment
        into[offset : offset + len(pdu.data)] = pdu.data
        offset += len(pdu.data)
        data_sn += 1
        assert pdu.final == (offset == end)


def test_an_r2t_before_the_unsolicited_burst_has_ended_is_queued_behind_it() -> None:
    """64 MiB of unsolicited data would never fit, 64 KiB in segments of 512 bytes are still under way."""
    size, first = 256 * BLOCK, 65536
    taken = bytearray(size)

    def part(target: Connection, command: Pdu) -> None:
        assert not command.final
        target.send(target.r2t(command, first, size - first, ttt=3))
        take(target, 0, first, RESERVED, 512, taken)
        take(target, first, size - first, 3, 512, taken)
        target.send(target.response(command))

    answers = {"InitialR2T": "No", "MaxBurstLength": "65536", "FirstBurstLength": str(first)}
    with bounded():
        write_against(part, size, MaxRecvDataSegmentLength="512", **answers)
    assert taken == payload(size)


def test_many_outstanding_r2ts_are_served_in_their_order() -> None:
    taken = bytearray(SIZE)

    def part(target: Connection, command: Pdu) -> None:
        spans = [(number, number * 512) for number in range(8)]
        target.send(*(target.r2t(command, offset, 512, sn=number, ttt=number) for number, offset in spans))
        for number, offset in spans:
            take(target, offset, 512, number, 512, taken)
        target.send(target.response(command))

    with bounded():
        write_against(part, SIZE, MaxOutstandingR2T="8")
    assert taken == payload(SIZE)


def test_the_smaller_side_limits_outstanding_r2ts() -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(*(target.r2t(command, 4 * number, 4, sn=number, ttt=number) for number in range(3)))

    with refused(ProtocolViolation, errno.EPROTO, "more than 2 R2Ts"):
        write_against(part, SIZE, options={"max_outstanding_r2t": 2}, MaxOutstandingR2T="64")


def test_data_out_is_built_lazily() -> None:
    """One R2T for 15 MiB in segments of 512 bytes: when the first of them comes, the others do not exist yet."""
    size = 15 << 20
    grown: list[int] = []

    def script(target: Connection) -> None:
        target.login(MaxBurstLength=str(size), MaxRecvDataSegmentLength="512")
        command = target.expect(Op.COMMAND)
        before = resident()
        target.send(target.r2t(command, 0, size))
        assert target.expect(Op.DATA_OUT).data == bytes(512)
        grown.append(resident() - before)
        target.close()

    cdb = bytes([WRITE, 0, 0, 0, 0, 0, 0, 0x78, 0, 0])
    with Peer(script) as peer, connect(peer) as session, refused(ConnectionLost, errno.EIO):
        session.execute(cdb, lun=0, data_out=bytes(size))
    assert grown[0] < 4 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def test_good_for_a_write_of_which_nothing_was_taken() -> None:
    with refused(ProtocolViolation, errno.EPROTO, "target took 0"):
        write_against(lambda t, c: t.send(t.response(c)), SIZE)


def test_good_for_a_write_of_which_half_was_taken() -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(target.r2t(command, 0, SIZE // 2))
        target.expect(Op.DATA_OUT)
        target.send(target.response(command))

    with refused(ProtocolViolation, errno.EPROTO, "target took 2048"):
        write_against(part, SIZE)
