# SPDX-License-Identifier: Apache-2.0
"""Arrays that keep copies: raid1, raid10, and the older mirror. The first leg in good standing is read.

Where legs may differ, only the leg counts that a resync would copy from; if that one is not here, the range is EIO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.layers import Layer, Piece, failing
from swd.volumes.lvm2.raidstate import State

Agree = Callable[[int, int], bool]  # (first sector, last sector) of the volume


class Copies:
    """Legs with the same content. `usable` legs may be read; `source` is the one that a resync copies from."""

    def __init__(
        self,
        name: str,
        legs: Sequence[Layer | None],
        usable: Sequence[bool],
        source: int,
        agree: Agree,
        step: int,
        size: int,
    ) -> None:
        self.name = name
        self.legs = legs
        self.usable = [index for index, good in enumerate(usable) if good]
        self.source = source
        self.agree = agree
        self.step = step  # bytes: what is asked about at a time
        self.size = size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        if not self.usable:
            yield Piece(length, None, fill=failing(f"{self.name}: no leg is left that may be read"))
            return
        leg = self.legs[self.usable[0]]
        assert leg is not None
        if self.usable[0] == self.source:
            yield from leg.pieces(offset, length)
            return
        while length:
            count = min(length, self.step - offset % self.step)
            if self.agree(offset // SECTOR, (offset + count - 1) // SECTOR):
                yield from leg.pieces(offset, count)
            else:
                reason = f"{self.name}: the legs may differ at byte {offset}, and the one that counts is not here"
                yield Piece(count, None, fill=failing(reason))
            offset, length = offset + count, length - count


class Raid10:
    """Chunks in `copies` copies on neighbouring legs, over all legs in turn (md's near layout)."""

    def __init__(
        self, name: str, legs: Sequence[Layer | None], state: State, stripe: int, copies: int, size: int
    ) -> None:
        self.name = name
        self.legs = legs
        self.state = state
        self.stripe = stripe
        self.copies = copies
        self.size = size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        while length:
            chunk, skip = divmod(offset, self.stripe)
            count = min(length, self.stripe - skip)
            yield from self._chunk(chunk, skip, offset, count)
            offset, length = offset + count, length - count

    def _chunk(self, chunk: int, skip: int, offset: int, count: int) -> Iterator[Piece]:
        row, first = divmod(chunk * self.copies, len(self.legs))
        places = []
        for copy in range(self.copies):
            more, leg = divmod(first + copy, len(self.legs))
            places.append((leg, (row + more) * self.stripe + skip))
        source = next((leg for leg, _ in places if self.state.expected[leg]), None)
        agree = None
        for leg, at in places:
            layer = self.legs[leg]
            if layer is None or not self.state.usable[leg]:
                continue
            if leg != source and agree is None:
                agree = self.state.agree(offset // SECTOR, (offset + count - 1) // SECTOR)
            if leg == source or agree:
                yield from layer.pieces(at, count)
                return
        reason = f"{self.name}: no copy of the chunk at byte {offset} is left that may be read"
        yield Piece(count, None, fill=failing(reason))
