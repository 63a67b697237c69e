# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report: runners of the headline cells, rates over the queue depth, and costs that grow."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = {
    "swd": "#2f6db3",
    "iscsi-perf": "#c7702e",
    "qemu-img": "#9a9a3a",
    "cython-iscsi": "#8a5fa8",
    "raw loopback": "#999999",
}


def colour(runner: str) -> str:
    return COLOURS.get(runner, COLOURS["swd"])


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    """Writes the SVGs; their names."""
    names = []
    for table in results["tables"]:
        for figure in ("iops", "cpu_us"):
            name = f"headline-{table['congestion']}-{figure.replace('_', '-')}.svg"
            _headline([row for row in table["rows"] if row["headline"]], figure, folder / name)
            names.append(name)
    if results["mode"] == "full":
        _matrix(results["tables"][0]["rows"], folder / "queue-depth.svg")
        names.append("queue-depth.svg")
    if results.get("growth"):
        _growth(results["growth"], folder / "growth.svg")
        names.append("growth.svg")
    return names


def _headline(rows: list[dict[str, Any]], figure: str, path: Path) -> None:
    """A panel a cell: medians as bars, spreads as whiskers."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    columns = 2
    drawn = Figure(figsize=(11, 1.9 * -(-len(cells) // columns)), layout="constrained")
    drawn.suptitle("I/Os a second" if figure == "iops" else "CPU microseconds an I/O (initiator)", fontsize=10)
    panels = drawn.subplots(-(-len(cells) // columns), columns, squeeze=False).flat
    for cell, panel in zip(cells, panels, strict=False):
        here = [row for row in rows if row["cell"] == cell]
        middle = [statistics.median(row[figure]) for row in here]
        low = [m - min(row[figure]) for m, row in zip(middle, here, strict=False)]
        high = [max(row[figure]) - m for m, row in zip(middle, here, strict=False)]
        names = [row["runner"] for row in here]
        panel.barh(names, middle, xerr=[low, high], color=[colour(name) for name in names], error_kw={"lw": 0.8})
        panel.invert_yaxis()
        panel.set_title(cell, fontsize=8)
        panel.tick_params(labelsize=7)
    for panel in list(panels)[len(cells) :]:
        panel.axis("off")
    drawn.savefig(path)


def _matrix(rows: list[dict[str, Any]], path: Path) -> None:
    """IOPS over the queue depth, one panel a size, reads; the placement with a core for each end."""
    ours = [row for row in rows if row["target"] == "embedded" and not row["write"] and row["pin"] == rows[-1]["pin"]]
    sizes = sorted({row["size"] for row in ours})
    drawn = Figure(figsize=(11, 6), layout="constrained")
    panels = drawn.subplots(2, -(-len(sizes) // 2), squeeze=False).flat
    for size, panel in zip(sizes, panels, strict=False):
        here = [row for row in ours if row["size"] == size]
        for name in dict.fromkeys(row["runner"] for row in here):
            points = sorted((row["depth"], statistics.median(row["iops"])) for row in here if row["runner"] == name)
            panel.plot(*zip(*points, strict=True), marker="o", ms=3, lw=1, color=colour(name), label=name)
        panel.set(xscale="log", yscale="log")
        panel.set_title(f"reads of {size} bytes: IOPS over queue depth", fontsize=8)
        panel.legend(fontsize=6)
        panel.tick_params(labelsize=7)
    drawn.savefig(path)


def _growth(found: dict[str, Any], path: Path) -> None:
    """CPU an I/O over what grows, and resident memory over the length of a run."""
    drawn = Figure(figsize=(11, 6), layout="constrained")
    panels = drawn.subplots(2, 3).flat
    for (name, rows), panel in zip(found.items(), panels, strict=False):
        if name == "long run":
            panel.plot([one / (1 << 20) for one in rows["rss"]], lw=1)
            panel.set_ylim(bottom=0)
            panel.set_title(f"resident MiB over {rows['bytes'] >> 30} GiB read", fontsize=8)
        else:
            panel.plot([row["at"] for row in rows], [row["cpu_us"] for row in rows], marker="o", ms=3, lw=1)
            panel.set(xscale="log")
            panel.set_ylim(bottom=0)
            panel.set_title(f"CPU us an I/O over {name}", fontsize=8)
        panel.tick_params(labelsize=7)
    for panel in list(panels)[len(found) :]:
        panel.axis("off")
    drawn.savefig(path)
