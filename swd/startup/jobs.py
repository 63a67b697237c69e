# SPDX-License-Identifier: Apache-2.0
"""Work in threads, each with a deadline: what hangs is given up, and holds up neither the pass nor the process's end.

Threads are daemons. One that was given up may still end some time later; nobody listens to it any more.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

from swd.errors import DeadlineExceeded, SwdError

AT_ONCE: Final = 64  # jobs that run side by side
_SLICE: Final = 1.0  # seconds; no wait of the main thread is longer, so that signals are seen everywhere


@dataclass(frozen=True)
class Ended:
    """A job's end: what it gave, or why it failed."""

    key: Any
    value: Any = None
    error: SwdError | None = None

    @property
    def said(self) -> str:
        """For people."""
        return str(self.value) if self.error is None else self.error.reason


class Jobs:
    """Jobs by key. Used by one thread; only the queue is shared with the jobs' own."""

    def __init__(self, timeout: float, now: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._now = now
        self._waiting: deque[tuple[Hashable, Callable[[], Any], str]] = deque()
        self._running: dict[Hashable, tuple[float, str]] = {}  # key -> deadline, what it is
        self._ended: queue.SimpleQueue[tuple[Hashable, Any, BaseException | None]] = queue.SimpleQueue()

    def add(self, key: Hashable, work: Callable[[], Any], what: str = "it") -> None:
        """Run `work` as soon as there is room. The key is of this job alone; `what` is its name for people."""
        self._waiting.append((key, work, what))

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def next(self) -> Ended:
        """Wait for the next end of a job, its deadline at the latest. Raises what is no `SwdError`: that is a bug."""
        while True:
            self._start()
            overdue = next((key for key, (end, _) in self._running.items() if end <= self._now()), None)
            if overdue is not None:
                _, what = self._running.pop(overdue)
                return Ended(overdue, error=_given_up(what, self._timeout))
            pause = min(end for end, _ in self._running.values()) - self._now()
            try:
                key, value, error = self._ended.get(timeout=max(0.0, min(pause, _SLICE)))
            except queue.Empty:
                continue
            if self._running.pop(key, None) is None:
                continue  # it was given up
            if error is not None and not isinstance(error, SwdError):
                raise error
            return Ended(key, value, error)

    def _start(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            key, work, what = self._waiting.popleft()
            self._running[key] = self._now() + self._timeout, what
            threading.Thread(target=self._run, args=(key, work), name="swd-startup", daemon=True).start()

    def _run(self, key: Hashable, work: Callable[[], Any]) -> None:
        try:
            self._ended.put((key, work(), None))
        except BaseException as error:  # noqa: BLE001  # `next` raises it where somebody listens
            self._ended.put((key, None, error))


def _given_up(what: str, timeout: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"{what}: not done within {timeout:g} s (step_timeout), the rest went on;\n"
        "`swdctl startup --pass 2` tries again, and step_timeout in [startup] allows more time"
    )
