# SPDX-License-Identifier: Apache-2.0
"""Steps that are told while they happen: one line each, what was done and what came back. For `demo`."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from swd.cli.render import printable

_NAME_WIDTH = 9


@dataclass
class Step:
    """One step. `result` is filled in while it runs."""

    step: str
    result: str = ""
    ok: bool = False
    milliseconds: float = 0.0


class Story:
    """Tells each step on stdout when it has ended, unless `silent` (JSON: the steps are in the record)."""

    def __init__(self, *, silent: bool) -> None:
        self.steps: list[Step] = []
        self._silent = silent
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        self._marks = {True: "✓", False: "✗"} if _can("✓✗", encoding) else {True: "ok", False: "--"}

    def say(self, line: str = "") -> None:
        if not self._silent:
            print(line, flush=True)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Times a step and tells it; one that raises is marked as failed, and raises on."""
        told, start = Step(name), time.perf_counter()
        self.steps.append(told)
        try:
            yield told
            told.ok = True
        finally:
            told.milliseconds = round((time.perf_counter() - start) * 1000, 1)
            self.say(f"  {self._marks[told.ok]} {name:<{_NAME_WIDTH}} {printable(told.result)}".rstrip())


def _can(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
