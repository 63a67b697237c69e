# SPDX-License-Identifier: Apache-2.0
"""A program in the background whose output is read as it comes, so that a test waits for a line and never sleeps."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import swd
from support.pace import SLOWER

PATIENCE = 20.0 * SLOWER  # seconds for what takes a fraction of one
HOME = str(Path(swd.__file__).resolve().parent.parent)  # so that a child imports the swd that is under test


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's own, with swd importable as here."""
    return {**os.environ, "PYTHONPATH": HOME, "PYTHONDONTWRITEBYTECODE": "1", **(more or {})}


def run(*words: str, timeout: float = PATIENCE, env: Mapping[str, str] | None = None) -> str:
    """What a program printed; AssertionError with all it said if it did not end with 0."""
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=environment(env),
    )
    assert done.returncode == 0, f"`{' '.join(words)}` ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


class Watched:
    """A running program. `lines` grows as it prints, on either stream; `wait_for` returns when a line is there."""

    def __init__(
        self, *words: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: bool = False
    ) -> None:
        """`stdin`: its standard input is a pipe, `process.stdin`."""
        self._what = words[0]
        self.lines: list[str] = []
        self._more = threading.Condition()  # guards lines and _open
        self._open = 2
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment(env),
            cwd=cwd,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = (self.process.stdout, self.process.stderr)
        self._readers = [threading.Thread(target=self._read, args=(stream,)) for stream in streams]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._more:
                    self.lines.append(line.rstrip("\n"))
                    self._more.notify_all()
        with self._more:
            self._open -= 1
            self._more.notify_all()

    def wait_for(self, pattern: str, *, count: int = 1, timeout: float = PATIENCE) -> str:
        """The `count`-th line in which `pattern` is found. AssertionError if the program ends or time passes first."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        self._until(lambda: len(found()) >= count, timeout)
        hits = found()
        assert len(hits) >= count, f"{self._what} did not say {pattern!r} but: " + "\n".join(self.lines[-20:])
        return hits[count - 1]

    def _until(self, happened: Callable[[], bool], timeout: float) -> None:
        with self._more:
            self._more.wait_for(lambda: happened() or not self._open, timeout)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: int) -> None:
        """To this program alone: by its own process id."""
        self.process.send_signal(number)

    def finish(self, timeout: float = PATIENCE) -> int:
        """Waits for its end, and kills it after `timeout` seconds. Returns its status when all output is in `lines`."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        for reader in self._readers:
            reader.join()
        return status
