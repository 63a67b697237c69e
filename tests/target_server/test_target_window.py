# SPDX-License-Identifier: Apache-2.0
"""The command window: order, gaps, numbers outside, and what abort makes due."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from swd.target.framing import Frame
from swd.target.window import Window

LAST = (1 << 32) - 1


def frame(number: int) -> Frame:
    return Frame(number.to_bytes(48, "big"), memoryview(b"data"))


def arrive(window: Window, number: int) -> list[int]:
    return [int.from_bytes(due.bhs, "big") for due in window.arrive(frame(number), number, number)]


@given(start=st.sampled_from([0, 1, LAST - 3]), order=st.permutations(range(8)))
@settings(max_examples=200, deadline=None)
def test_any_order_of_arrival_is_run_in_order(start: int, order: list[int]) -> None:
    window = Window(start, 8)
    ran = [number for step in order for number in arrive(window, (start + step) & LAST)]
    assert ran == [(start + step) & LAST for step in range(8)]
    assert window.exp_cmd_sn == (start + 8) & LAST


def test_outside_the_window_is_ignored() -> None:
    window = Window(10, 4)
    for number in (9, 14, 10 + (1 << 31)):
        assert arrive(window, number) == []
    assert window.exp_cmd_sn == 10
    assert arrive(window, 10) == [10]
    assert arrive(window, 10) == []  # again
    assert [number for start in (11, 12, 13) for number in arrive(window, start)] == [11, 12, 13]  # and 14 was not kept


def test_max_cmd_sn_stands_still_while_tasks_are_open_and_never_goes_back() -> None:
    window = Window(1, 4)
    assert window.max_cmd_sn == 4
    assert arrive(window, 1) == [1]
    window.open_for(1)
    assert window.max_cmd_sn == 4
    window.open_for(0)
    assert window.max_cmd_sn == 5
    window.open_for(3)
    assert window.max_cmd_sn == 5


def test_a_skipped_gap_releases_what_waited() -> None:
    window = Window(1, 8)
    assert arrive(window, 2) == []
    assert window.skip(1)
    assert [int.from_bytes(due.bhs, "big") for due in window.released()] == [2]
    assert not window.skip(1)
    assert arrive(window, 1) == []


def test_data_of_a_held_command_follows_it() -> None:
    window = Window(1, 8)
    assert arrive(window, 2) == []
    assert window.hold_data(frame(99), 2)
    assert not window.hold_data(frame(99), 5)
    assert arrive(window, 1) == [1, 2, 99]
