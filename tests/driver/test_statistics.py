# SPDX-License-Identifier: Apache-2.0
"""Rows of statistics: the table, what a session and the process count, clearing, adding up, latencies, Prometheus."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.schema import faults

import swd
from swd._engine import FAULT_NAMES, FAULTS
from swd.driver import Driver, prometheus, statistics
from swd.driver.statistics import CLASSES, ROWS, percentile
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:counted"
SIZE = 1 << 20


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})]) as found:
        yield found


@pytest.fixture
def drv() -> Iterator[Driver]:
    with Driver() as found:
        yield found


def rows(drv: Driver, fd: int) -> dict[str, int | None]:
    found: Any = drv.ioctl(fd, "SWD_STATS_GET")
    return {row["name"]: row["value"] for row in found["rows"]}


def test_the_table_is_sound() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert {letter for row in ROWS for letter in row.cls.split("/")} == set(CLASSES)
    named = {name.removeprefix("fault_") for row in ROWS for name in row.sources or () if name.startswith("fault_")}
    assert named <= set(FAULT_NAMES.values())
    # Every fault of the target's making has a row.
    theirs = {FAULT_NAMES[code] for code, (kind, _, _) in FAULTS.items() if kind.__name__ != "BadDescriptor"}
    assert theirs - named == set()


def test_what_a_session_did_stands_in_its_rows(server: TargetServer, drv: Driver) -> None:
    fd = drv.open(f"iscsi://{server.portal}/{NAME}/0", os.O_RDWR)
    before = rows(drv, fd)
    for i in range(5):
        drv.pwrite(fd, bytes(4096), 4096 * i)
    for i in range(3):
        drv.pread(fd, 4096, 4096 * i)
    after = rows(drv, fd)
    assert (after["io_writes"] or 0) - (before["io_writes"] or 0) == 5
    assert (after["io_reads"] or 0) - (before["io_reads"] or 0) == 3
    assert after["login_ok"] == 1
    assert "conn_open" not in after  # a row of the process
    assert after["pdu_buf_nomem"] is None


def test_clearing_a_session_leaves_the_process_alone(server: TargetServer, drv: Driver) -> None:
    fd, isw = drv.open(f"iscsi://{server.portal}/{NAME}/0"), drv.open("isw:")
    drv.pread(fd, 4096, 0)
    before = rows(drv, isw)["io_reads"] or 0
    drv.ioctl(fd, "SWD_STATS_CLEAR")
    assert rows(drv, fd)["io_reads"] == 0
    assert (rows(drv, isw)["io_reads"] or 0) >= before
    drv.pread(fd, 4096, 0)
    assert rows(drv, fd)["io_reads"] == 1
    drv.ioctl(isw, "SWD_STATS_CLEAR")
    assert rows(drv, isw)["io_reads"] == rows(drv, fd)["io_reads"] == 0


def test_what_closed_sessions_counted_stays_in_the_process(server: TargetServer, drv: Driver) -> None:
    isw = drv.open("isw:")
    drv.ioctl(isw, "SWD_STATS_CLEAR")
    for _ in range(3):
        with swd.open(f"iscsi://{server.portal}/{NAME}/0") as disk:
            disk.pread(4096, 0)
    found = rows(drv, isw)
    assert (found["session_open"], found["session_close"], found["conn_open"], found["conn_close"]) == (3, 3, 3, 3)
    assert (found["io_reads"] or 0) >= 3


def test_a_login_that_failed_is_counted_by_its_cause(server: TargetServer, drv: Driver) -> None:
    isw = drv.open("isw:")
    drv.ioctl(isw, "SWD_STATS_CLEAR")
    with pytest.raises(swd.SwdError):
        drv.open(f"iscsi://{server.portal}/iqn.2026-01.org.example:nobody/0")
    with pytest.raises(swd.SwdError):
        drv.open(f"iscsi://127.0.0.1:1/{NAME}/0")
    found = rows(drv, isw)
    assert (found["login_bad_class"], found["connect_fail"], found["login_ok"]) == (1, 1, 0)


def test_discovery_is_counted(server: TargetServer, drv: Driver) -> None:
    isw = drv.open("isw:")
    drv.ioctl(isw, "SWD_STATS_CLEAR")
    swd.discover(str(server.portal))
    found = rows(drv, isw)
    assert (found["discovery_sessions"], found["sendtargets"], found["sendtargets_fail"]) == (1, 1, 0)


def test_counts_are_exact_under_threads(server: TargetServer, drv: Driver) -> None:
    fd = drv.open(f"iscsi://{server.portal}/{NAME}/0")
    drv.ioctl(fd, "SWD_STATS_CLEAR")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: drv.pread(fd, 4096, 4096 * (i % 16)), range(400)))
    found: Any = drv.ioctl(fd, "SWD_STATS_GET")
    assert rows(drv, fd)["io_completed"] == 400
    (reads,) = [row for row in found["latency"] if row["direction"] == "read"]
    assert reads["count"] == sum(reads["buckets"]) == 400
    assert (reads["target"], reads["lun"]) == (NAME, "0")
    assert 0 < reads["p50_us"] <= reads["p99_us"] <= reads["max_us"]


def test_the_record_is_what_the_schema_says(server: TargetServer, drv: Driver) -> None:
    fd = drv.open(f"iscsi://{server.portal}/{NAME}/0")
    for each in (fd, drv.open("isw:")):
        found: Any = json.loads(json.dumps(drv.ioctl(each, "SWD_STATS_GET")))
        assert faults(found, "stats") == []
        assert faults({**found, "rows": [{**found["rows"][0], "value": "many"}]}, "stats")
        del found["latency"]
        assert faults(found, "stats")


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [([0, 0], 0.5, None), ([0, 10, 0], 0.5, 4), ([50, 49, 1], 0.5, 2), ([50, 49, 1], 0.99, 4), ([50, 49, 1], 1.0, 8)],
)
def test_a_percentile_is_the_bound_of_its_bucket(buckets: list[int], share: float, expected: int | None) -> None:
    assert percentile(buckets, share) == expected


def test_snapshots_add_up(server: TargetServer) -> None:
    with swd.open(f"iscsi://{server.portal}/{NAME}/0") as disk:
        disk.pread(4096, 0)
        one = json.loads(json.dumps(statistics.snapshot()))
    both = statistics.merge([one, one])
    assert both["counts"] == {name: 2 * count for name, count in one["counts"].items()}
    assert {key: found[0] for key, found in both["latency"].items()} == {k: 2 * v[0] for k, v in one["latency"].items()}
    assert statistics.merge([])["counts"] == {}


SAMPLE = re.compile(r'[a-z_0-9]+(\{([a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? [0-9.e+-]+')


def test_prometheus_text_is_well_formed(server: TargetServer, drv: Driver) -> None:
    fd = drv.open(f"iscsi://{server.portal}/{NAME}/0")
    drv.pread(fd, 4096, 0)
    found: Any = drv.ioctl(fd, "SWD_STATS_GET")
    text = prometheus.text({**found, "device": 'a "quoted"\\\nname'})
    typed: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in typed
            typed[name] = kind
        elif not line.startswith("# HELP "):
            assert SAMPLE.fullmatch(line), line
            name = re.sub(r"_(bucket|sum|count)$", "", line.partition("{")[0])
            assert name in typed
            assert typed[name] == "histogram" or name.endswith("_total")
    assert 'device="a \\"quoted\\"\\\\\\nname"' in text
    buckets = [int(line.rpartition(" ")[2]) for line in text.splitlines() if "_bucket" in line and 'n="read"' in line]
    assert buckets == sorted(buckets)
    assert buckets[-1] >= 1
