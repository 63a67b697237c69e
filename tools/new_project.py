# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin as a new user meets it: `make new-project`, or `tools/new_project.py`.

Builds the wheel, makes an empty folder and a virtual environment, installs the wheel, pytest and pytest-xdist from the
index, and does there what docs/testing-your-initiator.md says, in order; then all of it once more in two processes.
Prints what each command said. Ends with 1 if any ended otherwise than the page says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))


def main() -> int:
    from support import pages

    for name in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="swd-new-") as name:
        folder = Path(name)
        python = _environment(folder)
        project = folder / "project"
        project.mkdir()
        os.chdir(project)
        for step in pages.steps(ROOT / "docs" / "testing-your-initiator.md"):
            if step.what == "file":
                (project / step.words).write_text(step.block)
            elif not _try(python, step):
                return 1
        words = [path.name for path in sorted(project.glob("test_*.py")) if path.name != "test_bad_day.py"]
        return 0 if _run(python, "-n", "2", *words) == 0 else 1


def _environment(folder: Path) -> Path:
    """The Python of a new environment that has the wheel and pytest."""
    _do(sys.executable, ROOT / "tools" / "build.py", "--copy", folder / "src")
    _do(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", folder / "src")
    _do(sys.executable, "-m", "venv", folder / "venv")
    (wheel,) = (folder / "dist").glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    _do(python, "-m", "pip", "install", "-q", "--progress-bar=off", wheel, "pytest", "pytest-xdist")
    print(f"$ pip install pytest pytest-xdist {wheel.name}", flush=True)
    shutil.rmtree(folder / "src")
    return python


def _try(python: Path, step: object) -> bool:
    what, words = step.what, step.words.split()  # type: ignore[attr-defined]
    status = _run(python, *words[1:])
    return (status != 0) is (what == "run, fails")


def _run(python: Path, *words: str) -> int:
    print(f"\n$ pytest {' '.join(words)}", flush=True)
    return subprocess.run([python, "-m", "pytest", *words]).returncode


def _do(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
