# SPDX-License-Identifier: Apache-2.0
"""The chaos run over fault plans in short, and its negative controls. `make soak-plan` is the long one."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from soak_kinds import LIES, TRIALS
from soak_meddler import Meddler, _Link
from support.process import environment

import swd
from swd.export.testing import IscsiTarget
from swd.target.faults import KINDS


def soak_plan(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "soak_plan.py"), *words]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=110)


def test_every_kind_of_fault_is_tried() -> None:
    assert set(TRIALS) | set(LIES) == set(KINDS)


def test_the_relay_knows_of_digests_before_the_initiator_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it takes the first command apart without them, now and then, and the target never gets the whole of it."""
    known: list[bool] = []
    flush = _Link._flush

    def watched(link: _Link) -> None:
        known.append(link._digests)
        flush(link)

    monkeypatch.setattr(_Link, "_flush", watched)
    target = IscsiTarget()
    target.start()
    with closing(Meddler(target.port)) as relay:
        dev = target.url.replace(f":{target.port}/", f":{relay.port}/")
        with swd.open(dev, header_digest="crc32c!", data_digest="crc32c!"):
            answers = target.statistics["pdus_out"]["LOGIN_RESPONSE"]
    target.stop()
    assert known[answers - 1]


def test_a_gentle_relay_ends_a_connection_without_a_reset_of_the_target() -> None:
    """Which would be the end of a guest; see `_hear_out`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with closing(Meddler(listener.getsockname()[1], gentle=True)) as relay:
            initiator = socket.create_connection(("127.0.0.1", relay.port))
            target, _ = listener.accept()
        with target:
            target.settimeout(20)
            initiator.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            initiator.close()
            assert target.recv(1) == b""
            target.sendall(bytes(8 << 20))
            target.shutdown(socket.SHUT_WR)
            assert target.recv(1) == b""


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_whatever_strikes(root: Path) -> None:
    """Every kind once but those that take five seconds each, and each has moved a counter."""
    done = soak_plan(root, "--quick", "--faults", "50", "--seed", "11")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +(\d+)  ", done.stdout, re.MULTILINE)
    assert {row[0] for row in rows} == {kind for kind, trial in TRIALS.items() if trial.weight > 1}
    assert done.stdout.endswith("verdict: nothing acknowledged was lost\n")


@pytest.mark.slow
def test_lies_are_caught_and_a_blind_judge_is_found_out(root: Path) -> None:
    done = soak_plan(root, "--control", "--seed", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\w+) +caught: (?:lost|torn): ", done.stdout, re.MULTILINE) == list(LIES)
    blind = soak_plan(root, "--control", "--blind", "--seed", "3")
    assert blind.returncode == 1, blind.stdout + blind.stderr
    assert re.findall(r"^(\w+) +MISSED: ([1-9]\d*) lies were told", blind.stdout, re.MULTILINE)
