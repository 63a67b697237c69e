# SPDX-License-Identifier: Apache-2.0
"""When a command is overdue, slowly: every time that its target did something for it is kept, and looked through."""

from __future__ import annotations


class Clock:
    """One command with a deadline of `timeout` seconds. It may take four times that while data keeps moving."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.sent_at: float | None = None
        self.moved_at: list[float] = []

    def sent(self, now: float) -> None:
        """On a connection; again on the next one, where nothing has moved yet."""
        self.sent_at, self.moved_at = now, []

    def moved(self, now: float) -> None:
        """Data came, was asked for, or went."""
        self.moved_at.append(now)

    @property
    def deadline(self) -> float:
        assert self.sent_at is not None
        last = max([self.sent_at, *self.moved_at])
        return min(last + self.timeout, self.sent_at + 4 * self.timeout)
