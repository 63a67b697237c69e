# SPDX-License-Identifier: Apache-2.0
"""The chaos run over fault plans: `make soak-plan`, or `tools/soak_plan.py [--faults N] [--seed N] [--control]`.

Random I/O by six workers on the embedded target while every kind of fault of docs/faults.md strikes, one after the
other; a journal judges every block that is read, and each kind must have moved a counter of the session. --target tgt
or lio: on tgtd, or on the Linux kernel's target in a guest (tests/guest), behind a relay: the kinds of the wire.
--control: the same judge on targets that lie, which must be caught (with --blind by a judge that sees nothing: they
are not). Needs no root. Ends with 1 on any violation, or a lie that was not caught.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "soak")]


def main() -> int:
    options = _arguments()
    logging.getLogger("swd").setLevel(logging.CRITICAL)  # lost sessions and broken protocols are no news here
    with tempfile.TemporaryDirectory(prefix="swd-soak-") as name:
        _places(Path(name))
        return _control(options) if options.control else _chaos(options)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="swd under fault plans: nothing acknowledged is lost")
    parser.add_argument("--faults", type=int, default=2000, help="to inject, at least; every kind in any case")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of I/O and faults; default: the clock")
    targets = ("embedded", "tgt", "lio")
    parser.add_argument("--target", choices=targets, default="embedded", help="tgt and lio: behind a relay")
    parser.add_argument("--quick", action="store_true", help="without the kinds that take five seconds each")
    parser.add_argument("--control", action="store_true", help="the negative controls instead: lies must be caught")
    parser.add_argument("--blind", action="store_true", help="with --control: the judge sees nothing; must end with 1")
    return parser.parse_args()


def _places(folder: Path) -> None:
    """This host's configuration and network phase have no say in it."""
    for name in ("run", "state"):
        (folder / name).mkdir(mode=0o700)
    (folder / "swd.toml").touch()
    places = {"SWD_RUNTIME_DIR": "run", "SWD_STATE_DIR": "state", "SWD_CONFIG": "swd.toml"}
    os.environ.update({variable: str(folder / name) for variable, name in places.items()})


def _progress(words: str) -> None:
    if sys.stdout.isatty():
        print(f"\r{words:100.100}", end="", flush=True)


def _commit() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() or "no commit"


def _chaos(options: argparse.Namespace) -> int:
    import soak_plans

    print(f"swd {_commit()}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}", flush=True)
    ledger = soak_plans.run(options.faults, options.seed, _progress, quick=options.quick, target=options.target)
    good = not ledger.violations and sum(ledger.injected.values()) >= options.faults
    print(f"\n{ledger.text()}\nverdict: {'nothing acknowledged was lost' if good else 'FAILED'}")
    return 0 if good else 1


def _control(options: argparse.Namespace) -> int:
    import soak_kinds
    import soak_plans

    missed = []
    for lie in soak_kinds.LIES:
        ledger = soak_plans.control(lie, 20.0 if not options.blind else 1.5, options.seed, blind=options.blind)
        caught = bool(ledger.injected[lie]) and any(words.startswith(("lost: ", "torn: ")) for words in ledger.shown)
        missed += [] if caught else [lie]
        example = ledger.shown[0] if ledger.shown else f"{ledger.injected[lie]} lies were told"
        print(f"{lie:10} {'caught' if caught else 'MISSED'}: {example}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
