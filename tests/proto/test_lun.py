# SPDX-License-Identifier: Apache-2.0
"""LUN fields: every form of SAM-5, and that numbers and fields are exact inverses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import InvalidArgument
from swd.proto import lun

FIELDS = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    ("number", "field"),
    [
        (0, 0x0000000000000000),
        (1, 0x0001000000000000),
        (255, 0x00FF000000000000),
        (256, 0x4100000000000000),
        (300, 0x412C000000000000),
        (16383, 0x7FFF000000000000),
    ],
)
def test_numbers_and_their_fields(number: int, field: int) -> None:
    assert lun.field(number) == field
    assert lun.number(field) == number
    assert lun.parse(str(number)) == field
    assert lun.text(field) == str(number)


def test_every_number_comes_back() -> None:
    assert all(lun.number(lun.field(n)) == n for n in range(lun.MAX_NUMBER + 1))


@given(FIELDS)
def test_text_of_any_field_comes_back(field: int) -> None:
    assert lun.parse(lun.text(field)) == field


@given(FIELDS)
def test_a_number_is_given_only_where_it_leads_to_the_same_field(field: int) -> None:
    number = lun.number(field)
    assert number is None or lun.field(number) == field


@pytest.mark.parametrize("field", [0x4005 << 48, 0x0101 << 48, 0x0001000000000001, 0xC101 << 48])
def test_forms_that_no_number_stands_for(field: int) -> None:
    assert lun.number(field) is None
    assert lun.text(field) == f"0x{field:016x}"
    assert lun.field(field) == field


@pytest.mark.parametrize("n", [-1, 16384, 65535, 2**48 - 1, 2**64])
def test_numbers_out_of_range(n: int) -> None:
    with pytest.raises(InvalidArgument, match=r"0\.\.16383"):
        lun.field(n)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-1",
        "16384",
        "99999",
        "0x1",
        "0x00010000000000000",
        "1.5",
        " 1",
        "1 ",
        "0o7",
        "\u0661",
        "0x000g000000000000",
    ],
)
def test_text_that_is_no_lun(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no LUN"):
        lun.parse(text)


@pytest.mark.parametrize(
    ("field", "address"),
    [
        (0x0005000000000000, lun.Address("peripheral device", 0, 0, 5, 2)),
        (0x0305000000000000, lun.Address("peripheral device", 3, 0, 5, 2)),
        (0x412C000000000000, lun.Address("flat space", 0, 0, 300, 2)),
        (0x8A65000000000000, lun.Address("logical unit", 3, 10, 5, 2)),
        (0xC101000000000000, lun.Address("well known logical unit", 0, 0, 1, 2)),
        (0xD212345600000000, lun.Address("extended flat space", 0, 0, 0x123456, 4)),
        (0xE212345678900000, lun.Address("long extended flat space", 0, 0, 0x1234567890, 6)),
        (0xFFFFFFFFFFFFFFFF, lun.Address("not specified", 0, 0, 2**56 - 1, 8)),
    ],
)
def test_what_a_field_says(field: int, address: lun.Address) -> None:
    assert lun.decode(field) == address


@pytest.mark.parametrize("field", [0xC000 << 48, 0xC201 << 48, 0xD101 << 48, 0xF201 << 48])
def test_extended_forms_that_do_not_exist(field: int) -> None:
    with pytest.raises(InvalidArgument, match="not defined"):
        lun.decode(field)
