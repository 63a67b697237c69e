# SPDX-License-Identifier: Apache-2.0
"""The fourteen goals, and what the results of a run say of them.

Each goal is a few measures; each measure has a floor ("must") and what is wanted ("stretch"). A ratio is the median
over the rounds of swd's figure against the peer's of the same round. A goal is met when all its measures are.

Goal 12, what Python costs a call, is measured by bench/overhead.py, on one core.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from shapes import APART, EMBEDDED, KIB, MIB, PERF, QEMU, RAW, SAME, SPINNING, TGTD

READ4, READ64, READ1M = (4 * KIB, False), (64 * KIB, False), (MIB, False)
WRITE4, WRITE1M = (4 * KIB, True), (MIB, True)


@dataclass(frozen=True)
class Measure:
    """A figure and its bounds; None where there is none. `floor` True: more is better."""

    what: str
    must: float | None
    stretch: float | None
    floor: bool
    value: float | None
    unit: str = "x"

    def meets(self, bound: float | None) -> bool | None:
        """None: there is no bound, or it could not be measured."""
        if bound is None or self.value is None:
            return None
        return self.value >= bound if self.floor else self.value <= bound


class Figures:
    """The rows of one placement of a run, by what they are."""

    def __init__(self, rows: Iterable[dict[str, Any]], pin: str) -> None:
        self._rows = {
            (row["target"], row["size"], row["write"], row["depth"], row["runner"]): row
            for row in rows
            if row["pin"] == pin
        }

    def all(self, shape: tuple[int, bool], depth: int, runner: str, what: str, target: str = EMBEDDED) -> list[float]:
        row = self._rows.get((target, *shape, depth, runner))
        return [] if row is None else list(row[what])

    def syscalls(self, shape: tuple[int, bool], depth: int, runner: str) -> float | None:
        row = self._rows.get((EMBEDDED, *shape, depth, runner))
        return None if row is None else row["syscalls"]

    def ratio(
        self, shape: tuple[int, bool], depth: int, ours: str, theirs: str, what: str, target: str = EMBEDDED
    ) -> float | None:
        """Of rates: ours to theirs; of CPU: theirs to ours, so that more is better in both."""
        a, b = (self.all(shape, depth, name, what, target) for name in (ours, theirs))
        if not a or not b:
            return None
        pairs = list(zip(a, b, strict=True)) if what == "iops" else list(zip(b, a, strict=True))
        return _median(x / y for x, y in pairs if y)


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


def against(
    figures: Figures,
    shape: tuple[int, bool],
    depth: int,
    ours: str,
    theirs: str,
    must: tuple[float | None, float | None],
    stretch: tuple[float | None, float | None],
    target: str = EMBEDDED,
) -> list[Measure]:
    """IOPS and CPU of one runner against another's."""
    where = f"{ours} against {theirs}, QD {depth}"
    return [
        Measure(f"{word}, {where}", low, high, True, figures.ratio(shape, depth, ours, theirs, what, target))
        for word, what, low, high in (("IOPS", "iops", must[0], stretch[0]), ("CPU", "cpu_us", must[1], stretch[1]))
        if low is not None or high is not None
    ]


def many(
    figures: Figures,
    shape: tuple[int, bool],
    depth: int,
    must: tuple[float | None, float | None],
    stretch: tuple[float | None, float | None],
    target: str = EMBEDDED,
) -> list[Measure]:
    """Many reads in one call against iscsi-perf. Judged is `stream`, which looks at each block and forgets it, as
    iscsi-perf does; `read_many`, which keeps them all, stands beside it.
    """
    kept = [
        Measure(f"{word}, swd batch", None, None, True, figures.ratio(shape, depth, "swd batch", PERF, what, target))
        for word, what in (("IOPS", "iops"), ("CPU", "cpu_us"))
    ]
    return [*against(figures, shape, depth, "swd stream", PERF, must, stretch, target), *kept]


def _crc(results: dict[str, Any]) -> list[Measure]:
    in_c, called = results["crc"]["in_c"], results["crc"]["called"]
    best = in_c[0]["kernel"] if in_c else ""
    hot = [row["gb_s"] for row in in_c if row["kernel"] == best and 4096 <= row["size"] <= MIB]
    rate = {(row["name"], row["size"]): row["gb_s"] for row in called}

    def over(name: str, size: int) -> float | None:
        return rate["swd", size] / rate[name, size] if (name, size) in rate else None

    return [
        Measure(f"kernel {best} in C, 4 KiB to 1 MiB hot, the least", 25, 55, True, min(hot, default=None), "GB/s"),
        Measure("called from Python, against awscrt, 1 MiB", None, 0.95, True, over("awscrt", MIB)),
        Measure("called from Python, against google-crc32c, 64 KiB", None, 2, True, over("google-crc32c", 64 * KIB)),
        Measure("called from Python, against awscrt, 4 KiB", None, 1, True, over("awscrt", 4 * KIB)),
        Measure("called from Python, against google-crc32c, 4 KiB", None, 1, True, over("google-crc32c", 4 * KIB)),
    ]


def _own(figures: Figures, shape: tuple[int, bool], depth: int, must: float, stretch: float, word: str) -> Measure:
    with_digests = figures.all(shape, depth, "swd batch +digests", "cpu_us")
    without = figures.all(shape, depth, "swd batch", "cpu_us")
    pairs = zip(with_digests, without, strict=True) if with_digests and without else ()
    value = _median(a / b for a, b in pairs if b)
    return Measure(f"CPU an I/O with both digests to without, {word}", must, stretch, False, value)


def _python(results: dict[str, Any]) -> list[Measure]:
    value = _median(results.get("python_us", ()))
    return [Measure("CPU of a call beyond that of an I/O in a batch, QD 1", 0.3, 0.12, False, value, "us")]


def _calls(figures: Figures, results: dict[str, Any]) -> list[Measure]:
    found = []
    bounds = ((1, "swd sync", 2, 2), (32, "swd batch", 0.2, 0.07), (128, "swd batch", None, 0.09))
    for depth, runner, must, stretch in bounds:
        value = figures.syscalls(READ4, depth, runner)
        found.append(Measure(f"system calls an I/O, {runner}, QD {depth}", must, stretch, False, value, ""))
        check = results.get("strace", {}).get(str(depth))
        found.append(Measure(f"the same by strace, on any core, QD {depth}", None, None, False, check, ""))
    return found


Maker = Callable[[Figures, dict[str, Any]], list[Measure]]
GOALS: tuple[tuple[int, str, str, Maker], ...] = (
    (1, "CRC32C", APART, lambda _, results: _crc(results)),
    (
        2,
        "4 KiB reads one at a time, from Python",
        SAME,
        lambda f, _: [
            *against(f, READ4, 1, "swd sync", PERF, (None, 1.0), (1.05, 1 / 0.87)),
            *against(f, READ4, 1, "swd sync", QEMU, (None, None), (None, 2.0)),
        ],
    ),
    (
        3,
        "the same with the target on another core: adaptive spin",
        APART,
        lambda f, _: against(f, READ4, 1, "swd sync +spin", PERF, (1.5, None), (2.5, None), SPINNING),
    ),
    (
        4,
        "many 4 KiB reads, QD 32",
        APART,
        lambda f, _: many(f, READ4, 32, (3, 4), (5, 7)),
    ),
    (
        5,
        "many 4 KiB reads, QD 128",
        APART,
        lambda f, _: [
            *many(f, READ4, 128, (3, 4), (6, 9)),
            Measure("IOPS", None, 1e6, True, _median(f.all(READ4, 128, "swd stream", "iops")), "IOPS"),
        ],
    ),
    (
        6,
        "batches of 4 KiB writes, QD 32",
        APART,
        lambda f, _: against(f, WRITE4, 32, "swd batch", QEMU, (5, 7), (9, 12)),
    ),
    (
        7,
        "64 KiB reads, QD 32",
        APART,
        lambda f, _: many(f, READ64, 32, (1, 1), (1.3, 1.35)),
    ),
    (
        8,
        "1 MiB reads, QD 8",
        APART,
        lambda f, _: [
            *many(f, READ1M, 8, (1, 1), (1.05, 1.2)),
            *against(f, READ1M, 8, "swd stream", RAW, (None, None), (0.93, None)),
        ],
    ),
    (
        9,
        "1 MiB writes, QD 8",
        APART,
        lambda f, _: against(f, WRITE1M, 8, "swd batch", QEMU, (1.5, 1.5), (2.2, 2.3)),
    ),
    (
        10,
        "what both digests cost",
        APART,
        lambda f, _: [
            _own(f, READ4, 32, 1.3, 1.2, "4 KiB reads"),
            _own(f, WRITE4, 32, 1.3, 1.2, "4 KiB writes"),
            _own(f, READ1M, 8, 1.6, 1.35, "1 MiB reads"),
            _own(f, WRITE1M, 8, 1.6, 1.35, "1 MiB writes"),
        ],
    ),
    (
        11,
        "asyncio with a future an I/O, against C",
        APART,
        lambda f, _: [
            *against(f, READ4, 32, "swd asyncio", PERF, (1.5, None), (2, None)),
            *against(f, READ4, 128, "swd asyncio", PERF, (2, None), (3.5, None)),
            *against(f, READ4, 128, "swd uvloop", PERF, (None, None), (5, None)),
        ],
    ),
    (12, "what Python costs a call", SAME, lambda _, results: _python(results)),
    (
        13,
        "tgtd: 4 KiB reads, QD 32",
        APART,
        lambda f, _: many(f, READ4, 32, (1.1, 1.5), (1.35, 6), TGTD),
    ),
    (14, "system calls an I/O", APART, _calls),
)


def judge(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A record a goal: its measures on the placement that it is judged on, and on the other; `must` and `stretch` are
    True, False, or None where something could not be measured.
    """
    rows = results["tables"][0]["rows"]
    pins = {row["pin"] for row in rows}
    by_pin = {pin: Figures(rows, pin) for pin in (SAME, APART)}
    found = []
    for number, title, pin, maker in GOALS:
        used = pin if pin in pins or not pins else next(iter(pins))
        measures = maker(by_pin[used], results)
        other = maker(by_pin[SAME if used == APART else APART], results)
        record = {"number": number, "title": title, "pin": used, "measures": [asdict(one) for one in measures]}
        record["elsewhere"] = [one.value for one in other]
        for word in ("must", "stretch"):
            verdicts = [one.meets(getattr(one, word)) for one in measures if getattr(one, word) is not None]
            unknown, failed = None in verdicts, False in verdicts
            record[word] = False if failed else None if unknown else True
        found.append(record)
    return found
