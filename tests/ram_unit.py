# SPDX-License-Identifier: Apache-2.0
"""A BlockUnit over a bytearray that records what it was asked, and can be told to fail or to stop in the middle."""

from __future__ import annotations

import threading
from typing import Any

from swd._rangelock import RangeLock
from swd.errors import MediumError, SwdError


class RamUnit:
    """`log` has (verb, lba, blocks); a batch is one entry with the number of its I/Os. `bad` blocks fail with EIO.

    `gate`: if set, each write waits for it after `entered` was set.
    """

    def __init__(self, blocks: int = 64, block_size: int = 512, *, max_transfer: int = 8 << 20) -> None:
        self.block_size = block_size
        self.physical_block_size = 4096
        self.blocks = blocks
        self.read_only = False
        self.identity = "ram.test"
        self.max_transfer = max_transfer
        self.lock = RangeLock()
        self.cache_losses = 0
        self.data = bytearray(blocks * block_size)
        self.log: list[tuple[str, int, int]] = []
        self.bad: set[int] = set()
        self.broken: SwdError | None = None
        self.entered = threading.Event()
        self.gate: threading.Event | None = None

    def read_blocks(self, lba: int, buffer: Any) -> None:
        view = self._moved("read", lba, buffer)
        view[:] = self.data[lba * self.block_size : lba * self.block_size + len(view)]

    def write_blocks(self, lba: int, buffer: Any) -> None:
        view = self._moved("write", lba, buffer)
        if self.gate is not None:
            self.entered.set()
            assert self.gate.wait(10)
        self.data[lba * self.block_size : lba * self.block_size + len(view)] = view

    def batch(self, write: bool, lbas: Any, buffer: Any, *, queue_depth: int) -> list[tuple[int, SwdError]]:
        assert queue_depth > 0
        starts, data = memoryview(lbas).cast("B").cast("q"), memoryview(buffer)
        view = memoryview(data.tobytes()) if write else data.cast("B")
        size, one = len(view) // len(starts), self.write_blocks if write else self.read_blocks
        assert size * len(starts) == len(view)
        before, failures = len(self.log), []
        if self.broken is not None:
            raise self.broken
        for i, lba in enumerate(starts):
            try:
                one(lba, view[i * size : (i + 1) * size])
            except SwdError as error:
                failures.append((i, error))
        self.log[before:] = [("batch write" if write else "batch read", starts[0], len(starts))]
        return failures[::-1]  # in which order they are reported is not promised

    def flush(self) -> None:
        self.log.append(("flush", 0, 0))

    def discard(self, lba: int, blocks: int) -> None:
        self.log.append(("discard", lba, blocks))

    def zero(self, lba: int, blocks: int) -> None:
        self.log.append(("zero", lba, blocks))
        self.data[lba * self.block_size : (lba + blocks) * self.block_size] = bytes(blocks * self.block_size)

    def close(self) -> None:
        self.log.append(("close", 0, 0))

    def _moved(self, verb: str, lba: int, buffer: Any) -> memoryview:
        view = memoryview(buffer)
        assert (view.format, view.ndim) == ("B", 1)
        blocks, rest = divmod(len(view), self.block_size)
        assert (blocks > 0, rest) == (True, 0), f"{len(view)} bytes are no whole blocks"
        assert len(view) <= self.max_transfer
        assert 0 <= lba <= self.blocks - blocks
        self.log.append((verb, lba, blocks))
        if self.bad.intersection(range(lba, lba + blocks)):
            raise MediumError(f"{verb} of block {lba} failed")
        return view
