# SPDX-License-Identifier: Apache-2.0
"""One unit over several sessions (`sessions=N`): whose turn the next I/O is, and how a batch is shared out.

The first unit is the one that everybody knows: its identity, its lock, its flush, which is the whole disk's. The others
only carry reads and writes. A batch runs in as many threads as there are sessions, each with an equal stretch of it;
without the GIL they really run at once. It pays where there are cores for them; docs/fastpath.md has what two sessions
are worth on two cores.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from swd import strided
from swd.errors import SwdError
from swd.scsi.runner import Buffer

if TYPE_CHECKING:
    from swd.scsi.unit import LogicalUnit

_LEAST = 16  # I/Os for which a thread of their own is worth starting

Failures = list[tuple[int, SwdError]]


class Spread:
    """Units of one disk, each on a session of its own. All methods may be called from many threads."""

    def __init__(self, units: tuple[LogicalUnit, ...]) -> None:
        self.units = units
        self._turns = itertools.cycle(units)  # `next` on it is one step of the interpreter: no lock

    def turn(self) -> LogicalUnit:
        return next(self._turns)

    def batch(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> Failures:
        """As `LogicalUnit.batch`: returns or raises when the last part has ended."""
        starts = memoryview(lbas).cast("B").cast("q")
        view = strided.flat(buffer)
        size = len(view) // len(starts)
        shares = _shares(len(starts), min(len(self.units), len(starts) // _LEAST) or 1)
        depth = -(-queue_depth // len(shares))
        parts = [
            _Part(unit, write, first, starts[first:end], view[first * size : end * size], depth)
            for unit, (first, end) in zip(self.units, shares, strict=False)
        ]
        threads = [threading.Thread(target=part.run, name="swd batch", daemon=True) for part in parts[1:]]
        for thread in threads:
            thread.start()
        try:
            parts[0].run()
        finally:
            for thread in threads:
                thread.join()  # their part of the buffer is in use until then; their deadlines see to it
        for part in parts:
            if part.error is not None:
                raise part.error
        return [failure for part in parts for failure in part.failures]


class _Part:
    def __init__(
        self, unit: LogicalUnit, write: bool, first: int, starts: memoryview, view: memoryview, depth: int
    ) -> None:
        self._unit, self._write, self._first, self._depth = unit, write, first, depth
        self._starts, self._view = starts, view
        self.failures: Failures = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            failed = self._unit.batch_here(self._write, self._starts, self._view, queue_depth=self._depth)
        except BaseException as error:  # noqa: BLE001  # raised by the thread that began it all
            self.error = error
        else:
            self.failures = [(self._first + index, error) for index, error in failed]


def _shares(count: int, parts: int) -> list[tuple[int, int]]:
    """(first, end) of `parts` stretches of nearly equal length."""
    ends = [count * (number + 1) // parts for number in range(parts)]
    return list(zip([0, *ends[:-1]], ends, strict=True))
