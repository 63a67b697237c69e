# SPDX-License-Identifier: Apache-2.0
"""The embedded target as a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

from support.process import Watched
from swd.proto.dev import IscsiDev
from swd.proto.url import parse_dev
from swd.values import Portal


class Served:
    """`python -m swd.target` with some words: where it is, and, once it is stopped, what it counted."""

    def __init__(self, process: Watched) -> None:
        self.process = process
        dev = parse_dev(process.wait_for(r"^ready ").removeprefix("ready "))
        assert isinstance(dev, IscsiDev)
        self.portal: Portal = dev.portal
        self.name = dev.target
        self.counts: dict[str, Any] = {}

    def url(self, lun: int = 0, *, user: str = "") -> str:
        """The URL of a unit; `user` as libiscsi wants it, "name%secret"."""
        return f"iscsi://{user}{'@' if user else ''}{self.portal}/{self.name}/{lun}"

    def stop(self) -> dict[str, Any]:
        """SIGTERM; what it counted."""
        if not self.counts:
            self.process.signal(signal.SIGTERM)
            status = self.process.finish()
            assert status == 0, "\n".join(self.process.lines)
            self.counts = json.loads(self.process.lines[-1])
        return self.counts


@contextlib.contextmanager
def serving(*words: str, **env: str) -> Iterator[Served]:
    process = Watched(sys.executable, "-m", "swd.target", "--stats", *words, env=env)
    try:
        yield Served(process)
    finally:
        if process.running:
            process.signal(signal.SIGKILL)
        process.finish()
