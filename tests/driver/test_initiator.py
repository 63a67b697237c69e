# SPDX-License-Identifier: Apache-2.0
"""The initiator's name: the order of the places, made once, and what happens when it cannot be kept."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swd.driver import initiator
from swd.errors import InvalidArgument
from swd.proto.options import Options

NAME = "iqn.2026-01.org.example:host1"


@pytest.fixture(autouse=True)
def kernel_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(initiator, "KERNEL_FILE", tmp_path / "kernel")
    return tmp_path / "kernel"


def test_the_order_of_the_places(kernel_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = initiator.name(Options())
    assert made.startswith(initiator.PREFIX)
    kernel_file.write_text(
        "## a comment\n#InitiatorName=iqn.2000-01.x:y\nInitiatorName=iqn.2026-01.org.example:kernel \n"
    )
    assert initiator.name(Options()) == "iqn.2026-01.org.example:kernel"
    monkeypatch.setenv("SWD_INITIATOR_NAME", "iqn.2026-01.org.example:env")
    assert initiator.name(Options()) == "iqn.2026-01.org.example:env"
    assert initiator.name(Options(initiator_name=NAME)) == NAME


def test_a_name_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWD_INITIATOR_NAME", "host1")
    with pytest.raises(InvalidArgument):
        initiator.name(Options())


def test_many_processes_make_one_name() -> None:
    code = "import sys; from swd.driver import initiator; from pathlib import Path\n"
    code += "from swd.proto.options import Options\ninitiator.KERNEL_FILE = Path('/nonexistent')\n"
    code += "sys.stdin.read(); print(initiator.name(Options()))"
    environment = {**os.environ, "PYTHONPATH": str(Path(initiator.__file__).resolve().parents[2])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    names = {process.communicate(timeout=60)[0] for process in processes}
    assert len(names) == 1
    assert initiator.name(Options()) == names.pop().strip()
    assert [entry.name for entry in Path(os.environ["SWD_STATE_DIR"]).iterdir()] == [initiator.FILE]


def test_a_state_folder_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SWD_STATE_DIR", str(tmp_path / "file" / "state"))
    with caplog.at_level(logging.WARNING):
        first = initiator.name(Options())
        assert initiator.name(Options()) == first
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert first in caplog.text
