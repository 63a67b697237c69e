# SPDX-License-Identifier: Apache-2.0
"""The steps of a pass, in boot order, and how each of them ended. Records only: nothing here does anything."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from swd.driver.boot_order import BootOrder, Group
from swd.errors import SwdError

DISCOVER: Final = "discover"
LOGIN: Final = "login"
GROUP: Final = "volume group"
FILESYSTEM: Final = "file system"
KINDS: Final = (DISCOVER, LOGIN, GROUP, FILESYSTEM)  # the boot order

OPEN, DONE, WARNING, FAILED = "open", "done", "warning", "failed"


@dataclass
class Step:
    """One thing that is asked for. `error` is why it failed; `notes` is what people read beside it."""

    kind: str
    name: str
    group: Group | None = None
    result: str = OPEN
    error: SwdError | None = None
    notes: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)  # DEVs that a login has seen
    seconds: float = 0.0  # from the start of the pass to the end of the step

    @property
    def settled(self) -> bool:
        return self.result != OPEN

    def row(self) -> dict[str, Any]:
        """For people and for JSON (docs/schemas/startup.schema.json)."""
        number = 0 if self.error is None else self.error.errno or errno.EIO
        return {
            "step": self.kind,
            "name": self.name,
            "result": self.result,
            "errno": errno.errorcode.get(number, f"E{number}") if number else None,
            "seconds": round(self.seconds, 3),
            "detail": "; ".join(dict.fromkeys(note.splitlines()[0] for note in self.notes if note)),
        }


@dataclass(frozen=True)
class Report:
    """How a pass ended. `failure` is the first failure in boot order, which decides the exit status."""

    number: int
    steps: tuple[Step, ...]

    @property
    def failure(self) -> SwdError | None:
        return next((step.error for step in self.steps if step.result == FAILED), None)

    @property
    def whole(self) -> bool:
        """Whether nothing is left to heal: no failure, and no warning either."""
        return all(step.result == DONE for step in self.steps)

    def rows(self) -> list[dict[str, Any]]:
        return [step.row() for step in self.steps]

    def record(self) -> dict[str, Any]:
        count = {word: sum(step.result == word for step in self.steps) for word in (DONE, WARNING, FAILED)}
        return {"pass": self.number, **count, "steps": self.rows()}


def steps(order: BootOrder, wanted: Sequence[str]) -> Iterator[Step]:
    """The steps of `order`; `wanted` are targets to log in to that it does not name itself."""
    yield from (Step(DISCOVER, portal) for portal in order.discover)
    yield from (Step(LOGIN, name) for name in dict.fromkeys((*order.login, *wanted)))
    yield from (Step(GROUP, group.name, group) for group in order.volume_groups)
    yield from (Step(FILESYSTEM, dev) for dev in order.filesystems)
