# SPDX-License-Identifier: Apache-2.0
"""Streams written by hand, each of which breaks one rule."""

from __future__ import annotations

from collections.abc import Callable

from engine_hand import Hand
from model import wire
from model.wire import FINAL, RESERVED, STATUS, Pdu

Case = Callable[[], tuple[Hand, list[Pdu]]]  # an engine, and the PDUs that it must refuse
Writing = Callable[[Hand, int], list[Pdu]]  # what is written, given the tag of an open command
DIGESTS = {"header_digest": True, "data_digest": True}
LONG = bytes(range(256)) * 4


def spoiled(made: Pdu, which: str) -> Pdu:
    made.spoil = which
    return made


def with_ahs(made: Pdu) -> Pdu:
    made.bhs[4] = 2
    return made


def carrying(made: Pdu, data: bytes) -> Pdu:
    made.data = data
    made.bhs[5:8] = len(data).to_bytes(3, "big")
    return made


def of_a_read(write: Writing, **agreed: object) -> Case:
    """A case with one open read of 1024 bytes."""

    def case() -> tuple[Hand, list[Pdu]]:
        hand = Hand(**agreed)
        return hand, write(hand, hand.read(1024))

    return case


def of_a_write(write: Writing, length: int = 8192, **agreed: object) -> Case:
    """A case with one open write of 8192 bytes of which 1024 went with the command."""

    def case() -> tuple[Hand, list[Pdu]]:
        hand = Hand(**agreed)
        itt = hand.write(bytes(length))
        hand.sent()
        return hand, write(hand, itt)

    return case


def flood_of_pings(hand: Hand, itt: int) -> list[Pdu]:
    return [hand.ping(ttt) for ttt in range(33)]


def flood_of_events(hand: Hand, itt: int) -> list[Pdu]:
    return [hand.made(wire.ASYNC, status=True, itt=RESERVED) for _ in range(65)]


def too_many_r2ts(hand: Hand, itt: int) -> list[Pdu]:
    return [hand.r2t(itt, 1024 + n, 1, n) for n in range(3)]


# What the target does, and some of the words that the error then has.
CASES: dict[str, tuple[Case, str]] = {
    "header digest": (
        of_a_read(lambda hand, itt: [spoiled(hand.data_in(itt, LONG), "header")], **DIGESTS),
        "the header digest is",
    ),
    "data digest": (
        of_a_read(lambda hand, itt: [spoiled(hand.data_in(itt, LONG), "data")], **DIGESTS),
        "the data digest is",
    ),
    "data digest of a sense": (
        of_a_read(lambda hand, itt: [spoiled(hand.response(itt, data=LONG, byte3=2), "data")], **DIGESTS),
        "the data digest is",
    ),
    "opcode unknown": (of_a_read(lambda hand, itt: [hand.made(0x2A, status=False)]), "unknown opcode 0x2a"),
    "opcode of a login": (of_a_read(lambda hand, itt: [hand.made(0x23, status=False)]), "unknown opcode 0x23"),
    "opcode of an initiator": (of_a_read(lambda hand, itt: [hand.made(0x01, status=False)]), "unknown opcode 0x01"),
    "additional header": (of_a_read(lambda hand, itt: [with_ahs(hand.response(itt))]), "additional header"),
    "segment too long": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, bytes(1025))]),
        "segment of 1025 bytes is over the 1024",
    ),
    "Data-In for nobody": (of_a_read(lambda hand, itt: [hand.data_in(itt ^ 1, LONG)]), "which is not open"),
    "response for nobody": (of_a_read(lambda hand, itt: [hand.response(itt + 4096)]), "which is not open"),
    "R2T for nobody": (of_a_write(lambda hand, itt: [hand.r2t(RESERVED, 1024, 1)]), "which is not open"),
    "response twice": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG, status=True), hand.response(itt)]),
        "which is not open",
    ),
    "answer to no ping": (of_a_read(lambda hand, itt: [hand.ping(itt=itt)]), "opcode 0x20 names task"),
    "text for a command": (
        of_a_read(lambda hand, itt: [hand.made(wire.TEXT_ANSWER, status=True, itt=itt)]),
        "opcode 0x24 names task",
    ),
    "StatSN lost": (of_a_read(lambda hand, itt: [hand.response(itt, n24=101)]), "StatSN is 101, expected 100"),
    "StatSN repeated": (of_a_read(lambda hand, itt: [hand.response(itt, n24=99)]), "StatSN is 99, expected 100"),
    "StatSN of an event": (
        of_a_read(lambda hand, itt: [hand.made(wire.ASYNC, status=True, itt=RESERVED, n24=9)]),
        "StatSN is 9",
    ),
    "DataSN ahead": (of_a_read(lambda hand, itt: [hand.data_in(itt, LONG, sn=1)]), "DataSN is 1, expected 0"),
    "DataSN repeated": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, b"1234"), hand.data_in(itt, b"1234", 4)]),
        "DataSN is 0, expected 1",
    ),
    "offset ahead": (of_a_read(lambda hand, itt: [hand.data_in(itt, b"1234", 4)]), "offset 4, expected offset 0"),
    "offset behind": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG[:8]), hand.data_in(itt, b"1234", 4, 1)]),
        "expected offset 8",
    ),
    "offset at the top": (of_a_read(lambda hand, itt: [hand.data_in(itt, b"1234", 0xFFFFFFFC)]), "offset 4294967292"),
    "data too long": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG), hand.data_in(itt, b"1", 1024, 1)]),
        "byte 1025 of a transfer of 1024",
    ),
    "data for a write": (of_a_write(lambda hand, itt: [hand.data_in(itt, b"1234")]), "which reads nothing"),
    "bad status with data": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG, status=True, byte3=2)]),
        "carries status 0x02",
    ),
    "status without F": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG, flags=STATUS)]),
        "status 0x00 with flags 0x01",
    ),
    "DataACK": (of_a_read(lambda hand, itt: [hand.data_in(itt, LONG, flags=FINAL | wire.ACKNOWLEDGE)]), "DataACK"),
    "R2T for a read": (of_a_read(lambda hand, itt: [hand.r2t(itt, 0, 512)]), "which writes nothing"),
    "R2TSN ahead": (of_a_write(lambda hand, itt: [hand.r2t(itt, 1024, 512, sn=1)]), "R2TSN is 1, expected 0"),
    "R2T of nothing": (of_a_write(lambda hand, itt: [hand.r2t(itt, 1024, 0)]), "bytes 1024 to 1024"),
    "R2T past the end": (of_a_write(lambda hand, itt: [hand.r2t(itt, 8000, 193)]), "bytes 8000 to 8193"),
    "R2T that wraps": (
        of_a_write(lambda hand, itt: [hand.r2t(itt, 0xFFFFFE00, 1024)]),
        "bytes 4294966784 to 4294967808",
    ),
    "R2T for what went with the command": (of_a_write(lambda hand, itt: [hand.r2t(itt, 1023, 512)]), "bytes 1023"),
    "R2T again": (
        of_a_write(lambda hand, itt: [hand.r2t(itt, 1024, 512), hand.r2t(itt, 1535, 512, 1)], max_outstanding_r2t=4),
        "bytes 1535 to 2047",
    ),
    "R2T over the burst": (of_a_write(lambda hand, itt: [hand.r2t(itt, 1024, 4097)]), "MaxBurstLength is 4096"),
    "R2Ts over the agreed number": (of_a_write(too_many_r2ts, max_outstanding_r2t=2), "more than 2 R2Ts"),
    "R2T without tag": (
        of_a_write(lambda hand, itt: [hand.r2t(itt, 1024, 512, ttt=RESERVED)]),
        "without a Target Transfer",
    ),
    "R2T with data": (
        of_a_write(lambda hand, itt: [carrying(hand.r2t(itt, 1024, 512), b"1234")]),
        "opcode 0x31 with a data segment of 4",
    ),
    "residual too small": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG[:512]), hand.response(itt, missing=511)]),
        "says 511 bytes are missing, but 512",
    ),
    "residual of a whole read": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG), hand.response(itt, missing=1)]),
        "says 1 bytes are missing, but 0",
    ),
    "short read": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG[:512]), hand.response(itt)]),
        "GOOD status after 512 of 1024",
    ),
    "short read, collapsed": (
        of_a_read(lambda hand, itt: [hand.data_in(itt, LONG[:512], status=True)]),
        "GOOD status after 512 of 1024",
    ),
    "GOOD without data": (of_a_read(lambda hand, itt: [hand.response(itt)]), "GOOD status after 0 of 1024"),
    "short write": (
        of_a_write(lambda hand, itt: [hand.response(itt)]),
        "write of 8192 bytes of which the target took 1024",
    ),
    "short write, residual too small": (of_a_write(lambda hand, itt: [hand.response(itt, missing=7167)]), "took 1024"),
    "flood of pings": (of_a_read(flood_of_pings), "more than 32 PDUs of opcode 0x20"),
    "flood of events": (of_a_read(flood_of_events), "more than 64 PDUs of opcode 0x32"),
}
