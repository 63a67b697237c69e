# SPDX-License-Identifier: Apache-2.0
"""Arrays with parity: raid4, raid5 and raid6 in all their turns. Where a leg is lost, its bytes are computed.

`place` is md's raid5_compute_sector: for a row of chunks it says which leg has parity P, which has Q, and which each
chunk of data. Q is the sum of g^i times the i-th chunk in the field GF(2^8) with polynomial 11Dh and g = 2; in which
order the chunks count depends on the turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from swd.errors import MediumError
from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.layers import Layer, Piece
from swd.volumes.lvm2.raidstate import State
from swd.volumes.lvm2.transfer import read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

# md's numbers for the turns (drivers/md/raid5.h).
LEFT_ASYMMETRIC, RIGHT_ASYMMETRIC, LEFT_SYMMETRIC, RIGHT_SYMMETRIC, PARITY_0, PARITY_N = range(6)
ROTATING_ZERO_RESTART, ROTATING_N_RESTART, ROTATING_N_CONTINUE = 8, 9, 10
LEFT_ASYMMETRIC_6, RIGHT_ASYMMETRIC_6, LEFT_SYMMETRIC_6, RIGHT_SYMMETRIC_6, PARITY_0_6 = range(16, 21)

_DDF: Final = frozenset({ROTATING_ZERO_RESTART, ROTATING_N_RESTART, ROTATING_N_CONTINUE})


class Row(NamedTuple):
    """The legs of one row of chunks: of P, of Q (None: raid4, raid5), and of the data, in the order of the volume.

    `order`: leg -> its exponent in Q.
    """

    p: int
    q: int | None
    data: tuple[int, ...]
    order: dict[int, int]


@cache
def place(layout: int, legs: int, turn: int, q: bool) -> Row:
    """The row number `turn`, which counts modulo the legs. ValueError for a layout that is none."""
    if not q:
        p_leg, data = _one_parity(layout, legs, turn)
        return Row(p_leg, None, data, {})
    p_leg, q_leg, data = _two_parities(layout, legs, turn)
    if layout in _DDF:
        return Row(p_leg, q_leg, data, {leg: leg for leg in data})
    after_q = [(q_leg + 1 + step) % legs for step in range(legs)]
    ordered = [leg for leg in after_q if leg in data]
    return Row(p_leg, q_leg, data, {leg: index for index, leg in enumerate(ordered)})


def _one_parity(layout: int, legs: int, turn: int) -> tuple[int, tuple[int, ...]]:
    left, right = legs - 1 - turn % legs, turn % legs
    places = {
        LEFT_ASYMMETRIC: left,
        LEFT_SYMMETRIC: left,
        RIGHT_ASYMMETRIC: right,
        RIGHT_SYMMETRIC: right,
        PARITY_0: 0,
        PARITY_N: legs - 1,
    }
    if layout not in places:
        raise ValueError(layout)
    p_leg = places[layout]
    if layout in (LEFT_SYMMETRIC, RIGHT_SYMMETRIC):
        return p_leg, tuple((p_leg + 1 + index) % legs for index in range(legs - 1))
    return p_leg, tuple(leg for leg in range(legs) if leg != p_leg)


def _two_parities(layout: int, legs: int, turn: int) -> tuple[int, int, tuple[int, ...]]:
    if layout in (LEFT_ASYMMETRIC_6, RIGHT_ASYMMETRIC_6, LEFT_SYMMETRIC_6, RIGHT_SYMMETRIC_6, PARITY_0_6):
        p_leg, data = _one_parity(layout - LEFT_ASYMMETRIC_6, legs - 1, turn)  # a raid5, and Q on the last leg
        return p_leg, legs - 1, data
    if layout == PARITY_N:
        return legs - 2, legs - 1, tuple(range(legs - 2))
    if layout == PARITY_0:
        return 0, 1, tuple(range(2, legs))
    left, right = legs - 1 - turn % legs, turn % legs
    if layout == ROTATING_N_RESTART:
        p_leg = legs - 1 - (turn + 1) % legs
        q_leg = (p_leg + 1) % legs
    elif layout == ROTATING_N_CONTINUE:
        p_leg, q_leg = left, (left - 1) % legs
        return p_leg, q_leg, tuple((p_leg + 1 + index) % legs for index in range(legs - 2))
    elif layout in (LEFT_ASYMMETRIC, LEFT_SYMMETRIC, RIGHT_ASYMMETRIC, RIGHT_SYMMETRIC, ROTATING_ZERO_RESTART):
        p_leg = left if layout in (LEFT_ASYMMETRIC, LEFT_SYMMETRIC) else right
        q_leg = (p_leg + 1) % legs
    else:
        raise ValueError(layout)
    if layout in (LEFT_SYMMETRIC, RIGHT_SYMMETRIC):
        return p_leg, q_leg, tuple((p_leg + 2 + index) % legs for index in range(legs - 2))
    return p_leg, q_leg, tuple(leg for leg in range(legs) if leg not in (p_leg, q_leg))


class Parity:
    """`legs` are None where they are not here; `stripe` in bytes; `q`: two parities."""

    def __init__(self, name: str, legs: Sequence[Layer | None], state: State, stripe: int, q: bool, size: int) -> None:
        self.name = name
        self.legs = [leg if good else None for leg, good in zip(legs, state.usable, strict=True)]
        self.state = state
        self.stripe = stripe
        self.q = q
        self.size = size
        self.turns = len(legs) - 1 if state.layout >= LEFT_ASYMMETRIC_6 else len(legs)
        self.chunks = len(legs) - (2 if q else 1)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        while length:
            chunk, skip = divmod(offset, self.stripe)
            count = min(length, self.stripe - skip)
            number, index = divmod(chunk, self.chunks)
            row = place(self.state.layout, len(self.legs), number % self.turns, self.q)
            leg, at = row.data[index], number * self.stripe + skip
            layer = self.legs[leg]
            if layer is not None:
                yield from layer.pieces(at, count)
            else:
                yield Piece(count, None, fill=partial(self._rebuild, row, leg, at))
            offset, length = offset + count, length - count

    def _rebuild(self, row: Row, leg: int, at: int, view: memoryview) -> None:
        if not self.state.parity(at // SECTOR, (at + len(view) - 1) // SECTOR):
            raise MediumError(
                f"{self.name}: leg {leg} is lost ({self.state.why[leg]}), and parity is not sure at byte {at} of it"
            )
        import numpy as np

        found = rebuild(row, leg, [self._part(index, at, len(view)) for index in range(len(self.legs))])
        if found is None:
            raise MediumError(f"{self.name}: more legs are lost than parity makes up for: {self._lost()}")
        np.frombuffer(view, np.uint8)[:] = found

    def _part(self, leg: int, at: int, length: int) -> Bytes | None:
        import numpy as np

        layer = self.legs[leg]
        return None if layer is None else np.frombuffer(read(layer, at, length), np.uint8)

    def _lost(self) -> str:
        return ", ".join(f"{leg} ({why})" for leg, why in enumerate(self.state.why) if why)


# --- the arithmetic ------------------------------------------------------------------------------------------------


def rebuild(row: Row, leg: int, parts: Sequence[Any]) -> Bytes | None:
    """The bytes of a data leg of a row from those of the others (None: lost, too); None where too many are lost."""
    lost = [one for one in row.data if parts[one] is None]
    others = [one for one in lost if one != leg]
    p, q = parts[row.p], None if row.q is None else parts[row.q]
    if not others and p is not None:
        return _sum([p, *(parts[one] for one in row.data if one != leg)])
    if q is None or len(others) > (1 if p is not None else 0):
        return None
    # Q less what is known of it: g^a * A (+ g^b * B).
    known_q = _sum([q, *(_times(parts[one], _power(row.order[one])) for one in row.data if one not in lost)])
    if not others:
        return _times(known_q, _inverse(_power(row.order[leg])))
    # P less what is known of it: A + B. So (g^a + g^b) * A = (Q part) + g^b * (P part).
    known_p = _sum([p, *(parts[one] for one in row.data if one not in lost)])
    a, b = _power(row.order[leg]), _power(row.order[others[0]])
    return _times(_sum([known_q, _times(known_p, b)]), _inverse(a ^ b))


def _sum(parts: Sequence[Any]) -> Bytes:
    total: Bytes = parts[0].copy()
    for part in parts[1:]:
        total ^= part
    return total


def _times(part: Any, factor: int) -> Bytes:
    found: Bytes = _table(factor)[part]
    return found


def multiply(a: int, b: int) -> int:
    """The product of two bytes in GF(2^8)."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


@cache
def _power(exponent: int) -> int:
    value = 1
    for _ in range(exponent):
        value = multiply(value, 2)
    return value


@cache
def _inverse(value: int) -> int:
    return next(other for other in range(1, 256) if multiply(value, other) == 1)


@cache
def _table(factor: int) -> Bytes:
    import numpy as np

    return np.array([multiply(factor, value) for value in range(256)], np.uint8)
