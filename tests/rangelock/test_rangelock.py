# SPDX-License-Identifier: Apache-2.0
"""RangeLock: who waits for whom, seen from threads that say when they are in."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from swd._rangelock import Entry, RangeLock

LONG = 10.0  # seconds that a test waits for what must come


class Holder:
    """A thread that takes an entry, says so, and holds it until it is told to go."""

    def __init__(self, entry: AbstractContextManager[None]) -> None:
        self.inside, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(entry,))
        self._thread.start()

    def _hold(self, entry: AbstractContextManager[None]) -> None:
        with entry:
            self.inside.set()
            assert self._go.wait(LONG)

    def leave(self) -> None:
        self._go.set()
        self._thread.join(LONG)
        assert not self._thread.is_alive()


@pytest.fixture
def hold() -> Iterator[Callable[[AbstractContextManager[None]], Holder]]:
    holders: list[Holder] = []

    def start(entry: AbstractContextManager[None]) -> Holder:
        holders.append(Holder(entry))
        return holders[-1]

    yield start
    for holder in holders:
        holder._go.set()
    for holder in holders:
        holder.leave()


def wait_for_waiters(lock: RangeLock, count: int) -> None:
    """Until `count` threads stand in the queue and wait; they take the same lock, so this makes progress."""
    done = threading.Event()
    for _ in range(100_000):
        if lock.waiting == count:
            return
        done.wait(0.0001)
    raise AssertionError(f"{lock.waiting} threads wait, not {count}")


def test_writes_do_not_exclude_each_other(hold) -> None:
    lock = RangeLock()
    assert hold(lock.write(0, 10)).inside.wait(LONG)
    assert hold(lock.write(5, 10)).inside.wait(LONG)


def test_ranges_that_do_not_touch_do_not_exclude_each_other(hold) -> None:
    lock = RangeLock()
    assert hold(lock.modify(0, 10)).inside.wait(LONG)
    assert hold(lock.modify(10, 10)).inside.wait(LONG)
    assert hold(lock.write(20, 1)).inside.wait(LONG)


@pytest.mark.parametrize(("first", "second"), [("modify", "modify"), ("modify", "write"), ("write", "modify")])
def test_a_modify_excludes(hold, first: str, second: str) -> None:
    lock = RangeLock()
    holder = hold(getattr(lock, first)(0, 10))
    assert holder.inside.wait(LONG)
    other = hold(getattr(lock, second)(9, 1))
    wait_for_waiters(lock, 1)
    assert not other.inside.is_set()
    holder.leave()
    assert other.inside.wait(LONG)


def test_a_modify_that_waits_is_not_overtaken(hold) -> None:
    """Without the queue, a stream of writes would starve it."""
    lock = RangeLock()
    writer = hold(lock.write(0, 10))
    assert writer.inside.wait(LONG)
    modifier = hold(lock.modify(0, 10))
    wait_for_waiters(lock, 1)
    late = hold(lock.write(0, 10))
    wait_for_waiters(lock, 2)
    elsewhere = hold(lock.write(50, 10))
    assert elsewhere.inside.wait(LONG)
    writer.leave()
    assert modifier.inside.wait(LONG)
    assert not late.inside.is_set()
    modifier.leave()
    assert late.inside.wait(LONG)


def test_whoever_is_interrupted_leaves_the_queue_and_lets_those_behind_go_on(hold) -> None:
    """By Ctrl-C while waiting."""
    lock, behind = RangeLock(), []
    holder = hold(lock.modify(0, 1))
    assert holder.inside.wait(LONG)

    def interrupt() -> None:
        wait_for_waiters(lock, 1)
        behind.append(hold(lock.write(1, 1)))
        wait_for_waiters(lock, 2)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt), lock.modify(0, 2):
            raise AssertionError("it got in")
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join(LONG)
    assert behind[0].inside.wait(LONG)
    assert not lock.waiting
    holder.leave()
    behind[0].leave()
    assert hold(lock.modify(0, 2)).inside.wait(LONG)


def test_those_who_may_go_on_do_and_no_others(hold) -> None:
    lock = RangeLock()
    first, second = hold(lock.modify(0, 1)), hold(lock.modify(5, 1))
    assert first.inside.wait(LONG)
    assert second.inside.wait(LONG)
    for_first, for_second = hold(lock.write(0, 1)), hold(lock.write(5, 1))
    wait_for_waiters(lock, 2)
    second.leave()
    assert for_second.inside.wait(LONG)
    assert lock.waiting == 1
    assert not for_first.inside.is_set()
    first.leave()
    assert for_first.inside.wait(LONG)


def test_an_entry_is_held_once_and_left_as_often_as_one_likes() -> None:
    lock = RangeLock()
    entry = lock.modify(0, 1)
    with entry, pytest.raises(RuntimeError, match="held already"), entry:
        raise AssertionError("it got in")
    entry.leave()
    with entry:
        assert lock.try_write(0, 1) is None
        assert lock.entries == 1
    with entry:
        pass


def test_an_entry_of_no_lock_can_do_nothing() -> None:
    with pytest.raises(TypeError, match="a RangeLock makes entries"), Entry():
        raise AssertionError("it got in")
    Entry().leave()


def test_an_abandoned_entry_lives_as_long_as_it_is_held_and_no_longer() -> None:
    lock = RangeLock()
    lock.try_write(7, 1)  # nobody keeps it
    gone = lock.write(7, 1)
    del gone
    with lock.modify(8, 1):
        assert lock.try_write(7, 1) is not None
    forgotten = weakref.ref(lock)
    del lock
    assert forgotten() is not None  # what is held keeps its lock


@pytest.mark.parametrize("enter", [RangeLock.modify, RangeLock.write])
def test_a_child_of_fork_waits_for_nobody_of_its_parent(
    hold, enter: Callable[[RangeLock, int, int], AbstractContextManager[None]]
) -> None:
    lock = RangeLock()
    holder = hold(lock.modify(7, 2))
    assert holder.inside.wait(LONG)
    child = os.fork()
    if not child:
        signal.alarm(int(LONG))
        with enter(lock, 8, 1):
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert lock.try_write(7, 1) is None     # here it is held


def test_ranges_to_the_last_block_there_can_be() -> None:
    lock, last = RangeLock(), (1 << 63) - 2
    with lock.modify(last, 1):
        assert lock.try_write(last, 1) is None
        before = lock.try_write(last - 1, 1)
        assert before is not None
        before.leave()
    for wrong in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            lock.write(wrong, 1)


def test_many_threads_lose_no_change() -> None:
    """Each adds one to a few counters, in two steps; plain writes come and go."""
    lock, counters = RangeLock(), [0] * 8

    def add(number: int) -> None:
        for turn in range(300):
            first = (number + turn) % 7
            with lock.modify(first, 2):
                for at in (first, first + 1):
                    found = counters[at]
                    if turn % 10 == 0:
                        threading.Event().wait(0)  # somebody else's turn
                    counters[at] = found + 1
            with lock.write(first, 1):
                pass

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(counters) == 6 * 300 * 2
    assert not lock.waiting


def test_an_error_inside_gives_the_range_back() -> None:
    lock = RangeLock()
    with pytest.raises(ZeroDivisionError), lock.modify(0, 1):
        raise ZeroDivisionError
    with lock.modify(0, 1):
        assert lock.waiting == 0


def test_a_write_costs_the_same_however_many_there_are(hold) -> None:
    """It looks at others only while one of them modifies; what has ended no longer counts."""
    lock = RangeLock()
    with lock.modify(0, 1):
        assert lock.try_write(0, 1) is None
        assert lock.compared == 1
    held = [lock.try_write(n, 1) for n in range(100)]
    hold(lock.write(0, 1)).inside.wait(LONG)
    assert lock.compared == 1
    waiting = hold(lock.modify(50, 1))
    wait_for_waiters(lock, 1)
    assert lock.compared > 1
    assert lock.try_write(50, 1) is None
    for entry in held:
        assert entry is not None
        entry.leave()
    assert waiting.inside.wait(LONG)
