# SPDX-License-Identifier: Apache-2.0
"""The time of one run: a warm-up that does not count, then the seconds that do; and one lane of counters a worker.

A worker tells its lane of each I/O and goes on while the lane says so. Lanes are not shared between threads; the first
that leaves the warm-up takes the reading of what the whole process has used, for all. The way takes the one at the end,
when its last I/O is over and before anything is closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from swd.measure.latency import Latencies

Reading = TypeVar("Reading")
_TICK: Final = 100_000_000  # ns between two looks at anything but the clock

now = time.perf_counter_ns


class Meter(Generic[Reading]):
    """`read()` is called when the counting begins and when it is over: `before`, `after`; `tick(ios)` now and then."""

    def __init__(
        self, warm_up: float, seconds: float, read: Callable[[], Reading], tick: Callable[[int], object]
    ) -> None:
        started = now()
        self.begins = started + int(warm_up * 1e9)
        self.ends = self.begins + int(seconds * 1e9)
        self.before: Reading | None = None
        self.after: Reading | None = None
        self.began: int | None = None
        self.stopped = False
        self.lanes: list[Lane] = []
        self._seconds, self._read, self._tick = seconds, read, tick
        self._lock = threading.Lock()
        if self.begins == started:
            self.count_from(started)

    def lane(self) -> Lane:
        lane = Lane(self)
        with self._lock:
            self.lanes.append(lane)
        return lane

    def count_from(self, when: int) -> None:
        with self._lock:
            if self.began is None:
                self.before, self.began = self._read(), when
                self.ends = when + int(self._seconds * 1e9)

    def finish(self) -> None:
        """Take the reading at the end, once."""
        if self.after is None:
            self.after = self._read()

    def tick(self, ios: int) -> None:
        with self._lock:
            self._tick(ios)

    @property
    def ios(self) -> int:
        return sum(lane.ios for lane in self.lanes)

    @property
    def seconds(self) -> float:
        """From the first I/O that counts to the end of the last; 0.0 where none did."""
        ended = max((lane.last for lane in self.lanes), default=0)
        return 0.0 if self.began is None or not self.ios else max(ended - self.began, 1) / 1e9

    @property
    def latencies(self) -> Latencies:
        all_of_them = Latencies()
        for lane in self.lanes:
            lane.settle()
            all_of_them.merge(lane.latencies)
        return all_of_them


class Lane:
    """What one worker did."""

    def __init__(self, meter: Meter[Any]) -> None:
        self.meter = meter
        self.ios = 0
        self.last = 0
        self.latencies = Latencies()
        self._fresh: list[int] = []
        self._counts = meter.began is not None
        self._mark = min(now() + _TICK, meter.ends) if self._counts else meter.begins

    def add(self, before: int, after: int) -> bool:
        """One I/O from `before` to `after`, in ns of `now()`; False when the time is up."""
        self.ios += 1
        self.last = after
        self._fresh.append(after - before)
        return after < self._mark or self._turn(after)

    def add_many(self, count: int, after: int) -> bool:
        """As `add`, for I/Os whose own times nobody here has seen."""
        self.ios += count
        self.last = after
        return after < self._mark or self._turn(after)

    def settle(self) -> None:
        """Put what is fresh into the histogram; in the warm-up, forget it."""
        fresh, self._fresh = self._fresh, []
        if self._counts:
            self.latencies.add(fresh)
        else:
            self.ios = 0

    def _turn(self, when: int) -> bool:
        done = self.ios
        self.settle()
        if not self._counts:
            self._counts = True
            self.meter.count_from(when)
        self.meter.tick(done)
        self._mark = min(when + _TICK, self.meter.ends)
        return when < self.meter.ends and not self.meter.stopped
