# SPDX-License-Identifier: Apache-2.0
"""Percentiles from the histogram against those of the sorted list."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.measure.latency import SHARES, Latencies, of_octaves


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=200))
def test_percentiles_are_those_of_the_list(taken: list[int]) -> None:
    seen = Latencies()
    seen.add(taken[::2])
    other = Latencies()
    other.add(taken[1::2])
    seen.merge(other)
    found, ordered = seen.percentiles(), sorted(taken)
    for name, share in SHARES.items():
        exact = ordered[math.ceil(share * len(ordered)) - 1] / 1000
        assert found[name] == pytest.approx(exact, abs=exact / 64 + 0.01)  # a bucket, and two digits
    assert found["max_us"] == round(ordered[-1] / 1000, 2)


def test_nothing_has_no_percentiles() -> None:
    assert set(Latencies().percentiles().values()) == {None}
    assert set(of_octaves([0] * 32).values()) == {None}


def test_octaves_give_upper_bounds() -> None:
    found = of_octaves([0, 50, 0, 45, 5])
    assert (found["p50_us"], found["p90_us"], found["p99_us"], found["max_us"]) == (4, 16, 32, 32)
