# SPDX-License-Identifier: Apache-2.0
"""Counts of events that are no PDUs of the full-feature phase: logins and their ends, redirects, pings, rejects ...

Each session has a `Tally`; all of them add to `PROCESS` as well, where what has no session (a login that failed) is
counted directly. What the engine and the pump count in C is added to `RETIRED` when a session closes. The names are
the sources of the rows in `swd.driver.statistics`.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping

Histogram = tuple[int, int, list[int]]  # count, sum in microseconds, counts of the log2 buckets


class Tally:
    """Counts by name, exact under threads. What is added goes to `parent` too."""

    def __init__(self, parent: Tally | None = None) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._parent = parent

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._counts[name] += amount
        if self._parent is not None:
            self._parent.add(name, amount)

    def add_all(self, counts: Mapping[str, int]) -> None:
        with self._lock:
            self._counts.update(counts)

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)


class Histograms:
    """Latencies of closed sessions, by any key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, int | None, str], Histogram] = {}

    def add_all(self, target: str, found: Mapping[tuple[int | None, str], Histogram]) -> None:
        with self._lock:
            for (lun, direction), histogram in found.items():
                key = (target, lun, direction)
                self._found[key] = plus(self._found[key], histogram) if key in self._found else histogram

    def found(self) -> dict[tuple[str, int | None, str], Histogram]:
        with self._lock:
            return dict(self._found)


def plus(a: Histogram, b: Histogram) -> Histogram:
    return a[0] + b[0], a[1] + b[1], [x + y for x, y in zip(a[2], b[2], strict=True)]


PROCESS = Tally()
RETIRED = Tally()
LATENCIES = Histograms()


def _in_child() -> None:
    """A forked child has counted nothing yet, and its parent's locks may be held by threads that it does not have."""
    for each in (PROCESS, RETIRED):
        each.__init__()  # type: ignore[misc]
    LATENCIES.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
