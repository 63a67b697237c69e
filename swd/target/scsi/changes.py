# SPDX-License-Identifier: Apache-2.0
"""Who may change the blocks of a unit, and when: changes side by side, a step (COMPARE AND WRITE and its kin) alone.

A change takes no lock while no step is under way: it says that it is there, and looks. A step says so first, and then
waits for the changes that are there. Each says before it looks, so one of two that meet sees the other.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType


class Changes:
    """`with changes:` around a change of the medium; in one of these, a thread begins no step. `with changes.alone():`
    around a step, in which it may also change. `lock` is the unit's, re-entrant; steps hold it.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self.steps = 0  # begun and ended: odd while one is at the medium
        self._lock = lock
        self._changing: set[int] = set()  # threads
        self._ended = threading.Event()  # a change, while a step was under way

    def __enter__(self) -> None:
        me = threading.get_ident()
        self._changing.add(me)
        if self.steps & 1:
            self._leave()
            with self._lock:  # until the step is over; the step itself passes
                self._changing.add(me)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        self._changing.discard(threading.get_ident())
        if self.steps & 1:
            self._ended.set()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A step. Others like it wait, changes that come wait, and it waits for those that are under way."""
        with self._lock:
            self.steps += 1
            try:
                self._wait()
                yield
            finally:
                self.steps += 1

    def _wait(self) -> None:
        while True:
            self._ended.clear()
            if not self._changing:
                return
            self._ended.wait()
