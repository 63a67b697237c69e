# SPDX-License-Identifier: Apache-2.0
"""Plant a fault in a copy of swd and see the tests find it; one after the other, for each row of `mutant_rows.MUTANTS`.

Tests are only worth what they find. Each fault is an exact replacement of text in a copy of the tree; then the tests
that the row names run against it. Faults of Python come first, over the compiled modules of the installed swd; for
those of the engine the copy is built in place. The unchanged copy must pass all of these tests before. Status 1 if a
fault survives, or if a text that is to be replaced is no longer there once. A row takes 5 to 50 s
on two busy cores, so all of it an hour at worst.

    tools/mutants.py [WORD...]  run it with a Python that has Cython, setuptools and pytest; only faults whose name or
                                file has each WORD
"""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from build import copy_clean, sources
from mutant_rows import MUTANTS, Mutant

PATIENCE = 600  # seconds for a build or a run
PATIENCE_OF_A_TEST = 60  # seconds: what hangs has been found
COMPILED = (".pyx", ".pxi")
MEMORY = 4 << 30  # bytes of address space: so has what eats all of it


def replaced(text: str, mutant: Mutant) -> str:
    """The file with the fault in it; ends the run if a text does not stand in it exactly once."""
    for old, new in mutant.texts:
        if text.count(old) != 1:
            sys.exit(
                f"mutants: {mutant.name}: {mutant.file} has this text {text.count(old)} times, not once: {old.strip()}"
            )
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


def verdict(tree: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the tests passed, and the first that did not."""
    options = ["-x", "-q", "-p", "no:cacheprovider", "--durations=0", f"--timeout={PATIENCE_OF_A_TEST}"]
    try:
        done = run(tree, "-m", "pytest", *options, *tests)
    except subprocess.TimeoutExpired:
        return False, f"no end within {PATIENCE} s"
    if done.returncode == 0:
        return True, ""
    if done.returncode < 0:
        return False, f"a crash (signal {-done.returncode})"
    found = re.search(r"^(?:FAILED|ERROR) (tests/.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if found is None and "Timeout" in done.stdout + done.stderr:
        return False, "a test without end"
    if done.returncode not in (1, 2) or found is None:
        sys.exit(f"{done.stdout[-3000:]}{done.stderr[-2000:]}\nmutants: the tests did not run")
    return False, found[1]


def prepare(tree: Path) -> None:
    """The copy of the tree, with the installed compiled modules, and set up for quick builds."""
    copy_clean(tree, sources())
    installed = importlib.util.find_spec("swd")
    assert installed is not None
    for module in Path(str(installed.origin)).parent.glob("*.so"):
        shutil.copy2(module, tree / "swd" / module.name)
    setup = tree / "setup.py"
    text = setup.read_text()
    # The flags of setup.py come after those of CFLAGS, so its own word must change.
    setup.write_text(text.replace('"-O3"', '"-O0"'))


def planted(tree: Path, mutant: Mutant, text: str) -> tuple[bool, str]:
    """The verdict on the copy with one file changed; the file is put back."""
    place = tree / mutant.file
    sound = place.read_text()
    compiled = place.suffix in COMPILED
    place.write_text(text)
    try:
        if compiled:
            build(tree)
        return verdict(tree, mutant.tests)
    finally:
        place.write_text(sound)
        if compiled:  # an older time would keep the faulty module
            os.utime(place)


def main() -> int:
    wanted = [mutant for mutant in MUTANTS if all(word in f"{mutant.name} {mutant.file}" for word in sys.argv[1:])]
    compiled = [mutant for mutant in wanted if mutant.file.endswith(COMPILED)]
    survivors = 0
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with tempfile.TemporaryDirectory(prefix="swd-mutants-") as folder:
        tree = Path(folder) / "swd"
        prepare(tree)
        survivors += judge(tree, [mutant for mutant in wanted if mutant not in compiled])
        if compiled:
            build(tree)
            survivors += judge(tree, compiled)
    print(f"{len(wanted) - survivors} of {len(wanted)} planted faults found")
    return 1 if survivors or not wanted else 0


def judge(tree: Path, mutants: list[Mutant]) -> int:
    """Plants each; the number of those that survive."""
    if not mutants:
        return 0
    mutated = [(mutant, replaced((tree / mutant.file).read_text(), mutant)) for mutant in mutants]
    passed, failure = verdict(tree, tuple(sorted({test for mutant in mutants for test in mutant.tests})))
    if not passed:
        sys.exit(f"mutants: swd fails its tests without any fault planted: {failure}")
    survivors = 0
    for mutant, text in mutated:
        began = time.monotonic()
        passed, failure = planted(tree, mutant, text)
        survivors += passed
        took = f"{time.monotonic() - began:.0f} s"
        print(f"{mutant.name:42} {'SURVIVED' if passed else 'found':9} {took:>5}  {failure}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main())
