# SPDX-License-Identifier: Apache-2.0
"""A logical volume as a `BlockUnit`, so that a Disk can stand on it. Batches stay batches on the disks below."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from swd import strided
from swd._rangelock import RangeLock
from swd.errors import BatchError, MediumError, SwdError, Unsupported
from swd.ioqueue import Buffer
from swd.volumes.lvm2 import transfer
from swd.volumes.lvm2.layers import Layer, Piece

if TYPE_CHECKING:
    from swd.disk import Disk

MAX_TRANSFER: Final = 8 << 20


class VolumeUnit:
    """`disks` are those that the volume may touch; all were opened for writing where `read_only` is False.

    `lock` is to be one for each volume of a process. Raises what the disks raise, and MediumError (EIO) for what is
    missing, stale or damaged.
    """

    max_transfer = MAX_TRANSFER

    def __init__(
        self, layer: Layer, disks: list[Disk], identity: str, *, read_only: bool, lock: RangeLock, refusal: str = ""
    ) -> None:
        self.layer = layer
        self.disks = disks
        self.identity = identity
        self.read_only = read_only
        self.lock = lock
        self.refusal = refusal  # why it is read-only
        self.block_size = max((disk.block_size for disk in disks), default=512)
        self.physical_block_size = max((disk.physical_block_size for disk in disks), default=512)
        self.blocks = layer.size // self.block_size

    @property
    def cache_losses(self) -> int:
        return sum(disk.unit.cache_losses for disk in self.disks)

    def read_blocks(self, lba: int, buffer: Buffer) -> None:
        view = memoryview(buffer).cast("B")
        self._check(lba, len(view), errno.EIO)
        transfer.read_into(self.layer, lba * self.block_size, view)

    def write_blocks(self, lba: int, buffer: Buffer) -> None:
        self._require_writable()
        view = memoryview(buffer).cast("B")
        self._check(lba, len(view), errno.ENOSPC)
        transfer.write_from(self.layer, lba * self.block_size, view)

    def batch(self, write: bool, lbas: Buffer, buffer: Buffer, *, queue_depth: int) -> list[tuple[int, SwdError]]:
        starts = memoryview(lbas).cast("B").cast("q").tolist()
        view = strided.flat(buffer)
        size = len(view) // len(starts) if starts else 0
        if not size:
            return []
        for lba in (min(starts), max(starts)):
            self._check(lba, size, errno.ENOSPC if write else errno.EIO)
        if write:
            self._require_writable()
        if self._as_run(write, starts, size, view):
            return []
        return self._as_batches(write, starts, size, view, queue_depth)

    def _as_run(self, write: bool, starts: list[int], size: int, view: memoryview) -> bool:
        """I/Os that follow each other are one long transfer; False if they do not, or if that failed."""
        step = size // self.block_size
        if any(second - first != step for first, second in pairwise(starts)):
            return False
        try:
            (self.write_blocks if write else self.read_blocks)(starts[0], view)
        except SwdError:
            return False  # which of them it was, is found out one by one
        return True

    def _as_batches(
        self, write: bool, starts: list[int], size: int, view: memoryview, queue_depth: int
    ) -> list[tuple[int, SwdError]]:
        """Those that lie on one disk each go as one batch a disk; the others by themselves."""
        failures: list[tuple[int, SwdError]] = []
        by_disk: dict[int, tuple[Disk, list[int], list[int]]] = {}
        for index, lba in enumerate(starts):
            pieces: list[Piece] = []
            try:
                pieces = list(self.layer.pieces(lba * self.block_size, size))
            except SwdError as error:
                failures.append((index, error))
                continue
            disk = pieces[0].disk
            if len(pieces) == 1 and disk is not None:
                _, offsets, indexes = by_disk.setdefault(id(disk), (disk, [], []))
                offsets.append(pieces[0].offset)
                indexes.append(index)
            else:
                failures += self._one(write, index, lba, view[index * size : (index + 1) * size])
        for disk, offsets, indexes in by_disk.values():
            failures += _on_disk(write, disk, offsets, indexes, size, view, queue_depth)
        return failures

    def _one(self, write: bool, index: int, lba: int, view: memoryview) -> list[tuple[int, SwdError]]:
        try:
            (self.write_blocks if write else self.read_blocks)(lba, view)
        except SwdError as error:
            return [(index, error)]
        return []

    def flush(self) -> None:
        """Not through the Disks: each would tell of a lost cache by itself, and this volume's own Disk does."""
        for disk in self.disks:
            disk.unit.flush()

    def discard(self, lba: int, blocks: int) -> None:
        for disk, offset, length in self._places(lba, blocks):
            disk.discard(offset=offset, length=length)

    def zero(self, lba: int, blocks: int) -> None:
        for disk, offset, length in self._places(lba, blocks):
            disk.zero(offset=offset, length=length)

    def _places(self, lba: int, blocks: int) -> list[tuple[Disk, int, int]]:
        """Where a range lies, as long runs."""
        self._require_writable()
        self._check(lba, blocks * self.block_size, errno.ENOSPC)
        runs: dict[int, tuple[Disk, list[transfer.Run]]] = {}
        for piece, at in transfer.placed(self.layer.pieces(lba * self.block_size, blocks * self.block_size)):
            if piece.disk is None:
                raise Unsupported("this volume cannot be written")
            transfer.append(runs.setdefault(id(piece.disk), (piece.disk, []))[1], piece, at)
        return [(disk, run.offset, run.length) for disk, several in runs.values() for run in several]

    def close(self) -> None:
        """Whoever opened the disks closes them."""

    def _require_writable(self) -> None:
        if self.read_only:
            raise MediumError(f"{self.identity} is read-only: {self.refusal}", errno=errno.EROFS)

    def _check(self, lba: int, length: int, number: int) -> None:
        if lba < 0 or lba * self.block_size + length > self.layer.size:
            raise MediumError(f"{self.identity}: {length} bytes at block {lba} pass its end", errno=number)


def _on_disk(
    write: bool, disk: Disk, offsets: list[int], indexes: list[int], size: int, view: memoryview, queue_depth: int
) -> list[tuple[int, SwdError]]:
    import numpy as np

    rows: Any = np.frombuffer(view, np.uint8).reshape(-1, size)
    whole = len(indexes) == len(rows)  # then in the order of the buffer: no copy
    try:
        if write:
            disk.write_many(offsets, rows if whole else rows[indexes], queue_depth=queue_depth)
        elif whole:
            disk.read_many(offsets, size, rows, queue_depth=queue_depth)
        else:
            rows[indexes] = disk.read_many(offsets, size, queue_depth=queue_depth)
    except BatchError as error:
        cause = error.__cause__ if isinstance(error.__cause__, SwdError) else error
        return [
            (index, MediumError(cause.reason, errno=number))
            for index, number in zip(indexes, error.results, strict=True)
            if number
        ]
    return []
