# SPDX-License-Identifier: Apache-2.0
"""swd beside its peers on the same target in the same run: `make bench`, or `python bench/run.py [--repeats N]
[--seconds S]`.

Two cases so far: 4 KiB random reads at queue depth 32, and 1 MiB reads at queue depth 8, each against one process of
the embedded target with a RAM LUN. The peers take turns, and every other round in reverse, so that a drift of the
machine hits all alike. What is printed is the median with least and most, and CPU microseconds per I/O of the
initiator's own process, which is the steadier figure. Read ratios between rows of one table; the absolute numbers
belong to this machine and this minute.
"""

from __future__ import annotations

import argparse
import array
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import swd

MIB = 1 << 20
LUN_SIZE = 256 * MIB


class Sample(NamedTuple):
    """One timed run: I/Os a second, CPU microseconds an I/O of the initiator."""

    iops: float
    cpu: float


@dataclass(frozen=True)
class Case:
    name: str
    size: int  # bytes of an I/O
    queue_depth: int


CASES = (Case("4 KiB random reads, QD 32", 4096, 32), Case("1 MiB reads, QD 8", MIB, 8))


def run_swd(url: str, case: Case, seconds: float) -> Sample:
    """`read_many` in one process, this one; every block that is read is compared with what was written there before."""
    count = max(8, 64 * MIB // case.size)
    with swd.open(url, queue_depth=case.queue_depth) as disk:
        out = bytearray(count * case.size)
        view = memoryview(out)
        done = 0
        started, cpu = time.monotonic(), _cpu(resource.RUSAGE_SELF)
        while time.monotonic() - started < seconds:
            offsets = array.array("q", (random.randrange(disk.size // case.size) * case.size for _ in range(count)))
            _read(disk, offsets, case, out)
            done += count
            probe = random.randrange(count)
            expected = _pattern(offsets[probe])
            if bytes(view[probe * case.size : probe * case.size + 16]) != expected:
                raise SystemExit(f"swd read wrong bytes at {offsets[probe]}")
        wall, cpu = time.monotonic() - started, _cpu(resource.RUSAGE_SELF) - cpu
    return Sample(done / wall, cpu / done * 1e6)


def _read(disk: swd.Disk, offsets: array.array[int], case: Case, out: bytearray) -> None:
    disk.read_many(
        offsets,
        case.size,
        np.frombuffer(out, np.uint8).reshape(len(offsets), case.size),
        queue_depth=case.queue_depth,
    )


def run_iscsi_perf(url: str, case: Case, seconds: float) -> Sample:
    command = [
        "iscsi-perf",
        "-m",
        str(case.queue_depth),
        "-b",
        str(case.size // 512),
        "-t",
        str(int(max(1, seconds))),
        "-r",
        url,
    ]
    cpu, text = _timed(command)
    rate = re.findall(r"iops average (\d+)", text)
    if not rate:
        raise SystemExit(f"iscsi-perf printed no rate: {text[-300:]}")
    return Sample(float(rate[-1]), cpu / (float(rate[-1]) * max(1, int(seconds))) * 1e6)


def run_qemu(url: str, case: Case, seconds: float) -> Sample:
    count = int(seconds * (20000 if case.size < 65536 else 1500))
    command = [
        "qemu-img",
        "bench",
        "-f",
        "raw",
        "-c",
        str(count),
        "-d",
        str(case.queue_depth),
        "-s",
        str(case.size),
        url,
    ]
    cpu, text = _timed(command)
    elapsed = re.search(r"in ([0-9.]+) seconds", text)
    if elapsed is None:
        raise SystemExit(f"qemu-img printed no time: {text[-300:]}")
    return Sample(count / float(elapsed[1]), cpu / count * 1e6)


PEERS: dict[str, tuple[str | None, Callable[[str, Case, float], Sample]]] = {
    "swd read_many": (None, run_swd),
    "iscsi-perf": ("iscsi-perf", run_iscsi_perf),
    "qemu-img bench": ("qemu-img", run_qemu),
}


def _timed(command: list[str]) -> tuple[float, str]:
    """CPU seconds and output of a command."""
    cpu = _cpu(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    text = ended.stdout + ended.stderr
    if ended.returncode:
        raise SystemExit(f"{command[0]} failed: {text[-300:]}")
    return _cpu(resource.RUSAGE_CHILDREN) - cpu, text


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _pattern(offset: int) -> bytes:
    """The first 16 bytes of the 4 KiB at `offset`: its number, twice."""
    return offset.to_bytes(8, "big") * 2


def _fill(url: str) -> None:
    with swd.open(url, "r+b") as disk:
        for start in range(0, disk.size, 8 * MIB):
            disk.pwrite(b"".join(_pattern(at) * 256 for at in range(start, start + 8 * MIB, 4096)), start)


def measure(url: str, case: Case, repeats: int, seconds: float) -> dict[str, list[Sample]]:
    peers = {name: run for name, (program, run) in PEERS.items() if program is None or shutil.which(program)}
    samples: dict[str, list[Sample]] = {name: [] for name in peers}
    for turn in range(repeats):
        order = list(peers) if turn % 2 == 0 else list(reversed(peers))
        for name in order:
            samples[name].append(peers[name](url, case, seconds))
    return samples


def report(case: Case, samples: dict[str, list[Sample]]) -> None:
    print(f"\n{case.name}")
    columns = ("median", "least", "most", "CPU us/IO", "rate", "CPU")
    print(" " * 18 + " ".join(f"{column:>10}" for column in columns) + "   (rate, CPU: swd against this one)")
    ours = samples["swd read_many"]
    for name, runs in samples.items():
        rates = sorted(run.iops for run in runs)
        cpu = statistics.median(run.cpu for run in runs)
        faster = statistics.median(a.iops / b.iops for a, b in zip(ours, runs, strict=True))
        cheaper = statistics.median(b.cpu / a.cpu for a, b in zip(ours, runs, strict=True))
        figures = f"{statistics.median(rates):10.0f} {rates[0]:10.0f} {rates[-1]:10.0f} {cpu:10.2f}"
        print(f"  {name:16}{figures} {faster:9.2f}x {cheaper:9.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    arguments = parser.parse_args()
    serve = [sys.executable, "-m", "swd.target", "--lun", f"mem://{LUN_SIZE // MIB}M", "--portal", "127.0.0.1:0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as target:
        try:
            assert target.stdout is not None
            url = target.stdout.readline().split()[-1]
            _fill(url)
            system = os.uname()
            print(f"{system.sysname} {system.release}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}")
            print("target: embedded, RAM LUN")
            missing = [name for name, (program, _) in PEERS.items() if program and not shutil.which(program)]
            if missing:
                print(f"not here, so left out: {', '.join(missing)} (`make test-deps` installs them)")
            for case in CASES:
                report(case, measure(url, case, arguments.repeats, arguments.seconds))
        finally:
            target.terminate()


if __name__ == "__main__":
    main()
