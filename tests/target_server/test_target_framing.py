# SPDX-License-Identifier: Apache-2.0
"""Inbox and Outbox: any split of any stream gives the same PDUs, digests are checked, a send may end anywhere."""

from __future__ import annotations

from collections import Counter

import crcmod.predefined
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.errors import DigestMismatch, ProtocolViolation
from swd.proto import pdu
from swd.target.framing import Inbox, Outbox

CRC = crcmod.predefined.mkPredefinedCrcFun("crc-32c")
LIMIT = 1024


def stream(bodies: list[bytes], *, header: bool, data: bool) -> bytes:
    """PDUs as an outbox makes them, drained in one go."""
    outbox = Outbox(Counter())
    outbox.header_digest, outbox.data_digest = header, data
    for number, body in enumerate(bodies):
        outbox.put(pdu.NopIn(itt=number), body)
    out = b""
    while outbox.size:
        pending = b"".join(outbox.pending())
        out += pending
        outbox.sent(len(pending))
    return out


def read(inbox: Inbox, data: bytes, cuts: list[int]) -> list[tuple[int, bytes]]:
    """What the inbox makes of `data` when it arrives in pieces."""
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        piece = data[start:end]
        while piece:
            space = inbox.space()
            taken = min(len(space), len(piece))
            space[:taken] = piece[:taken]
            inbox.filled(taken)
            piece = piece[taken:]
            found += [(int.from_bytes(frame.bhs[16:20], "big"), bytes(frame.data)) for frame in inbox.frames()]
    return found


def inbox(*, header: bool, data: bool) -> Inbox:
    box = Inbox(LIMIT, Counter())
    box.header_digest, box.data_digest = header, data
    return box


@given(
    bodies=st.lists(st.binary(max_size=LIMIT), max_size=8),
    header=st.booleans(),
    data=st.booleans(),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_any_split_gives_the_same_pdus(bodies: list[bytes], header: bool, data: bool, random: object) -> None:
    raw = stream(bodies, header=header, data=data)
    cuts = sorted(random.choices(range(len(raw) + 1), k=6))  # type: ignore[attr-defined]
    assert read(inbox(header=header, data=data), raw, cuts) == list(enumerate(bodies))


def test_one_byte_at_a_time() -> None:
    bodies = [b"", b"x", b"abcd" * 100]
    raw = stream(bodies, header=True, data=True)
    counts: Counter[str] = Counter()
    box = Inbox(LIMIT, counts)
    box.header_digest = box.data_digest = True
    assert read(box, raw, list(range(1, len(raw)))) == list(enumerate(bodies))
    assert (counts["header_digests_checked"], counts["data_digests_checked"], counts["bytes_in"]) == (3, 2, len(raw))


def test_digests_are_those_of_another_implementation() -> None:
    raw = stream([b"abcde"], header=True, data=True)
    assert raw[48:52] == CRC(raw[:48]).to_bytes(4, "little")
    assert raw[52:60] == b"abcde\0\0\0"
    assert raw[60:] == CRC(b"abcde\0\0\0").to_bytes(4, "little")


@pytest.mark.parametrize("at", [0, 20, 50, 53, 61])
def test_a_flipped_bit_anywhere_is_found(at: int) -> None:
    raw = bytearray(stream([b"abcde"], header=True, data=True))
    raw[at] ^= 0x10
    with pytest.raises(DigestMismatch):
        read(inbox(header=True, data=True), bytes(raw), [])


def test_a_bad_header_is_found_before_its_data_has_come() -> None:
    raw = bytearray(stream([b"abcde" * 50], header=True, data=True))
    raw[40] ^= 1
    with pytest.raises(DigestMismatch):
        read(inbox(header=True, data=True), bytes(raw[:52]), [])


def test_a_segment_longer_than_declared_is_refused_at_once() -> None:
    raw = stream([b"x" * (LIMIT + 1)], header=False, data=False)
    with pytest.raises(ProtocolViolation):
        read(inbox(header=False, data=False), raw[:48], [])


def test_additional_header_segments_are_passed_over() -> None:
    raw = bytearray(stream([b"", b"next"], header=False, data=False))
    raw[4] = 2
    raw[48:48] = b"AHS!AHS!"
    assert read(inbox(header=False, data=False), bytes(raw), []) == [(0, b""), (1, b"next")]


@given(steps=st.lists(st.integers(1, 700), min_size=40, max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_send_may_end_anywhere(steps: list[int]) -> None:
    bodies = [bytes([n]) * (n * 37 % 500) for n in range(20)]
    outbox = Outbox(Counter())
    for number, body in enumerate(bodies):
        outbox.put(pdu.NopIn(itt=number), body)
    out = b""
    for step in [*steps, 1 << 20]:
        chunk = b"".join(outbox.pending())[:step]
        out += chunk
        outbox.sent(len(chunk))
    assert outbox.size == 0
    assert out == stream(bodies, header=False, data=False)


def test_own_copies_what_is_borrowed() -> None:
    medium = bytearray(b"before!!")
    outbox = Outbox(Counter())
    outbox.put(pdu.NopIn(), memoryview(medium))
    outbox.own()
    medium[:] = b"after!!!"
    assert b"".join(outbox.pending())[48:] == b"before!!"


def test_data_with_a_digest_is_a_copy() -> None:
    medium = bytearray(b"before!!")
    outbox = Outbox(Counter())
    outbox.data_digest = True
    outbox.put(pdu.NopIn(), memoryview(medium))
    medium[:] = b"after!!!"
    assert b"".join(outbox.pending())[48:56] == b"before!!"
