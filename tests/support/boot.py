# SPDX-License-Identifier: Apache-2.0
"""What a host is while it starts: a network namespace with nothing in it yet, and a service manager that listens."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.process import Watched, environment, run


class Manager:
    """What systemd is to a service: a datagram socket whose address stands in NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(20)

    def hear(self, wanted: str) -> str:
        """The next message that has `wanted` in it."""
        while wanted not in (text := self._socket.recv(4096).decode()):
            pass
        return text

    def close(self) -> None:
        self._socket.close()


class Namespace:
    """A network namespace with nothing in it but a loopback that is down. `enter`: the words that lead there."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "echo here && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "here\n"
        self.enter = ("nsenter", "-t", str(self._holder.pid), "-n")

    @property
    def pid(self) -> int:
        return self._holder.pid

    def call(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """What came of a program inside."""
        return subprocess.run(
            [*self.enter, *words], env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=60
        )

    def ip(self, *words: str) -> str:
        return run(*self.enter, "ip", *words)

    def swdctl(self, *words: str) -> str:
        return run(*self.enter, sys.executable, "-m", "swd", *words)

    def watch(self, manager: Manager) -> Watched:
        return Watched(
            *self.enter, sys.executable, "-m", "swd", "startup", "--watch", env={"NOTIFY_SOCKET": str(manager.path)}
        )

    def close(self) -> None:
        self._holder.communicate()


@contextlib.contextmanager
def ended(watcher: Watched) -> Iterator[Watched]:
    """Whatever happens, the watcher does not outlive the test."""
    try:
        yield watcher
    finally:
        if watcher.running:
            watcher.signal(signal.SIGKILL)
        watcher.finish()
