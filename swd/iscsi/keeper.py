# SPDX-License-Identifier: Apache-2.0
"""The keeper: one daemon thread a process that looks in on idle sessions, and closes what is open at exit.

A session in use is run by the callers that wait on it. One that nobody waits on still has to answer the target's NOP-In
and to notice that the link is gone; the keeper does both, once a second, without ever waiting on a socket. The thread
begins with the first session and ends with the process. A forked child inherits no keeper and no session.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from swd.errors import SwdError

if TYPE_CHECKING:
    from swd.iscsi.trace import Trace

INTERVAL = 1.0  # seconds between two looks


class Kept(Protocol):
    def trace(self, trace: Trace | None) -> None: ...
    def look_in(self) -> None: ...
    def close_at_exit(self) -> None: ...


class _Keeper:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[Kept] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def add(self, session: Kept) -> None:
        with self._lock:
            self._sessions.add(session)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="swd-keeper", daemon=True)
                self._thread.start()

    def remove(self, session: Kept) -> None:
        with self._lock:
            self._sessions.discard(session)

    def close_all(self) -> None:
        self._stop.set()
        for session in self._snapshot():
            session.close_at_exit()

    def sessions(self) -> list[Kept]:
        return self._snapshot()

    def _snapshot(self) -> list[Kept]:
        with self._lock:
            return list(self._sessions)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._look_round()

    def _look_round(self) -> None:
        for session in self._snapshot():
            try:
                session.look_in()
            except SwdError:
                self.remove(session)  # dead or closed: whoever uses it next is told why


_keeper = _Keeper()


def keep(session: Kept) -> None:
    _keeper.add(session)


def sessions() -> list[Kept]:
    """All that live: for traces and statistics of the process."""
    return _keeper.sessions()


def forget(session: Kept) -> None:
    _keeper.remove(session)


def _in_child() -> None:
    global _keeper
    _keeper = _Keeper()  # the parent's may be locked by a thread that does not exist here


def _at_exit() -> None:
    _keeper.close_all()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
