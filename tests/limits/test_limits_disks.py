# SPDX-License-Identifier: Apache-2.0
"""Full disks: ENOSPC, what was there before stays whole, half a file does not stay, and I/O needs no disk of ours."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.process import environment
from support.served import Served, serving

pytestmark = pytest.mark.netns  # who may make namespaces may mount

SMALL = 'mount -t tmpfs -o size=64k small "$1" && shift && exec "$@"'
KEPT = "[all]\ntimeout = 5\n"

# Fills the disk, runs `swdctl` with each line of words, and says what came of it and what lies on the disk then.
PROGRAM = f"""
import contextlib, json, os, subprocess, sys
folder, said = sys.argv[1], []
os.chdir(folder)
def fill():
    with contextlib.suppress(OSError), open("filler", "wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
open("swd.toml", "w").write({KEPT!r})
if sys.argv[2] == "full":
    fill()
for words in json.loads(sys.argv[3]):
    run = subprocess.run([sys.executable, "-m", "swd", *words], capture_output=True, text=True)
    said.append((run.returncode, run.stdout, run.stderr, sorted(os.listdir())))
print(json.dumps([said, open("swd.toml").read()]))
"""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--lun", "mem://1M") as target:
        yield target


def on_a_small_disk(
    folder: Path, how: str, *words: list[str], **env: str
) -> tuple[list[tuple[int, str, str, list[str]]], str]:
    """What each `swdctl` said on a disk of 64 KiB, full or empty; and its configuration file afterwards."""
    command = ["unshare", "-m", "sh", "-c", SMALL, "sh", str(folder), sys.executable, "-c", PROGRAM, str(folder), how]
    done = subprocess.run(
        [*command, json.dumps(words)], env=environment(env), capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.returncode) == ("", 0)
    said, kept = json.loads(done.stdout)
    return [tuple(one) for one in said], kept


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(1 << 20))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.mkdir()
    return path


def test_a_destination_that_becomes_full(small: Path, source: Path) -> None:
    ends, _ = on_a_small_disk(
        small, "empty", ["copy", str(source), "./new"], ["read", str(source), "-o", "out"],
        ["copy", str(source), "./new", "--json"],
    )  # fmt: skip
    for status, out, err, left in ends:
        assert (status, out) == (errno.ENOSPC, "")
        assert "No space left" in err
        assert len(err.splitlines()) == 1
        assert left == ["swd.toml"], "half a file was left behind"


def test_the_configuration_on_a_full_disk(small: Path) -> None:
    config = str(small / "swd.toml")
    words = (["config", "set", "timeout=7"], ["config", "get", "timeout"])
    ends, kept = on_a_small_disk(small, "full", *words, SWD_CONFIG=config)
    status, _, err, left = ends[0]
    assert status == errno.ENOSPC
    assert "space" in err
    assert left == ["filler", "swd.toml"]
    assert kept == KEPT
    assert ends[1][0] == 0
    assert "5" in ends[1][1]


def test_io_with_state_run_time_and_log_on_a_full_disk(small: Path, served: Served) -> None:
    """The registry is kept in memory, and said so once; data goes where it should."""
    full = {"SWD_STATE_DIR": str(small / "state"), "SWD_RUNTIME_DIR": str(small / "run")}
    ends, _ = on_a_small_disk(
        small, "full", ["read", served.url(), "--length", "4K", "-o", "/dev/null", "--json"],
        ["scan", str(served.portal), "--json"], ["trace", "trace.pcap", "--", "read", served.url(), "-o", "/dev/null"],
        **full,
    )  # fmt: skip
    assert ends[0][0] == 0
    assert json.loads(ends[0][1])["length_bytes"] == 4096
    assert ends[1][0] == 0
    assert len(json.loads(ends[1][1])) == 1
    assert ends[1][2].count("cannot be used") <= 1
    assert ends[2][0] == errno.ENOSPC
    assert all("Traceback" not in err for _, _, err, _ in ends)


def test_a_log_that_cannot_be_written(served: Served) -> None:
    """Standard error on a full device costs the messages, and nothing else."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "swd", "read", served.url(), "--length", "4K", "--debug"],
            env=environment(), stdout=subprocess.PIPE, stderr=full, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, bytes(4096))
