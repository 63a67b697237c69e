# SPDX-License-Identifier: Apache-2.0
"""`bench`: how fast a device is, by the loads of `measure.profiles`. Nothing is written without --write."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import swd
from swd.cli.call import Call, Reported, UsageProblem
from swd.cli.verbs.data import check
from swd.errors import DeviceBusy, SwdError
from swd.measure import plot, profiles
from swd.measure.latency import SHARES
from swd.measure.run import BY_SESSION, Cell, run, sessions

if TYPE_CHECKING:
    from swd.cli.progress import Progress
    from swd.disk import Disk
    from swd.measure.profiles import Load

_PLACES: Final = 64  # that are looked at for data before the whole device is written to
NEGOTIATED: Final = (
    *("header_digest", "data_digest", "max_recv_data_segment_length", "target_max_recv_data_segment_length"),
    *("max_burst_length", "first_burst_length", "initial_r2t", "immediate_data"),
)


@dataclass(frozen=True, slots=True)
class Bench:
    """The record. `session`: what was negotiated, where one leads to the device."""

    device: str
    size_bytes: int
    block_size: int
    identity: str
    session: dict[str, Any] | None
    warm_up: float
    interrupted: bool
    cells: list[Cell]


def bench(
    call: Call,
    *,
    dev: str,
    profile: tuple[str, ...],
    way: tuple[str, ...],
    seconds: float,
    warm_up: float,
    write: bool,
    png: str | None,
    overwrite: bool,
    force: bool,
) -> Bench | dict[str, Any]:
    """All cells one after the other. What ends it early is told after what was measured until then."""
    if not 0 < seconds <= 86400 or not 0 <= warm_up <= 86400:
        raise UsageProblem("--seconds is more than 0, --warm-up 0 or more, and neither is more than a day")
    plan = _plan(profile, way, write)
    if png is not None:
        plot.require()
    with swd.open(dev, "r+b" if write else "rb", **call.options) as disk:
        if write:
            _check(dev, disk, overwrite, force)
        facts = (dev, disk.size, disk.block_size, disk.identity, _negotiated(disk), warm_up)
        plan = [(load.fitted(disk.block_size, disk.size), name) for load, name in plan]
    cells, failure = _measured(call, dev, plan, seconds, warm_up)
    record = Bench(*facts, isinstance(failure, KeyboardInterrupt), cells)
    answer = record if call.json else _as_text(record)
    if failure is None and png is not None:
        try:
            plot.save(cells, f"{dev}, swd {swd.__version__}", png)
        except OSError as error:  # what was measured is not lost for that
            failure = error
    if failure is not None:
        raise Reported(answer, failure)
    return answer


def _plan(names: tuple[str, ...], ways: tuple[str, ...], write: bool) -> list[tuple[Load, str]]:
    """The loads, each with the ways to carry it: those that were asked for and can, or the usual one."""
    if "mixed" in names and not write:
        raise UsageProblem("the profile mixed writes to the device: say --write if its data may be lost")
    found: list[tuple[Load, str]] = []
    for load in profiles.loads(names, writing=write):
        found += [(load, way) for way in (ways or load.ways[:1]) if way in load.ways]
    if not found:
        raise UsageProblem(f"no profile that was asked for can go by {' or '.join(ways)}")
    return found


def _check(dev: str, disk: Disk, overwrite: bool, force: bool) -> None:
    """As other destructive verbs, and more: this one writes everywhere, so that a disk counts as empty only if it reads
    as zeros in many places.
    """
    check(dev, disk, overwrite, force)
    step = max(1, disk.size // _PLACES // disk.block_size) * disk.block_size
    if not overwrite and any(any(disk.pread(disk.block_size, at)) for at in range(0, disk.size, step)):
        raise DeviceBusy(
            f"{dev} holds data, and this would write over all of it: nothing was written.\n"
            "If that may be lost, say --overwrite."
        )


def _negotiated(disk: Disk) -> dict[str, Any] | None:
    for session in sessions(disk):
        agreed = session.parameters
        return {"portal": str(session.portal), **{name: getattr(agreed, name) for name in NEGOTIATED}}
    return None


def _measured(
    call: Call, dev: str, plan: list[tuple[Load, str]], seconds: float, warm_up: float
) -> tuple[list[Cell], BaseException | None]:
    """The cells, and what ended them early: whenever a Ctrl-C comes, what is there by then is not lost."""
    cells: list[Cell] = []
    times = {"seconds": seconds, "warm_up": warm_up}
    try:
        for number, (load, way) in enumerate(plan, 1):
            with call.progress(f"{number}/{len(plan)} {load.operation}, QD {load.depth}, {way}", None) as bar:
                tell = partial(_tell, bar, load.size)
                cell, failure = run(dev, load, way, **times, options=call.options, tick=tell)
            if cell is not None:
                cells.append(cell)
                call.say(f"{load.profile}: {cell.iops:.0f} IOPS")
            if failure is not None:
                return cells, failure
    except (SwdError, KeyboardInterrupt) as error:
        return cells, error
    return cells, None


def _tell(bar: Progress, size: int, ios: int) -> None:
    bar.add(ios * size)


def _as_text(record: Bench) -> dict[str, Any]:
    """The same in short columns."""
    return {
        **{name: getattr(record, name) for name in ("device", "size_bytes", "block_size", "identity", "session")},
        "cells": [_row(cell) for cell in record.cells],
        **({"note": "interrupted: this is what was measured until then"} if record.interrupted else {}),
    }


def _row(cell: Cell) -> dict[str, Any]:
    exact = cell.latency_from != BY_SESSION
    return {
        "load": cell.operation,
        "size": cell.io_bytes,
        "QD": cell.queue_depth,
        "way": cell.way,
        "IOPS": round(cell.iops),
        "MB/s": round(cell.mb_s),
        "CPU us/IO": cell.cpu_us_per_io,
        "calls/IO": cell.syscalls_per_io,
        **{
            name.removesuffix("_us").replace("p999", "p99.9"): _microseconds(getattr(cell, name), exact)
            for name in SHARES
        },
    }


def _microseconds(value: float | None, exact: bool) -> str | None:
    return None if value is None else f"{'' if exact else '<'}{value:.{1 if value < 10 else 0}f}"
