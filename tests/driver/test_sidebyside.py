# SPDX-License-Identifier: Apache-2.0
"""Work side by side: results in order, the first error in order, and an interrupt that waits for nobody."""

from __future__ import annotations

import _thread
import threading

import pytest

from swd.driver import sidebyside


def test_results_come_in_the_order_of_the_items() -> None:
    both = threading.Barrier(sidebyside.AT_ONCE, timeout=20)  # so many at once, and the rest after them

    def work(number: int) -> int:
        if number < sidebyside.AT_ONCE:
            both.wait()
        return number * number

    assert sidebyside.each(work, range(100), "test") == [number * number for number in range(100)]
    assert sidebyside.each(work, [], "test") == []


def test_the_first_error_in_order_is_raised_when_all_have_ended() -> None:
    done = []

    def work(number: int) -> None:
        done.append(number)
        if number % 2:
            raise ValueError(number)

    with pytest.raises(ValueError, match=r"^1$"):
        sidebyside.each(work, range(50), "test")
    assert sorted(done) == list(range(50))


def test_an_interrupt_waits_for_nobody_and_begins_nothing_more() -> None:
    release = threading.Event()
    begun: list[int] = []
    threads: list[threading.Thread] = []

    def work(number: int) -> None:
        begun.append(number)
        threads.append(threading.current_thread())
        if len(begun) == sidebyside.AT_ONCE:
            _thread.interrupt_main()
        assert release.wait(60)

    with pytest.raises(KeyboardInterrupt):
        sidebyside.each(work, range(100), "test")
    release.set()
    for thread in threads:
        thread.join(20)
    assert len(begun) == sidebyside.AT_ONCE
