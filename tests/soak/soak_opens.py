# SPDX-License-Identifier: Apache-2.0
"""A unit opened and closed many times, by `swd.open` and by the driver: memory, descriptors and threads stay flat."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from soak_run import resident

import swd
from swd.driver import Driver

WARM = 100  # rounds that do not count: what is made once is made by then
BLOCKS_A_ROUND = 0.25  # of the interpreter, kept: less than one object for each round
BYTES_FREE = 8 << 20  # resident memory that the C library takes in steps, whatever the number of rounds


@dataclass(frozen=True)
class Kept:
    """What this process holds at one moment."""

    resident: int  # bytes
    blocks: int  # of the interpreter's allocator
    descriptors: int
    threads: int

    @classmethod
    def now(cls) -> Kept:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed: that is no leak of ours
        if trim is not None:
            trim(0)
        return cls(resident(), sys.getallocatedblocks(), len(os.listdir("/proc/self/fd")), threading.active_count())


@dataclass(frozen=True)
class Growth:
    """Of one way to open, from the end of the warming up to the end of so many rounds."""

    way: str
    rounds: int
    before: Kept
    after: Kept

    @property
    def complaints(self) -> list[str]:
        before, after = self.before, self.after
        bounds = (
            ("bytes of resident memory", after.resident - before.resident, BYTES_FREE),
            ("blocks", after.blocks - before.blocks, 100 + BLOCKS_A_ROUND * self.rounds),
            ("descriptors", after.descriptors - before.descriptors, 0),
            ("threads", after.threads - before.threads, 0),
        )
        grew = [f"{grown} {what}" for what, grown, most in bounds if grown > most]
        return [f"{self.way}: {words} more after {self.rounds} rounds" for words in grew]

    def text(self) -> str:
        def both(name: str, unit: float = 1.0) -> str:
            return " -> ".join(f"{getattr(kept, name) / unit:g}" for kept in (self.before, self.after))

        return (
            f"{self.way:12} {self.rounds} rounds: resident KiB {both('resident', 1024)}, interpreter's blocks"
            f" {both('blocks')}, descriptors {both('descriptors')}, threads {both('threads')}"
        )


def plain(url: str) -> None:
    with swd.open(url, "r+b") as disk:
        disk.pwrite(b"x" * 512, 0)
        disk.pread(512, 0)


def by_driver(url: str) -> None:
    with Driver() as driver:
        fd = driver.open(url, os.O_RDWR)
        driver.pwrite(fd, b"x" * 512, 0)
        driver.close(fd)


WAYS: dict[str, Callable[[str], None]] = {"swd.open": plain, "Driver.open": by_driver}


def endure(url: str, rounds: int) -> list[Growth]:
    """`rounds` of each way, after `WARM` that do not count."""
    found = []
    for name, way in WAYS.items():
        for _ in range(WARM):
            way(url)
        before = Kept.now()
        for _ in range(rounds):
            way(url)
        found.append(Growth(name, rounds, before, Kept.now()))
    return found
