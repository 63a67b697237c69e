# SPDX-License-Identifier: Apache-2.0
"""INQUIRY and vital product data: pages written by hand, pages cut off, and any bytes at all."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from fake_disk import page
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.errors import ProtocolViolation
from swd.scsi import inquiry
from swd.scsi.identity import parse_designators

STANDARD = bytes.fromhex("000006021f000002") + b"LIO-ORG disk            4.0 "


def test_standard_data() -> None:
    found = inquiry.parse_standard(STANDARD)
    assert (found.vendor, found.product, found.revision) == ("LIO-ORG", "disk", "4.0")
    assert (found.qualifier, found.device_type, found.removable, found.version) == (0, 0, False, 6)
    assert found.present
    assert found.type_words == "disk"


def test_a_unit_that_is_not_there() -> None:
    assert not inquiry.parse_standard(b"\x7f" + STANDARD[1:]).present
    assert not inquiry.parse_standard(b"\x20" + STANDARD[1:]).present
    assert not inquiry.parse_standard(b"\x1f" + STANDARD[1:]).present


def test_the_first_five_bytes_are_enough() -> None:
    assert inquiry.parse_standard(STANDARD[:5]).vendor == ""
    with pytest.raises(ProtocolViolation):
        inquiry.parse_standard(STANDARD[:4])


def test_what_is_not_text_cannot_write_to_a_terminal() -> None:
    hostile = STANDARD[:8] + b"\x1b[2J\\\xff\0\0" + STANDARD[16:]
    assert inquiry.parse_standard(hostile).vendor == "\\x1b[2J\\x5c\\xff"


def test_supported_pages_and_serial() -> None:
    assert inquiry.parse_supported(page(0x00, bytes([0x00, 0x80, 0x83]))) == {0x00, 0x80, 0x83}
    assert inquiry.parse_serial(page(0x80, b"  4711  ")) == "4711"


def test_another_page_than_the_one_asked_for() -> None:
    with pytest.raises(ProtocolViolation, match="80h was asked for and page 83h came"):
        inquiry.parse_serial(page(0x83, b"4711"))


def test_what_lies_behind_the_announced_length_is_not_read() -> None:
    assert inquiry.parse_serial(page(0x80, b"47") + b"11") == "47"
    assert inquiry.parse_supported(page(0x00, b"\0") + b"\x83") == {0}


def test_block_limits() -> None:
    body = struct.pack(">BBHIIIIIIIQ", 1, 0, 8, 8192, 256, 0, 2048, 4, 16, 0x80000000, 1 << 33)
    limits = inquiry.parse_block_limits(page(0xB0, body))
    assert limits == inquiry.BlockLimits(8, 8192, 256, 2048, 4, 16, 1 << 33)


def test_block_limits_of_an_older_standard_end_early() -> None:
    body = struct.pack(">BBHII", 0, 0, 8, 8192, 256)
    assert inquiry.parse_block_limits(page(0xB0, body)) == inquiry.BlockLimits(8, 8192, 256)
    half = page(0xB0, body + (7).to_bytes(4, "big") + b"\xff\xff")  # ends within MAXIMUM UNMAP LBA COUNT
    assert inquiry.parse_block_limits(half) == inquiry.BlockLimits(8, 8192, 256)
    with pytest.raises(ProtocolViolation):
        inquiry.parse_block_limits(page(0xB0, body[:11]))


def test_provisioning() -> None:
    assert inquiry.parse_provisioning(page(0xB2, bytes([0, 0xE4, 2, 0]))) == inquiry.Provisioning(True, True, True, 2)
    assert inquiry.parse_provisioning(page(0xB2, bytes([0, 0x00, 1, 0]))) == inquiry.Provisioning(kind=1)


PARSERS: list[tuple[int, Callable[[bytes], object]]] = [
    (inquiry.PAGE_SUPPORTED, inquiry.parse_supported),
    (inquiry.PAGE_SERIAL, inquiry.parse_serial),
    (inquiry.PAGE_IDENTIFICATION, parse_designators),
    (inquiry.PAGE_BLOCK_LIMITS, inquiry.parse_block_limits),
    (inquiry.PAGE_PROVISIONING, inquiry.parse_provisioning),
]


@settings(max_examples=400)
@given(st.binary(max_size=80), st.sampled_from(PARSERS), st.booleans())
def test_any_bytes_give_a_record_or_a_violation(
    raw: bytes, parser: tuple[int, Callable[[bytes], object]], mend
) -> None:
    code, parse = parser
    if mend and len(raw) > 1:  # get past the check of the page code more often than by chance
        raw = raw[:1] + bytes([code]) + raw[2:]
    with suppress(ProtocolViolation):
        assert parse(raw) is not None


@given(st.binary(max_size=80))
def test_any_standard_data(raw: bytes) -> None:
    try:
        found = inquiry.parse_standard(raw)
    except ProtocolViolation:
        assert len(raw) < 5
    else:
        assert (found.vendor + found.product + found.revision).isprintable()
