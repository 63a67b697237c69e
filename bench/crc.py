# SPDX-License-Identifier: Apache-2.0
"""CRC32C: swd's kernels in a C loop, and `swd.crc32c` beside the packages of PyPI as Python calls them.

    python bench/crc.py [--seconds S]       S: of each figure (0.05)
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import WORK

import swd

ROOT = Path(__file__).resolve().parent.parent
SIZES = (48, 512, 4096, 65536, 1 << 20, 64 << 20)
REPEATS = 9


def implementations() -> dict[str, Callable[[bytes], int]]:
    """Those that are installed, ours first."""
    found: dict[str, Callable[[bytes], int]] = {"swd": swd.crc32c}
    for name, module, attribute in (
        ("awscrt", "awscrt.checksums", "crc32c"),
        ("google-crc32c", "google_crc32c", "value"),
        ("crc32c", "crc32c", "crc32c"),
    ):
        try:
            found[name] = getattr(importlib.import_module(module), attribute)
        except ImportError:
            continue
    try:
        found["crcmod"] = importlib.import_module("crcmod.predefined").mkPredefinedCrcFun("crc-32c")
    except ImportError:
        pass
    return found


def called(seconds: float, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """A row for each size and implementation: GB/s and us a call, median, least and most of REPEATS turns."""
    rows, ours = [], implementations()
    for size in sizes:
        data = bytes(range(256)) * (size // 256 + 1)
        data = data[:size]
        expected = swd.crc32c(data)
        taken: dict[str, list[float]] = {name: [] for name in ours}
        for turn in range(REPEATS):
            names = list(ours) if turn % 2 == 0 else list(reversed(ours))
            for name in names:
                assert ours[name](data) == expected, name
                taken[name].append(_once(ours[name], data, seconds / REPEATS))
        for name, runs in taken.items():
            rates = sorted(size / one / 1e9 for one in runs)
            row = {"size": size, "name": name, "us": statistics.median(runs) * 1e6, "gb_s": statistics.median(rates)}
            rows.append({**row, "least": rates[0], "most": rates[-1]})
    return rows


def _once(call: Callable[[bytes], int], data: bytes, seconds: float) -> float:
    """CPU seconds a call, which other load moves less; the loop around it costs some 15 ns of it, for all alike."""
    began = time.process_time()
    call(data)
    count = max(1, min(100_000, int(seconds / max(time.process_time() - began, 1e-7))))
    turns = range(count)
    began = time.process_time()
    for _ in turns:
        call(data)
    return (time.process_time() - began) / count


def in_c(seconds: float) -> list[dict[str, Any]]:
    WORK.mkdir(parents=True, exist_ok=True)
    kernels = sorted(str(path) for path in (ROOT / "swd").glob("_crc32c_*.c"))
    program = str(WORK / "crc_loop")
    command = ["gcc", "-O3", f"-I{ROOT / 'swd'}", "-o", program, str(ROOT / "bench" / "crc_loop.c"), *kernels]
    subprocess.run(command, check=True)
    lines = subprocess.run([program, str(seconds)], check=True, capture_output=True, text=True).stdout.splitlines()
    words = [line.split() for line in lines]
    return [
        {"kernel": kernel, "size": int(size), "gb_s": float(check), "copy_gb_s": float(copy)}
        for kernel, size, check, copy in words
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.05)
    arguments = parser.parse_args()
    print(json.dumps({"called": called(arguments.seconds), "in_c": in_c(arguments.seconds)}, indent=1))


if __name__ == "__main__":
    main()
