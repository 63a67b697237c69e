# SPDX-License-Identifier: Apache-2.0
"""What a connection has put off, in the order of time. No clock: `now` is an argument, in seconds."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[], object]


class Timers:
    """Actions of one thread, each called once when its time has come."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()  # two of one time go in the order in which they were put off

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, action: Action) -> None:
        heapq.heappush(self._heap, (when, next(self._order), action))

    def next(self, now: float) -> float | None:
        """Seconds until the first is due; None if there is none."""
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def run(self, now: float) -> None:
        """Call all that are due."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
