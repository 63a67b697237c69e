# SPDX-License-Identifier: Apache-2.0
"""A lock over ranges of blocks: one for each logical unit, shared by everything that writes to it in this process.

Two kinds of holders. A *write* replaces whole blocks; writes do not exclude each other, as on any disk. A *modify*
reads blocks, changes some bytes, and writes them back: it excludes every write and every other modify that touches its
blocks, or one of the two would be lost. Entries stand in a queue in the order in which they came, and each waits only
for those before it that it conflicts with: nobody starves, and there is no cycle to deadlock in, as a thread holds one
entry at a time. It lives at the rank of the logical unit because it is one of its properties; it knows nothing of SCSI.

How many modify is counted: where none does, as nearly always, a write looks at no other entry, however many there are.

Lock rule: `_guard`, which is also `_changed`'s, guards `_queue` and `_modifying`; nothing is called under it.
"""

from __future__ import annotations

import threading
from itertools import takewhile
from types import TracebackType


class RangeLock:
    """`with lock.write(first, count): ...` and `with lock.modify(first, count): ...`, in blocks. Not re-entrant."""

    def __init__(self) -> None:
        self._guard = threading.Lock()  # for those who do not wait: entering a Condition is two calls of Python more
        self._changed = threading.Condition(self._guard)
        self._queue: dict[_Entry, None] = {}  # in the order in which they came
        self._modifying = 0  # entries of it

    def write(self, first: int, count: int) -> _Entry:
        return _Entry(self, first, first + count, False)

    def modify(self, first: int, count: int) -> _Entry:
        return _Entry(self, first, first + count, True)

    def try_write(self, first: int, count: int) -> _Entry | None:
        """For those who may not wait: a `write` that is held already (`leave` ends it), or None if it had to wait."""
        entry = _Entry(self, first, first + count, False)
        with self._guard:
            if self._modifying and any(entry.conflicts(earlier) for earlier in self._queue):
                return None
            self._queue[entry] = None
        return entry

    @property
    def waiting(self) -> int:
        """How many threads wait at this moment."""
        with self._guard:
            return sum(entry.waits for entry in self._queue)

    def _enter(self, entry: _Entry) -> None:
        with self._guard:
            queue = self._queue
            self._modifying += entry.modifies
            queue[entry] = None
            if len(queue) == 1 or not self._modifying:
                return
            entry.waits = True
            try:
                while any(map(entry.conflicts, takewhile(lambda other: other is not entry, queue))):
                    self._changed.wait()
            except BaseException:  # Ctrl-C while waiting: leave the queue, or everyone behind would wait for ever
                self._remove(entry)
                raise
            entry.waits = False

    def _leave(self, entry: _Entry) -> None:
        with self._guard:
            self._remove(entry)

    def _remove(self, entry: _Entry) -> None:
        """With `_guard` held. Whoever waits does so as a modify, or for one."""
        del self._queue[entry]
        if self._modifying:
            self._modifying -= entry.modifies
            self._changed.notify_all()


class _Entry:
    """A place in the queue: blocks first..end-1, and whether they are modified rather than just written."""

    __slots__ = ("_lock", "end", "first", "modifies", "waits")

    def __init__(self, lock: RangeLock, first: int, end: int, modifies: bool) -> None:
        self._lock = lock
        self.first = first
        self.end = end
        self.modifies = modifies
        self.waits = False

    def conflicts(self, other: _Entry) -> bool:
        return (self.modifies or other.modifies) and self.first < other.end and other.first < self.end

    def leave(self) -> None:
        self._lock._leave(self)

    def __enter__(self) -> None:
        self._lock._enter(self)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.leave()
