# SPDX-License-Identifier: Apache-2.0
"""For tests of I/O that goes straight: a unit that nobody probed, and what of Python is called on the way."""

from __future__ import annotations

import errno
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from swd._rangelock import RangeLock
from swd.aio import AsyncDisk
from swd.errors import ScsiError


class Plain:
    """A session's straight way to unit 0, and sizes. What is not plainly good is EIO."""

    block_size = physical_block_size = 512
    blocks = 1 << 20
    read_only = False
    identity = "nobody"
    max_transfer = 1 << 20
    cache_losses = losses = 0

    def __init__(self, session: Any) -> None:
        self.lock = RangeLock()
        self.straight = session.straight(0)
        self.straight.take_writes(self.lock, self)

    def settle(self, write: bool, lba: int, buffer: memoryview, result: object) -> None:
        raise ScsiError(f"status {result}", errno=errno.EIO)


def calls_seen(run: Callable[..., object], *arguments: object) -> Counter[str]:
    """The names of the Python functions that are called on the way."""
    seen: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, _: seen.update([frame.f_code.co_name] if event == "call" else []))
    try:
        run(*arguments)
    finally:
        sys.setprofile(None)
    return seen


def lock_of(disk: AsyncDisk) -> RangeLock:
    return disk.disk.unit.lock
