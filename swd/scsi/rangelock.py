# SPDX-License-Identifier: Apache-2.0
"""A lock over ranges of blocks: one for each logical unit, shared by everything that writes to it in this process.

Two kinds of holders. A *write* replaces whole blocks; writes do not exclude each other, as on any disk. A *modify*
reads blocks, changes some bytes, and writes them back: it excludes every write and every other modify that touches its
blocks, or one of the two would be lost. Entries stand in a queue in the order in which they came, and each waits only
for those before it that it conflicts with: nobody starves, and there is no cycle to deadlock in, as a thread holds one
entry at a time. It lives at the rank of the logical unit because it is one of its properties; it knows nothing of SCSI.

Lock rule: `_changed` guards `_queue`; nothing is called under it.
"""

from __future__ import annotations

import threading
from types import TracebackType


class RangeLock:
    """`with lock.write(first, count): ...` and `with lock.modify(first, count): ...`, in blocks. Not re-entrant."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._queue: list[_Entry] = []

    def write(self, first: int, count: int) -> _Entry:
        return _Entry(self, first, first + count, False)

    def modify(self, first: int, count: int) -> _Entry:
        return _Entry(self, first, first + count, True)

    def try_write(self, first: int, count: int) -> _Entry | None:
        """For those who may not wait: a `write` that is held already (`leave` ends it), or None if it had to wait."""
        entry = self.write(first, count)
        with self._changed:
            if any(entry.conflicts(earlier) for earlier in self._queue):
                return None
            self._queue.append(entry)
        return entry

    @property
    def waiting(self) -> int:
        """How many threads wait at this moment."""
        with self._changed:
            return sum(entry.waits for entry in self._queue)

    def _enter(self, entry: _Entry) -> None:
        with self._changed:
            queue = self._queue
            queue.append(entry)
            if len(queue) == 1:
                return
            entry.waits = True
            try:
                while any(entry.conflicts(earlier) for earlier in queue[: queue.index(entry)]):
                    self._changed.wait()
            except BaseException:  # Ctrl-C while waiting: leave the queue, or everyone behind would wait for ever
                queue.remove(entry)
                self._changed.notify_all()
                raise
            entry.waits = False

    def _leave(self, entry: _Entry) -> None:
        with self._changed:
            self._queue.remove(entry)
            if self._queue:
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
