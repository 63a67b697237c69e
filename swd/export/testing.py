# SPDX-License-Identifier: Apache-2.0
"""A target for tests, of swd or of any other initiator: started, stopped and restarted, planned, and looked into.

It knows the embedded target and nothing of pytest; `pytest_plugin` puts it into fixtures.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any

from swd.errors import InvalidArgument
from swd.proto.units import parse_size
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Fault, Injector, Plan
from swd.target.statistics import Snapshot
from swd.values import Chap, Negotiated

Faults = Plan | Fault | Iterable[Fault] | str | os.PathLike[str] | None

_numbers = itertools.count(1)
_AT_ONCE = Limits(default_time2wait=0)  # a lost session may come back at once: tests have no two seconds to wait


def as_plan(faults: Faults, seed: int = 0) -> Plan:
    """A plan from what people give: a Plan, one Fault or several, TOML text, or the path of a TOML file.

    Raises InvalidArgument for a plan that is wrong, TypeError for something else.
    """
    if isinstance(faults, Plan):
        return faults
    if faults is None:
        return Plan()
    if isinstance(faults, Fault):
        return Plan([faults], seed)
    if isinstance(faults, str):
        if "\n" not in faults and "=" not in faults:
            raise InvalidArgument(f"{faults[:60]!a} is no TOML: give the path of a file as a pathlib.Path")
        return Plan.parse(faults)
    if isinstance(faults, os.PathLike):
        return Plan.load(faults)
    return Plan(faults, seed)


class IscsiTarget:
    """One target with its units, in this process, on the loopback. What initiators wrote stays over `restart`.

    Attributes: `host`, `port`, `portal` ("host:port"), `iqn`, `url` (of LUN 0), `server` (a swd.target.TargetServer),
    `plan`, `faults_seen` (how often each kind of fault has been injected), `statistics`, `sessions`.
    """

    def __init__(
        self,
        *,
        luns: Sequence[int | str | Lun] = ("64M",),
        block_size: int = 512,
        read_only: bool = False,
        name: str | None = None,
        chap: Chap | None = None,
        faults: Faults = None,
        limits: Limits = _AT_ONCE,
        **settings: Any,
    ) -> None:
        self.iqn = name or f"iqn.2026-01.org.swd:test.{os.getpid()}.{next(_numbers)}"
        self.luns = {
            number: lun if isinstance(lun, Lun) else Lun(RamMedium(_size(lun)), block_size, read_only=read_only)
            for number, lun in enumerate(luns)
        }
        self._config = TargetConfig(self.iqn, self.luns, chap=chap, limits=limits, **settings)
        self._injector = Injector(as_plan(faults))
        self._port = 0
        self.server = self._server()

    def start(self) -> None:
        """Listen; after `stop`, on the same port as before. The plan goes on where it was."""
        self.server = self._server()
        self.server.start()
        self._port = self.server.portal.port

    def stop(self) -> None:
        """Drop all connections and stop listening, as when the target's host dies. Idempotent."""
        self.server.stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    def set_plan(self, *faults: Any, seed: int = 0) -> None:
        """Misbehave by another plan from now on: Faults, a Plan, TOML text, a path; nothing: behave."""
        self._injector.replace(as_plan(faults[0] if len(faults) == 1 else faults, seed))

    def wait_for_fault(self, kind: str, count: int = 1, timeout: float = 10.0) -> None:
        """Return when so many faults of a kind have been injected; AssertionError if that takes too long."""
        if not self._injector.wait_for(kind, count, timeout):
            seen = self.faults_seen.get(kind, 0)
            raise AssertionError(
                f"{kind} was to be injected {count} times within {timeout:g} s, and was {seen} times\n{self.story()}"
            )

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def port(self) -> int:
        return self._port

    @property
    def portal(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, lun: int) -> str:
        """As swd, libiscsi's tools and QEMU want it."""
        return f"iscsi://{self.portal}/{self.iqn}/{lun}"

    @property
    def plan(self) -> Plan:
        return self._injector.plan

    @property
    def faults_seen(self) -> dict[str, int]:
        return self._injector.counts

    @property
    def statistics(self) -> Snapshot:
        return self.server.statistics

    @property
    def sessions(self) -> list[Negotiated]:
        """What each live session agreed on."""
        return self.server.sessions

    def read(self, offset: int, length: int, lun: int = 0) -> bytes:
        """What is stored there, past every initiator and every fault."""
        return bytes(self.luns[lun].medium.read(offset, length))

    def write(self, offset: int, data: bytes, lun: int = 0) -> None:
        """Store bytes, as if they had always been there."""
        self.luns[lun].medium.write(offset, data)

    def story(self) -> str:
        """For people: the plan, what of it was injected, and what went over the wire."""
        counts = self.statistics
        shown = {name: value for name, value in counts.items() if value and not isinstance(value, dict)}
        return "\n".join([
            "plan:",
            *(f"  {line}" for line in self.plan.explain() or ["none"]),
            f"injected: {_pairs(self.faults_seen) or 'nothing'}",
            f"PDUs that came: {_pairs(counts['pdus_in']) or 'none'}",
            f"PDUs that were sent: {_pairs(counts['pdus_out']) or 'none'}",
            f"counts: {_pairs(shown)}",
        ])  # fmt: skip

    def _server(self) -> TargetServer:
        server = TargetServer([self._config], f"{self.host}:{self._port}", discovery_chap=self._config.chap)
        server.faults = self._injector
        return server


def _size(size: int | str) -> int:
    return parse_size(size) if isinstance(size, str) else size


def _pairs(counts: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
