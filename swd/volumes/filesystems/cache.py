# SPDX-License-Identifier: Apache-2.0
"""A read-only cache of a disk's bytes, since the reader libraries ask for metadata in many small pieces.

Whole blocks of 128 KiB, the least recently used go first; who reads on where the last read ended gets eight blocks at
once. Bounded: 32 MiB. Not for two threads at a time: its owner holds a lock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from swd.errors import FileSystemError
from swd.volumes.filesystems.record import Readable

BLOCK: Final = 128 << 10
CAPACITY: Final = 256  # blocks
AHEAD: Final = 8  # blocks of one read, once reads are in sequence


class BlockCache:
    """`read(offset, length)` of a disk; `reads` counts what went to the disk."""

    def __init__(self, disk: Readable) -> None:
        self._disk = disk
        self.size = disk.size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next = -1  # the block after the last one that was fetched
        self.reads = 0

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises FileSystemError for a range outside of the disk, and what the disk raises."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise FileSystemError(f"{length} bytes at {offset} are outside of the disk, which ends at {self.size}")
        first, last = offset // BLOCK, (offset + max(length, 1) - 1) // BLOCK
        parts = [self._block(number, last) for number in range(first, last + 1)]
        skip = offset - first * BLOCK
        if len(parts) == 1:
            return parts[0][skip : skip + length]
        return b"".join(parts)[skip : skip + length]

    def drop(self) -> None:
        """Forget all: the disk may have changed."""
        self._blocks.clear()
        self._next = -1

    def _block(self, number: int, last: int) -> bytes:
        held = self._blocks.get(number)
        if held is None:
            self._fetch(number, last)
            held = self._blocks[number]
        self._blocks.move_to_end(number)
        return held

    def _fetch(self, number: int, last: int) -> None:
        """Block `number`, with those up to `last` that are wanted too, and more if the last fetch ended here."""
        count = max(last - number + 1, AHEAD if number == self._next else 1)
        count = min(count, AHEAD, -(-self.size // BLOCK) - number)
        start = number * BLOCK
        length = min(count * BLOCK, self.size - start)
        data = self._disk.pread(length, start)
        if len(data) != length:
            raise FileSystemError(f"{length} bytes at {start} could not be read whole: {len(data)} came")
        self.reads += 1
        self._next = number + count
        for n in range(count):
            self._blocks[number + n] = bytes(data[n * BLOCK : (n + 1) * BLOCK])
            self._blocks.move_to_end(number + n)
        while len(self._blocks) > CAPACITY:
            self._blocks.popitem(last=False)
