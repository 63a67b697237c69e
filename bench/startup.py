# SPDX-License-Identifier: Apache-2.0
"""What starting costs: `import swd`, `swdctl --version`, `swdctl --help`, as ratios to the bare interpreter.

    python bench/startup.py [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SWDCTL = str(Path(sys.executable).with_name("swdctl"))
COMMANDS = {
    "python -c pass": (sys.executable, "-I", "-c", "pass"),
    "import swd": (sys.executable, "-I", "-c", "import swd"),
    "swdctl --version": (SWDCTL, "--version"),
    "swdctl --help": (SWDCTL, "--help"),
}


def measure(repeats: int) -> list[dict[str, Any]]:
    """A row a command: seconds (median, least, most), as a multiple of the bare interpreter, and seconds beyond it."""
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(repeats):
        for name in COMMANDS if turn % 2 == 0 else reversed(COMMANDS):
            began = time.perf_counter()
            subprocess.run(COMMANDS[name], check=True, stdout=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - began)
    bare = statistics.median(taken["python -c pass"])
    return [
        {
            "what": name,
            "seconds": (middle := statistics.median(runs)),
            "least": min(runs),
            "most": max(runs),
            "times_bare": middle / bare,
            "more": middle - bare,
        }
        for name, runs in taken.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    print(json.dumps(measure(parser.parse_args().repeats), indent=1))


if __name__ == "__main__":
    main()
