# SPDX-License-Identifier: Apache-2.0
"""A progress bar in one terminal line, without help from any library. In a pipe it writes nothing at all."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, TextIO, final

_WIDTH: Final = 28
_INTERVAL: Final = 0.1  # seconds between redraws: a terminal is slow, a disk is not
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(count: float) -> str:
    """Bytes for people: `64 MiB`, `1.5 GiB`. Exact powers lose the fraction."""
    step = 0
    while abs(count) >= 1024 and step < len(_UNITS) - 1:
        count /= 1024
        step += 1
    return f"{count:.0f} {_UNITS[step]}" if count == int(count) else f"{count:.1f} {_UNITS[step]}"


def line(word: str, done: int, total: int | None, seconds: float) -> str:
    """The bar's text after `done` bytes. A total of 0 is complete; None shows no bar, only what passed."""
    speed = f"{size_text(done / seconds)}/s" if seconds > 0 else ""
    if total is None:
        return f"{word}  {size_text(done)}  {speed}"
    share = 1.0 if total == 0 else min(1.0, done / total)
    bar = "#" * int(share * _WIDTH)
    left = f"{seconds * (1 - share) / share:.0f} s left" if 0 < share < 1 else ""
    return f"{word} [{bar:<{_WIDTH}}] {share:4.0%}  {size_text(done)} of {size_text(total)}  {speed}  {left}".rstrip()


@final
class Progress:
    """`with Progress(...) as bar: bar.add(n)`. The line is wiped at the end: what remains is the verb's answer."""

    def __init__(
        self, word: str, total: int | None, *, stream: TextIO | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._word, self._total, self._stream, self._clock = word, total, stream, clock
        self._shown = stream is not None and stream.isatty()
        self._start = clock()
        self._next = self._start + _INTERVAL
        self._drawn = 0
        self.done = 0

    def add(self, count: int) -> None:
        self.done += count
        now = self._clock()
        if self._shown and now >= self._next:
            self._next = now + _INTERVAL
            self._draw(line(self._word, self.done, self._total, now - self._start))

    @property
    def seconds(self) -> float:
        return self._clock() - self._start

    def _draw(self, text: str) -> None:
        assert self._stream is not None
        self._stream.write("\r" + text.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn:
            self._draw("")
            assert self._stream is not None
            self._stream.write("\r")
            self._stream.flush()
