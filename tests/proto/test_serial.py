# SPDX-License-Identifier: Apache-2.0
"""Serial-number arithmetic at every edge: around 0, around 2**31, and over the wrap."""

from __future__ import annotations

import itertools

import pytest

from swd.proto import serial

EDGES = sorted(
    {(base + step) % 2**32 for base in (0, 2**30, 2**31, 3 * 2**30, 2**32 - 1) for step in (-2, -1, 0, 1, 2)}
)
PAIRS = list(itertools.product(EDGES, EDGES))


def test_order_follows_rfc_1982() -> None:
    for left, right in PAIRS:
        # RFC 1982 3.2, word for word, on plain integers.
        less = (left < right and right - left < 2**31) or (left > right and left - right > 2**31)
        assert serial.lt(left, right) is less, (left, right)
        assert serial.le(left, right) is (less or left == right), (left, right)


def test_distance_leads_from_one_to_the_other() -> None:
    for left, right in PAIRS:
        steps = serial.distance(left, right)
        assert -(2**31) <= steps < 2**31
        assert serial.add(left, steps) == right


def test_numbers_half_the_circle_apart_are_not_comparable() -> None:
    assert not serial.lt(0, 2**31)
    assert not serial.lt(2**31, 0)
    assert not serial.le(5, 5 + 2**31)


@pytest.mark.parametrize(
    ("number", "step", "after"),
    [(2**32 - 1, 1, 0), (0, -1, 2**32 - 1), (2**32 - 2, 5, 3), (7, 2**31 - 1, 2**31 + 6)],
)
def test_addition_wraps(number: int, step: int, after: int) -> None:
    assert serial.add(number, step) == after


def test_a_walk_over_the_wrap_is_always_forward() -> None:
    number = 2**32 - 300
    for _ in range(600):
        following = serial.add(number, 1)
        assert serial.lt(number, following)
        assert not serial.lt(following, number)
        assert serial.distance(number, following) == 1
        number = following
    assert number == 300
