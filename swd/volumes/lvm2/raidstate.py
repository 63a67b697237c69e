# SPDX-License-Identifier: Apache-2.0
"""Which legs of a raid array may be read, and where their agreement may be relied on.

Decided from the superblocks, before a byte of data is read, by one rule: better EIO than wrong data. A leg is used if
it is there, its superblock is as new as the newest, no superblock says that it failed, and it is not being rebuilt.
Legs agree, and parity is right, up to where resync has come and outside what the bitmap has as dirty. Bits that are
dirty only because the array went on without a leg do not count against parity: md keeps them until that leg is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from swd.errors import MediumError, SwdError, Unsupported
from swd.volumes.lvm2 import superblock
from swd.volumes.lvm2.layers import Layer
from swd.volumes.lvm2.superblock import ALL, BITMAP_AT, MOST_BITMAP, Bitmap, Superblock
from swd.volumes.lvm2.transfer import read


@dataclass(frozen=True)
class Leg:
    """A leg as the metadata text names it; `meta` and `image` are None where a physical volume of it is missing."""

    name: str
    meta: Layer | None
    image: Layer | None
    rebuild: bool = False


@dataclass(frozen=True)
class Shape:
    """What the segment says of the array; `layouts` are md's numbers that mean it, `stripe` is in sectors."""

    level: int
    layouts: tuple[int, ...]
    stripe: int

    @property
    def parity(self) -> bool:
        return self.level in (4, 5, 6)


@dataclass(frozen=True)
class State:
    """`usable[i]`: leg i may be read. `expected[i]`: the array counts leg i as good, whether it is here or not.

    `synced` sectors from the start on are in agreement, but for what `bitmaps` have as dirty. `why[i]` says in words
    why a leg is not used.
    """

    usable: tuple[bool, ...]
    expected: tuple[bool, ...]
    synced: int
    bitmaps: tuple[Bitmap | None, ...]
    why: tuple[str, ...]
    layout: int

    def agree(self, first: int, last: int) -> bool:
        """Whether all expected legs agree on these sectors (both included)."""
        if last >= self.synced:
            return False
        return not any(one is None or one.dirty(first, last) for one in self.bitmaps)

    def parity(self, first: int, last: int) -> bool:
        """Whether parity may be relied on for these sectors."""
        return last < self.synced if not all(self.expected) else self.agree(first, last)

    @property
    def first_expected(self) -> int:
        """The leg that resync copies from."""
        return self.expected.index(True)


def judge(name: str, legs: Sequence[Leg], shape: Shape, *, nosync: bool) -> State:
    """The state of an array. `nosync`: the text says that it was made without a first resync; then copies agree in all
    that was ever written, and parity nowhere for certain.

    Raises Unsupported (EOPNOTSUPP) for an array that is being reshaped or is not what the text says; MediumError (EIO)
    where no superblock can be had.
    """
    looked = [_looked(leg) for leg in legs]
    legs, blocks = [leg for leg, _ in looked], [block for _, block in looked]
    known = [block for block in blocks if block is not None]
    if not known:
        return _never_used(name, legs, shape, nosync)
    newest = max(known, key=lambda block: block.events)
    failed = frozenset().union(*(block.failed for block in known if block.events == newest.events))
    newest = replace(newest, failed=failed)
    _check(name, newest, len(legs), shape)
    why = [_why(index, leg, block, newest) for index, (leg, block) in enumerate(zip(legs, blocks, strict=True))]
    expected = [
        index not in newest.failed and not leg.rebuild and (block is None or block.recovery == ALL)
        for index, (leg, block) in enumerate(zip(legs, blocks, strict=True))
    ]
    # A leg without a superblock beside legs that have one is new, and holds nothing yet.
    for index, (leg, block) in enumerate(zip(legs, blocks, strict=True)):
        if block is None and leg.meta is not None and leg.image is not None:
            expected[index] = False
    if not any(expected):
        raise MediumError(f"{name}: no leg of the array is good")
    usable = tuple(not reason for reason in why)
    bitmaps = tuple(_bitmap(leg, newest) for leg, good in zip(legs, usable, strict=True) if good)
    synced = 0 if nosync and shape.parity else newest.resync
    return State(usable, tuple(expected), synced, bitmaps, tuple(why), newest.layout)


def _looked(leg: Leg) -> tuple[Leg, Superblock | None]:
    """A leg and its superblock; one whose superblock cannot be read is as good as not there."""
    if leg.meta is None or leg.image is None:
        return leg, None
    try:
        return leg, superblock.parse(read(leg.meta, 0, min(4096, leg.meta.size)))
    except SwdError:
        return Leg(leg.name, None, None, leg.rebuild), None


def _never_used(name: str, legs: Sequence[Leg], shape: Shape, nosync: bool) -> State:
    if any(leg.meta is None or leg.image is None for leg in legs):
        raise MediumError(f"{name}: no superblock can be read: which legs are good is not known")
    count = len(legs)
    synced = ALL if nosync and not shape.parity else 0
    return State((True,) * count, (True,) * count, synced, (), ("",) * count, shape.layouts[0])


def _check(name: str, block: Superblock, count: int, shape: Shape) -> None:
    if block.incompatible or block.reshaping or block.data_offset:
        raise Unsupported(f"{name}: the array is being reshaped, or was: read it where device-mapper runs")
    found = (block.devices, block.level, block.stripe)
    if found != (count, shape.level, shape.stripe) or block.layout not in shape.layouts:
        raise Unsupported(
            f"{name}: its superblock is of level {block.level} with layout {block.layout:#x}, {block.devices} legs and "
            f"stripes of {block.stripe} sectors, and its metadata says otherwise: a conversion is under way"
        )


def _why(index: int, leg: Leg, block: Superblock | None, newest: Superblock) -> str:
    """Why a leg must not be read; "" if it may."""
    if leg.image is None or leg.meta is None:
        return "a physical volume of it is missing"
    if block is None:
        return "it has no superblock: it is new and was not filled yet"
    if block.position != index:
        return f"its superblock is that of leg {block.position}"
    if index in newest.failed:
        return "it failed, and the array went on without it"
    if block.events != newest.events:
        return f"it is stale: its superblock counts {block.events} events, the newest {newest.events}"
    if leg.rebuild or block.recovery != ALL:
        return "it is being rebuilt"
    return ""


def _bitmap(leg: Leg, newest: Superblock) -> Bitmap | None:
    assert leg.meta is not None
    if leg.meta.size <= BITMAP_AT:
        return None
    found = superblock.bitmap(read(leg.meta, BITMAP_AT, min(leg.meta.size - BITMAP_AT, MOST_BITMAP)))
    return found if found is not None and found.events >= newest.events else None
