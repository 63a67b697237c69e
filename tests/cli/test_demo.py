# SPDX-License-Identifier: Apache-2.0
"""The demo as people run it: a process, its output, and nothing left behind."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer

Ctl = Callable[..., Any]
STEPS = [
    "serve",
    "phase",
    "phase",
    "discover",
    "login",
    "write",
    "compare",
    "login",
    "write",
    "compare",
    "refuse",
    "leave",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "tmp"
    path.mkdir()
    return path


def test_the_whole_story(process: Ctl, folder: Path) -> None:
    ended = process("demo", TMPDIR=str(folder), PYTHONIOENCODING="utf-8")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.encode("latin-1").decode().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  ✓ ")] == STEPS
    assert "✗" not in ended.out
    assert "ENETUNREACH" in ended.out
    assert "the target saw 0 connections" in ended.out
    assert ended.out.count("mutual CHAP (sha3-256), CRC32C on header and data") == 2
    assert list(folder.iterdir()) == []


def test_the_story_as_json_on_a_poor_terminal(process: Ctl, folder: Path) -> None:
    ended = process("demo", "--json", TMPDIR=str(folder), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert ended.status == 0
    record = json.loads(ended.out)
    assert [step["step"] for step in record["steps"]] == STEPS
    assert all(step["ok"] for step in record["steps"])
    assert len(record["figures"]) == 2
    assert all(row["read_mb_s"] > 0 and row["random_read_iops"] > 0 for row in record["figures"])


def test_an_interrupted_demo_leaves_nothing(
    spawn: Callable[..., subprocess.Popen[bytes]], folder: Path, environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    with spawn("demo", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        while b"discover" not in child.stdout.readline():
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert (child.returncode, said) == (130, b"")
    assert list(folder.iterdir()) == []


def test_the_tour_of_ones_own_target_only_reads(ctl: Ctl) -> None:
    medium = RamMedium(4 << 20)
    name = "iqn.2026-01.org.example:own"
    with TargetServer([TargetConfig(name, {0: Lun(medium)})]) as server:
        dev = f"iscsi://{server.portal}/{name}/0"
        ended = ctl("demo", dev)
        counts = server.statistics
    assert ended.status == 0
    assert [line.split()[1] for line in ended.out.splitlines() if line.startswith("  ")] == [
        *("phase", "discover", "login", "look", "read", "again")
    ]
    assert "SCSI_DATA_OUT" not in counts["pdus_in"]
    assert bytes(medium.read(0, medium.size)) == bytes(4 << 20)
    medium.close()


def test_the_tour_of_a_local_disk(ctl: Ctl) -> None:
    record = json.loads(ctl("demo", "mem://1M", "--json").out)
    assert [step["step"] for step in record["steps"]] == ["phase", "look", "read", "again"]
    assert record["figures"][0]["write_mb_s"] is None
