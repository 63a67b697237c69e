# SPDX-License-Identifier: Apache-2.0
"""What a user has at hand: `swdctl` in a process of its own, a target in another, and hosts that are network
namespaces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import swd

PACKAGE_HOME = str(Path(swd.__file__).resolve().parent.parent)
PATIENCE = 60  # seconds for what ends within a few


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": PACKAGE_HOME, "PYTHONDONTWRITEBYTECODE": "1"} | more


@dataclass(frozen=True)
class Host:
    """A network namespace whose loopback is up, or (no holder) this machine's own."""

    holder: int | None = None

    def command(self, *words: str) -> list[str]:
        inside = [] if self.holder is None else ["nsenter", "-t", str(self.holder), "-n"]
        return [*inside, *words]

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*words),
            env=environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )

    def swdctl(self, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        return self.run(sys.executable, "-m", "swd", *words, **more)

    def python(self, program: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        return self.run(sys.executable, "-c", program, *words)


@dataclass
class Served:
    """An embedded target in a process of its own. `stop` gives its counters."""

    process: subprocess.Popen[str]
    url: str
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def portal(self) -> str:
        return self.url.split("/")[2]

    @property
    def name(self) -> str:
        return self.url.split("/")[3]

    def stop(self) -> dict[str, int]:
        if not self.counters:
            self.process.send_signal(signal.SIGTERM)
            out, _ = self.process.communicate(timeout=PATIENCE)
            self.counters = json.loads(out.splitlines()[-1])
        return self.counters


@contextmanager
def serving(host: Host, *words: str, portal: str = "127.0.0.1:0", **more: str) -> Iterator[Served]:
    command = host.command(sys.executable, "-m", "swd.target", "--portal", portal, "--stats", *words)
    with subprocess.Popen(command, env=environment(**more), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Served(process, process.stdout.readline().split()[-1])
        finally:
            process.kill()


@pytest.fixture
def serve() -> Callable[..., object]:
    return serving


@pytest.fixture
def here() -> Host:
    return Host()


@pytest.fixture
def namespace() -> Iterator[Host]:
    """A host of its own with nothing but a loopback, which is up. For tests marked `netns`."""
    script = "ip link set lo up && echo up && exec cat"
    command = ["unshare", "-n", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "up\n"
        yield Host(holder.pid)
        holder.stdin.close()  # `cat` ends, and with it the namespace
