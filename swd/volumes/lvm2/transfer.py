# SPDX-License-Identifier: Apache-2.0
"""Moves the bytes of a layer: the pieces of a range become as few and as long I/Os on the disks as they allow.

Pieces that follow each other on a disk are one I/O, though they may lie apart in the caller's buffer (that is what
striping does); I/Os of one length go as one batch. Disks that are asked for much at once are asked side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from swd.errors import MediumError, Unsupported
from swd.volumes.lvm2.layers import Layer, Piece

if TYPE_CHECKING:
    from swd.disk import Disk

SLICE: Final = 32 << 20  # bytes that are cut into pieces at a time: what a transfer needs in memory besides its buffer
SIDE_BY_SIDE: Final = 512 << 10  # bytes from which threads pay
_AT_ONCE: Final = 8


@dataclass
class Run:
    """Bytes that lie together on a disk; `places` says which parts of the buffer they are: (start, length)."""

    offset: int
    length: int
    places: list[tuple[int, int]] = field(default_factory=list)

    @property
    def together(self) -> bool:
        """Whether they lie together in the buffer, too."""
        return len(self.places) == 1


def read(layer: Layer, offset: int, length: int) -> bytes:
    """Some bytes of a layer. Raises MediumError (EIO) past its end, and what the disks raise."""
    if offset < 0 or length < 0 or offset + length > layer.size:
        raise MediumError(f"{length} bytes at {offset} of a volume that has {layer.size}")
    data = bytearray(length)
    read_into(layer, offset, memoryview(data))
    return bytes(data)


def read_into(layer: Layer, offset: int, view: memoryview) -> None:
    """Fill a buffer of bytes; the range lies inside the layer."""
    for at in range(0, len(view), SLICE):
        part = view[at : at + SLICE]
        wanted: dict[int, tuple[Disk, list[Run]]] = {}
        for piece, start in placed(layer.pieces(offset + at, len(part))):
            if piece.disk is not None:
                append(wanted.setdefault(id(piece.disk), (piece.disk, []))[1], piece, start)
            elif piece.fill is not None:
                piece.fill(part[start : start + piece.length])
        _each(_read, wanted.values(), part)


def write_from(layer: Layer, offset: int, view: memoryview) -> None:
    """Write a buffer of bytes; raises Unsupported for a layer that is not on disks as it is."""
    for at in range(0, len(view), SLICE):
        part = view[at : at + SLICE]
        wanted: dict[int, tuple[Disk, list[Run]]] = {}
        for piece, start in placed(layer.pieces(offset + at, len(part))):
            if piece.disk is None:
                raise Unsupported("this volume cannot be written")
            append(wanted.setdefault(id(piece.disk), (piece.disk, []))[1], piece, start)
        _each(_write, wanted.values(), part)


def placed(pieces: Iterable[Piece]) -> Iterable[tuple[Piece, int]]:
    """Each piece with its place in the buffer."""
    at = 0
    for piece in pieces:
        yield piece, at
        at += piece.length


def append(runs: list[Run], piece: Piece, at: int) -> None:
    """One more piece of a disk: the end of the last run, or a new one."""
    if not runs or runs[-1].offset + runs[-1].length != piece.offset:
        runs.append(Run(piece.offset, piece.length, [(at, piece.length)]))
        return
    run = runs[-1]
    run.length += piece.length
    start, length = run.places[-1]
    if start + length == at:
        run.places[-1] = (start, length + piece.length)
    else:
        run.places.append((at, piece.length))


def _each(move: object, wanted: Iterable[tuple[Disk, list[Run]]], view: memoryview) -> None:
    jobs = list(wanted)
    assert callable(move)
    if len(jobs) < 2 or len(view) < SIDE_BY_SIDE:
        for disk, runs in jobs:
            move(disk, runs, view)
        return
    with ThreadPoolExecutor(min(len(jobs), _AT_ONCE), thread_name_prefix="swd-lvm") as pool:
        for done in [pool.submit(move, disk, runs, view) for disk, runs in jobs]:
            done.result()


def _read(disk: Disk, runs: Sequence[Run], view: memoryview) -> None:
    by_length: dict[int, list[Run]] = {}
    for run in runs:
        by_length.setdefault(run.length, []).append(run)
    for length, equal in by_length.items():
        if len(equal) == 1:
            _read_run(disk, equal[0], view)
            continue
        data = disk.read_many([run.offset for run in equal], length)
        for run, row in zip(equal, data, strict=True):
            scatter(memoryview(row), run, view)


def _read_run(disk: Disk, run: Run, view: memoryview) -> None:
    start, length = run.places[0]
    target = view[start : start + length] if run.together else memoryview(bytearray(run.length))
    if disk.pread_into(target, run.offset) < run.length:
        raise MediumError(f"{disk.identity} ends before byte {run.offset + run.length}, where the volume group goes on")
    if not run.together:
        scatter(target, run, view)


def scatter(data: memoryview, run: Run, view: memoryview) -> None:
    at = 0
    for start, length in run.places:
        view[start : start + length] = data[at : at + length]
        at += length


def _write(disk: Disk, runs: Sequence[Run], view: memoryview) -> None:
    for run in runs:
        parts = [view[start : start + length] for start, length in run.places]
        disk.pwrite(parts[0] if run.together else b"".join(parts), run.offset)
