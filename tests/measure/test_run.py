# SPDX-License-Identifier: Apache-2.0
"""Loads on real disks, by every way: what is counted is what the target saw."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from swd.errors import SwdError
from swd.measure.profiles import READS, WRITES, Load
from swd.measure.run import BY_SESSION, EACH_CALL, NOBODY, run
from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer

NAME = "iqn.2026-01.org.example:bench"
SIZE = 8 << 20
CASES = [(load, way) for load in (READS[0], READS[1], READS[3], WRITES[1], WRITES[-1]) for way in load.ways]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[TargetServer, RamMedium, str]]:
    medium = RamMedium(SIZE)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server:
        yield server, medium, f"iscsi://{server.portal}/{NAME}/0"
    medium.close()


@pytest.mark.parametrize(("load", "way"), CASES, ids=lambda value: value if isinstance(value, str) else value.operation)
def test_what_is_counted_is_what_was_done(served: tuple[TargetServer, RamMedium, str], load: Load, way: str) -> None:
    server, _, dev = served
    before = server.statistics
    cell, failure = run(dev, load, way, seconds=0.05, warm_up=0.02, options={})
    done = server.statistics
    assert failure is None
    assert cell is not None
    assert 0 < cell.ios <= done["pdus_in"]["SCSI_COMMAND"] - before["pdus_in"].get("SCSI_COMMAND", 0)
    assert cell.iops == pytest.approx(cell.ios / cell.seconds, rel=0.05)
    assert (cell.latency_from == BY_SESSION) is (way in ("batch", "stream"))
    assert cell.p50_us is not None
    assert cell.max_us is not None
    assert 0 < cell.p50_us <= cell.max_us
    assert cell.cpu_us_per_io > 0
    assert cell.syscalls_per_io is not None
    assert 0 < cell.syscalls_per_io < (3 if load.size == 4096 else 100)


def test_a_read_load_leaves_the_medium_alone_and_a_write_load_fills_it() -> None:
    medium = RamMedium(1 << 20)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server:
        dev = f"iscsi://{server.portal}/{NAME}/0"
        for load in READS:
            run(dev, load, load.ways[0], seconds=0.02, warm_up=0, options={})
        assert bytes(medium.read(0, 1 << 20)) == bytes(1 << 20)
        run(dev, WRITES[0], "sync", seconds=0.1, warm_up=0, options={})
        assert bytes(medium.read(0, 1 << 20)) != bytes(1 << 20)
    medium.close()


def test_a_local_disk_has_no_session() -> None:
    cell, _ = run("mem://1M", READS[1], "batch", seconds=0.01, warm_up=0, options={})
    assert cell is not None
    assert (cell.syscalls_per_io, cell.latency_from, cell.p50_us) == (None, NOBODY, None)
    cell, _ = run("mem://1M", READS[1], "threads", seconds=0.05, warm_up=0, options={})
    assert cell is not None
    assert cell.latency_from == EACH_CALL


@pytest.mark.parametrize("way", ["sync", "batch", "stream", "threads", "asyncio", "uvloop"])
def test_ctrl_c_leaves_what_was_measured(served: tuple[TargetServer, RamMedium, str], way: str) -> None:
    _, _, dev = served
    load = READS[0] if way == "sync" else READS[1]
    ticks = []

    def tick(ios: int) -> None:
        ticks.append(ios)
        if len(ticks) == 2:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    cell, failure = run(dev, load, way, seconds=30, warm_up=0, options={}, tick=tick)
    assert isinstance(failure, KeyboardInterrupt)
    assert cell is not None
    assert 0 < cell.seconds < 10
    assert cell.ios >= ticks[0]


def test_the_first_failure_of_a_thread_ends_the_run() -> None:
    medium, once = RamMedium(SIZE), {"replacement_timeout": 0}
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server:
        dev = f"iscsi://{server.portal}/{NAME}/0"
        cell, failure = run(
            dev, READS[1], "threads", seconds=30, warm_up=0, options=once, tick=lambda _: server.stop()
        )
    assert isinstance(failure, SwdError)
    assert cell is not None
    assert 0 < cell.seconds < 10
    medium.close()
