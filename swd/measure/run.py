# SPDX-License-Identifier: Apache-2.0
"""One load on one DEV by one way, and the record of it. An interrupted run leaves what it has measured so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import swd
from swd.errors import SwdError
from swd.iscsi.session import Session
from swd.measure import latency, profiles
from swd.measure.meter import Meter
from swd.measure.profiles import Load
from swd.measure.ways import WAYS

if TYPE_CHECKING:
    from swd.disk import Disk

EACH_CALL: Final = "each call"
BY_SESSION: Final = "session, within a factor of 2"
NOBODY: Final = "not seen"


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured. MB are 10^6 bytes; `cpu_us_per_io` is of this whole process, user and system. `latency_from`
    says who took the times; system calls are known where a session of swd leads to the device.
    """

    profile: str
    operation: str
    way: str
    io_bytes: int
    queue_depth: int
    ios: int
    seconds: float
    iops: float
    mb_s: float
    cpu_us_per_io: float
    syscalls_per_io: float | None
    latency_from: str
    p50_us: float | None
    p90_us: float | None
    p99_us: float | None
    p999_us: float | None
    max_us: float | None


@dataclass(frozen=True, slots=True)
class _Used:
    """What this process and the sessions of the disk had used at one moment."""

    cpu: float
    calls: int
    octaves: list[int]


def sessions(disk: Disk) -> list[Session]:
    """The iSCSI sessions that lead to a disk, each once: through partitions and logical volumes, too."""
    return list({id(session): session for session in _sessions(disk.unit)}.values())


def _sessions(unit: Any) -> Iterator[Session]:
    session = getattr(unit, "session", None)
    if isinstance(session, Session):
        yield session
    for below in (getattr(unit, "unit", None), *(disk.unit for disk in getattr(unit, "disks", ()))):
        if below is not None:
            yield from _sessions(below)


def run(
    dev: str,
    load: Load,
    way: str,
    *,
    seconds: float,
    warm_up: float,
    options: Mapping[str, Any],
    tick: Callable[[int], object] = lambda _ios: None,
) -> tuple[Cell | None, BaseException | None]:
    """Opens the DEV, for reading unless the load writes, and loads it. `tick(n)` is told of n more I/Os now and then.

    Returns the cell, None if nothing was counted, and what ended it early, if anything did.
    """
    failure: BaseException | None = None
    settings = {"queue_depth": max(load.depth, 32), **options}
    with swd.open(dev, "r+b" if load.writes else "rb", **settings) as disk:
        below = sessions(disk)
        meter = Meter(warm_up, seconds, lambda: _used(below), tick)
        try:
            WAYS[way](disk, load, meter)
        except (SwdError, KeyboardInterrupt) as error:
            failure = error
        meter.finish()
        cell = _cell(load, way, meter, below) if meter.seconds else None
    return cell, failure


def _used(below: list[Session]) -> _Used:
    octaves = [0] * 32
    for session in below:
        for (_, direction), (_, _, buckets) in session.latencies().items():
            if direction != "none":
                octaves = [a + b for a, b in zip(octaves, buckets, strict=True)]
    counts = [session.statistics for session in below]
    return _Used(time.process_time(), sum(count["sends"] + count["receives"] for count in counts), octaves)


def _cell(load: Load, way: str, meter: Meter[_Used], below: list[Session]) -> Cell:
    before, after, ios, seconds = meter.before, meter.after, meter.ios, meter.seconds
    assert before is not None
    assert after is not None
    if way not in (profiles.BATCH, profiles.STREAM):
        told_by, times = EACH_CALL, meter.latencies.percentiles()
    else:
        told_by = BY_SESSION if below else NOBODY
        times = latency.of_octaves([b - a for a, b in zip(before.octaves, after.octaves, strict=True)])
    return Cell(
        profile=load.profile,
        operation=load.operation,
        way=way,
        io_bytes=load.size,
        queue_depth=load.depth,
        ios=ios,
        seconds=round(seconds, 3),
        iops=round(ios / seconds, 1),
        mb_s=round(ios * load.size / seconds / 1e6, 1),
        cpu_us_per_io=round((after.cpu - before.cpu) / ios * 1e6, 2),
        syscalls_per_io=round((after.calls - before.calls) / ios, 3) if below else None,
        latency_from=told_by,
        **times,
    )
