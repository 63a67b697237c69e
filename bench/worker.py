# SPDX-License-Identifier: Apache-2.0
"""A process that puts I/Os on a DEV through swd, by any way, as `bench/run.py` tells it on stdin: a JSON line an order,
a JSON line an answer.

What counts is this process's own time: wall and CPU around the calls alone. Making offsets and data, and comparing what
was read with the pattern (one I/O in 64, all of its bytes), stand outside; in an event loop and in threads, where they
cannot, they count against swd. What was written is read back, one I/O in 64, when the time is up.
"""

from __future__ import annotations

import array
import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from targets import LUN_SIZE, pattern

import swd

CHECKED = 64  # one in so many is compared
# Peers go on for a whole turn without a pause. Between two calls of ours results are compared, and the target's CPU
# falls asleep: so a call is long, as far as its memory allows.
READ_BYTES = 2 << 20  # where the data goes: as in the peers, queue depth times size, or this if it is more
BATCH_IOS = 2048
LONG_BYTES = 512 << 20  # in one stream, or in one batch of writes: their memory is used again
LONG_IOS = 8192


def cpu_of(pid: int) -> float:
    """CPU seconds of another process (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def calls_of(disk: swd.Disk) -> int:
    """System calls of the session that leads to a disk."""
    unit: Any = disk.unit
    counted = unit.session.statistics
    return int(counted["sends"] + counted["receives"])


class Order:
    """What is to be done, and the clock of it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.url, self.way = order["url"], order["way"]
        self.size, self.depth, self.write = order["size"], order["depth"], order["write"]
        self.seconds, self.generation = order["seconds"], order["generation"]
        self.options = order["options"]
        self.target = order["target_pid"]
        self.random = random.Random(order["generation"])
        self.ios = self.checked = 0
        self.wall = self.cpu = self.target_cpu = 0.0
        self.calls: int | None = None

    def offsets(self, count: int) -> list[int]:
        places = LUN_SIZE // self.size
        return [self.random.randrange(places) * self.size for _ in range(count)]

    def timed(self, call: Callable[[], object], ios: int) -> None:
        target, cpu, wall = cpu_of(self.target), time.process_time(), time.perf_counter()
        call()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu
        self.target_cpu += cpu_of(self.target) - target
        self.ios += ios

    def check(self, data: Any, offset: int) -> None:
        """Compare one I/O that was read."""
        self.checked += 1
        wanted = pattern(offset, self.size, self.generation if self.write else 0)
        if not np.array_equal(np.frombuffer(data, np.uint8), wanted):
            raise SystemExit(f"{self.url}: wrong bytes at {offset} ({self.way}, {self.size} bytes)")


def sync(disk: swd.Disk, order: Order) -> None:
    buffer, read, write = bytearray(order.size), disk.pread_into, disk.pwrite
    while order.wall < order.seconds:
        offsets = order.offsets(CHECKED)
        if order.write:
            parts = [(pattern(at, order.size, order.generation).tobytes(), at) for at in offsets]

            def row() -> None:
                for part, at in parts:  # noqa: B023  (called at once)
                    write(part, at)
        else:

            def row() -> None:
                for at in offsets:  # noqa: B023
                    read(buffer, at)

        order.timed(row, len(offsets))
        if order.write:
            read(buffer, offsets[-1])
        order.check(buffer, offsets[-1])


def batch(disk: swd.Disk, order: Order) -> None:
    if order.write:
        write_batches(disk, order)
        return
    count = max(4 * order.depth, min(BATCH_IOS, READ_BYTES // order.size))
    space = np.zeros((count, order.size), np.uint8)
    space.fill(1)  # else the first turn pays for the pages of it
    while order.wall < order.seconds:
        places = order.offsets(count)
        offsets = array.array("q", places)
        order.timed(lambda: disk.read_many(offsets, order.size, space, queue_depth=order.depth), count)  # noqa: B023
        for at in range(order.random.randrange(min(CHECKED, count)), count, CHECKED):
            order.check(space[at], places[at])


def write_batches(disk: swd.Disk, order: Order) -> None:
    """Out of as much memory as peers use: `depth` rows, over and over. Row r goes to the places r, depth + r, ..., so
    that each place holds one row whatever the order, and holds others in each call.
    """
    depth, size, turns, call = order.depth, order.size, 4, 0
    rows = np.zeros((depth, size), np.uint8)
    while order.wall < order.seconds:
        first, wall = call * rows.nbytes, order.wall
        rows[:] = pattern(first, rows.nbytes, order.generation).reshape(rows.shape)
        starts = [order.random.randrange(LUN_SIZE // rows.nbytes) * rows.nbytes for _ in range(turns)]
        offsets = array.array("q", [start + row * size for start in starts for row in range(depth)])
        data = np.broadcast_to(rows, (turns, *rows.shape))
        count = len(offsets)
        order.timed(lambda: disk.write_many(offsets, data, queue_depth=depth), count)  # noqa: B023
        for at in range(order.random.randrange(min(CHECKED, count)), count, CHECKED):
            order.check(disk.pread(size, offsets[at]), first + at % depth * size)
        if order.wall - wall < order.seconds / 8 and 2 * count <= LONG_IOS and 2 * count * size <= LONG_BYTES:
            turns *= 2
        call += 1


def stream(disk: swd.Disk, order: Order) -> None:
    """Every block is looked at once, as in a copy or a hash; one in 64 is kept, within the time, and compared after."""
    count = max(4 * order.depth, min(LONG_IOS, LONG_BYTES // order.size))
    while order.wall < order.seconds:
        places, kept = order.offsets(count), {}
        order.timed(partial(_look_at_all, disk, order, array.array("q", places), kept), count)
        for at, data in kept.items():
            order.check(data, places[at])


def _look_at_all(disk: swd.Disk, order: Order, offsets: array.array[int], kept: dict[int, bytes]) -> None:
    first = order.random.randrange(min(CHECKED, len(offsets)))
    for at, block in enumerate(disk.stream(offsets, order.size, queue_depth=order.depth)):
        if at % CHECKED == first:
            kept[at] = bytes(block)


def rows_of(order: Order) -> list[list[tuple[int, bytes]]]:
    """For each of `depth` workers the places that it goes round, with what it writes there."""
    rows = [order.offsets(CHECKED) for _ in range(order.depth)]
    if not order.write:
        return [[(at, b"") for at in row] for row in rows]
    return [[(at, pattern(at, order.size, order.generation).tobytes()) for at in row] for row in rows]


def threads(disk: swd.Disk, order: Order) -> None:
    rows, done = rows_of(order), [0] * order.depth
    until = time.perf_counter() + order.seconds
    failures: list[BaseException] = []

    def work(me: int) -> None:
        buffer, row, at = bytearray(order.size), rows[me], 0
        try:
            while not failures and (not done[me] or time.perf_counter() < until):  # each row once, for what is checked
                for at, data in row:
                    if order.write:
                        disk.pwrite(data, at)
                    else:
                        disk.pread_into(buffer, at)
                done[me] += len(row)
                if not order.write:
                    order.check(buffer, at)
        except BaseException as error:  # noqa: BLE001  (told below)
            failures.append(error)

    workers = [threading.Thread(target=work, args=(me,)) for me in range(order.depth)]

    def all_of_them() -> None:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    order.timed(all_of_them, 0)
    order.ios = sum(done)
    if failures:
        raise failures[0]
    check_written(disk, order, rows)


def check_written(disk: swd.Disk, order: Order, rows: list[list[tuple[int, bytes]]]) -> None:
    """All places, since each was written many times and holds only what came last."""
    for at in {at for row in rows for at, _ in row} if order.write else ():
        order.check(disk.pread(order.size, at), at)


def in_loop(disk: swd.Disk, order: Order) -> None:
    if order.way == "swd uvloop":
        import uvloop

        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    loop.run_until_complete(_tasks(disk, order))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


async def _tasks(disk: swd.Disk, order: Order) -> None:
    from swd.aio import AsyncDisk

    face, rows = AsyncDisk(disk), rows_of(order)
    until = time.perf_counter() + order.seconds

    async def work(row: list[tuple[int, bytes]]) -> None:
        buffer, at, rounds = bytearray(order.size), 0, 0
        while not rounds or time.perf_counter() < until:  # each row once, for what is checked
            rounds += 1
            for at, data in row:
                await (face.pwrite(data, at) if order.write else face.pread_into(buffer, at))
            order.ios += len(row)
            if not order.write:
                order.check(buffer, at)

    target, cpu, wall = cpu_of(order.target), time.process_time(), time.perf_counter()
    await asyncio.gather(*(work(row) for row in rows))
    order.wall, order.cpu = time.perf_counter() - wall, time.process_time() - cpu
    order.target_cpu = cpu_of(order.target) - target
    check_written(disk, order, rows)
    order.calls = calls_of(disk)
    await face.close()


WAYS = {
    "swd sync": sync,
    "swd batch": batch,
    "swd stream": stream,
    "swd threads": threads,
    "swd asyncio": in_loop,
    "swd uvloop": in_loop,
}


def run(told: dict[str, Any]) -> dict[str, Any]:
    """One order: a warm-up of a tenth of its time, and then what counts."""
    warm = Order({**told, "seconds": max(0.03, told["seconds"] / 10)})
    order = Order(told)
    settings = {"queue_depth": max(32, order.depth), **order.options}
    mode = "r+b" if order.write else "rb"
    with swd.open(order.url, mode, **settings) as disk:
        if order.way not in ("swd asyncio", "swd uvloop"):  # which close the disk; their loop is warm in no time
            WAYS[order.way](disk, warm)
        unit: Any = disk.unit
        terms, before = unit.session.parameters, calls_of(disk)
        WAYS[order.way](disk, order)
        after = calls_of(disk) if order.calls is None else order.calls
    names = ("max_recv_data_segment_length", "target_max_recv_data_segment_length", "max_burst_length")
    names += ("first_burst_length", "initial_r2t", "immediate_data", "header_digest", "data_digest")
    return {
        "ios": order.ios,
        "all_ios": order.ios + warm.ios,
        "seconds": order.wall,
        "cpu": order.cpu,
        "target_cpu": order.target_cpu,
        "syscalls": (after - before) / order.ios,
        "checked": order.checked,
        "terms": {name: getattr(terms, name) for name in names},
    }


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
