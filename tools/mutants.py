# SPDX-License-Identifier: Apache-2.0
"""Plant faults in a copy of the engine, one at a time: its tests must find each. Run with the Python of `.venv`.

A row gives the lines as they are and as they become. Lines that are not found exactly once are an error, so that a row
cannot outlive the code that it spoils. The tests must pass on the unspoilt copy first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".build" / "mutants"
LOG = ROOT / ".build" / "mutants.log"
ENGINE = COPY / "swd" / "_engine.pyx"
TESTS = "tests/engine"


class Mutant(NamedTuple):
    """What the fault is, and the text that makes it."""

    fault: str
    text: str
    spoilt: str


MUTANTS = (
    Mutant(
        "StatSN off by one",
        "        if stat_sn != self.exp_stat_sn:\n",
        "        if stat_sn != self.exp_stat_sn and stat_sn != self.exp_stat_sn + 1:\n",
    ),
    Mutant(
        "data digest skipped",
        "            if crc != get_digest(source + pad):\n",
        "            if crc != get_digest(source + pad) and self.slots == 0:\n",
    ),
    Mutant(
        "header digest skipped",
        "            if crc != get_digest(bhs + BHS):\n",
        "            if crc != get_digest(bhs + BHS) and self.slots == 0:\n",
    ),
    Mutant(
        "R2T offset wrapped",
        "<uint64_t>offset + length > task.out_len:\n",
        "<uint32_t>(offset + length) > task.out_len:\n",
    ),
    Mutant(
        "ITT reuse",
        "            self.generation += 1\n",
        "            self.generation = 1\n",
    ),
    Mutant(
        "residual ignored",
        "                if task.underflow and task.residual != missing:\n",
        "                if task.underflow and self.slots == 0:\n",
    ),
)


def run(*command: str | Path) -> tuple[int, str]:
    """Run a step in the copy; its status and its output, which the log keeps as well."""
    environment = {**os.environ, "SWD_TEST_HOME": str(COPY)}
    done = subprocess.run(
        command,
        cwd=COPY,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(map(str, command))}\n{done.stdout}\n")
    return done.returncode, done.stdout


def build() -> None:
    status, said = run(sys.executable, "setup.py", "build_ext", "--inplace")
    if status:
        sys.exit(f"{said[-2000:]}\nmutants: the copy does not build")


def first_failure() -> str | None:
    """The name of the first test that fails on the copy as it is; None if all pass."""
    status, said = run(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", TESTS)
    if status == 0:
        return None
    failed = [line for line in said.splitlines() if line.startswith("FAILED ")]
    if status != 1 or not failed:
        sys.exit(f"{said[-2000:]}\nmutants: {TESTS} did not run (status {status})")
    return failed[0].removeprefix("FAILED ").partition(" - ")[0]


def plant(sound: str, mutant: Mutant) -> None:
    """Write the spoilt engine, and make it."""
    if sound.count(mutant.text) != 1:
        sys.exit(f"mutants: {mutant.fault}: {sound.count(mutant.text)} places have the text of its row; mend the row")
    ENGINE.write_text(sound.replace(mutant.text, mutant.spoilt))
    build()


def main() -> None:
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    subprocess.run([sys.executable, ROOT / "tools" / "build.py", "--copy", COPY], check=True)
    sound = ENGINE.read_text()
    build()
    if broken := first_failure():
        sys.exit(f"mutants: {broken} fails without any fault planted; see {LOG.relative_to(ROOT)}")
    missed = 0
    for mutant in MUTANTS:
        plant(sound, mutant)
        found = first_failure()
        missed += found is None
        print(f"{mutant.fault + ':':24}{'found by ' + found if found else 'NOT FOUND'}", flush=True)
    if missed:
        sys.exit(f"mutants: {missed} of {len(MUTANTS)} faults were not found")


if __name__ == "__main__":
    main()
