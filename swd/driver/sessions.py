# SPDX-License-Identifier: Apache-2.0
"""The sessions of one Driver: opens of the same target in the same way share one, and the last close logs it out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swd.driver.session import Session


class Lease:
    """One user's hold on a shared session. The lock is held while the session is made: later users wait for it."""

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.lock = threading.Lock()
        self.users = 0
        self.made: Session | None = None

    @property
    def session(self) -> Session:
        if self.made is None:
            raise RuntimeError("a lease without a session was handed out")
        return self.made

    @property
    def usable(self) -> bool:
        return self.made is None or self.made.alive


class SessionPool:
    """Sessions by key, counted. The pool's lock guards the table and the counts; nobody logs in or out under it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[Hashable, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def living(self) -> list[tuple[Hashable, Session]]:
        """The sessions that are made and alive, with their keys, the oldest first."""
        with self._lock:
            made = [(lease.key, lease.made) for lease in self._leases.values()]
        return [(key, session) for key, session in made if session is not None and session.alive]

    def acquire(self, key: Hashable, make: Callable[[], Session]) -> Lease:
        """The lease on the session of `key`, made now if there is none that lives. Raises what `make` raises.

        A session that died keeps its old users; a new one takes its place in the table.
        """
        with self._lock:
            lease = self._leases.get(key)
            if lease is None or not lease.usable:
                lease = self._leases[key] = Lease(key)
            lease.users += 1
        try:
            with lease.lock:
                if lease.made is None:
                    lease.made = make()
        except BaseException:
            self._leave(lease)
            raise
        return lease

    def release(self, lease: Lease) -> None:
        """One user less; the last one logs the session out and closes it."""
        if self._leave(lease) and lease.made is not None:
            lease.made.close()

    def _leave(self, lease: Lease) -> bool:
        with self._lock:
            lease.users -= 1
            last = lease.users == 0
            if last and self._leases.get(lease.key) is lease:
                del self._leases[lease.key]
            return last
