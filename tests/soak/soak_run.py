# SPDX-License-Identifier: Apache-2.0
"""One chaos run on one target: fill, load, faults, end, and the accounts. `tools/soak.py` is what people call."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soak_load
from soak_faults import Faults
from soak_journal import BLOCK, Journal, stamped
from soak_targets import Embedded, Liar, Proxy, Ram, SoakTarget, Tgt

import swd

BLOCKS = 8192  # 32 MiB
CHUNK = 256
RSS_GROWTH = 24 << 20  # bytes, from a tenth of the run to its end: what allocators take and keep
TIMEOUT = 5  # seconds: longer than any fault that shall go unnoticed, with what TCP adds
KINDS: dict[str, Callable[[Path], SoakTarget]] = {"embedded": Embedded, "ram": Ram, "tgt": Tgt}
WITHOUT = {"ram": ("kill -9 and restart",)}  # what was acknowledged is gone then, as it should be
OPTIONS = {
    "header_digest": "crc32c!",
    "data_digest": "crc32c!",
    "default_time2wait": 0,
    "timeout": TIMEOUT,
    "login_timeout": 3,
    "replacement_timeout": 60,
}


@dataclass
class Report:
    """What happened. `violations` counts all, `shown` has the first of them in words."""

    target: str
    seed: int
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    recoveries: int = 0
    excused: int = 0
    longest: float = 0.0
    checked: int = 0
    in_flight: int = 0
    rss: tuple[int, int] = (0, 0)
    fds: tuple[int, int] = (0, 0)
    violations: int = 0
    shown: list[str] = field(default_factory=list)

    def text(self) -> str:
        rows = [
            ("target", f"{self.target}, seed {self.seed}, {self.seconds:.0f} s"),
            ("faults", f"{sum(self.faults.values())}"),
            *((f"  {kind}", str(count)) for kind, count in sorted(self.faults.items())),
            ("I/Os ended", ", ".join(f"{count} {what}" for what, count in sorted(self.calls.items()))),
            ("blocks judged", f"{self.checked}, and {self.in_flight} torn while being written"),
            ("recoveries", str(self.recoveries)),
            ("ETIMEDOUT in silences", str(self.excused)),
            ("longest stall", f"{self.longest:.1f} s (bound {soak_load.BOUND:.0f} s)"),
            ("memory", f"{self.rss[0] / 1e6:.1f} MB early, {self.rss[1] / 1e6:.1f} MB at the end"),
            ("descriptors", f"{self.fds[0]} at the start, {self.fds[1]} at the end"),
            ("violations", str(self.violations)),
            *(("", words) for words in self.shown),
        ]
        return "\n".join(f"{name:24}{value}".rstrip() for name, value in rows)


Progress = Callable[[str], object]


def chaos(kind: str, seconds: float, seed: int, folder: Path, progress: Progress) -> Report:
    """`kind`: one of KINDS. Load and faults for `seconds`, then the accounts."""
    image = folder / f"{kind}.img"
    _fill(image, seed)
    with _running(KINDS[kind](image)) as target:
        if isinstance(target, Ram):
            target.load(image)
        proxy = Proxy(target.port)
        with contextlib.closing(proxy):
            totals = soak_load.Totals(soak_load.Silences(TIMEOUT))
            faults = Faults(target, proxy, f"{seed}/{kind}", totals.silences, WITHOUT.get(kind, ()))
            ports = (target.port, proxy.port)
            report = _play(Report(kind, seed), target, ports, image, seconds, progress, totals, faults)
    return report


def control(lie: str, seconds: float, seed: int, folder: Path) -> Report:
    """The same load and judge, without faults, on a target that lies: the report must have violations."""
    image = folder / f"{lie}.img"
    _fill(image, seed)
    with _running(Liar(image, lie)) as target:
        report, totals = Report(f"liar: {lie}", seed), soak_load.Totals(soak_load.Silences(TIMEOUT))
        return _play(report, target, (target.port,), image, seconds, lambda _words: None, totals, None)


@contextlib.contextmanager
def _running(target: SoakTarget) -> Iterator[SoakTarget]:
    try:
        yield target
    finally:
        target.kill()


def _fill(image: Path, seed: int) -> None:
    with image.open("wb") as file:
        for first in range(0, BLOCKS, CHUNK):
            blocks = np.arange(first, first + CHUNK, dtype=np.int64)
            file.write(stamped(seed, blocks, np.zeros(CHUNK, np.int64)).tobytes())


def _play(
    report: Report,
    target: SoakTarget,
    ports: tuple[int, ...],
    image: Path,
    seconds: float,
    progress: Progress,
    totals: soak_load.Totals,
    faults: Faults | None,
) -> Report:
    journal = Journal(report.seed, BLOCKS)
    with contextlib.ExitStack() as stack:
        disks = [stack.enter_context(swd.open(target.url(port), "r+b", **OPTIONS)) for port in ports]
        descriptors = len(os.listdir("/proc/self/fd"))
        started = time.monotonic()
        with _loaded(disks, journal, totals), _troubled(faults, journal):
            early = _watch(report, seconds, journal, totals, faults, progress)
        report.seconds = time.monotonic() - started
        _read_all(disks, journal)
        report.rss = (early, resident())
        report.fds = (descriptors, len(os.listdir("/proc/self/fd")))
        report.faults = faults.counts if faults is not None else Counter()
        report.recoveries = sum(disk.unit.session.statistics["recoveries"] for disk in disks)
    if isinstance(target, Ram):
        target.save(image)
    target.kill()
    _judge_image(image, journal)
    return _account(report, journal, totals)


@contextlib.contextmanager
def _loaded(disks: list[swd.Disk], journal: Journal, totals: soak_load.Totals) -> Iterator[None]:
    stop = threading.Event()
    workers = soak_load.start(disks, journal, totals, stop)
    try:
        yield
    finally:
        stop.set()
        _join(workers, journal)


@contextlib.contextmanager
def _troubled(faults: Faults | None, journal: Journal) -> Iterator[None]:
    """Faults meanwhile; at the end the last is over."""
    if faults is None:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=faults.run, args=(stop,), name="soak-faults")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if faults.failure is not None:
        journal.violate("fault", f"a fault could not be injected: {faults.failure!r}")


def _watch(
    report: Report,
    seconds: float,
    journal: Journal,
    totals: soak_load.Totals,
    faults: Faults | None,
    progress: Progress,
) -> int:
    """Waits the run out, with a line each 5 s. Returns the memory in use when a tenth of it was over."""
    started, early = time.monotonic(), 0
    tick = threading.Event()
    while (passed := time.monotonic() - started) < seconds:
        if not early and passed > seconds / 10:
            early = resident()
        count = sum(faults.counts.values()) if faults is not None else 0
        progress(
            f"{report.target} {passed:.0f} s: {count} faults, {sum(totals.ended.values())} I/Os, "
            f"longest {totals.longest:.1f} s, {journal.violated} violations"
        )
        tick.wait(min(5.0, seconds - passed, max(seconds / 10, 0.5)))
    return early or resident()


def _join(workers: list[threading.Thread], journal: Journal) -> None:
    deadline = time.monotonic() + soak_load.BOUND
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            journal.violate("hung", f"{worker.name} did not come back within {soak_load.BOUND:.0f} s")


def _read_all(disks: list[swd.Disk], journal: Journal) -> None:
    """Everything once more, by every way, after a flush."""
    for disk in disks:
        try:
            disk.flush()
            for first in range(0, BLOCKS, CHUNK):
                blocks = np.arange(first, first + CHUNK, dtype=np.int64)
                data = disk.pread(CHUNK * BLOCK, first * BLOCK)
                words = np.frombuffer(data, np.uint64).reshape(CHUNK, -1)
                journal.judge("read at the end", blocks, journal.floor(blocks), words)
        except swd.SwdError as error:
            journal.violate("error", f"flush or read at the end failed: {error}")


def _judge_image(image: Path, journal: Journal) -> None:
    """The file itself, without swd and without the target."""
    words = np.fromfile(image, np.uint64).reshape(BLOCKS, -1)
    blocks = np.arange(BLOCKS, dtype=np.int64)
    journal.judge("the file", blocks, journal.floor(blocks), words)


def _account(report: Report, journal: Journal, totals: soak_load.Totals) -> Report:
    if totals.begun != totals.ended:
        journal.violate("once", f"calls begun {dict(totals.begun)}, ended {dict(totals.ended)}")
    if totals.longest > soak_load.BOUND:
        journal.violate("late", f"a call took {totals.longest:.1f} s")
    if report.rss[1] - report.rss[0] > RSS_GROWTH:
        journal.violate("memory", f"resident memory grew from {report.rss[0]} to {report.rss[1]} bytes")
    if report.fds[1] > report.fds[0]:
        journal.violate("descriptors", f"{report.fds[0]} at the start, {report.fds[1]} at the end")
    report.calls, report.longest, report.excused = totals.ended, totals.longest, totals.silences.excused
    report.checked, report.in_flight = journal.checked, journal.in_flight
    report.violations = journal.violated
    report.shown = [f"{one.kind}: {one.words}" for one in journal.violations]
    return report


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
