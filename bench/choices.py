# SPDX-License-Identifier: Apache-2.0
"""What each of swd's own choices is worth: one option changed, everything else the same, both taking turns.

    python bench/choices.py [--repeats 5] [--seconds 0.5] [--only WORD]

A table in Markdown on stdout, for docs/fastpath.md: of each choice the cell in which it matters, I/Os a second and CPU
microseconds an I/O of swd's process as it is by default and as changed, and the median ratio of the rounds with the
least and the most. CPU of the target stands beside, for a choice can move work there.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from peers import Worker
from shapes import APART, EMBEDDED, KIB, MIB, SAME, SPINNING, TGTD, Cell
from targets import embedded, fill, tgtd
from turns import cores, move


class Choice(NamedTuple):
    """`changed`: options; `way` as bench/worker.py names it."""

    changed: dict[str, Any]
    target: str
    size: int
    depth: int
    write: bool = False
    pin: str = APART
    way: str = "swd batch"


WORDS: Final = {"swd sync": ", one by one", "swd stream": ", stream", "swd uvloop": ", uvloop"}
CHOICES: Final = (
    Choice({"coalesce": "no"}, TGTD, 4 * KIB, 32),
    Choice({"coalesce": "no"}, TGTD, 4 * KIB, 32, write=True),
    Choice({"coalesce": "no"}, TGTD, 64 * KIB, 32),
    Choice({"coalesce": "no"}, EMBEDDED, 4 * KIB, 32),
    Choice({"coalesce": "no"}, EMBEDDED, 4 * KIB, 32, way="swd stream"),
    Choice({"coalesce": "no"}, EMBEDDED, 4 * KIB, 32, write=True),
    Choice({"coalesce": "no"}, EMBEDDED, 4 * KIB, 32, way="swd uvloop"),
    Choice({"coalesce": "no"}, EMBEDDED, MIB, 8, way="swd stream"),
    Choice({"spin_us": "50"}, SPINNING, 4 * KIB, 1, way="swd sync"),
    Choice({"spin_us": "50"}, EMBEDDED, 4 * KIB, 1, way="swd sync"),
    Choice({"spin_us": "50"}, EMBEDDED, 4 * KIB, 1, pin=SAME, way="swd sync"),
    Choice({"spin_us": "50"}, SPINNING, 4 * KIB, 32),
    *(Choice({"ring": ring}, EMBEDDED, 4 * KIB, 32) for ring in ("16K", "64K", "1M")),
    Choice({"ring": "64K"}, EMBEDDED, 64 * KIB, 32),
    Choice({"half_refill": "1M"}, EMBEDDED, 64 * KIB, 32),
    Choice({"half_refill": "4K"}, EMBEDDED, 4 * KIB, 32),
    *(Choice({"max_recv_data_segment_length": length}, EMBEDDED, MIB, 8) for length in ("8K", "64K", "256K")),
    Choice({"rcvbuf": "1M"}, EMBEDDED, MIB, 8),
    *(Choice({"sndbuf": sndbuf}, EMBEDDED, MIB, 8, write=True) for sndbuf in ("256K", "1M", "4M")),
    Choice({"sndbuf": "4M"}, EMBEDDED, 64 * KIB, 32, write=True),
    Choice({"notsent_lowat": "512K"}, EMBEDDED, MIB, 8, write=True),
    Choice({"immediate_data": "no", "initial_r2t": "yes"}, EMBEDDED, 4 * KIB, 32, write=True),
    *(Choice({"congestion": "cubic"}, EMBEDDED, MIB, 8, write=write) for write in (False, True)),
    Choice({"sessions": "2"}, EMBEDDED, 4 * KIB, 32),
    Choice({"sessions": "2"}, EMBEDDED, 4 * KIB, 128),
)
KINDS: Final = {EMBEDDED: embedded, SPINNING: partial(embedded, spin_us=50), TGTD: tgtd}


def median(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def line(choice: Choice, cell: Cell, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """A row of the table."""
    changed = " ".join(f"{name}={value}" for name, value in choice.changed.items())
    rates = [[one["ios"] / one["seconds"] for one in side] for side in (before, after)]
    costs = [[one["cpu"] / one["ios"] * 1e6 for one in side] for side in (before, after)]
    theirs = [[one["target_cpu"] / one["ios"] * 1e6 for one in side] for side in (before, after)]
    middle = statistics.median
    cells = [f"`{changed}`", f"{cell.name}{WORDS.get(choice.way, '')}"]
    cells += [f"{middle(rates[0]):,.0f} / {middle(costs[0]):.2f}", f"{middle(rates[1]):,.0f} / {middle(costs[1]):.2f}"]
    cells += [median([b / a for a, b in zip(*side, strict=True)]) for side in (rates, costs)]
    cells.append(f"{middle(theirs[0]):.2f} -> {middle(theirs[1]):.2f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="", help="choices in whose options this word is")
    arguments = parser.parse_args()
    chosen = [one for one in CHOICES if arguments.only in " ".join(one.changed)]
    print("| changed | where | IOPS / CPU us, default | changed | IOPS ratio | CPU ratio | target's CPU us |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        running = {}
        for name in {one.target for one in chosen}:
            folder = Path(scratch, name.replace(", ", "-"))
            folder.mkdir()
            running[name] = stack.enter_context(KINDS[name](None, folder))
            fill(running[name])
        ours, theirs = cores()
        worker = Worker(ours)
        stack.callback(worker.close)
        for choice in chosen:
            cell = Cell(choice.target, choice.size, choice.depth, choice.write, choice.pin, ())
            served = running[choice.target]
            move(served.pid, ours if choice.pin == SAME else theirs)
            sides: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
            for turn in range(arguments.repeats):
                for side in (0, 1) if turn % 2 == 0 else (1, 0):
                    changed = choice.changed if side else {}
                    sides[side].append(worker.run(served, choice.way, cell, arguments.seconds, changed))
            print(line(choice, cell, *sides), flush=True)


if __name__ == "__main__":
    sys.exit(main())
