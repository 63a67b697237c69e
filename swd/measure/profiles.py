# SPDX-License-Identifier: Apache-2.0
"""The loads that `swdctl bench` knows: size of an I/O, how many are under way, where they go, and what part is written.

A literal table. A profile has a load or two; which ways can carry a load follows from the load itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from swd.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20

SYNC: Final = "sync"
BATCH: Final = "batch"
STREAM: Final = "stream"
THREADS: Final = "threads"
ASYNCIO: Final = "asyncio"
UVLOOP: Final = "uvloop"
EVERY_WAY: Final = (SYNC, BATCH, STREAM, THREADS, ASYNCIO, UVLOOP)


@dataclass(frozen=True, slots=True)
class Load:
    """I/Os of `size` bytes, `depth` under way at a time, at random places or in order; `writes` is the percentage that
    writes.
    """

    profile: str
    size: int
    depth: int
    writes: int = 0
    in_order: bool = False

    @property
    def operation(self) -> str:
        order = "sequential" if self.in_order else "random"
        return f"{order} {({0: 'read', 100: 'write'}).get(self.writes, f'{100 - self.writes}/{self.writes}')}"

    @property
    def ways(self) -> tuple[str, ...]:
        """Those that can carry it, the usual one first: one call at a time has no queue, a batch has one direction, and
        a stream reads.
        """
        if self.depth == 1:
            return (SYNC, ASYNCIO, UVLOOP, BATCH)
        if self.writes == 0:
            return (BATCH, STREAM, THREADS, ASYNCIO, UVLOOP)
        if self.writes == 100:
            return (BATCH, THREADS, ASYNCIO, UVLOOP)
        return (ASYNCIO, THREADS, UVLOOP)

    def fitted(self, block_size: int, disk_size: int) -> Load:
        """The same for this disk: an I/O is at least a block. Raises InvalidArgument if the disk has no room for it."""
        size = max(self.size, block_size)
        if size > disk_size:
            raise InvalidArgument(f"the device has {disk_size} bytes, and an I/O of {self.profile} {size}")
        return Load(self.profile, size, self.depth, self.writes, self.in_order)


READS: Final = (
    Load("latency", 4 * _KIB, 1),
    Load("iops", 4 * _KIB, 32),
    Load("iops", 4 * _KIB, 128),
    Load("throughput", _MIB, 8, in_order=True),
)
WRITES: Final = (
    *(Load(load.profile, load.size, load.depth, 100, load.in_order) for load in READS),
    Load("mixed", 4 * _KIB, 32, 30),
)
PROFILES: Final = ("latency", "iops", "throughput", "mixed")


def loads(names: tuple[str, ...], *, writing: bool) -> list[Load]:
    """The loads of these profiles (none: all that there are), reads first; with writes only if `writing`."""
    known = READS + WRITES if writing else READS
    return [load for load in known if not names or load.profile in names]


class Places:
    """Where the I/Os of a load go on a disk of `disk_size` bytes: aligned to their own size, the same in each run."""

    def __init__(self, load: Load, disk_size: int, seed: int = 0) -> None:
        import numpy as np

        self._size = load.size
        self._count = disk_size // load.size
        self._next = (seed * 7919) % self._count
        self._random = None if load.in_order else np.random.default_rng(seed)

    def take(self, count: int) -> NDArray[np.int64]:
        """The next `count` byte offsets."""
        import numpy as np

        if self._random is not None:
            return self._random.integers(0, self._count, count, np.int64) * self._size
        first, self._next = self._next, (self._next + count) % self._count
        return (np.arange(first, first + count, dtype=np.int64) % self._count) * self._size
