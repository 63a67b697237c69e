# SPDX-License-Identifier: Apache-2.0
"""What may be read from each block: stamped blocks, and the journal of what was acknowledged.

A block of 4 KiB carries magic, seed, its own number, its version, filler made from these, and a CRC over all. So any
block that is read tells by itself whether it is whole, ours, in its place, and how old it is. Nothing of swd is used
here: the judge stands apart from the accused.

A version is `issued` before its write is sent and `acked` when the write has returned. A block has one writer at a
time, so a read may return the version that was acked when the read began, or any later one issued before it ended.
"""

from __future__ import annotations

import threading
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096
MAGIC = 0x5357_4453_4F41_4B31
_WORDS = BLOCK // 8
_SHOWN = 20  # violations that are kept in words; all are counted

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Violation:
    """`kind`: lost (older than what was acknowledged), future (never issued), torn, foreign, or what a caller adds."""

    kind: str
    words: str


def stamped(seed: int, blocks: Numbers, versions: Numbers) -> Words:
    """The images of these blocks at these versions: shape (n, 512), uint64."""
    image = np.empty((len(blocks), _WORDS), np.uint64)
    image[:, 0], image[:, 1] = MAGIC, seed
    image[:, 2], image[:, 3] = blocks, versions
    key = image[:, 2] * np.uint64(0x9E3779B97F4A7C15) + image[:, 3] * np.uint64(0xC2B2AE3D27D4EB4F)
    image[:, 4:] = (key[:, None] + np.arange(_WORDS - 4, dtype=np.uint64)) * np.uint64(0xD6E8FEB86659FD93)
    for row in image:
        row[-1] = zlib.crc32(row[:-1])
    return image


class Journal:
    """Of one unit of `blocks` blocks, all stamped with version 0 at first. Thread-safe for writers of disjoint blocks
    and any readers.
    """

    def __init__(self, seed: int, blocks: int) -> None:
        self.seed = seed
        self.blocks = blocks
        self._issued = np.zeros(blocks, np.int64)
        self._acked = np.zeros(blocks, np.int64)
        self._lock = threading.Lock()  # guards what follows
        self.violations: list[Violation] = []
        self.violated = 0
        self.checked = 0  # blocks
        self.in_flight = 0  # blocks that were torn while their write was open: undefined, as on any disk

    def issue(self, blocks: Numbers) -> Words:
        """The next version of each of these (distinct) blocks, ready to be written."""
        self._issued[blocks] += 1
        return stamped(self.seed, blocks, self._issued[blocks])

    def acknowledge(self, blocks: Numbers) -> None:
        """The write of the last issue has returned."""
        self._acked[blocks] = self._issued[blocks]

    def floor(self, blocks: Numbers) -> Numbers:
        """To be taken before a read is sent, and given to `judge` after it."""
        return self._acked[blocks].copy()

    def judge(self, what: str, blocks: Numbers, floor: Numbers, data: Words) -> None:
        """Records a violation for each block whose bytes may not be."""
        ceiling = self._issued[blocks].copy()
        torn = 0
        for number, low, high, row in zip(blocks.tolist(), floor.tolist(), ceiling.tolist(), data, strict=True):
            kind = self._fault(row, number, low, high)
            if kind == "torn" and low < high:
                torn += 1
            elif kind is not None:
                seen = f"block {int(row[2])} version {int(row[3])} seed {int(row[1])}"
                self.violate(kind, f"{what}: block {number}, allowed {low}..{high}: found {seen}")
        with self._lock:
            self.checked += len(blocks)
            self.in_flight += torn

    def _fault(self, row: Words, block: int, low: int, high: int) -> str | None:
        if int(row[-1]) != zlib.crc32(row[:-1]):
            return "torn"
        if (int(row[0]), int(row[1]), int(row[2])) != (MAGIC, self.seed, block):
            return "foreign"
        if int(row[3]) < low:
            return "lost"
        return "future" if int(row[3]) > high else None

    def violate(self, kind: str, words: str) -> None:
        with self._lock:
            self.violated += 1
            if len(self.violations) < _SHOWN:
                self.violations.append(Violation(kind, words))
