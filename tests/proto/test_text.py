# SPDX-License-Identifier: Apache-2.0
"""Text of Login and Text PDUs: well formed or refused, split anywhere, within a budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import ProtocolViolation
from swd.proto import text

KEYS = st.from_regex(r"[A-Z][A-Za-z0-9.+@_#-]{0,62}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=200)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=8, unique_by=lambda pair: pair[0])


@given(PAIRS)
def test_what_is_written_is_read(pairs: text.Pairs) -> None:
    assert text.decode(text.encode(pairs)) == pairs


@given(st.binary(max_size=300))
def test_any_bytes_are_pairs_or_a_violation(data: bytes) -> None:
    try:
        pairs = text.decode(data)
    except ProtocolViolation:
        return
    assert text.encode(pairs) == (data.rstrip(b"\0") + b"\0" if data.strip(b"\0") else b"")


def test_a_value_may_hold_equals_signs_and_be_empty() -> None:
    assert text.decode(b"A=b=c\0B=\0") == [("A", "b=c"), ("B", "")]


def test_keys_are_case_sensitive() -> None:
    assert text.decode(b"AB=1\0Ab=2\0") == [("AB", "1"), ("Ab", "2")]


def test_padding_that_is_counted_in_is_harmless() -> None:
    assert text.decode(b"A=b\0\0\0") == [("A", "b")]
    assert text.decode(b"\0\0") == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"A=b", "cut off"),
        (b"A=b\0C=d", "cut off"),
        (b"A\0", "not key=value"),
        (b"A=b\0\0C=d\0", "not key=value"),
        (b"=b\0", "illegal key"),
        (b"a=b\0", "illegal key"),
        (b"A b=c\0", "illegal key"),
        (b"\xc3\x84=c\0", "illegal key"),
        (b"A" * 64 + b"=b\0", "illegal key"),
        (b"A=\xff\0", "not UTF-8"),
        (b"A=\x1b[2J\0", "control"),
        (b"A=x\ny\0", "control"),
        (b"A=\xc2\x9b\0", "control"),
        (b"A=\x7f\0", "control"),
        (b"A=\xe2\x80\xa8\0", "control"),
        (b"A=" + b"x" * 4097 + b"\0", "longer"),
        (b"A=b\0A=b\0", "twice"),
    ],
)
def test_malformed_text(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolViolation, match=why) as caught:
        text.decode(data)
    assert caught.value.clause


def test_the_longest_key_and_value_are_taken() -> None:
    pairs = [("K" * 63, "x" * 4096)]
    assert text.decode(text.encode(pairs)) == pairs


def test_repeats_are_for_those_who_ask() -> None:
    data = b"TargetName=a\0TargetAddress=b\0TargetAddress=c\0"
    assert len(text.decode(data, repeats=True)) == 3
    with pytest.raises(ProtocolViolation):
        text.decode(data)


@pytest.mark.parametrize("pair", [("a", "b"), ("", "b"), ("A=", "b"), ("A", "b\0C=d"), ("A", "x" * 5000)])
def test_what_could_not_be_read_back_is_not_written(pair: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        text.encode([pair])


@given(st.binary(max_size=100), st.integers(1, 40))
def test_pieces_make_the_whole(data: bytes, limit: int) -> None:
    pieces = text.split(data, limit)
    assert pieces
    assert all(len(piece) <= limit for piece in pieces)
    collector = text.Collector(exchanges=200)
    for piece in pieces[:-1]:
        assert collector.add(piece, continued=True) is None
        assert collector.pending
    assert collector.add(pieces[-1], continued=False) == data
    assert not collector.pending


def test_a_collector_serves_one_text_after_another() -> None:
    collector = text.Collector()
    assert collector.add(b"a", continued=True) is None
    assert collector.add(b"b", continued=False) == b"ab"
    assert collector.add(b"c", continued=False) == b"c"


def test_the_budget_counts_all_pieces() -> None:
    collector = text.Collector(budget=10)
    assert collector.add(b"x" * 10, continued=True) is None
    with pytest.raises(ProtocolViolation, match="longer than 10"):
        collector.add(b"x", continued=False)


def test_empty_pieces_do_not_go_on_for_ever() -> None:
    collector = text.Collector(exchanges=3)
    assert collector.add(b"", continued=True) is None
    assert collector.add(b"", continued=True) is None
    with pytest.raises(ProtocolViolation, match="more than 3"):
        collector.add(b"", continued=True)


def test_nothing_fits_into_no_space() -> None:
    with pytest.raises(ValueError, match="0 bytes"):
        text.split(b"x", 0)
