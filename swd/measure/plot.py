# SPDX-License-Identifier: Apache-2.0
"""A PNG of what was measured: rates as bars, latencies as rows of dots, logarithmic. Needs the extra `plot`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from swd.errors import Unsupported
from swd.measure.latency import SHARES
from swd.measure.run import Cell


def require() -> Any:
    """matplotlib's module of figures. Unsupported (EOPNOTSUPP), naming the extra, where it is not installed."""
    try:
        return importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise Unsupported("a picture needs matplotlib: pip install 'iscsi-swd[plot]'") from error


def save(cells: Sequence[Cell], title: str, path: str) -> None:
    """Write the picture. Raises OSError if it cannot be written."""
    names = [f"{cell.operation} {cell.io_bytes >> 10} KiB\nQD {cell.queue_depth}, {cell.way}" for cell in cells]
    figure = require().Figure(figsize=(11, 1.6 + 0.55 * len(cells)), layout="constrained")
    figure.suptitle(title, fontsize=9)
    rates, times = figure.subplots(1, 2, sharey=True)
    bars = rates.barh(names, [cell.iops for cell in cells], color="#4878a8")
    rates.bar_label(bars, [f"{cell.iops:,.0f}/s  {cell.mb_s:,.0f} MB/s" for cell in cells], padding=3, fontsize=8)
    rates.set(xlabel="I/Os a second", xscale="log", xlim=(None, max((cell.iops for cell in cells), default=1) * 30))
    rates.margins(y=0.02)
    rates.invert_yaxis()
    for name, mark in zip(SHARES, "o^sD|", strict=True):
        seen = [(value, at) for at, cell in enumerate(cells) if (value := getattr(cell, name)) is not None]
        times.scatter(*zip(*seen, strict=True), marker=mark, label=_label(name)) if seen else None
    times.set(xlabel="latency in microseconds", xscale="log")
    times.legend(fontsize=8) if cells else None
    with open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def _label(name: str) -> str:
    word = name.removesuffix("_us")
    return word if word == "max" else f"p{word[1:3]}.{word[3:]}".rstrip(".")
