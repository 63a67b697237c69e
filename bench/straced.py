# SPDX-License-Identifier: Apache-2.0
"""System calls per I/O by strace, as a check of what swd counts itself.

The worker runs twice under `strace -c`, with a short and a long order; what both have in common goes away in the
difference. All calls of all its threads are in it, those of Python as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from peers import NEITHER
from targets import Served

HERE = Path(__file__).resolve().parent


def calls_per_io(served: Served, way: str, depth: int) -> float:
    """For 4 KiB reads; the kernel makes them slower under strace, and so a call brings rather more than fewer I/Os."""
    short, long = _counted(served, way, depth, 0.05), _counted(served, way, depth, 0.5)
    return (long[0] - short[0]) / max(1, long[1] - short[1])


def _counted(served: Served, way: str, depth: int, seconds: float) -> tuple[int, int]:
    """System calls, and I/Os, of a whole run."""
    order: dict[str, Any] = {"url": served.reads, "way": way, "size": 4096, "depth": depth, "write": False}
    order |= {"seconds": seconds, "generation": 1, "target_pid": served.pid, "options": NEITHER}
    with tempfile.NamedTemporaryFile() as table:
        command = ["strace", "-f", "-qq", "-c", "-o", table.name, sys.executable, str(HERE / "worker.py")]
        ended = subprocess.run(command, input=json.dumps(order) + "\n", capture_output=True, text=True, check=True)
        total = Path(table.name).read_text().strip().splitlines()[-1].split()
    return int(total[-2] if len(total) < 6 else total[3]), int(json.loads(ended.stdout)["all_ios"])
