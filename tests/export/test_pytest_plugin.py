# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin, as pytest runs it: the tutorial, what failed tests say, wrong markers, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.pages import QUICKLY, play
from support.process import environment

import swd
from swd.errors import InvalidArgument
from swd.export.testing import IscsiTarget, as_plan
from swd.target import Lun, RamMedium
from swd.target.faults import Fault, Plan

HEAD = "import pytest, swd\nfrom swd.target.faults import Fault\n\n"


def run(folder: Path, text: str, *words: str) -> tuple[int, str]:
    """A test file in a pytest of its own: its status, and all that it said."""
    (folder / "test_it.py").write_text(HEAD + text)
    command = [sys.executable, "-m", "pytest", "-q", *QUICKLY, *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.libiscsi
def test_the_tutorial(root: Path, tmp_path: Path) -> None:
    said = list(play(root / "docs" / "testing-your-initiator.md", tmp_path))
    assert [re.findall(r"(\d+) (passed|failed)", text)[-1] for text in said] == [
        ("1", "passed"),
        ("2", "failed"),
        ("5", "passed"),
        ("3", "passed"),
        ("2", "passed"),
    ]


def test_a_test_whose_plan_never_struck_has_not_passed(tmp_path: Path) -> None:
    status, said = run(
        tmp_path,
        "@pytest.mark.iscsi_faults(Fault('reset', nth=1000))\n"
        "def test_misses(iscsi_target):\n    swd.open(iscsi_target.url).close()\n\n"
        "@pytest.mark.iscsi_faults(Fault('reset', nth=1000), may_miss=True)\n"
        "def test_may_miss(iscsi_target):\n    swd.open(iscsi_target.url).close()\n\n"
        "def test_has_no_plan(iscsi_target):\n    swd.open(iscsi_target.url).close()\n",
    )
    assert status == 1
    assert "1 failed, 2 passed" in said
    assert "test_it.py::test_misses passed, but no fault of its plan was injected, so it has shown nothing:" in said
    assert "1. reset: on DATA_IN or SCSI_RESPONSE, the 1000th time" in said


WRONG = {
    "Fault('reset'), sede=1": "test_0: the marker is iscsi_faults(*faults, seed=0, may_miss=False)",
    "": "test_1: the marker is iscsi_faults(",
    "'[[fault]]\\ndo = \"rset\"'": "test_2: iscsi_faults: fault plan:2: there is no fault 'rset'; did",
    "'plan.toml'": "test_3: iscsi_faults: 'plan.toml' is no TOML: give the path of a file as a pathlib.Path",
    "3": "test_4: iscsi_faults: ",
}


def test_a_wrong_marker_is_an_error_of_the_test(tmp_path: Path) -> None:
    text = "".join(
        f"@pytest.mark.iscsi_faults({marker})\ndef test_{number}(iscsi_target):\n    pass\n"
        for number, marker in enumerate(WRONG)
    )
    status, said = run(tmp_path, text)
    assert status == 1
    assert "5 errors" in said
    for words in WRONG.values():
        assert words in said


def test_it_costs_nothing_where_it_is_not_used(tmp_path: Path) -> None:
    """No module of swd but the plugin's own package is imported, and no thread is started."""
    text = (
        "import sys, threading\n"
        "def test_it():\n"
        "    ours = {name for name in sys.modules if name.startswith('swd.')}\n"
        "    assert ours == {'swd.export', 'swd.export.pytest_plugin'}, ours\n"
        "    assert threading.active_count() == 1\n"
    )
    (tmp_path / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", *QUICKLY]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_it_is_named_among_the_markers(tmp_path: Path) -> None:
    status, said = run(tmp_path, "", "--markers")
    assert status == 0
    assert "@pytest.mark.iscsi_faults(*faults, seed=0, may_miss=False): the fault plan" in said


def test_one_target_from_start_to_restart(iscsi_target: IscsiTarget) -> None:
    """The fixture itself, in this run."""
    with swd.open(iscsi_target.url, "r+b", default_time2wait=0) as disk:
        disk.pwrite(b"a" * 512, 0)
        port = iscsi_target.port
        iscsi_target.set_plan(Fault("busy", nth=1), seed=3)
        iscsi_target.restart()
        assert (iscsi_target.port, iscsi_target.plan.seed) == (port, 3)
        assert disk.pread(512, 0) == b"a" * 512 == iscsi_target.read(0, 512)
    assert iscsi_target.faults_seen == {"busy": 1}
    assert "injected: 1 busy" in iscsi_target.story()
    with pytest.raises(AssertionError, match="busy was to be injected 2 times within 0 s, and was 1 times"):
        iscsi_target.wait_for_fault("busy", 2, timeout=0)
    iscsi_target.stop()
    iscsi_target.stop()
    with pytest.raises(swd.NoSuchDevice):
        swd.open(iscsi_target.url)


def test_several_targets(iscsi_target_factory: Callable[..., Any]) -> None:
    one = iscsi_target_factory(luns=["1M", 2 << 20, Lun(RamMedium(3 << 20), 4096)])
    other = iscsi_target_factory(name="iqn.2026-01.org.example:other", read_only=True)
    assert one.iqn != other.iqn
    assert one.port != other.port
    with swd.connect(one.portal, one.iqn) as session:
        assert [session.unit(lun).size >> 20 for lun in session.luns()] == [1, 2, 3]
        assert one.sessions[0].target_name == one.iqn
    with pytest.raises(swd.MediumError):
        swd.open(other.url, "r+b")


def test_plans_in_every_form(tmp_path: Path) -> None:
    plan = Plan([Fault("busy", nth=1)])
    file = tmp_path / "plan.toml"
    file.write_text('[[fault]]\ndo = "busy"\nnth = 1\n')
    for form in (plan, plan.faults[0], plan.faults, list(plan.faults), file.read_text(), file):
        assert as_plan(form) == plan
    assert as_plan(None) == as_plan(()) == Plan()
    with pytest.raises(InvalidArgument):
        as_plan("plan.toml")
