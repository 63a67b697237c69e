# SPDX-License-Identifier: Apache-2.0
"""Where a session, its connection and its recovery stand, by the tables of `proto.fsm`.

The code that connects, logs in, loses, brings back and closes reports each such event here, never a PDU. Two
threads may report one loss, and a loss may be overtaken by a close: what has been reported already changes nothing. A
step that no table has is counted as `illegal_transition` and taken nowhere: book-keeping never costs anybody's I/O.
The suite fails on the first one.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from swd.iscsi.tally import PROCESS, Tally
from swd.proto import fsm

REMEMBERED = 64  # labels


class States:
    """Of one session, over all its connections. Cheap: a few steps in its life. A forked child steps nowhere."""

    def __init__(self, tally: Tally = PROCESS) -> None:
        self._tally = tally
        self._process = os.getpid()
        self._lock = threading.Lock()  # a leaf: nothing is called under it
        self._labels: deque[str] = deque(maxlen=REMEMBERED)
        self._connection = fsm.Walk(fsm.CONNECTION, self._remember)
        self._old = fsm.Walk(fsm.CONNECTION, self._remember)  # the lost connection that a new login is to end
        self._session = fsm.Walk(fsm.SESSION, self._remember)
        self._recovery = fsm.Walk(fsm.RECOVERY)

    def record(self) -> dict[str, object]:
        """The three states, and the last labels of RFC 7143 that were passed, oldest first."""
        return {
            "session": self._session.state,
            "connection": self._connection.state,
            "recovery": self._recovery.state,
            "labels": list(self._labels),
        }

    def _remember(self, row: fsm.Row) -> None:
        self._labels.append(row.label)

    def _step(self, walk: fsm.Walk, event: str) -> None:
        try:
            walk.step(event)
        except fsm.IllegalStep:
            self._tally.add("illegal_transition")

    @property
    def _here(self) -> bool:
        return self._process == os.getpid()

    # ---- connecting -----------------------------------------------------------------------------------------------

    def dialling(self) -> None:
        if not self._here:
            return
        with self._lock:
            self._lost()  # where whoever lost it has not come to say so yet
            if self._connection.state == fsm.CLEANUP_WAIT:
                self._old, self._connection = self._connection, fsm.Walk(fsm.CONNECTION, self._remember)
            if self._old.state == fsm.CLEANUP_WAIT:
                self._step(self._old, "login again")
            if self._recovery.state == fsm.PAUSING:
                self._step(self._recovery, "connect")
            self._step(self._connection, "connect")

    def connected(self) -> None:
        if self._here:
            with self._lock:
                self._step(self._connection, "connected")

    def not_logged_in(self, *, redirected: bool = False) -> None:
        """The attempt ended before LOGGED_IN."""
        if not self._here:
            return
        with self._lock:
            waiting = self._connection.state == fsm.XPT_WAIT
            self._step(self._connection, "no connection" if waiting else "login failed")
            if self._old.state == fsm.IN_CLEANUP:
                self._step(self._old, "login again failed")
            if self._recovery.state == fsm.DIALLING:
                self._step(self._recovery, "redirected" if redirected else "failed")

    def logged_in(self) -> None:
        if not self._here:
            return
        with self._lock:
            self._step(self._connection, "login done")
            if self._old.state == fsm.IN_CLEANUP:
                self._step(self._old, "login again done")
            if self._session.state == fsm.SESSION_FAILED:
                self._step(self._session, "reinstated or given up")
            self._step(self._session, "logged in")
            if self._recovery.state == fsm.DIALLING:
                self._step(self._recovery, "logged in")

    # ---- losing, and coming back ------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The connection is gone; a loss that is known already is none."""
        if self._here:
            with self._lock:
                self._lost()

    def _lost(self) -> None:
        if self._session.state != fsm.SESSION_LOGGED_IN:
            return
        if self._connection.state == fsm.FREE:  # logged out, as the target had asked for
            self._step(self._session, "closed")
        else:
            self._step(self._connection, "lost")
            self._step(self._session, "failed")
        if self._recovery.state != fsm.GIVEN_UP:
            self._step(self._recovery, "lost")

    def resumed(self) -> None:
        if self._here:
            with self._lock:
                if self._recovery.can("resumed"):  # else the new link was lost in the same moment, or all is closed
                    self._step(self._recovery, "resumed")

    # ---- leaving ----------------------------------------------------------------------------------------------------

    def asked_to_leave(self) -> None:
        if self._here:
            with self._lock:
                if self._connection.can("logout asked for"):
                    self._step(self._connection, "logout asked for")

    def leaving(self) -> None:
        if self._here:
            with self._lock:
                if self._connection.can("logout"):
                    self._step(self._connection, "logout")

    def left(self) -> None:
        """The Logout was answered; one whose answer was overtaken by the end of TCP counts as lost."""
        if self._here:
            with self._lock:
                if self._connection.can("logged out"):
                    self._step(self._connection, "logged out")

    def ended(self) -> None:
        """Nothing is brought back any more: all that is left goes to FREE."""
        if not self._here:
            return
        with self._lock:
            self._lost()
            for walk in (self._old, self._connection):
                if walk.can("login again failed"):
                    self._step(walk, "login again failed")
                if walk.can("given up"):
                    self._step(walk, "given up")
            if self._session.can("reinstated or given up"):
                self._step(self._session, "reinstated or given up")
            if self._recovery.can("given up"):
                self._step(self._recovery, "given up")
