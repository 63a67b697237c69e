# SPDX-License-Identifier: Apache-2.0
"""Jobs with deadlines: none is waited for longer, and what is no error of swd's comes out."""

from __future__ import annotations

import threading

import pytest

from swd.errors import DeadlineExceeded, NoSuchDevice
from swd.startup.jobs import AT_ONCE, Jobs


def test_values_and_errors_come_with_their_keys() -> None:
    def fail() -> None:
        raise NoSuchDevice("gone")

    jobs = Jobs(10)
    jobs.add("good", lambda: 5)
    jobs.add("bad", fail)
    ended = {end.key: end for end in (jobs.next(), jobs.next())}
    assert (ended["good"].value, ended["good"].said) == (5, "5")
    assert ended["bad"].said == "gone"
    assert len(jobs) == 0


def test_what_hangs_is_given_up_and_its_late_end_is_nobodys() -> None:
    let_go = threading.Event()
    jobs = Jobs(0.05)
    jobs.add("slow", let_go.wait)
    assert isinstance(jobs.next().error, DeadlineExceeded)
    let_go.set()
    jobs.add("next", lambda: None)
    assert jobs.next().key == "next"


def test_a_bug_comes_out() -> None:
    jobs = Jobs(10)
    jobs.add("bug", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        jobs.next()


def test_so_many_and_no_more_run_side_by_side() -> None:
    gate, lock, running, most = threading.Event(), threading.Lock(), 0, 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == AT_ONCE:
                gate.set()
        gate.wait(10)
        with lock:
            running -= 1

    jobs = Jobs(10)
    for number in range(2 * AT_ONCE):
        jobs.add(number, work)
    assert len(jobs) == 2 * AT_ONCE
    while len(jobs):
        assert jobs.next().error is None
    assert most == AT_ONCE
