# SPDX-License-Identifier: Apache-2.0
"""One target node at run time: its SCSI side, and the sessions that live on it. Shared by all connections' threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swd.target.config import TargetConfig
from swd.target.scsi.nexus import NexusId
from swd.target.scsi.target import ScsiTarget

if TYPE_CHECKING:
    from swd.target.normal import NormalSession


@dataclass(frozen=True, eq=False)
class Absence:
    """The time in which an initiator port has no session, after one has died."""

    identity: NexusId


class TargetNode:
    """Sessions by I_T nexus: a second one of the same initiator port takes the place of the first (RFC 7143 6.3.5)."""

    def __init__(self, config: TargetConfig, portal_groups: tuple[int, ...] = ()) -> None:
        self.config = config
        self.scsi = ScsiTarget(config, portal_groups)
        self._stilling = threading.Lock()  # one at a time has the turns of several sessions
        self._lock = threading.RLock()  # guards what follows; nothing is called under it but in `still`, `while_absent`
        self._sessions: dict[NexusId, NormalSession] = {}
        self._absences: set[Absence] = set()
        self.scsi.abort, self.scsi.still = self._abort_of, self.still

    def enter(self, session: NormalSession) -> NormalSession | None:
        """Register a session; or return the one that it reinstates, which has to end before there can be another."""
        with self._lock:
            old = self._sessions.get(session.nexus.identity)
            if old is None:
                self._sessions[session.nexus.identity] = session
                self._absences = {one for one in self._absences if one.identity != session.nexus.identity}
        return old

    def leave(self, session: NormalSession) -> None:
        """Forget a session that has ended."""
        with self._lock:
            gone = self._sessions.get(session.nexus.identity) is session
            if gone:
                del self._sessions[session.nexus.identity]
        if gone:
            self.scsi.lost(session.nexus.identity)

    def absence(self, identity: NexusId) -> Absence:
        """To be asked for by a session of that initiator port before it ends."""
        absence = Absence(identity)
        with self._lock:
            self._absences.add(absence)
        return absence

    def while_absent(self, absence: Absence, action: Callable[[], object]) -> None:
        """Do something, once, if no other session of that initiator port has begun since; none begins meanwhile."""
        with self._lock:
            if absence in self._absences:
                self._absences.discard(absence)
                action()

    def holds(self, identity: NexusId, tsih: int) -> bool:
        """Whether that session is alive."""
        with self._lock:
            session = self._sessions.get(identity)
        return session is not None and session.agreed.tsih == tsih

    def sessions(self) -> list[NormalSession]:
        """All live sessions."""
        with self._lock:
            return list(self._sessions.values())

    @contextlib.contextmanager
    def still(self) -> Iterator[list[NormalSession]]:
        """All sessions, each between two of its commands until the end of the block; meanwhile none comes or goes.

        Plain writes of the compiled path go on: those end with `tasks.abort`, and none begins once the gate of `scsi`
        was touched for a reason. Not to be asked for in a turn of one's own, for two such would wait for each other.
        """
        with self._stilling, contextlib.ExitStack() as turns:
            quiet: list[NormalSession] = []
            while True:
                with self._lock:
                    coming = [session for session in self._sessions.values() if session not in quiet]
                    if not coming:
                        yield quiet
                        return
                for session in coming:  # without the lock: one may be long at a command, and others can log in
                    turns.enter_context(session.turn)
                quiet += coming

    def _abort_of(self, lun: int, nexuses: Iterable[NexusId]) -> None:
        """Drop the write tasks of some nexuses on one unit. As for `still`: not in a turn."""
        for session in self.sessions():
            if session.nexus.identity in nexuses:
                with session.turn:
                    session.tasks.abort(lun)
