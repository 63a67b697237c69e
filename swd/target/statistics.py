# SPDX-License-Identifier: Apache-2.0
"""What the server counts, for tests to assert on and for `--stats` to print."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypedDict, cast

_EVENTS = ("accepts", "logins", "login_failures", "reinstatements", "protocol_errors", "digest_errors")
_TRAFFIC = ("bytes_in", "bytes_out", "header_digests_checked", "data_digests_checked")


class Snapshot(TypedDict):
    """All counts at one moment; PDUs by the name of their opcode, such as SCSI_COMMAND, faults by kind."""

    accepts: int
    logins: int
    login_failures: int
    reinstatements: int
    protocol_errors: int
    digest_errors: int
    sessions_open: int
    bytes_in: int
    bytes_out: int
    header_digests_checked: int
    data_digests_checked: int
    pdus_in: dict[str, int]
    pdus_out: dict[str, int]
    faults: dict[str, int]


Traffic = Callable[[], "Counter[str]"]


class Statistics:
    """Events of the server, and the traffic of its connections, which each of them counts for itself.

    A connection's counts are written by its thread only and are added to the total when the connection ends, so that
    counting costs the data path no lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards everything here; only traffic functions are called under it
        self._total: Counter[str] = Counter()
        self._live: list[Traffic] = []

    def count(self, event: str) -> None:
        """One more of an event."""
        with self._lock:
            self._total[event] += 1

    def connected(self, traffic: Traffic) -> None:
        """A new connection, and the function that gives a copy of what it has counted; from any thread."""
        with self._lock:
            self._live.append(traffic)

    def disconnected(self, traffic: Traffic) -> None:
        """Add a finished connection's traffic to the total."""
        with self._lock:
            self._live.remove(traffic)
            self._total.update(traffic())

    def snapshot(self, sessions_open: int, faults: Mapping[str, int] = MappingProxyType({})) -> Snapshot:
        """A copy of all counts. `faults`: those that a plan has injected, by kind."""
        with self._lock:
            total = self._total.copy()
            for traffic in self._live:
                total.update(traffic())
        by_direction: dict[str, dict[str, int]] = {"in": {}, "out": {}}
        for name, count in total.items():
            direction, dot, opcode = name.partition(".")
            if dot:
                by_direction[direction][opcode] = count
        plain = {name: total[name] for name in (*_EVENTS, *_TRAFFIC)}
        pdus = {"pdus_in": by_direction["in"], "pdus_out": by_direction["out"]}
        return cast(Snapshot, {**plain, **pdus, "sessions_open": sessions_open, "faults": dict(faults)})
