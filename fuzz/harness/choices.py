# SPDX-License-Identifier: Apache-2.0
"""Bytes as a row of decisions, taken from the front; when they are used up, every further answer is 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """`left` is how many bytes have not been used yet: what loops over decisions ends when it is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return max(0, len(self._data) - self._at)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def bit(self) -> bool:
        return bool(self.byte() & 1)

    def number(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.some(size).ljust(size, b"\0"), "big")

    def some(self, most: int) -> bytes:
        """Up to `most` bytes as they are."""
        found = self._data[self._at : self._at + most]
        self._at += most
        return found

    def rest(self) -> bytes:
        return self.some(self.left)

    def pick(self, of: Sequence[T]) -> T:
        return of[self.byte() % len(of)]

    def sizes(self, total: int) -> list[int]:
        """`total` cut into pieces: whole, bytes, or sizes that come from the data."""
        how = self.byte()
        if how < 64 or not total:
            return [total]
        if how < 96 and total <= 512:
            return [1] * total
        cut: list[int] = []
        while (left := total - sum(cut)) > 0:
            size = 1 + self.byte() % 97 if self.left and len(cut) < 64 else left
            cut.append(min(size, left))
        return cut
