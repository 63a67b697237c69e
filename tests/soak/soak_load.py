# SPDX-License-Identifier: Apache-2.0
"""Random reads, writes and flushes by many threads, each judged by the journal, each timed.

Every worker owns a contiguous range of blocks that only it writes; it reads anywhere. Most workers move one extent at a
time, two a batch (`read_many`, `write_many`) or a stream, and two have an event loop and a task for each extent. An
error is a violation: no fault of the plan lasts as long as swd promises to wait, but for the silences, in which a call
may end with ETIMEDOUT.
"""

from __future__ import annotations

import asyncio
import errno
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from soak_journal import BLOCK, Journal, Numbers

from swd.aio import AsyncDisk
from swd.errors import SwdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swd.disk import Disk

EXTENTS = (1, 1, 1, 1, 2, 4, 16)  # blocks of one I/O
BATCH = 8  # I/Os of a batch
BOUND = 60.0  # seconds within which every call ends: the longest fault, back-off, replay and the ladder, with room
HELD_UP = 3.0  # seconds before a silence at which a command may have been sent that the fault before held up (TCP's
# back-off goes on behind it): the longest of the short faults, and the longest pause, of soak_faults.py

Step = Callable[["Worker"], None]


class Silences:
    """When the target was silent for longer than `deadline`, the seconds that a command may take: the only excuse for
    ETIMEDOUT, and only for calls that were under way when the deadline passed in the silence.

    An awaited call ends when its deadline passes (one that a thread makes waits for its abort as well), and that began
    when the command was sent: before the silence, where the fault before it held the command up.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._lock = threading.Lock()  # guards what follows
        self._since: float | None = None
        self._past: list[tuple[float, float]] = []
        self.excused = 0

    def begin(self) -> None:
        with self._lock:
            self._since = time.monotonic()

    def end(self) -> None:
        with self._lock:
            assert self._since is not None
            self._past.append((self._since, time.monotonic()))
            self._since = None

    def excuse(self, number: int, began: float, ended: float, *, awaited: bool = False) -> bool:
        """Whether a call of that time may have ended with that errno; counted if so."""
        earliest = self.deadline - (HELD_UP if awaited else 0.0)  # after the silence began
        with self._lock:
            silences = [*self._past, *([(self._since, ended)] if self._since is not None else [])]
            good = number == errno.ETIMEDOUT and any(
                began <= until and ended >= since + earliest for since, until in silences
            )
            self.excused += good
        return good

    def told(self, began: float, ended: float) -> str:
        """When a call began and ended, seen from the last silence."""
        with self._lock:
            past = [*self._past, *([(self._since, ended)] if self._since is not None else [])]
        if not past:
            return f"it took {ended - began:.1f} s; there was no silence"
        since, until = past[-1]
        return f"{began - since:+.1f} to {ended - since:+.1f} s; the last silence lasted {until - since:.1f} s"


@dataclass
class Totals:
    """What all workers did. `begun` and `ended` are equal when every call has ended once."""

    silences: Silences
    lock: threading.Lock = field(default_factory=threading.Lock)
    begun: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    @contextmanager
    def timed(self, what: str, count: int = 1) -> Iterator[None]:
        with self.lock:
            self.begun[what] += count
        started = time.monotonic()
        try:
            yield
        finally:
            with self.lock:
                self.ended[what] += count
                self.longest = max(self.longest, time.monotonic() - started)


class Worker:
    """One thread's work on `disk`, in its range `low..high` for writes."""

    def __init__(self, disk: Disk, journal: Journal, totals: Totals, low: int, high: int, *, seed: str) -> None:
        self._disk = disk
        self._journal = journal
        self._totals = totals
        self._low, self._high = low, high
        self._random = random.Random(seed)

    def run(self, steps: Sequence[Step], stop: threading.Event) -> None:
        while not stop.is_set():
            step = self._random.choice(steps)
            step(self)

    def _expect(self, what: str, count: int = 1) -> AbstractContextManager[None]:
        return self._totals.timed(what, count)

    def _failed(self, what: str, error: SwdError, began: float, *, awaited: bool = False) -> None:
        ended = time.monotonic()
        if not self._totals.silences.excuse(error.errno or 0, began, ended, awaited=awaited):
            when = self._totals.silences.told(began, ended)
            self._journal.violate("error", f"{what} failed: {type(error).__name__} {error.errno}: {error} ({when})")

    def write(self) -> None:
        blocks = self._extent(self._low, self._high, self._random.choice(EXTENTS))
        data = self._journal.issue(blocks)
        began = time.monotonic()
        try:
            with self._expect("write"):
                self._disk.pwrite(data, int(blocks[0]) * BLOCK)
        except SwdError as error:
            self._failed("write", error, began)
        else:
            self._journal.acknowledge(blocks)

    def read(self) -> None:
        blocks = self._extent(0, self._journal.blocks, self._random.choice(EXTENTS))
        floor = self._journal.floor(blocks)
        began = time.monotonic()
        try:
            with self._expect("read"):
                data = self._disk.pread(len(blocks) * BLOCK, int(blocks[0]) * BLOCK)
        except SwdError as error:
            self._failed("read", error, began)
        else:
            self._journal.judge("read", blocks, floor, np.frombuffer(data, np.uint64).reshape(len(blocks), -1))

    def write_many(self) -> None:
        size = self._random.choice(EXTENTS)
        extents = self._extents(self._low, self._high, size)
        blocks, errors = _flat(extents, size), np.zeros(len(extents), np.int32)
        data = self._journal.issue(blocks)
        began = time.monotonic()
        with self._expect("write", len(extents)):
            self._disk.write_many(extents * BLOCK, data, queue_depth=BATCH, errors=errors)
        self._journal.acknowledge(_flat(extents[errors == 0], size))
        self._report("write_many", errors, began)

    def read_many(self) -> None:
        size = self._random.choice(EXTENTS)
        extents = self._extents(0, self._journal.blocks, size)
        blocks, errors = _flat(extents, size), np.zeros(len(extents), np.int32)
        floor = self._journal.floor(blocks)
        began = time.monotonic()
        with self._expect("read", len(extents)):
            data = self._disk.read_many(extents * BLOCK, size * BLOCK, queue_depth=BATCH, errors=errors)
        good = np.repeat(errors == 0, size)
        rows = data.view(np.uint64).reshape(len(blocks), -1)
        self._journal.judge("read_many", blocks[good], floor[good], rows[good])
        self._report("read_many", errors, began)

    def read_stream(self) -> None:
        size = self._random.choice(EXTENTS)
        extents = self._extents(0, self._journal.blocks, size, 4 * BATCH)
        rows = extents[:, None] + np.arange(size, dtype=np.int64)
        floors = [self._journal.floor(blocks) for blocks in rows]
        began = time.monotonic()
        try:
            with self._expect("read", len(extents)):
                views = self._disk.stream(extents * BLOCK, size * BLOCK, queue_depth=BATCH)
                for blocks, floor, view in zip(rows, floors, views, strict=True):
                    self._journal.judge("stream", blocks, floor, np.frombuffer(view, np.uint64).reshape(size, -1))
        except SwdError as error:
            self._failed("stream", error, began)

    def flush(self) -> None:
        began = time.monotonic()
        try:
            with self._expect("flush"):
                self._disk.flush()
        except SwdError as error:
            self._failed("flush", error, began)

    def _report(self, what: str, errors: np.ndarray[tuple[int], np.dtype[np.int32]], began: float) -> None:
        ended = time.monotonic()
        for number in errors[errors != 0].tolist():
            if not self._totals.silences.excuse(number, began, ended):
                self._journal.violate("error", f"an I/O of {what} failed: errno {number}")

    def _extent(self, low: int, high: int, size: int) -> Numbers:
        start = self._random.randrange(low, high - size + 1)
        return np.arange(start, start + size, dtype=np.int64)

    def _extents(self, low: int, high: int, size: int, count: int = BATCH) -> Numbers:
        """First blocks of distinct extents of this size."""
        slots = (high - low) // size
        return np.array([low + size * slot for slot in self._random.sample(range(slots), count)], np.int64)


class Looped(Worker):
    """A batch at a time, too, but with a task for each of its extents, on a disk that it closes at the end."""

    def run(self, steps: Sequence[Step], stop: threading.Event) -> None:
        asyncio.run(self._tasks(stop))

    async def _tasks(self, stop: threading.Event) -> None:
        async with AsyncDisk(self._disk) as face:
            while not stop.is_set():
                size = self._random.choice(EXTENTS)
                writes = self._extents(self._low, self._high, size, BATCH // 2)
                reads = self._extents(0, self._journal.blocks, size, BATCH // 2)
                rows = np.vstack((writes, reads)).T[:, :, None] + np.arange(size, dtype=np.int64)
                todo = [call for mine, any_ in rows for call in (self._put(face, mine), self._get(face, any_))]
                await asyncio.gather(*todo)

    async def _put(self, face: AsyncDisk, blocks: Numbers) -> None:
        data = self._journal.issue(blocks)
        began = time.monotonic()
        try:
            with self._expect("awaited write"):
                await face.pwrite(data, int(blocks[0]) * BLOCK)
        except SwdError as error:
            self._failed("awaited write", error, began, awaited=True)
        else:
            self._journal.acknowledge(blocks)

    async def _get(self, face: AsyncDisk, blocks: Numbers) -> None:
        floor, data = self._journal.floor(blocks), np.empty((len(blocks), BLOCK // 8), np.uint64)
        began = time.monotonic()
        try:
            with self._expect("awaited read"):
                await face.pread_into(data, int(blocks[0]) * BLOCK)
        except SwdError as error:
            self._failed("awaited read", error, began, awaited=True)
        else:
            self._journal.judge("awaited read", blocks, floor, data)


SINGLE: tuple[Step, ...] = (Worker.read, Worker.write) * 20 + (Worker.flush,)
BATCHES: tuple[Step, ...] = (Worker.read_many, Worker.write_many, Worker.read_stream) * 10 + (Worker.flush,)


def _flat(extents: Numbers, size: int) -> Numbers:
    blocks: Numbers = (extents[:, None] + np.arange(size, dtype=np.int64)).reshape(-1)
    return blocks


def start(disks: Sequence[Disk], journal: Journal, totals: Totals, stop: threading.Event) -> list[threading.Thread]:
    """16 I/Os at a time by single calls, 16 by two batches and 16 by tasks of two event loops, spread over `disks`:
    queue depth 48 in all.
    """
    kinds = [(Worker, SINGLE)] * 16 + [(Worker, BATCHES)] * 2 + [(Looped, ())] * 2
    share = journal.blocks // len(kinds)
    threads = []
    for number, (kind, steps) in enumerate(kinds):
        disk = disks[number % len(disks)]
        if kind is Looped:
            disk = _another(disk)
        worker = kind(disk, journal, totals, number * share, (number + 1) * share, seed=f"{journal.seed}/{number}")
        arguments = (worker, steps, journal, stop)
        threads.append(threading.Thread(target=_guarded, args=arguments, name=f"soak-{number}"))
    for thread in threads:
        thread.start()
    return threads


def _another(disk: Disk) -> Disk:
    """The same unit of the same session, to be closed on its own."""
    unit: Any = disk.unit
    found: Disk = unit.session.unit(unit.lun, writable=True)
    return found


def _guarded(worker: Worker, steps: Sequence[Step], journal: Journal, stop: threading.Event) -> None:
    """A worker that dies is a violation, too: it would be work that nobody misses."""
    try:
        worker.run(steps, stop)
    except BaseException as error:
        journal.violate("worker", f"a worker died: {error!r}")
        raise
