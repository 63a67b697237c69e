# SPDX-License-Identifier: Apache-2.0
"""Every byte looked at while the fast paths run flat out: batches and streams at queue depth 128, and threads beside an
event loop on one session.

Every 8 bytes of the unit hold their own offset, with a generation in the high 16 bits, so that a block from another
place, or of another time, is seen. AssertionError names the first place that is wrong.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import swd
from swd.aio import AsyncDisk

QUEUE_DEPTH = 128
TASKS = 32
PIECE = 8 << 20  # bytes of one batch
BLOCK = 4096
Numbers = Any  # of NumPy, int64


def pattern(places: Numbers, size: int, generation: int = 0) -> Numbers:
    """A row of `size` bytes for each of these byte offsets (multiples of 8)."""
    return np.asarray(places, np.int64)[:, None] + np.arange(0, size, 8, np.int64) + (generation << 48)


def check(what: str, places: Numbers, rows: Any, size: int, generation: int = 0) -> None:
    found = np.ascontiguousarray(rows).view(np.int64).reshape(len(places), -1)
    wrong = (found != pattern(places, size, generation)).any(axis=1)
    assert not wrong.any(), f"{what}: wrong bytes at {np.asarray(places)[wrong][:5].tolist()}, {wrong.sum()} in all"


def write_all(disk: swd.Disk, size: int = BLOCK, generation: int = 0, chance: int = 0) -> float:
    """The pattern on the whole disk, in random order, at queue depth 128; I/Os a second."""
    places = np.random.default_rng(chance).permutation(np.arange(0, disk.size, size, dtype=np.int64))
    taken = 0.0
    for part in np.array_split(places, max(1, disk.size // PIECE)):
        data = pattern(part, size, generation)
        began = time.perf_counter()
        disk.write_many(part, data, queue_depth=QUEUE_DEPTH)
        taken += time.perf_counter() - began
    return len(places) / taken


def read_many(disk: swd.Disk, total: int, size: int, generation: int = 0, chance: int = 0) -> float:
    """`total` bytes from random places by `read_many`, all compared; I/Os a second."""
    out, done, taken = np.zeros((PIECE // size, size), np.uint8), 0, 0.0
    while done * size < total:
        places = np.random.default_rng((chance, done)).integers(0, disk.size // size, len(out)) * size
        out[:] = 0
        began = time.perf_counter()
        disk.read_many(places, size, out, queue_depth=QUEUE_DEPTH)
        taken += time.perf_counter() - began
        check("read_many", places, out, size, generation)
        done += len(out)
    return done / taken


def stream(disk: swd.Disk, total: int, size: int, generation: int = 0, chance: int = 0) -> float:
    """The same by `stream`; the comparison is within the time."""
    places = np.random.default_rng((chance, 1)).integers(0, disk.size // size, max(1, total // size)) * size
    wanted, began = np.arange(0, size, 8, np.int64) + (generation << 48), time.perf_counter()
    blocks = disk.stream(places, size, queue_depth=QUEUE_DEPTH)
    for place, block in zip(places.tolist(), blocks, strict=True):
        assert np.array_equal(np.frombuffer(block, np.int64), wanted + place), f"stream: wrong bytes at {place}"
    return len(places) / (time.perf_counter() - began)


def share(disk: swd.Disk, seconds: float, generation: int = 1) -> dict[str, int]:
    """Two threads and an event loop of 32 tasks on one session for `seconds`, each of the three in a third of the disk
    that it writes, reads and compares, over and over, with a new generation each time. I/Os of each.
    """
    third, until = disk.size // 3 // BLOCK * BLOCK, time.monotonic() + seconds
    work: dict[str, Callable[[swd.Disk, int, int, float, int], int]] = {
        "a thread with batches": _batches,
        "a thread call by call": _calls,
        f"a loop with {TASKS} tasks": _loop,
    }
    failed = threading.Event()

    def guarded(call: Callable[[swd.Disk, int, int, float, int], int], low: int) -> int:
        try:
            done, turn = 0, generation
            while not failed.is_set() and (not done or time.monotonic() < until):
                done += call(disk, low, third, until, turn)
                turn += 1
            return done
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(work)) as pool:
        begun = {name: pool.submit(guarded, call, n * third) for n, (name, call) in enumerate(work.items())}
        return {name: future.result() for name, future in begun.items()}


def _batches(disk: swd.Disk, low: int, length: int, _until: float, generation: int) -> int:
    places = np.random.default_rng(generation).permutation(np.arange(low, low + length, BLOCK, dtype=np.int64))
    disk.write_many(places, pattern(places, BLOCK, generation), queue_depth=QUEUE_DEPTH)
    check("a batch among others", places, disk.read_many(places, BLOCK, queue_depth=QUEUE_DEPTH), BLOCK, generation)
    return 2 * len(places)


def _calls(disk: swd.Disk, low: int, length: int, _until: float, generation: int) -> int:
    """Less at a time, for it is slower."""
    places = random.Random(generation).sample(range(low, low + length, BLOCK), min(256, length // BLOCK))
    rows = pattern(places, BLOCK, generation)
    for place, row in zip(places, rows, strict=True):
        disk.pwrite(row, place)
    one = bytearray(BLOCK)
    for place in places:
        disk.pread_into(one, place)
        check("a call among others", [place], np.frombuffer(one, np.uint8), BLOCK, generation)
    return 2 * len(places)


def _loop(disk: swd.Disk, low: int, length: int, until: float, generation: int) -> int:
    return asyncio.run(_tasks(disk, low, length, until, generation))


async def _tasks(disk: swd.Disk, low: int, length: int, until: float, generation: int) -> int:
    """A disk of its own on the same session, since its end ends that."""
    unit: Any = disk.unit
    done, turn = 0, generation
    async with AsyncDisk(unit.session.unit(unit.lun, writable=True)) as face:

        async def work(places: list[int]) -> None:
            one = bytearray(BLOCK)
            for place, row in zip(places, pattern(places, BLOCK, turn), strict=True):
                await face.pwrite(row.tobytes(), place)
            for place in places:
                await face.pread_into(one, place)
                check("a task among others", [place], np.frombuffer(one, np.uint8), BLOCK, turn)

        while not done or time.monotonic() < until:
            places = list(range(low, low + length, BLOCK))
            random.Random(turn).shuffle(places)
            await asyncio.gather(*(work(places[n : n + 16]) for n in range(0, 16 * TASKS, 16)))
            done, turn = done + 2 * 16 * TASKS, turn + 1
    return done
