# SPDX-License-Identifier: Apache-2.0
"""A `BlockUnit` that is a run of another one's blocks, such as a partition. It decides bounds and nothing else.

The lock is the other unit's, so that a write through a window and one through the whole disk respect each other. Every
call is held to the window's bounds here as well: what a foreign table says must never reach beyond them.
"""

from __future__ import annotations

import errno
from array import array

from swd._rangelock import Entry, RangeLock
from swd.errors import MediumError, SwdError
from swd.ioqueue import BlockUnit, Buffer


class ShiftedLock(RangeLock):
    """The lock of a run of blocks that begins at block `first` of what `whole` locks."""

    def __init__(self, whole: RangeLock, first: int) -> None:
        super().__init__()
        self._whole = whole
        self._first = first

    def write(self, first: int, count: int) -> Entry:
        return self._whole.write(self._first + first, count)

    def modify(self, first: int, count: int) -> Entry:
        return self._whole.modify(self._first + first, count)

    def try_write(self, first: int, count: int) -> Entry | None:
        return self._whole.try_write(self._first + first, count)

    @property
    def entries(self) -> int:
        return self._whole.entries

    @property
    def waiting(self) -> int:
        return self._whole.waiting


def shifted(lbas: Buffer, by: int) -> Buffer:
    """An int64 buffer of blocks, each moved by `by`."""
    if isinstance(lbas, array):  # the few commands of one long transfer: not worth numpy
        return array("q", [lba + by for lba in lbas])
    import numpy as np

    return np.asarray(lbas) + by


class Window:
    """Blocks first..first+blocks-1 of `unit`. Its methods raise MediumError (EIO; writes ENOSPC) for what lies outside,
    and otherwise what the unit's do.
    """

    def __init__(self, unit: BlockUnit, first: int, blocks: int, identity: str, *, read_only: bool = False) -> None:
        if first < 0 or blocks < 0 or first + blocks > unit.blocks:
            raise MediumError(f"{identity}: blocks {first} to {first + blocks} do not lie inside {unit.identity}")
        self.unit = unit
        self.first = first
        self.blocks = blocks
        self.block_size = unit.block_size
        self.physical_block_size = unit.physical_block_size
        self.read_only = unit.read_only or read_only
        self.identity = identity
        self.max_transfer = unit.max_transfer
        self.lock: RangeLock = ShiftedLock(unit.lock, first)

    @property
    def cache_losses(self) -> int:
        return self.unit.cache_losses

    def read_blocks(self, lba: int, buffer: Buffer) -> None:
        self._check(lba, memoryview(buffer).nbytes // self.block_size)
        self.unit.read_blocks(self.first + lba, buffer)

    def write_blocks(self, lba: int, buffer: Buffer) -> None:
        self._check(lba, memoryview(buffer).nbytes // self.block_size, errno.ENOSPC)
        self.unit.write_blocks(self.first + lba, buffer)

    def batch(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> list[tuple[int, SwdError]]:
        if len(lbas):
            each = memoryview(buffer).nbytes // self.block_size // len(lbas)
            number = errno.ENOSPC if write else errno.EIO
            self._check(int(min(lbas)), each, number)
            self._check(int(max(lbas)), each, number)
        return self.unit.batch(write, shifted(lbas, self.first), buffer, queue_depth=queue_depth)

    def flush(self) -> None:
        self.unit.flush()

    def discard(self, lba: int, blocks: int) -> None:
        self._check(lba, blocks, errno.ENOSPC)
        self.unit.discard(self.first + lba, blocks)

    def zero(self, lba: int, blocks: int) -> None:
        self._check(lba, blocks, errno.ENOSPC)
        self.unit.zero(self.first + lba, blocks)

    def close(self) -> None:
        """The unit has other users; whoever opened it closes it."""

    def _check(self, lba: int, blocks: int, number: int = errno.EIO) -> None:
        if lba < 0 or blocks < 0 or lba + blocks > self.blocks:
            raise MediumError(f"{self.identity}: {blocks} blocks at {lba} pass its end at {self.blocks}", errno=number)
