# SPDX-License-Identifier: Apache-2.0
"""The reservations of one unit as its commands see them: one lock, one table that is replaced, and what keeps it.

Every change is decided on a copy (`reservations`), then kept if that was asked for, then made true: a state that
could not be kept was never there (SPC-4 5.12.5).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from swd.target.scsi.nexus import NexusId
from swd.target.scsi.reservations import NOTHING, Conflict, Step, Table


class Keeper(Protocol):
    """What survives the server: `store.ReservationFile` for one unit."""

    def keep(self, table: Table) -> None:
        """Make it durable; MediumError if that fails."""


class Registry:
    """`active` is True while anything is reserved at all; `table` may be read without the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards table and legacy; a Keeper may write under it
        self.table = Table()
        self.legacy: NexusId | None = None  # who holds RESERVE(6)
        self.keeper: Keeper | None = None

    @property
    def active(self) -> bool:
        """Whether some nexus may be refused something."""
        return bool(self.table.kind) or self.legacy is not None

    def restore(self, table: Table, keeper: Keeper) -> None:
        """Take up what was kept, at power on: the generation counts from 0 again (SPC-4 6.15.2)."""
        with self._lock:
            self.table, self.keeper = table, keeper

    def refuses(self, nexus: NexusId, need: str) -> bool:
        """Whether a command of this nexus ends with RESERVATION CONFLICT."""
        if self.legacy is not None and self.legacy != nexus and need != NOTHING:
            return True
        return self.table.refuses(nexus, need)

    def change(self, decide: Callable[[Table], Step]) -> Step:
        """Carry a service action out. Raises what `decide` raises, and MediumError if the change cannot be kept."""
        with self._lock:
            if self.legacy is not None:  # his or ours: the two ways do not mix (SPC-4 5.12.3)
                raise Conflict("the unit is reserved by RESERVE(6)")
            step = decide(self.table)
            if self.keeper is not None and step.table != self.table and (step.table.aptpl or self.table.aptpl):
                self.keeper.keep(step.table)
            self.table = step.table
        return step

    def reserve_legacy(self, nexus: NexusId) -> bool:
        """RESERVE(6); False if it conflicts: with another's, or with any registration (SPC-4 5.12.3)."""
        with self._lock:
            if self.legacy not in (None, nexus) or self.table.keys:
                return False
            self.legacy = nexus
            return True

    def release_legacy(self, nexus: NexusId) -> bool:
        """RELEASE(6): who holds nothing changes nothing; False with registrations about."""
        with self._lock:
            if self.table.keys:
                return False
            if self.legacy == nexus:
                self.legacy = None
            return True

    def lost(self, nexus: NexusId) -> None:
        """The nexus is gone, and its RESERVE(6) with it."""
        with self._lock:
            if self.legacy == nexus:
                self.legacy = None

    def reset(self) -> None:
        """A reset ends RESERVE(6)."""
        with self._lock:
            self.legacy = None
