# SPDX-License-Identifier: Apache-2.0
"""The suite's own rules, shown on a small suite with the same conftest.py: absent components, SWD_REQUIRE, places."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import swd

SUITE = """
import os
import pytest
from components import require

@pytest.mark.strace
def test_marked():
    assert True

def test_asks():
    require("strace")

@pytest.mark.strace
def test_skips_for_a_reason_of_its_own():
    pytest.skip("the port was taken")

def test_places():
    assert os.path.isdir(os.environ["SWD_RUNTIME_DIR"]) and os.path.isdir(os.environ["SWD_STATE_DIR"])
    assert os.environ["SWD_CONFIG"] != "/etc/swd/swd.toml"
"""


def run(folder: Path, *, strace: bool, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run SUITE in `folder`, with a strace that works or with none, without this run's own settings."""
    tests = Path(__file__).parents[1]
    for name in ("conftest.py", "components.py"):
        shutil.copy(tests / name, folder)
    (folder / "test_small.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  strace: x\n")
    (folder / "bin").mkdir()
    if strace:
        (folder / "bin" / "strace").symlink_to(shutil.which("true") or "")
        (folder / "bin" / "true").symlink_to(shutil.which("true") or "")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SWD_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(Path(swd.__file__).parents[1]), "PATH": str(folder / "bin"), **environment},
        capture_output=True,
        text=True,
    )


def test_an_absent_component_is_skipped_and_told(tmp_path: Path) -> None:
    done = run(tmp_path, strace=False)
    assert done.returncode == 0
    assert "1 passed, 3 skipped" in done.stdout
    told = [line for line in done.stdout.splitlines() if line.startswith("strace: ")]
    assert told == ["strace: no strace in PATH; 3 tests skipped; to add it: make test-deps, or: apt-get install strace"]


def test_an_absent_component_that_is_required_fails(tmp_path: Path) -> None:
    done = run(tmp_path, strace=False, SWD_REQUIRE="strace")
    assert done.returncode == 1
    assert "1 passed" in done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]
    assert "strace is required (SWD_REQUIRE) and absent" in done.stdout


def test_any_skip_for_a_required_component_fails(tmp_path: Path) -> None:
    done = run(tmp_path, strace=True, SWD_REQUIRE=" strace,")
    assert done.returncode == 1
    assert "1 failed, 3 passed" in done.stdout
    assert "was skipped, but SWD_REQUIRE names strace" in done.stdout


def test_the_same_skip_passes_when_nothing_is_required(tmp_path: Path) -> None:
    done = run(tmp_path, strace=True)
    assert done.returncode == 0
    assert "3 passed, 1 skipped" in done.stdout


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("SWD_REQUIRE", "tgtd", "SWD_REQUIRE: tgtd: not one of tgt libiscsi"),
        ("SWD_TEST_HOME", "elsewhere", "run `make test`"),
    ],
)
def test_a_wrong_setting_ends_the_run(tmp_path: Path, variable: str, value: str, words: str) -> None:
    done = run(tmp_path, strace=True, **{variable: value})
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stderr
