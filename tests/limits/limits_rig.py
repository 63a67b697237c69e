# SPDX-License-Identifier: Apache-2.0
"""What the tests of limits measure: memory at its highest, time, descriptors; and a target of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

MIB = 1 << 20


def _status(word: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(word))


@contextlib.contextmanager
def bounded(*, seconds: float, memory: int) -> Iterator[None]:
    """At most so long, and at no moment so many bytes more of this process in memory than at the beginning."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the high-water mark begins anew (proc(5))
    before, begun = _status("VmRSS:"), time.monotonic()
    yield
    took, grown = time.monotonic() - begun, _status("VmHWM:") - before
    assert took < seconds, f"{took:.1f} s"
    assert grown < memory, f"{grown >> 10} KiB more"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def spare(count: int) -> Iterator[None]:
    """All descriptors that this process may have are taken, but `count`."""
    held = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        for _ in range(min(count, len(held))):
            os.close(held.pop())
        yield
    finally:
        for fd in held:
            os.close(fd)
