# SPDX-License-Identifier: Apache-2.0
"""Plant a fault in a copy of the engine and see the tests find it; one after the other, for each row of MUTANTS.

The tests of the engine are only worth what they find. Each fault is an exact replacement of text in a copy of
`swd/_engine.pyx`; the copy is built in place and `tests/engine` runs against it. First the unchanged copy must pass.
Status 1 if a fault survives, or if a text that is to be replaced is no longer there once.

    tools/mutants.py [WORD]     run it with a Python that has Cython, setuptools and pytest; WORD: only faults with it
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from build import copy_clean, sources

ENGINE = "swd/_engine.pyx"
PATIENCE = 600  # seconds for a build or a run


class Mutant(NamedTuple):
    """A fault by its name, and the texts to replace, each of which stands once in the engine."""

    name: str
    texts: tuple[tuple[str, str], ...]


MUTANTS = (
    Mutant(
        "StatSN off by one",
        (("if stat_sn != self.exp_stat_sn:", "if stat_sn - self.exp_stat_sn > 1:"),),
    ),
    Mutant(
        "data digest skipped",
        (("            if crc != get_digest(source + pad):", "            if crc != crc:"),),
    ),
    Mutant(
        "R2T offset wrapped",
        (("<uint64_t>offset + length > task.out_len:", "<uint32_t>(offset + length) > task.out_len:"),),
    ),
    Mutant(
        "ITT reuse",
        (("self.tasks[slot].itt != itt or self.tasks[slot].state == FREE", "self.tasks[slot].state == FREE"),),
    ),
    Mutant(
        "residual ignored",
        (
            ("if task.underflow and task.residual != missing:", "if False:"),
            ("if not task.underflow or task.residual < missing:", "if not task.underflow:"),
        ),
    ),
    Mutant(
        "progress ignored",
        (("    task.deadline = min(now + task.timeout, task.limit)", "    task.limit = min(now, task.limit)"),),
    ),
    Mutant(
        "progress without end",
        (("    task.deadline = min(now + task.timeout, task.limit)", "    task.deadline = now + task.timeout"),),
    ),
    Mutant(
        "a closed window waited for without end",
        (("self.tasks[i].deadline = now + MOST_EXTENSION * self.tasks[i].timeout", "pass"),),
    ),
)


def replaced(text: str, mutant: Mutant) -> str:
    """The engine with the fault in it; ends the run if a text does not stand in it exactly once."""
    for old, new in mutant.texts:
        if text.count(old) != 1:
            sys.exit(f"mutants: {mutant.name}: {ENGINE} has this text {text.count(old)} times, not once: {old.strip()}")
        text = text.replace(old, new)
    return text


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python in the copy, which imports the copy's swd."""
    kept = {name: value for name, value in os.environ.items() if name not in ("SWD_TEST_HOME", "SWD_CRC")}
    environment = {**kept, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
    )


def build(tree: Path) -> None:
    """Builds what changed, without optimisation. A fault that does not compile is no fault: it ends the run."""
    done = run(tree, "setup.py", "--quiet", "build_ext", "--inplace")
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}\nmutants: the build failed")


def verdict(tree: Path) -> tuple[bool, str]:
    """Whether the tests of the engine passed, and the first that did not."""
    done = run(tree, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--durations=0", "tests/engine")
    if done.returncode == 0:
        return True, ""
    if done.returncode < 0:
        return False, f"a crash (signal {-done.returncode})"
    found = re.search(r"^FAILED (.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or found is None:
        sys.exit(f"{done.stdout[-3000:]}{done.stderr[-2000:]}\nmutants: the tests did not run")
    return False, found[1]


def prepare(tree: Path) -> str:
    """The copy of the tree, set up for quick builds; gives the text of its engine."""
    copy_clean(tree, sources())
    setup = tree / "setup.py"
    text = setup.read_text()
    # The flags of setup.py come after those of CFLAGS, so its own word must change.
    setup.write_text(text.replace('"-O3"', '"-O0"'))
    return (tree / ENGINE).read_text()


def main() -> int:
    wanted = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="swd-mutants-") as folder:
        tree = Path(folder) / "swd"
        text = prepare(tree)
        mutated = {mutant.name: replaced(text, mutant) for mutant in wanted}
        build(tree)
        passed, failure = verdict(tree)
        if not passed:
            sys.exit(f"mutants: the engine fails its tests without any fault planted: {failure}")
        for name, engine in mutated.items():
            began = time.monotonic()
            (tree / ENGINE).write_text(engine)
            build(tree)
            passed, failure = verdict(tree)
            survivors += passed
            took = f"{time.monotonic() - began:.0f} s"
            print(f"{name:22} {'SURVIVED' if passed else 'found':9} {took:>5}  {failure}", flush=True)
    print(f"{len(wanted) - survivors} of {len(wanted)} planted faults found")
    return 1 if survivors or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
