# SPDX-License-Identifier: Apache-2.0
"""Long runs in which nothing goes wrong: `make endurance`, or `tools/endurance.py [--seconds N] [--opens N]`.

Eight processes with two sessions each use one unit for --seconds, on the embedded target and on tgtd: no session is
reinstated, by the target's own count. Then a unit is opened and closed --opens times by each way: memory, descriptors
and threads are flat. Ends with 1 if either is not so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "soak")]


def main() -> int:
    parser = argparse.ArgumentParser(description="swd used for long, and opened often")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the processes, on each target")
    parser.add_argument("--opens", type=int, default=10_000, help="by each way")
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    print(f"swd {commit.stdout.strip() or 'no commit'}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}\n")
    with tempfile.TemporaryDirectory(prefix="swd-endurance-") as name:
        _places(Path(name))
        os.chdir(name)  # `python -m swd.target` shall find the installed swd, not the tree beside it
        complaints = [*_sharing(options.seconds, Path(name)), *_opens(options.opens)]
    print("\n" + "\n".join(complaints or ["verdict: no session was reinstated, and nothing was left"]))
    return 1 if complaints else 0


def _places(folder: Path) -> None:
    """This host's configuration and network phase have no say in it."""
    for name in ("run", "state"):
        (folder / name).mkdir(mode=0o700)
    (folder / "swd.toml").touch()
    places = {"SWD_RUNTIME_DIR": "run", "SWD_STATE_DIR": "state", "SWD_CONFIG": "swd.toml"}
    os.environ.update({variable: str(folder / name) for variable, name in places.items()})


def _sharing(seconds: float, folder: Path) -> list[str]:
    import soak_judges

    judges = [soak_judges.by_embedded]
    if shutil.which("tgtd"):
        judges.append(soak_judges.by_tgtd)
    else:
        print("tgtd is absent: make test-deps, or apt-get install tgt, adds it")
    found = []
    for judge in judges:
        words, complaints = judge(folder, seconds)
        print(words, flush=True)
        found += complaints
    return found


def _opens(count: int) -> list[str]:
    import soak_opens
    from support import served

    with served.serving("--lun", "mem://1M") as target:
        grown = soak_opens.endure(target.url(), count)
        counts = target.stop()
    for growth in grown:
        print(growth.text(), flush=True)
    print(f"the target counted {counts['logins']} logins, {counts['sessions_open']} sessions open at the end")
    return [complaint for growth in grown for complaint in growth.complaints]


if __name__ == "__main__":
    sys.exit(main())
