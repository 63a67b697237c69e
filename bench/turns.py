# SPDX-License-Identifier: Apache-2.0
"""One table of `make bench`, inside a network namespace of its own: the runners take turns on one target.

`bench/run.py` starts this under `unshare -n` with an order on stdin, and gets rows on stdout. The congestion control is
set for this namespace only, and holds for every socket in it, the targets' and all peers' alike. Every other round goes
in reverse, cells and runners, so that a drift of the machine hits all alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from overhead import python_us
from peers import Runners, Sample
from shapes import APART, CYTHON, EMBEDDED, PERF, QEMU, SAME, SPINNING, TGTD, Cell, cells, rounds
from straced import calls_per_io
from targets import Served, embedded, fill, libiscsi_terms, tgtd

CONGESTION = Path("/proc/sys/net/ipv4/tcp_congestion_control")


def cores() -> tuple[int, int]:
    """Those of the initiator and of the target when they are apart; the same one where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def move(pid: int, cpu: int) -> None:
    """Hold a running process, with all its threads, to one core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {cpu})


def prepare_namespace(congestion: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    CONGESTION.write_text(congestion)


@contextlib.contextmanager
def targets(names: set[str]) -> Iterator[dict[str, Served]]:
    kinds: dict[str, Callable[..., Any]] = {EMBEDDED: embedded, SPINNING: partial(embedded, spin_us=50), TGTD: tgtd}
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(kinds[name](None, Path(scratch))) for name in sorted(names)}
        for served in running.values():
            fill(served)
        yield running


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """All cells of a mode, all placements; the rows are ready for JSON."""
    todo = [cell for cell in cells(order["mode"], tuple(order["pins"])) if order["tgtd"] or cell.target != TGTD]
    absent = set(order["absent"])
    samples: dict[tuple[Any, str], list[Sample]] = {}
    rows, stalls = [], []
    with targets({cell.target for cell in todo}) as running:
        terms = {name: libiscsi_terms(served) for name, served in running.items()}
        for pin in order["pins"]:
            ours, theirs = cores()
            for served in running.values():
                move(served.pid, ours if pin == SAME else theirs)
            here = [cell for cell in todo if cell.pin == pin]
            runners = Runners(ours)
            for turn in range(rounds(order["repeats"], judged=True)):
                here = [cell for cell in here if turn < rounds(order["repeats"], judged=cell.headline)]
                about = f"{pin}: round {turn + 1}, {len(here)} cells"
                print(f"  {about}", file=sys.stderr, flush=True)
                for cell in here if turn % 2 == 0 else reversed(here):
                    names = [name for name in cell.runners if name not in absent]
                    for name in names if turn % 2 == 0 else reversed(names):
                        try:
                            took = runners.sample(name, running[cell.target], cell, order["seconds"])
                        except subprocess.TimeoutExpired as error:  # told in the report; a second time ends the run
                            stalls.append(f"{cell.name}, {name}: no end within {error.timeout:.0f} s")
                            took = runners.sample(name, running[cell.target], cell, order["seconds"])
                        samples.setdefault((cell.key, name), []).append(took)
            runners.close()
        traced = strace_check(running[EMBEDDED]) if "strace" in order else {}
        python = python_cost(running[EMBEDDED], order) if "strace" in order else []
        for cell in todo:
            for name in cell.runners:
                if name not in absent:
                    known = terms[cell.target] if name in (PERF, QEMU, CYTHON) else {}
                    rows.append(row(cell, name, samples[cell.key, name], known))
    about = {name: served.about for name, served in running.items()}
    return {"rows": rows, "strace": traced, "python_us": python, "stalls": stalls, "targets": about}


def python_cost(served: Served, order: dict[str, Any]) -> list[float]:
    """Microseconds a call, one figure a round, with both ends on one core."""
    move(served.pid, cores()[0])
    move(os.getpid(), cores()[0])
    return [python_us(served, order["seconds"]) for _ in range(order["repeats"])]


def strace_check(served: Served) -> dict[str, float]:
    """System calls an I/O by queue depth, where strace may trace."""
    try:
        ways = {1: "swd sync", 32: "swd batch", 128: "swd batch"}
        return {str(depth): calls_per_io(served, way, depth) for depth, way in ways.items()}
    except (OSError, subprocess.CalledProcessError):
        return {}


def row(cell: Cell, runner: str, taken: list[Sample], terms: dict[str, Any]) -> dict[str, Any]:
    """A line of the table: rates per second, CPU in microseconds an I/O, one number a round."""
    found = asdict(cell)
    del found["runners"]
    return {
        **found,
        "cell": cell.name,
        "runner": runner,
        "iops": [one.ios / one.seconds for one in taken],
        "cpu_us": [one.cpu / one.ios * 1e6 for one in taken],
        "target_cpu_us": [one.target_cpu / one.ios * 1e6 for one in taken],
        "syscalls": taken[-1].syscalls,
        "checked": sum(one.checked for one in taken),
        "ios": sum(one.ios for one in taken),
        "terms": taken[-1].terms or terms,
    }


def main() -> None:
    order = json.load(sys.stdin)
    if order["namespace"]:
        prepare_namespace(order["congestion"])
    os.environ["SWD_STATE_DIR"] = os.environ["SWD_RUNTIME_DIR"] = order["scratch"]
    os.environ["SWD_CONFIG"] = os.devnull
    result = measure(order) if order["what"] == "cells" else __import__("growth").measure(order)
    json.dump({**result, "congestion": CONGESTION.read_text().strip(), "pins": [SAME, APART]}, sys.stdout)


if __name__ == "__main__":
    main()
