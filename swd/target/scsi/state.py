# SPDX-License-Identifier: Apache-2.0
"""What a logical unit remembers between commands, whichever targets and portal groups it is served by.

A `Lun` has one `UnitState`; a `Lun` that two targets serve is one unit, with one reservation and one write protection.
Whether it stands in the way of a plain READ or WRITE says `LogicalUnit.unhindered`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from swd.target.scsi.changes import Changes
from swd.target.scsi.registry import Registry
from swd.target.scsi.reservations import Told

if TYPE_CHECKING:
    from swd.target.scsi.nexus import NexusId
    from swd.target.scsi.target import ScsiTarget

Attention = tuple[int, int]


class UnitState:
    """Shared by the threads of all connections. `lock` guards what is changed by more than one assignment, and makes
    COMPARE AND WRITE and its kin exclude each other; the medium may be used under it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.registry = Registry()
        self.write_protected: bool = False  # SWP of the control mode page
        self.write_cache: bool = True  # WCE of the caching mode page
        self.present = True  # a medium is there; removable units only
        self.prevented: set[NexusId] = set()  # who forbids its removal
        self.sanitizing: float | None = None  # how much is done, 0..1, while SANITIZE runs
        self.sanitize_failed: bool = False
        self.exit_allowed = False  # AUSE of the SANITIZE that failed
        self.changes = Changes(self.lock)  # of the medium
        self._served: list[tuple[weakref.ref[ScsiTarget], int]] = []

    @property
    def ready(self) -> bool:
        """Whether the medium can be used at all."""
        return self.present and self.sanitizing is None and not self.sanitize_failed

    def serve(self, target: ScsiTarget, lun: int) -> None:
        """For a target that serves the unit: it is told of what concerns the unit, by this LUN."""
        self._served = [(reference, of) for reference, of in self._served if reference() is not None]
        self._served.append((weakref.ref(target), lun))

    def touch(self) -> None:
        """Something changed here: compiled data paths of all targets are to ask again what they may do."""
        for target, _ in self.everywhere():
            target.gate.touch()

    def tell(self, attention: Attention, concerns: Callable[[NexusId], bool]) -> None:
        """Establish a unit attention for all nexuses that it concerns."""
        for target, lun in self.everywhere():
            target.establish(lun, attention, concerns)

    def everywhere(self) -> list[tuple[ScsiTarget, int]]:
        """The targets that serve the unit, and its LUN at each: what ends the unit's tasks ends them at all of them."""
        return [(target, lun) for reference, lun in self._served if (target := reference()) is not None]

    def tell_each(self, told: tuple[Told, ...]) -> None:
        """Establish what a change of reservations brought about."""
        for nexus, attention in told:
            self.tell(attention, lambda identity, only=nexus: identity == only)  # type: ignore[misc]

    def lost(self, nexus: NexusId) -> None:
        """An I_T nexus is gone: what it held by RESERVE(6) and PREVENT is free (SPC-2 5.5.1, SPC-4 6.15)."""
        with self.lock:
            self.prevented.discard(nexus)
        self.registry.lost(nexus)
        self.touch()

    def reset(self) -> None:
        """A reset of the unit: mode parameters, RESERVE(6) and PREVENT as at power on; registrations stay."""
        with self.lock:
            self.prevented.clear()
            self.write_protected, self.write_cache = False, True
        self.registry.reset()
        self.touch()
