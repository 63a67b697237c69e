# SPDX-License-Identifier: Apache-2.0
"""What the gate does *not* do: no socket, no name look-up, no wait, no file made, nothing opened below /var.

An audit hook in a process of its own sees what the interpreter is asked for, whoever asks.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swd.driver import phase

HOME = str(Path(phase.__file__).resolve().parents[2])
NAME = "iqn.2026-01.org.example:x"

PROBE = """
import json, os, sys
seen = []
VAR = os.environ["SWD_STATE_DIR"]
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
def hook(event, args):
    if event.startswith("socket."):
        seen.append(event)
    elif event == "open":
        path, mode, flags = args
        if str(path).startswith(("/var", VAR)) or str(path).endswith((".toml", ".sqlite3")) or flags & WRITES:
            seen.append(f"open {path} {mode} {flags}")
    elif event in ("os.mkdir", "os.rename", "os.link", "time.sleep"):
        seen.append(event)
import swd
from swd.driver import Driver
from swd.errors import NetworkNotInitialized
sys.dont_write_bytecode = True
sys.addaudithook(hook)
def attempt(act):
    try:
        act()
        return "passed"
    except NetworkNotInitialized as error:
        return error.errno
    except OSError as error:
        return f"other {error.errno}"
answers = [attempt(act) for act in (%s,)]
print(json.dumps([answers, seen]))
"""
CALLS = (
    f"lambda: swd.open('iscsi://host.example/{NAME}/0')",
    f"lambda: swd.open('iscsi://host.example/{NAME}/0', 'r+b', user='u', secret_file='/var/none')",
    "lambda: swd.open('255/0/0.0.0.0')",
    "lambda: swd.open('wwid:naa.6001405000000000')",
    "lambda: swd.open('lvm://vg/lv')",
    "lambda: swd.scan()",
    "lambda: swd.scan('host.example')",
    f"lambda: swd.connect('host.example', '{NAME}')",
    "lambda: swd.discover('host.example')",
    f"lambda: Driver().open('iscsi://host.example/{NAME}/0', os.O_RDWR | os.O_CREAT | os.O_TRUNC)",
    "lambda: Driver().open('255/0/0.0.0.0')",
)


def probe(*calls: str) -> tuple[list[object], list[str]]:
    environment = {**os.environ, "PYTHONPATH": HOME}  # whose state folder stands for the one below /var
    done = subprocess.run(
        [sys.executable, "-c", PROBE % ", ".join(calls)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers, seen = json.loads(done.stdout)
    return answers, seen


def test_before_the_network_every_way_in_ends_at_once() -> None:
    phase.begin()
    answers, seen = probe(*CALLS)
    assert answers == [errno.ENETUNREACH] * len(CALLS)
    assert seen == []


def test_the_probe_sees_a_socket_when_there_is_one() -> None:
    """The test of the test: after the attempt the same calls do reach for the network and the configuration."""
    phase.complete()
    answers, seen = probe("lambda: swd.discover('127.0.0.1:1')")
    assert answers == [f"other {errno.ENXIO}"]
    assert any(event.startswith("socket.") for event in seen)
    assert any(".toml" in event for event in seen)
    assert any(os.environ["SWD_STATE_DIR"] in event for event in seen)


def test_a_phase_given_to_a_driver_is_for_that_driver_only() -> None:
    given = f"lambda: Driver(phase=swd.Phase.PRE_NETWORK).open('iscsi://127.0.0.1:1/{NAME}/0')"
    other = "Driver(config={'errno_profile': '11iv3'}, phase=swd.Phase.PRE_NETWORK)"
    answers, seen = probe(
        given, f"lambda: {other}.open('iscsi://127.0.0.1:1/{NAME}/0')", f"lambda: {other}.open('mem://1M')"
    )
    assert answers == [errno.ENETUNREACH, errno.ENXIO, "passed"]
    assert seen == []


def test_local_rows_are_not_gated(tmp_path: Path) -> None:
    phase.begin()
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    answers, _ = probe("lambda: swd.open('mem://1M')", f"lambda: swd.open('{image}')", "lambda: Driver().open('isw:')")
    assert answers == ["passed"] * 3


@pytest.mark.parametrize("call", CALLS)
def test_after_the_attempt_nothing_says_enetunreach(call: str) -> None:
    phase.complete()
    answers, _ = probe(call.replace("host.example", "127.0.0.1:1"))
    expected = {f"other {number}" for number in (errno.ENXIO, errno.ENODEV, errno.ENOENT)}
    assert answers[0] in ({"passed"} if call == "lambda: swd.scan()" else expected)  # nothing is known: nothing asked
