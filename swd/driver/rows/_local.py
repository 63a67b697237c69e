# SPDX-License-Identifier: Apache-2.0
"""What the two local media share: a `swd.disk.BlockUnit` over bytes at offsets."""

from __future__ import annotations

from abc import ABC, abstractmethod

from swd import strided
from swd._rangelock import RangeLock
from swd.driver.row import Buffer
from swd.errors import SwdError

MAX_TRANSFER = 8 << 20  # bytes of one read or write; longer ones are split, so that Ctrl-C is heard between them


class LocalUnit(ABC):
    """Blocks on this host. Sub-classes move bytes; offsets and lengths are in bytes there, in blocks here."""

    max_transfer = MAX_TRANSFER
    cache_losses = 0  # the host's cache goes only with the host, and this process with it

    def __init__(
        self, size: int, block_size: int, physical_block_size: int, read_only: bool, identity: str, lock: RangeLock
    ) -> None:
        self.block_size = block_size
        self.physical_block_size = physical_block_size
        self.blocks = size // block_size
        self.read_only = read_only
        self.identity = identity
        self.lock = lock

    @abstractmethod
    def _read(self, offset: int, view: memoryview) -> None:
        """Fill `view`; `SwdError` if that fails."""

    @abstractmethod
    def _write(self, offset: int, view: memoryview) -> None:
        """Store all of `view`; `SwdError` if that fails."""

    @abstractmethod
    def _zero(self, offset: int, length: int) -> None:
        """Make the bytes read as zeros, giving storage back where the host can."""

    @abstractmethod
    def _discard(self, offset: int, length: int) -> None:
        """Give storage back where the host can."""

    @abstractmethod
    def flush(self) -> None:
        """Make what was written durable."""

    @abstractmethod
    def close(self) -> None:
        """Let the medium go. Idempotent."""

    def read_blocks(self, lba: int, buffer: Buffer) -> None:
        self._read(lba * self.block_size, memoryview(buffer).cast("B"))

    def write_blocks(self, lba: int, buffer: Buffer) -> None:
        self._write(lba * self.block_size, memoryview(buffer).cast("B"))

    def batch(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> list[tuple[int, SwdError]]:  # noqa: ARG002
        """One I/O after the other: a local medium gains nothing from a queue. `lbas`: int64; the failures are
        returned.
        """
        starts = memoryview(lbas).cast("B").cast("q")
        parts = strided.each(buffer, len(starts)) if len(starts) else iter(())
        one = self._write if write else self._read
        failures: list[tuple[int, SwdError]] = []
        for index, (lba, part) in enumerate(zip(starts, parts, strict=True)):
            try:
                one(lba * self.block_size, part)
            except SwdError as error:
                failures.append((index, error))
        return failures

    def discard(self, lba: int, blocks: int) -> None:
        self._discard(lba * self.block_size, blocks * self.block_size)

    def zero(self, lba: int, blocks: int) -> None:
        self._zero(lba * self.block_size, blocks * self.block_size)
