# SPDX-License-Identifier: Apache-2.0
"""The command window: order, gaps, numbers outside, and what abort makes due."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.errors import ProtocolViolation
from swd.target.framing import Frame
from swd.target.window import MORE_PDUS, SMALLEST_SEGMENT, Window

LAST = (1 << 32) - 1


def frame(number: int) -> Frame:
    return Frame(number.to_bytes(48, "big"), memoryview(b"data"))


def sized(length: int) -> Frame:
    return Frame(bytes(48), memoryview(bytes(length)))


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


def test_no_more_is_held_than_a_first_burst() -> None:
    """Immediate data counts, however the rest is cut; what is too much is not kept."""
    window = Window(1, 8, first_burst=4096)
    assert list(window.arrive(sized(1024), 2, 2)) == []
    for _ in range(3):
        assert window.hold_data(sized(1024), 2)
    assert window.hold_data(sized(0), 2)
    with pytest.raises(ProtocolViolation):
        window.hold_data(sized(1), 2)
    assert [len(due.data) for due in window.arrive(sized(0), 1, 1)] == [0, 1024, 1024, 1024, 1024, 0]


@pytest.mark.parametrize("length", [0, 1])
def test_no_more_pdus_are_held_than_a_first_burst_can_need(length: int) -> None:
    window = Window(1, 8, first_burst=8192)
    assert list(window.arrive(sized(0), 2, 2)) == []
    with pytest.raises(ProtocolViolation):
        for _ in range(1000):
            window.hold_data(sized(length), 2)
    assert len(list(window.arrive(sized(0), 1, 1))) == 2 + 8192 // SMALLEST_SEGMENT + MORE_PDUS


def test_what_a_session_holds_follows_from_its_window() -> None:
    """Every number but the first is held with all the data that it may have; there is no room for another command."""
    window = Window(1, 8, first_burst=4096)
    for number in range(2, 40):
        arrived = list(window.arrive(sized(1024), number, number))
        held = window.hold_data(sized(3072), number)
        assert (arrived, held) == ([], number <= 8)
    due = list(window.arrive(sized(0), 1, 1))
    assert sum(len(frame.data) for frame in due) == 7 * 4096
