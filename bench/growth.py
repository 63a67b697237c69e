# SPDX-License-Identifier: Apache-2.0
"""Costs that grow, and those that must not: queue depth, size of an I/O, LUNs, sessions, and the length of a run.

Runs inside the namespace of bench/turns.py, on embedded targets of its own, swd alone: five rounds, every other one in
reverse. Memory is that of this process.
"""

from __future__ import annotations

import array
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

import swd

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LUN = 64 * MIB
DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SIZES = (512, 2 * KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
LUNS = (1, 4, 16, 64, 256)
SESSIONS = (1, 2, 4, 8, 16, 32, 64)


@contextmanager
def target(luns: int, size: str) -> Iterator[str]:
    """The portal and name of an embedded target, as a DEV without its LUN."""
    serve = [sys.executable, "-I", "-m", "swd.target", "--portal", "127.0.0.1:0", "--queue-depth", str(DEPTHS[-1])]
    for _ in range(luns):
        serve += ["--lun", f"mem://{size}"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"iscsi://\S+/", process.stdout.readline())
            assert found is not None, "the target did not start"
            yield found[0]
        finally:
            process.terminate()


def reads(disk: swd.Disk, size: int, depth: int, seconds: float) -> tuple[float, float]:
    """IOPS and CPU us an I/O of random reads in batches."""
    count = max(2 * depth, min(2048, 16 * MIB // size))
    offsets = array.array("q", (random.randrange(disk.size // size) * size for _ in range(count)))
    out = np.zeros((count, size), np.uint8)
    out.fill(1)  # its pages are not to be paid for below
    done, began, cpu = 0, time.perf_counter(), time.process_time()
    while not done or time.perf_counter() - began < seconds:
        disk.read_many(offsets, size, out, queue_depth=depth)
        done += count
    return done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e6


def rss() -> int:
    """Resident bytes of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def series(points: tuple[int, ...], repeats: int, one: Callable[[int], tuple[float, float]]) -> list[dict[str, Any]]:
    taken: dict[int, list[tuple[float, float]]] = {point: [] for point in points}
    for turn in range(repeats):
        for point in points if turn % 2 == 0 else reversed(points):
            taken[point].append(one(point))
    return [
        {
            "at": point,
            "iops": statistics.median(rate for rate, _ in runs),
            "least": min(rate for rate, _ in runs),
            "most": max(rate for rate, _ in runs),
            "cpu_us": statistics.median(cpu for _, cpu in runs),
        }
        for point, runs in taken.items()
    ]


def by_luns(url: str, repeats: int, seconds: float) -> list[dict[str, Any]]:
    """One session, one batch of 4 KiB reads for each of N LUNs in turn; `rss` is what a LUN that is open costs."""
    name, portal = url.rstrip("/").rpartition("/")[2], url.split("/")[2]
    found = []
    with swd.connect(portal, name) as session, ExitStack() as stack:
        disks: list[swd.Disk] = []
        for count in LUNS:
            before = rss()
            new = [stack.enter_context(session.unit(number)) for number in range(len(disks), count)]
            grown = (rss() - before) / max(1, len(new))
            disks += new
            rows = series((count,), repeats, lambda _: _round_robin(disks, seconds))  # noqa: B023  (called at once)
            found.append({**rows[0], "rss_each": round(grown)})
    return found


def _round_robin(disks: list[swd.Disk], seconds: float) -> tuple[float, float]:
    offsets, out = array.array("q", range(0, MIB, 4096)), np.zeros((256, 4096), np.uint8)
    done, at, began, cpu = 0, 0, time.perf_counter(), time.process_time()
    while not done or time.perf_counter() - began < seconds:
        disks[at % len(disks)].read_many(offsets, 4096, out, queue_depth=32)
        done, at = done + 256, at + 1
    return done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e6


def by_sessions(url: str, repeats: int, seconds: float) -> list[dict[str, Any]]:
    """N sessions, each with a thread that reads 4 KiB in batches at queue depth 8: all I/Os over the time of all."""
    found = []
    for count in SESSIONS:
        before = rss()
        with ExitStack() as stack:
            disks = [stack.enter_context(swd.open(f"{url}0")) for _ in range(count)]
            grown = (rss() - before) / count
            rows = series((count,), repeats, partial(_at_once, disks, seconds))
        found.append({**rows[0], "rss_each": round(grown)})
    return found


def _at_once(disks: list[swd.Disk], seconds: float, _count: int) -> tuple[float, float]:
    offsets = array.array("q", (random.randrange(LUN // 4096) * 4096 for _ in range(256)))
    done = [0] * len(disks)

    def work(me: int) -> None:
        out = np.zeros((256, 4096), np.uint8)
        while time.perf_counter() < until:
            disks[me].read_many(offsets, 4096, out, queue_depth=8)
            done[me] += 256

    workers = [threading.Thread(target=work, args=(me,)) for me in range(len(disks))]
    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    ios = max(1, sum(done))
    return ios / (time.perf_counter() - began), (time.process_time() - cpu) / ios * 1e6


def long_run(url: str, total: int, limit: float) -> dict[str, Any]:
    """`total` bytes in 1 MiB reads, or as many as `limit` seconds allow; resident memory at each hundredth."""
    out = np.zeros((32, MIB), np.uint8)
    with swd.open(f"{url}0") as disk:
        offsets = array.array("q", (at * MIB % disk.size for at in range(32)))
        disk.read_many(offsets, MIB, out, queue_depth=8)
        read, sampled, began = 0, [rss()], time.perf_counter()
        while read < total and time.perf_counter() - began < limit:
            disk.read_many(offsets, MIB, out, queue_depth=8)
            read += 32 * MIB
            if read * 100 // total > len(sampled) - 1:
                sampled.append(rss())
    return {"bytes": read, "seconds": time.perf_counter() - began, "rss": sampled}


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """All of it, as `bench/turns.py` returns it."""
    repeats, seconds = order["repeats"], order["seconds"]
    found: dict[str, Any] = {}
    with target(1, "64M") as url:
        with swd.open(f"{url}0", "r+b", queue_depth=1024) as disk:
            disk.pwrite(bytes(LUN), 0)
            told("queue depth and size")
            found["queue depth, 4 KiB"] = series(DEPTHS, repeats, lambda depth: reads(disk, 4096, depth, seconds))
            found["bytes of an I/O, QD 8"] = series(SIZES, repeats, lambda size: reads(disk, size, 8, seconds))
        told("sessions")
        found["sessions, QD 8 each"] = by_sessions(url, repeats, seconds)
        told(f"a run of {order['long'] >> 30} GiB")
        found["long run"] = long_run(url, order["long"], order["limit"])
    with target(LUNS[-1], "1M") as url:
        told("LUNs")
        found["LUNs of one session, QD 32"] = by_luns(url, repeats, seconds)
    return {"growth": found}


def told(what: str) -> None:
    print(f"  growth: {what}", file=sys.stderr, flush=True)
