# SPDX-License-Identifier: Apache-2.0
"""Sense data in words, and any bytes on the way there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.proto.sense import from_response, parse
from swd.scsi.asc import ASC_WORDS
from swd.scsi.sense import SenseKey, describe, is_deferred

FIXED = bytes.fromhex("f0000300001267" + "0a" + "00000000" + "1100" + "00000000")
DESCRIPTORS = bytes.fromhex("72031104" + "000000" + "10" + "02020000" + "000a8000" + "0000000100000002")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (FIXED, "medium error: unrecovered read error (03h 11h/00h) at 4711"),
        (
            DESCRIPTORS,
            "medium error: unrecovered read error, auto reallocate failed (03h 11h/04h) at 4294967298",
        ),
        (b"\x71" + FIXED[1:], "deferred medium error: unrecovered read error (03h 11h/00h)"),
        (b"\x70\x00\x05", "illegal request: no additional sense information (05h 00h/00h)"),
        # ADDITIONAL LENGTH is 0: the codes behind it do not belong to the data
        (
            bytes.fromhex("7000050000000000000000002042"),
            "illegal request: no additional sense information (05h 00h/00h)",
        ),
        (bytes.fromhex("7206fe42"), "unit attention (06h FEh/42h)"),
        (bytes.fromhex("72062901"), "unit attention: power on occurred (06h 29h/01h)"),
        (bytes.fromhex("7206295e"), "unit attention: power on, reset, or bus device reset occurred (06h 29h/5Eh)"),
    ],
)
def test_words(raw: bytes, words: str) -> None:
    assert describe(parse(raw)) == words


def test_no_sense_is_legal() -> None:
    assert describe(None) == "no sense data"
    assert parse(b"") is None


def test_every_key_has_words() -> None:
    assert [SenseKey(key).words for key in (0x0, 0x6, 0xB, 0xE)] == [
        "no sense",
        "unit attention",
        "aborted command",
        "miscompare",
    ]
    assert len(SenseKey) == 16


def test_the_codes_that_decide_something_have_words() -> None:
    for code in [(0x29, 1), (0x2A, 9), (0x3F, 0x0E), (0x27, 7), (0x21, 0), (0x04, 1), (0x3A, 0), (0x38, 7), (0x1D, 0)]:
        assert ASC_WORDS[code]
    assert len(ASC_WORDS) >= 120


@given(st.binary(max_size=300))
def test_any_bytes_are_sense_or_nothing(raw: bytes) -> None:
    for sense in (parse(raw), from_response(raw)):
        assert describe(sense)
        if sense is not None:
            assert 0 <= sense.key <= 15
            assert is_deferred(sense) == (sense.raw[0] & 0x7F in (0x71, 0x73))


@given(st.sampled_from([FIXED, DESCRIPTORS]), st.integers(0, 20))
def test_short_sense_never_says_more_than_is_there(raw: bytes, length: int) -> None:
    whole, part = parse(raw), parse(raw[:length])
    assert whole is not None
    if part is not None:
        assert part.key == whole.key
        assert part.asc in (0, whole.asc)
        assert part.information in (None, whole.information)
