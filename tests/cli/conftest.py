# SPDX-License-Identifier: Apache-2.0
"""Ways to run `swdctl`: in this process for what is pure, in one of its own for statuses, signals and descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import swd
from swd.cli import main

PACKAGE_HOME = str(Path(swd.__file__).resolve().parent.parent)


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def ctl(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`ctl("read", ...)` in this process."""

    def call(*words: str) -> Ended:
        capsys.readouterr()
        status = main.run(words)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return call


def _environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": PACKAGE_HOME, "PYTHONDONTWRITEBYTECODE": "1"} | more


@pytest.fixture
def environment() -> dict[str, str]:
    """This test's environment, with swd where this process has it from."""
    return _environment()


@pytest.fixture
def spawn() -> Callable[..., subprocess.Popen[bytes]]:
    """`spawn("read", ..., stdout=...)`: a process of its own, not waited for."""

    def start(*words: str, **settings: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-m", "swd", *words], env=_environment(), **settings)

    return start


@pytest.fixture
def process() -> Callable[..., Ended]:
    """`process("read", ..., stdin=b"")` in a process of its own."""

    def call(*words: str, stdin: bytes = b"", program: tuple[str, ...] = ("-m", "swd"), **more: str) -> Ended:
        done = subprocess.run(
            [sys.executable, *program, *words], input=stdin, capture_output=True, env=_environment(**more), timeout=60
        )
        return Ended(done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1"))

    return call
