# SPDX-License-Identifier: Apache-2.0
"""`swdctl bench`: what it refuses, what it prints, and what a Ctrl-C leaves."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.golden import unpack

from swd.target.config import Lun, TargetConfig
from swd.target.media import FileMedium
from swd.target.server import TargetServer

Ctl = Callable[..., Any]
QUICK = ("--seconds", "0.02", "--warm-up", "0")


def test_all_loads_in_a_table_and_a_picture(ctl: Ctl, tmp_path: Path) -> None:
    ended = ctl("bench", "mem://4M", *QUICK, "--write", "--png", str(tmp_path / "bench.png"))
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.count("random read") == ended.out.count("random write") == 3
    assert ended.out.count("random 70/30") == 1
    assert "p99.9" in ended.out
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_costs_no_figures(ctl: Ctl, tmp_path: Path) -> None:
    ended = ctl("bench", "mem://4M", *QUICK, "--profile", "latency", "--png", str(tmp_path / "no" / "bench.png"))
    assert (ended.status, ended.out.count("random read")) == (errno.ENOENT, 1)
    assert "bench.png" in ended.err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--profile", "mixed"), 2, "--write"),
        (("--profile", "latency", "--way", "threads"), 2, "can go by threads"),
        (("--seconds", "0"), 2, "more than 0"),
        (("--profile", "throughput", "-O", "partition=1"), errno.ENXIO, "partition"),
    ],
)
def test_what_makes_no_sense_is_refused(ctl: Ctl, words: tuple[str, ...], status: int, said: str) -> None:
    ended = ctl("bench", "mem://2M", *words)
    assert (ended.status, ended.out) == (status, "")
    assert said in ended.err


def test_through_a_logical_volume_the_sessions_are_seen(ctl: Ctl, tmp_path: Path) -> None:
    media = [FileMedium(path) for path in unpack("striped", tmp_path)]
    luns = {number: Lun(medium, 512, read_only=True) for number, medium in enumerate(media)}
    with TargetServer([TargetConfig("iqn.2026-01.org.example:pvs", luns)]) as server:
        places = [f"iscsi://{server.portal}/iqn.2026-01.org.example:pvs/{number}" for number in luns]
        assert ctl("vg", "activate", *(word for place in places for word in ("--device", place))).status == 0
        ended = ctl("bench", "lvm://striped/two", *QUICK, "--json")
        assert ended.status == 0, ended.err
        record = json.loads(ended.out)
        assert record["session"]["portal"] == str(server.portal)
        assert all(0 < cell["syscalls_per_io"] < 100 for cell in record["cells"])
        assert ctl("vg", "deactivate").status == 0
    for medium in media:
        medium.close()


def test_a_disk_that_holds_something_is_not_written_to(ctl: Ctl, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4 << 20))
    with image.open("r+b") as file:
        file.seek((4 << 20) - (4 << 20) // 64)
        file.write(b"x")
    before = image.read_bytes()
    ended = ctl("bench", str(image), *QUICK, "--write")
    assert (ended.status, ended.out) == (errno.EBUSY, "")
    assert "--overwrite" in ended.err
    assert image.read_bytes() == before
    assert ctl("bench", str(image), *QUICK, "--profile", "latency", "--write", "--overwrite").status == 0
    assert image.read_bytes() != before


def test_without_matplotlib_the_extra_is_named(ctl: Ctl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ended = ctl("bench", "mem://4M", "--png", str(tmp_path / "no.png"))
    assert (ended.status, ended.out) == (errno.EOPNOTSUPP, "")
    assert "iscsi-swd[plot]" in ended.err


def test_ctrl_c_prints_what_there_is(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    words = ("bench", "mem://4M", "--seconds", "0.2", "--warm-up", "0", "--json", "--verbose")
    with spawn(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        assert b"latency" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=20)
    record = json.loads(out)
    assert (child.returncode, record["interrupted"]) == (130, True)
    assert record["cells"][0]["profile"] == "latency"
    assert len(record["cells"]) < 4
