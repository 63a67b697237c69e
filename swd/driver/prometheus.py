# SPDX-License-Identifier: Apache-2.0
"""Statistics in Prometheus' text exposition format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from swd.driver.statistics import upper_bound

_HISTOGRAM = "swd_command_duration_seconds"


def text(record: Mapping[str, Any]) -> str:
    """A record of SWD_STATS_GET with its "device"; rows that are not applicable are left out."""
    device = str(record["device"])
    lines: list[str] = []
    for row in record.get("rows", ()):
        if row["value"] is not None:
            name = f"swd_{row['name']}_total"
            labels = _labels(device=device, level=row["level"], **{"class": row["class"]})
            lines += [
                f"# HELP {name} {_help(row['label'])}",
                f"# TYPE {name} counter",
                f"{name}{labels} {row['value']}",
            ]
    lines += _histograms(device, record.get("latency", ()))
    return "\n".join(lines) + "\n" if lines else ""


def _histograms(device: str, rows: Any) -> Iterator[str]:
    if rows:
        yield f"# HELP {_HISTOGRAM} Commands, from being queued to their status."
        yield f"# TYPE {_HISTOGRAM} histogram"
    for row in rows:
        names = {"device": device, "target": row["target"], "lun": row["lun"], "direction": row["direction"]}
        seen = 0
        for number, count in enumerate(row["buckets"][:-1]):  # the last one has no upper bound
            seen += count
            yield f"{_HISTOGRAM}_bucket{_labels(**names, le=format(upper_bound(number) / 1e6, '.9g'))} {seen}"
        yield f"{_HISTOGRAM}_bucket{_labels(**names, le='+Inf')} {row['count']}"
        yield f"{_HISTOGRAM}_sum{_labels(**names)} {row['sum_us'] / 1e6:.6f}"
        yield f"{_HISTOGRAM}_count{_labels(**names)} {row['count']}"


def _labels(**values: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in values.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _help(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n")
