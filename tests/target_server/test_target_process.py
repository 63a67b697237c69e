# SPDX-License-Identifier: Apache-2.0
"""`python -m swd.target`: the ready line, a clean end by either signal, counts, and messages of one line."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from raw_initiator import RawInitiator, read_10, sixteen, write_10

import swd
from swd.proto.dev import IscsiDev
from swd.proto.url import parse_dev
from swd.values import Chap

SECRET = "a-secret-of-16by"


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(swd.__file__).parents[1]), **extra}


@contextmanager
def process(*arguments: str, **extra: str) -> Iterator[tuple[subprocess.Popen[str], IscsiDev]]:
    """A target in a process of its own, past its ready line, and the name of its LUN 0."""
    command = [sys.executable, "-m", "swd.target", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**extra)
    ) as running:
        try:
            assert running.stdout is not None
            word, _, url = running.stdout.readline().strip().partition(" ")
            assert word == "ready"
            dev = parse_dev(url)
            assert isinstance(dev, IscsiDev)
            yield running, dev
        finally:
            running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_counts_and_stops(number: signal.Signals, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    with process("--lun", "mem://4M?block_size=4096", "--lun", f"file://{image}", "--stats") as (running, dev):
        raw = RawInitiator(dev.portal)
        assert raw.login(dev.target).status_class == 0
        raw.ready(0)
        raw.ready(1)
        assert raw.run(sixteen(0x88, 0, 1), expect=4096).data == bytes(4096)
        assert raw.run(write_10(1, 1), lun=1, data=b"w" * 512).status == 0
        running.send_signal(number)
        out, err = running.communicate(timeout=10)
        assert raw.closed()
        raw.sock.close()
    assert (running.returncode, err) == (0, "")
    assert len(out.splitlines()) == 1
    counts = json.loads(out)
    assert (counts["logins"], counts["pdus_in"]["SCSI_COMMAND"]) == (1, 4)
    assert image.read_bytes()[512:1024] == b"w" * 512


def test_secrets_come_from_the_environment() -> None:
    with process("--lun", "mem://1M", "--user", "me", SWD_CHAP_SECRET=SECRET) as (running, dev):
        with RawInitiator(dev.portal) as raw:
            assert raw.login(dev.target).status_class == 2
        with RawInitiator(dev.portal) as raw:
            assert raw.login(dev.target, chap=Chap("me", SECRET)).status_class == 0
        command_line = Path(f"/proc/{running.pid}/cmdline")
        if command_line.exists():
            assert SECRET.encode() not in command_line.read_bytes()


def test_settings_reach_the_wire() -> None:
    arguments = ["--read-only", "--block-size", "4096", "--no-immediate-data", "--data-digest", "require"]
    with process("--lun", "mem://1M", *arguments) as (_, dev), RawInitiator(dev.portal) as raw:
        offer = [("DataDigest", "CRC32C,None"), ("ImmediateData", "Yes")]
        assert raw.login(dev.target, operational=offer).status_class == 0
        assert (raw.answers["DataDigest"], raw.answers["ImmediateData"]) == ("CRC32C", "No")
        raw.ready()
        assert raw.run(read_10(0, 1), expect=8192).residual == 4096
        assert raw.run(write_10(0, 1), data=bytes(4096)).sense == (7, 0x27, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lun", "file:///nowhere/at/all"], "nowhere"),
        (["--lun", "iscsi://127.0.0.1/iqn.2026-01.org.example:x/0"], "cannot be served"),
        (["--lun", "mem://1M", "--user", "me"], "SWD_CHAP_SECRET"),
        (["--lun", "mem://1M", "--portal", "0.0.0.0:0"], "loopback"),
        (["--lun", "mem://1M", "--name", "nonsense"], "iqn."),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "swd.target", *arguments], capture_output=True, text=True, timeout=30, env=environment()
    )
    assert done.returncode not in (0, 255)
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_target_does_not_know_the_initiator() -> None:
    """Nor any rank above its own."""
    program = "import sys, swd.target.__main__; print([n for n in sys.modules if n.startswith('swd.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment())
    loaded = {name.split(".")[1] for name in eval(done.stdout)}
    assert loaded <= {"target", "proto", "errors", "values", "messages", "_crc32c", "sockets", "_targetpath"}, loaded


@pytest.mark.parametrize("depth", [1, 128, 1024])
def test_as_many_commands_may_be_open_as_it_is_told(depth: int) -> None:
    words = () if depth == 128 else ("--queue-depth", str(depth))
    with process("--lun", "mem://1M", *words) as (_, dev), RawInitiator(dev.portal) as raw:
        raw.login(dev.target)
        raw.ready()
        for cdb in (bytes(6), read_10(0, 1)):  # in Python, and compiled
            header: Any = raw.run(cdb, expect=512 if any(cdb) else 0).pdus[-1].header
            assert header.max_cmd_sn - header.exp_cmd_sn + 1 == depth


@pytest.mark.parametrize("depth", [0, -1, 65537])
def test_a_queue_that_is_none_is_refused(depth: int) -> None:
    command = [sys.executable, "-m", "swd.target", "--lun", "mem://1M", "--queue-depth", str(depth)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=20)
    assert (done.returncode, done.stdout) == (errno.EINVAL, "")
    assert done.stderr == f"swd.target: queue_depth is {depth}: 1 to 65536 commands may be open\n"
