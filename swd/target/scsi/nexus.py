# SPDX-License-Identifier: Apache-2.0
"""The I_T nexus as the device server knows it: who sent a command, and which unit attentions wait for him."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

POWER_ON = (0x29, 0x00)
BUS_RESET = (0x29, 0x02)  # a target reset is SAM's hard reset
DEVICE_RESET = (0x29, 0x03)  # a LOGICAL UNIT RESET
NEXUS_LOSS = (0x29, 0x07)
CLEARED_BY_ANOTHER = (0x2F, 0x00)
MEDIUM_CHANGED = (0x28, 0x00)
MODE_PARAMETERS_CHANGED = (0x2A, 0x01)
RESERVATIONS_PREEMPTED = (0x2A, 0x03)
RESERVATIONS_RELEASED = (0x2A, 0x04)
REGISTRATIONS_PREEMPTED = (0x2A, 0x05)
ACCESS_STATE_CHANGED = (0x2A, 0x06)  # ASYMMETRIC ACCESS STATE CHANGED

_REMEMBERED = 1024  # nexuses of sessions gone; beyond that the oldest is forgotten and starts afresh


class NexusId(NamedTuple):
    """What makes an I_T nexus the same one again: initiator port and target port (RFC 7143 4.4.1).

    A target port of iSCSI is a portal group of a target, whatever portal of it is used.
    """

    initiator_name: str
    isid: bytes
    target_name: str = ""
    portal_group: int = 1


class Nexus:
    """One initiator port at one target port. Pending attentions: LUN -> (ASC, ASCQ) in the order of reporting.

    Any session's thread may establish an attention here (a reset by another initiator), so a lock guards them.
    """

    def __init__(self, identity: NexusId) -> None:
        self.identity = identity
        self._lock = threading.Lock()  # guards _pending; nothing is called under it
        self._pending: dict[int, list[tuple[int, int]]] = {}

    def establish(self, lun: int, attention: tuple[int, int]) -> None:
        """Queue a unit attention; a reset clears what is older and weaker (SAM-5 5.14), a repeated one counts once."""
        with self._lock:
            pending = self._pending.setdefault(lun, [])
            if attention in pending or POWER_ON in pending:
                return
            if attention[0] == 0x29:
                pending.clear()
            pending.append(attention)

    def waits(self, lun: int) -> bool:
        """Whether a unit attention of this unit is pending."""
        return bool(self._pending.get(lun))

    def take(self, lun: int) -> tuple[int, int] | None:
        """The next unit attention of this unit, which is thereby reported; None when there is none."""
        if not self._pending.get(lun):  # the common case, without the lock
            return None
        with self._lock:
            pending = self._pending.get(lun)
            return pending.pop(0) if pending else None


class NexusTable:
    """All I_T nexuses of one target, live or remembered, so that power-on is reported once to each."""

    def __init__(self, luns: tuple[int, ...]) -> None:
        self._luns = luns
        self._lock = threading.Lock()  # guards _known; `establish` may be called under it
        self._known: OrderedDict[NexusId, Nexus] = OrderedDict()

    def enter(self, identity: NexusId) -> Nexus:
        """The nexus of a new session: POWER ON pending the first time, I_T NEXUS LOSS when the same port comes back."""
        with self._lock:
            nexus = self._known.get(identity)
            attention = NEXUS_LOSS if nexus else POWER_ON
            if nexus is None:
                nexus = self._known[identity] = Nexus(identity)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            self._known.move_to_end(identity)
        for lun in self._luns:
            nexus.establish(lun, attention)
        return nexus

    def all(self) -> list[Nexus]:
        """All nexuses that are known."""
        with self._lock:
            return list(self._known.values())

    def establish(
        self, lun: int, attention: tuple[int, int], concerns: Callable[[NexusId], bool] = lambda _nexus: True
    ) -> None:
        """Queue a unit attention of one unit for every nexus that it concerns."""
        with self._lock:
            nexuses = [nexus for identity, nexus in self._known.items() if concerns(identity)]
        for nexus in nexuses:
            nexus.establish(lun, attention)
