# SPDX-License-Identifier: Apache-2.0
"""The chaos run: `make soak`, or `tools/soak.py [--seconds N] [--seed N] [--target embedded|ram|tgt|all] [--control]`.

Random I/O at queue depth 48, by calls, batches, streams and tasks of event loops, while connections are reset, targets
stopped and killed, links taken down, packets dropped and bytes flipped; a journal judges every block that is read.
`ram` is the embedded target with its unit in memory, which compiled code serves, and which is not killed. With
--control: the same judge on targets that lie, which must be caught. Makes a network namespace of its own (root, or the
right to do so). Ends with 1 on any violation.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "soak")]
INSIDE = "SWD_SOAK_INSIDE"  # the namespace's inode: the loopback is only taken down in one that we made
TARGETS = {"embedded": ["embedded"], "ram": ["ram"], "tgt": ["tgt"], "all": ["embedded", "ram", "tgt"]}
LIES = ("forgetful", "stale")


def main() -> int:
    options = _arguments()
    if os.environ.get(INSIDE) is None:
        _enter()
    if os.environ[INSIDE] == _namespace():
        print("this is not a network namespace of its own: will not take its loopback down", file=sys.stderr)
        return 2
    logging.getLogger("swd").setLevel(logging.ERROR)  # a lost connection is no news here
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="swd-soak-") as name:
        _places(Path(name))
        os.chdir(name)  # `python -m swd.target` shall find the installed swd, not the tree beside it
        if options.control:
            return _control(options, Path(name))
        return _chaos(options, Path(name))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="swd under faults: nothing acknowledged is lost")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load and faults, all targets together")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of I/O and faults; default: the clock")
    parser.add_argument("--target", choices=TARGETS, default="all")
    parser.add_argument("--control", action="store_true", help="the negative controls instead: lies must be caught")
    return parser.parse_args()


def _namespace() -> str:
    return os.readlink("/proc/self/ns/net")


def _enter() -> None:
    """This program again, in a new namespace; the variable tells which one it came from."""
    os.environ[INSIDE] = _namespace()
    os.execvp("unshare", ["unshare", "-n", sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]])


def _places(folder: Path) -> None:
    """This host's configuration and network phase have no say in it."""
    for name in ("run", "state"):
        (folder / name).mkdir(mode=0o700)
    (folder / "swd.toml").touch()
    places = {"SWD_RUNTIME_DIR": "run", "SWD_STATE_DIR": "state", "SWD_CONFIG": "swd.toml"}
    os.environ.update({variable: str(folder / name) for variable, name in places.items()})


def _progress(words: str) -> None:
    if sys.stdout.isatty():
        print(words, flush=True)


def _commit() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() or "no commit"


def _chaos(options: argparse.Namespace, folder: Path) -> int:
    import soak_run

    kinds = [kind for kind in TARGETS[options.target] if kind != "tgt" or shutil.which("tgtd")]
    if kinds != TARGETS[options.target]:
        print("tgtd is absent: make test-deps, or apt-get install tgt, adds it")
    print(f"swd {_commit()}, seed {options.seed}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}", flush=True)
    reports = []
    for kind in kinds:
        reports.append(soak_run.chaos(kind, options.seconds / len(kinds), options.seed, folder, _progress))
        print(f"\n{reports[-1].text()}", flush=True)
    idle = [report.target for report in reports if not report.faults]
    good = bool(reports) and not idle and not any(report.violations for report in reports)
    faults = sum(sum(report.faults.values()) for report in reports)
    print(f"\nverdict: {'nothing acknowledged was lost' if good else 'FAILED'}, {faults} faults")
    return 0 if good else 1


def _control(options: argparse.Namespace, folder: Path) -> int:
    import soak_run

    missed = []
    for lie in LIES:
        report = soak_run.control(lie, options.seconds / len(LIES), options.seed, folder)
        caught = any(words.startswith("lost: ") for words in report.shown)
        missed += [] if caught else [lie]
        example = report.shown[0] if report.shown else ""
        print(f"{lie:10} {'caught' if caught else 'MISSED'}: {report.violations} violations. {example}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
