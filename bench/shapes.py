# SPDX-License-Identifier: Apache-2.0
"""What `make bench` measures: cells, and who runs in each. A literal table; nothing is run from here.

A cell is one target, one shape of I/O and one placement on the cores. Its runners take turns in it, and so what is
compared stands in one cell: swd with and without digests is two runners of the same cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

SAME, APART = "same core", "different cores"
EMBEDDED, TGTD = "embedded", "tgtd"
SPINNING: Final = "embedded, spinning"  # on its way to the next command, as swd with spin_us

# Runners: name -> what runs. The swd ones are ways of bench/worker.py; `+digests` insists on both, `+spin` spins.
SWD_WAYS: Final = ("swd sync", "swd batch", "swd stream", "swd asyncio", "swd uvloop", "swd threads")
MANY: Final = ("swd batch", "swd stream")  # of reads
PERF, QEMU, CYTHON, RAW = "iscsi-perf", "qemu-img", "cython-iscsi", "raw loopback"
DIGESTS: Final = " +digests"
SPIN: Final = " +spin"  # spin_us=50


def size_text(size: int) -> str:
    return f"{size >> 20} MiB" if size >= MIB else f"{size >> 10} KiB" if size >= KIB else f"{size} B"


@dataclass(frozen=True)
class Cell:
    """`size` in bytes, `depth` commands under way."""

    target: str
    size: int
    depth: int
    write: bool
    pin: str
    runners: tuple[str, ...]
    headline: bool = False

    @property
    def name(self) -> str:
        return f"{self.target}, {size_text(self.size)} {'write' if self.write else 'read'}, QD {self.depth}, {self.pin}"

    @property
    def key(self) -> tuple[str, int, int, bool, str]:
        return (self.target, self.size, self.depth, self.write, self.pin)


def _digests(*names: str) -> tuple[str, ...]:
    return tuple(name + DIGESTS for name in names)


# What the fourteen goals of bench/goals.py are judged by.
HEADLINE: Final = (
    (EMBEDDED, 4 * KIB, 1, False, ("swd sync", "swd batch", PERF, QEMU, CYTHON, RAW)),
    (SPINNING, 4 * KIB, 1, False, ("swd sync", "swd sync +spin", PERF, QEMU)),
    (EMBEDDED, 4 * KIB, 32, False, (*MANY, "swd batch +digests", "swd asyncio", "swd uvloop", PERF, QEMU, RAW)),
    (EMBEDDED, 4 * KIB, 128, False, (*MANY, "swd asyncio", "swd uvloop", PERF, QEMU, RAW)),
    (EMBEDDED, 4 * KIB, 32, True, ("swd batch", "swd batch +digests", QEMU, RAW)),
    (EMBEDDED, 64 * KIB, 32, False, (*MANY, PERF, QEMU, RAW)),
    (EMBEDDED, MIB, 8, False, (*MANY, "swd batch +digests", PERF, QEMU, RAW)),
    (EMBEDDED, MIB, 8, True, ("swd batch", "swd batch +digests", QEMU, RAW)),
    (TGTD, 4 * KIB, 32, False, (*MANY, PERF, QEMU)),
)
QUICK: Final = (
    (EMBEDDED, 4 * KIB, 1, False, ("swd sync", CYTHON, RAW)),
    (EMBEDDED, 4 * KIB, 32, False, (*SWD_WAYS[1:], "swd batch +digests", PERF, QEMU)),
    (EMBEDDED, MIB, 8, True, ("swd batch", "swd batch +digests", QEMU, RAW)),
    (TGTD, 4 * KIB, 32, False, ("swd batch", PERF)),
)
SIZES: Final = (512, 4 * KIB, 64 * KIB, MIB, 4 * MIB)
DEPTHS: Final = (1, 8, 32, 128, 256)
MOST_BYTES: Final = 32 * MIB  # under way in one cell


def cells(mode: str, pins: tuple[str, ...]) -> list[Cell]:
    """All cells of a mode: `quick`, `headline` or `full`."""
    chosen = QUICK if mode == "quick" else HEADLINE
    found = {}
    for pin in pins:
        for target, size, depth, write, runners in chosen:
            cell = Cell(target, size, depth, write, pin, runners, headline=True)
            found[cell.key] = cell
        for cell in _matrix(pin) if mode == "full" else ():
            found.setdefault(cell.key, cell)
    return list(found.values())


def _matrix(pin: str) -> list[Cell]:
    found = []
    for size in SIZES:
        for depth in DEPTHS:
            if size * depth > MOST_BYTES:
                continue
            ours = ("swd sync",) if depth == 1 else ("swd batch",)
            more = ("swd threads", "swd uvloop") if size == 4 * KIB and depth in (8, 128) else ()
            many = ("swd stream",) if depth > 1 else ()
            both = _digests(*ours) if depth in (1, 32) or size >= MIB else ()
            found.append(Cell(EMBEDDED, size, depth, False, pin, (*ours, *many, *both, *more, PERF, QEMU)))
            found.append(Cell(EMBEDDED, size, depth, True, pin, (*ours, *both, *more, QEMU)))
    if pin == APART:
        for size, depth in ((4 * KIB, 1), (4 * KIB, 128), (64 * KIB, 32), (MIB, 8)):
            ours = "swd sync" if depth == 1 else "swd batch"
            found.append(Cell(TGTD, size, depth, False, pin, (ours, PERF, QEMU)))
            found.append(Cell(TGTD, size, depth, True, pin, (ours, QEMU)))
    return found


def rounds(repeats: int, *, judged: bool) -> int:
    """Of a cell: nearly twice as many where a goal hangs on it, as two runners may be nearly level."""
    return 2 * repeats - 1 if judged else repeats
