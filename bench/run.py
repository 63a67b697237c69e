# SPDX-License-Identifier: Apache-2.0
"""swd beside its peers on the same targets in the same run: `make bench`.

    python bench/run.py --quick       a few cells, once: shows that the bench runs (below 40 s)
    python bench/run.py --headline    the cells of the fourteen goals (about 8 minutes)
    python bench/run.py               all: sizes, queue depths, writes, digests, costs that grow (about 25 minutes)

The first table has the host's own congestion control for everybody, the second another one; each is measured in a
network namespace of its own, so that nothing of the host is changed. That needs root; without it the host's own is
measured, and the report says so. The report goes to bench/results/DATE-COMMIT/.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import crc
import report
import startup
from peers import absent, raw
from shapes import APART, SAME
from turns import CONGESTION

HERE = Path(__file__).resolve().parent
GIB = 1 << 30
# mode -> rounds, seconds a turn, placements, rounds and seconds of what grows, bytes and seconds of the long run
MODES: dict[str, dict[str, Any]] = {
    "quick": {"repeats": 1, "seconds": 0.15, "pins": (APART,), "growth": None},
    "headline": {"repeats": 5, "seconds": 0.5, "pins": (SAME, APART), "growth": None},
    "full": {"repeats": 5, "seconds": 0.4, "pins": (SAME, APART), "growth": (5, 0.2, 100 * GIB, 90)},
}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    for name in ("quick", "headline"):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name)
    parser.set_defaults(mode="full")
    parser.add_argument("--repeats", type=int, help="rounds")
    parser.add_argument("--seconds", type=float, help="of one turn; iscsi-perf knows whole seconds only")
    parser.add_argument("--growth", action="store_true", help="costs that grow, in a headline run, too")
    parser.add_argument("--congestion", help="only this one")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the report goes")
    return parser.parse_args()


def congestions() -> list[str]:
    """The host's own, and one more that a namespace may have."""
    own = CONGESTION.read_text().strip()
    allowed = CONGESTION.with_name("tcp_allowed_congestion_control").read_text().split()
    return [own, *[name for name in allowed if name != own][:1]]


def inside(order: dict[str, Any], namespace: bool) -> dict[str, Any]:
    """The answer of bench/turns.py to an order, from a network namespace of its own if there may be one."""
    command = ["unshare", "-n"] * namespace + [sys.executable, str(HERE / "turns.py")]
    with tempfile.TemporaryDirectory() as scratch:
        text = json.dumps({**order, "namespace": namespace, "scratch": scratch})
        ended = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        sys.exit(f"bench: {' '.join(command[-2:])} ended with {ended.returncode}")
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def may_unshare() -> bool:
    try:
        return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def machine() -> dict[str, Any]:
    described = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in described if "model name" in line]
    system = os.uname()
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{system.sysname} {system.release}",
        "python": platform.python_version(),
        "load": ", ".join(f"{one:.1f}" for one in os.getloadavg()),
    }


def commit() -> str:
    """The short commit id, with a + where files differ from it."""
    asked = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    ended = subprocess.run(asked, capture_output=True, text=True, check=False)
    return ended.stdout.strip() or "unknown"


def told(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    mode = MODES[arguments.mode]
    repeats, seconds = arguments.repeats or mode["repeats"], arguments.seconds or mode["seconds"]
    namespace, missing = may_unshare(), absent(build=arguments.mode != "quick")
    if "raw loopback" not in missing:
        raw()  # compiled before anybody takes turns
    order = {"what": "cells", "repeats": repeats, "seconds": seconds, "absent": missing}
    order["tgtd"] = shutil.which("tgtd") is not None
    chosen = [arguments.congestion] if arguments.congestion else congestions()[: 1 if arguments.mode == "quick" else 2]
    results: dict[str, Any] = {"mode": arguments.mode, "repeats": repeats, "seconds": seconds, "absent": missing}
    results |= {"date": dt.date.today().isoformat(), "commit": commit(), "machine": machine()}  # noqa: DTZ011
    results |= {"namespace": namespace, "tables": []}
    for number, congestion in enumerate(chosen if namespace else chosen[:1]):
        told(f"{congestion}: {arguments.mode if number == 0 else 'headline'} cells")
        kind = arguments.mode if number == 0 else "headline"
        pins = mode["pins"] if number == 0 else (APART,)
        order |= {"strace": True} if number == 0 and arguments.mode != "quick" else {}
        answer = inside({**order, "mode": kind, "pins": usable(pins), "congestion": congestion}, namespace)
        results["tables"].append({key: answer[key] for key in ("congestion", "rows", "targets", "stalls")})
        if number == 0:
            results |= {"strace": answer["strace"], "python_us": answer["python_us"]}
    told("CRC32C and starting")
    quick = arguments.mode == "quick"
    hot = crc.called(0.01, crc.SIZES[:-1]) if quick else crc.called(0.5)
    results["crc"] = {"called": hot, "in_c": crc.in_c(0.001 if quick else 0.1)}
    results["startup"] = startup.measure(3 if quick else 15)
    grown = mode["growth"] or (MODES["full"]["growth"] if arguments.growth else None)
    if grown:
        told("costs that grow")
        settings = dict(zip(("repeats", "seconds", "long", "limit"), grown, strict=True))
        answer = inside({"what": "growth", "congestion": chosen[0], **settings}, namespace)
        results["growth"] = answer["growth"]
    return results


def usable(pins: tuple[str, ...]) -> list[str]:
    """Placements that this machine allows: with one core there is only the same one."""
    return list(pins) if len(os.sched_getaffinity(0)) > 1 else [SAME]


def main() -> None:
    arguments, began = parsed(), time.monotonic()
    results = measured(arguments)
    folder = arguments.out or HERE / "results" / f"{results['date']}-{results['commit'].rstrip('+')}"
    report.write(results, folder)
    for goal in results["goals"]:
        words = ", ".join(f"{word} {report.WORDS[goal[word]]}" for word in ("must", "stretch"))
        print(f"goal {goal['number']:2}: {goal['title']}: {words}")
    told(f"{folder / 'report.md'}, after {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
