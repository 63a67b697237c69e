# SPDX-License-Identifier: Apache-2.0
"""RangeLock: who waits for whom, seen from threads that say when they are in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from swd.scsi.rangelock import RangeLock, _Entry

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


def test_whoever_is_interrupted_leaves_the_queue(hold) -> None:
    """As by Ctrl-C while waiting."""

    class Interrupted(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    lock = RangeLock()
    holder = hold(lock.modify(0, 1))
    assert holder.inside.wait(LONG)
    lock._changed, patient = Interrupted(lock._guard), lock._changed
    with pytest.raises(KeyboardInterrupt), lock.modify(0, 1):
        raise AssertionError("it got in")
    lock._changed = patient
    assert lock.waiting == 0
    holder.leave()
    assert hold(lock.modify(0, 1)).inside.wait(LONG)


def test_an_error_inside_gives_the_range_back() -> None:
    lock = RangeLock()
    with pytest.raises(ZeroDivisionError), lock.modify(0, 1):
        raise ZeroDivisionError
    with lock.modify(0, 1):
        assert lock.waiting == 0


def test_a_write_costs_the_same_however_many_there_are(hold, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at others only while one of them modifies; what has ended no longer counts."""
    lock, compared = RangeLock(), 0
    plain = _Entry.conflicts

    def counted(entry: _Entry, other: _Entry) -> bool:
        nonlocal compared
        compared += 1
        return plain(entry, other)

    monkeypatch.setattr(_Entry, "conflicts", counted)
    with lock.modify(0, 1):
        assert lock.try_write(0, 1) is None
        assert compared == 1
    held = [lock.try_write(n, 1) for n in range(100)]
    hold(lock.write(0, 1)).inside.wait(LONG)
    assert compared == 1
    waiting = hold(lock.modify(50, 1))
    wait_for_waiters(lock, 1)
    assert lock.try_write(50, 1) is None
    for entry in held:
        assert entry is not None
        entry.leave()
    assert waiting.inside.wait(LONG)
