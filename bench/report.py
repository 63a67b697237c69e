# SPDX-License-Identifier: Apache-2.0
"""A run of `make bench` as Markdown. The numbers are those of results.json; nothing is measured from here.

    python bench/report.py DIR        writes DIR/report.md and its plots again
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import plots
from goals import judge
from shapes import rounds

KIB, MIB = 1 << 10, 1 << 20
WORDS = {True: "met", False: "**not met**", None: "?"}


def size(count: int) -> str:
    return f"{count >> 20}M" if count >= MIB and not count % MIB else f"{count >> 10}K" if count >= KIB else str(count)


def terms(row: dict[str, Any]) -> str:
    """What was negotiated: data segment lengths (ours/the target's), bursts (longest/first), R2T, immediate data,
    digests.
    """
    found = row["terms"]
    if not found:
        return "-"
    lengths = f"{size(found['max_recv_data_segment_length'])}/{size(found['target_max_recv_data_segment_length'])}"
    bursts = f"{size(found['max_burst_length'])}/{size(found['first_burst_length'])}"
    flags = ("R2T" if found["initial_r2t"] else "-") + ("/imm" if found["immediate_data"] else "/-")
    digests = ("H" if found["header_digest"] else "") + ("D" if found["data_digest"] else "") or "none"
    return f"{lengths}, {bursts}, {flags}, {digests}"


def spread(values: list[float], form: str) -> str:
    return f"{format(statistics.median(values), form)} [{format(min(values), form)}-{format(max(values), form)}]"


def verified(row: dict[str, Any]) -> str:
    """In how many I/Os one was compared with the pattern."""
    return f"1 in {max(1, row['ios'] // row['checked'])}" if row["checked"] else "no"


def goals(results: dict[str, Any]) -> Iterator[str]:
    yield "| # | goal | measure | must | stretch | measured | elsewhere |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for goal in results["goals"]:
        elsewhere = goal["elsewhere"] or [None] * len(goal["measures"])
        for at, one in enumerate(goal["measures"]):
            head = f"| {goal['number']} | {goal['title']} ({goal['pin']}) " if at == 0 else "| | "
            other = elsewhere[at] if at < len(elsewhere) else None
            bounds = " | ".join(_bound(one, one[word]) for word in ("must", "stretch"))
            yield f"{head}| {one['what']} | {bounds} | {_figure(one, one['value'])} | {_figure(one, other)} |"
        yield f"| | | **goal {goal['number']}** | {WORDS[goal['must']]} | {WORDS[goal['stretch']]} | | |"


def _bound(measure: dict[str, Any], bound: float | None) -> str:
    return "" if bound is None else f"{'≥' if measure['floor'] else '≤'} {_figure(measure, bound)}"


def _figure(measure: dict[str, Any], value: float | None) -> str:
    if value is None:
        return "-"
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{text}{'x' if measure['unit'] == 'x' else ' ' + measure['unit'] if measure['unit'] else ''}"


def table(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One line a runner, grouped by cells."""
    yield (
        "| cell | runner | IOPS | GB/s | CPU us/IO | CPU s/GiB | target us/IO | calls/IO | verified "
        "| MRDSL ours/target's, bursts longest/first, InitialR2T/ImmediateData, digests |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    before = ""
    for row in rows:
        rate, cpu = statistics.median(row["iops"]), statistics.median(row["cpu_us"])
        target = statistics.median(row["target_cpu_us"])
        cells = (
            row["cell"] if row["cell"] != before else "",
            row["runner"],
            spread(row["iops"], ",.0f"),
            f"{rate * row['size'] / 1e9:.2f}",
            spread(row["cpu_us"], ".2f"),
            f"{cpu * (1 << 30) / row['size'] / 1e6:.3f}",
            f"{target:.2f}" if target else "-",
            "-" if row["syscalls"] is None else f"{row['syscalls']:.3f}",
            verified(row),
            terms(row),
        )
        before = row["cell"]
        yield f"| {' | '.join(cells)} |"


def growth(found: dict[str, Any]) -> Iterator[str]:
    for name, rows in found.items():
        if name == "long run":
            flat = rows["rss"]
            after = flat[len(flat) // 10 :]
            yield (
                f"\n**Length of a run**: {rows['bytes'] / (1 << 30):.1f} GiB in 1 MiB reads, {rows['seconds']:.1f} s; "
                f"resident {flat[0] / MIB:.1f} MiB at the start, {flat[-1] / MIB:.1f} MiB at the end; it grew by "
                f"{(max(after) - min(after)) / KIB:.0f} KiB after the first tenth.\n"
            )
            continue
        columns = [key for key in rows[0] if key != "at"]
        yield f"\n**{name}**\n"
        yield f"| | {' | '.join(columns)} |"
        yield "| --- |" + " --- |" * len(columns)
        for row in rows:
            cells = [format(row[key], ",.2f" if key == "cpu_us" else ",.0f") for key in columns]
            yield f"| {row['at']} | {' | '.join(cells)} |"


def crc(found: dict[str, Any]) -> Iterator[str]:
    names = list(dict.fromkeys(row["name"] for row in found["called"]))
    sizes = list(dict.fromkeys(row["size"] for row in found["called"]))
    rate = {(row["name"], row["size"]): row for row in found["called"]}
    yield "\nCalled from Python, GB/s (us a call), median of nine turns, by CPU time:\n"
    yield f"| | {' | '.join(map(size, sizes))} |"
    yield "| --- |" + " --- |" * len(sizes)
    for name in names:
        here = [rate[name, one] for one in sizes]
        yield f"| {name} | " + " | ".join(f"{row['gb_s']:.1f} ({row['us']:.3g})" for row in here) + " |"
    yield "\nThe kernels in a C loop, GB/s of checking (of copying and checking):\n"
    yield f"| | {' | '.join(map(size, sizes))} |"
    yield "| --- |" + " --- |" * len(sizes)
    for kernel in dict.fromkeys(row["kernel"] for row in found["in_c"]):
        rows = [row for row in found["in_c"] if row["kernel"] == kernel]
        yield f"| {kernel} | " + " | ".join(f"{row['gb_s']:.1f} ({row['copy_gb_s']:.1f})" for row in rows) + " |"


def startup(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| | seconds | of the bare interpreter | more than it, s |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        times = f"{row['seconds']:.3f} [{row['least']:.3f}-{row['most']:.3f}]"
        yield f"| {row['what']} | {times} | {row['times_bare']:.2f}x | {row['more']:.3f} |"


def lines(results: dict[str, Any], pictures: list[str]) -> Iterator[str]:
    machine = results["machine"]
    yield f"# swd {results['commit']}, {results['date']}: `make bench`, {results['mode']}\n"
    yield f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, Python {machine['python']}."
    yield f"Load at the start: {machine['load']}. {results['repeats']} rounds of {results['seconds']} s a turn"
    yield f"({rounds(results['repeats'], judged=True)} where a goal hangs on it),"
    yield "interleaved on the same target processes, every other round in reverse. Figures are medians [least-most]."
    yield "CPU is that of the initiator's process, user and system; the target's stands beside it."
    yield "On the loopback the sender pays for the receiver's TCP: read ratios, not the absolute numbers.\n"
    for name, why in results["absent"].items():
        yield f"* left out: {name}: {why}"
    if not results["namespace"]:
        yield "* no right to make a network namespace: only the host's own congestion control was measured"
    yield f"\n## The fourteen goals ({results['tables'][0]['congestion']})\n"
    yield from goals(results)
    yield "\n`elsewhere`: the same on the other placement. How each is measured: `bench/goals.py`.\n"
    for picture in pictures:
        yield f"![{picture}]({picture})"
    for found in results["tables"]:
        yield f"\n## All cells, congestion control {found['congestion']}\n"
        yield from table(found["rows"])
        yield from (f"\n* stalled, and was run once more: {stall}" for stall in found["stalls"])
    yield "\n`verified`: swd compares what it read (and what it wrote, read back) with the pattern of the LUN."
    yield "libiscsi's tools know no data digest, so that rows with digests stand beside swd's own without.\n"
    yield "\n## CRC32C\n"
    yield from crc(results["crc"])
    yield "\n## Starting\n"
    yield from startup(results["startup"])
    if results.get("growth"):
        yield "\n## Costs that grow\n"
        yield from growth(results["growth"])


def write(results: dict[str, Any], folder: Path) -> None:
    """results.json, report.md and the plots."""
    results["goals"] = judge(results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    pictures = plots.draw(results, folder)
    (folder / "report.md").write_text("\n".join(lines(results, pictures)) + "\n")


if __name__ == "__main__":
    where = Path(sys.argv[1])
    write(json.loads((where / "results.json").read_text()), where)
