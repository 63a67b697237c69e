# SPDX-License-Identifier: Apache-2.0
"""Where the bytes of a volume are: layers that cut a range into pieces, each of them on one disk or made on the spot.

A layer knows nothing of I/O; it answers `pieces(offset, length)` with what covers the range, in order and without gaps.
Layers stand on layers, and what comes out at the top lies on disks: a long read of a striped volume is still one long
read of each disk.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from swd.errors import MediumError

if TYPE_CHECKING:
    from swd.disk import Disk


class Piece(NamedTuple):
    """`length` bytes: at `offset` of `disk`, or where that is None, what `fill` puts into a buffer of that length."""

    length: int
    disk: Disk | None
    offset: int = 0
    fill: Callable[[memoryview], None] | None = None


class Layer(Protocol):
    """`size` in bytes. `pieces` is asked only for ranges inside it."""

    @property
    def size(self) -> int: ...
    def pieces(self, offset: int, length: int) -> Iterator[Piece]: ...


def zero(view: memoryview) -> None:
    view[:] = bytes(len(view))


def failing(reason: str) -> Callable[[memoryview], None]:
    """A `fill` that raises MediumError (EIO)."""

    def fail(_view: memoryview) -> None:
        raise MediumError(reason)

    return fail


class Area:
    """Bytes start..start+size-1 of a disk."""

    def __init__(self, disk: Disk, start: int, size: int) -> None:
        self.disk = disk
        self.start = start
        self.size = size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        yield Piece(length, self.disk, self.start + offset)


class Lost:
    """What cannot be read, with the reason."""

    def __init__(self, size: int, reason: str) -> None:
        self.size = size
        self.reason = reason

    def pieces(self, _offset: int, length: int) -> Iterator[Piece]:
        yield Piece(length, None, fill=failing(self.reason))


class Part:
    """Bytes start..start+size-1 of another layer."""

    def __init__(self, layer: Layer, start: int, size: int) -> None:
        self.layer = layer
        self.start = start
        self.size = size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        return self.layer.pieces(self.start + offset, length)


class Joined:
    """Layers one behind the other."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = layers
        self.starts = []
        end = 0
        for layer in layers:
            self.starts.append(end)
            end += layer.size
        self.size = end

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        index = bisect_right(self.starts, offset) - 1
        while length:
            inside = offset - self.starts[index]
            count = min(length, self.layers[index].size - inside)
            yield from self.layers[index].pieces(inside, count)
            offset, length, index = offset + count, length - count, index + 1


class Striped:
    """Chunks of `stripe` bytes dealt to the legs in turn."""

    def __init__(self, legs: Sequence[Layer], stripe: int) -> None:
        self.legs = legs
        self.stripe = stripe
        self.size = sum(leg.size for leg in legs)

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        count = len(self.legs)
        while length:
            chunk, skip = divmod(offset, self.stripe)
            part = min(length, self.stripe - skip)
            row, leg = divmod(chunk, count)
            yield from self.legs[leg].pieces(row * self.stripe + skip, part)
            offset, length = offset + part, length - part
