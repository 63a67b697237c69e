# SPDX-License-Identifier: Apache-2.0
"""`stats`: rows of statistics, as text with advice, as JSON, or as Prometheus' text format."""

from __future__ import annotations

from typing import Any, Final

from swd.cli import render
from swd.cli.call import Call, UsageProblem
from swd.driver import Driver, prometheus, statistics

FORMATS: Final = ("text", "json", "prometheus")


def stats(call: Call, *, dev: str | None, format: str, all: bool, clear: bool) -> dict[str, Any] | None:
    """With DEV, its session's rows: there is no daemon, so they begin with this open. Without, the process's."""
    if format not in FORMATS:
        raise UsageProblem(f"--format is one of {', '.join(FORMATS)}")
    if call.json and format == "prometheus":
        raise UsageProblem("--json and --format prometheus are two formats: leave one out")
    with Driver() as driver:
        fd = driver.open(dev or "isw:", **call.options)
        found: Any = driver.ioctl(fd, "SWD_STATS_GET")
        if dev is None:
            saved = statistics.report(statistics.merge([statistics.snapshot(), *statistics.saved()]))
            found = {**found, **saved}
        if clear:
            driver.ioctl(fd, "SWD_STATS_CLEAR")
    record = {"device": dev or "isw:", **found}
    if format == "prometheus":
        render.emit(prometheus.text(record))
        return None
    if format == "json" or call.json:
        render.emit(render.as_json(record))
        return None
    return _for_people(record, everything=all)


def _for_people(record: dict[str, Any], *, everything: bool) -> dict[str, Any]:
    if "rows" not in record:  # a local device: it has counters, and no session
        return record
    rows = [row for row in record["rows"] if everything or row["value"]]
    letters = {letter for row in rows for letter in row["class"].split("/")}
    shown = ("lun", "direction", "count", "mean_us", "p50_us", "p99_us", "max_us")
    return {
        "device": record["device"],
        "cleared": record["cleared"],
        "rows": [
            {"class": row["class"], "level": row["level"], "count": _value(row), "what": row["label"]} for row in rows
        ],
        "classes": {letter: record["classes"][letter] for letter in sorted(letters)},
        "latency": [{key: row[key] for key in shown} for row in record["latency"]],
    }


def _value(row: dict[str, Any]) -> object:
    return "not applicable" if row["value"] is None else row["value"]
