# SPDX-License-Identifier: Apache-2.0
"""The ways to put a load on a disk: call by call, in batches, from threads, from the tasks of an event loop.

Each is a function of an open Disk, a load and a meter that returns when the meter says that the time is up, and leaves
the disk open. What is written is random, so that no target can compress it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from swd.errors import Unsupported
from swd.measure import profiles
from swd.measure.meter import Meter, now
from swd.measure.profiles import Load, Places

if TYPE_CHECKING:
    from swd.disk import Disk

_BATCH_BYTES: Final = 64 << 20  # of one batch at most: what it may cost in memory
_BATCH_IOS: Final = 8192
_STEP_IOS, _STEP_BYTES, _STEPS = 256, 64 << 20, 64  # of a stream: I/Os between two looks at the clock, looks
_SHORT, _LONG = 50_000_000, 200_000_000  # ns: a batch of fewer grows, of more shrinks, so that Ctrl-C is heard
_TAKE: Final = 512  # offsets that are made at once


def sync(disk: Disk, load: Load, meter: Meter[Any]) -> None:
    """One call after the other; reads go into one buffer."""
    _one_by_one(disk, load, meter, seed=0)


def threads(disk: Disk, load: Load, meter: Meter[Any]) -> None:
    """As many threads as there are I/Os under way, each call by call. Raises what the first of them raised."""
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            _one_by_one(disk, load, meter, seed)
        except BaseException as error:  # noqa: BLE001  # told by the caller
            failures.append(error)
            meter.stopped = True

    workers = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(load.depth)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException:
        meter.stopped = True
        for worker in workers:
            if worker.ident is not None:
                worker.join()
        raise
    if failures:
        raise failures[0]


def _one_by_one(disk: Disk, load: Load, meter: Meter[Any], seed: int) -> None:
    buffer, data = bytearray(load.size), os.urandom(load.size) if load.writes else b""
    read, write, lane = disk.pread_into, disk.pwrite, meter.lane()
    for offset, writes in _mix(load, disk.size, seed):
        before = now()
        if writes:
            write(data, offset)
        else:
            read(buffer, offset)
        if not lane.add(before, now()):
            return


def batch(disk: Disk, load: Load, meter: Meter[Any]) -> None:
    """`read_many` or `write_many`, in batches that last about a tenth of a second."""
    import numpy as np

    most = max(load.depth, min(_BATCH_IOS, _BATCH_BYTES // load.size))
    count, places, lane = min(most, 4 * load.depth), Places(load, disk.size), meter.lane()
    space = np.empty((most, load.size), np.uint8)
    if load.writes:
        space[:] = np.frombuffer(os.urandom(load.size), np.uint8)
    while True:
        offsets, part, before = places.take(count), space[:count], now()
        if load.writes:
            disk.write_many(offsets, part, queue_depth=load.depth)
        else:
            disk.read_many(offsets, load.size, part, queue_depth=load.depth)
        after = now()
        if not lane.add_many(count, after):
            return
        if after - before < _SHORT:
            count = min(most, 2 * count)
        elif after - before > _LONG:
            count = max(load.depth, count // 2)


def stream(disk: Disk, load: Load, meter: Meter[Any]) -> None:
    """`Disk.stream`: each block is looked at once, in memory that is used again."""
    places, lane = Places(load, disk.size), meter.lane()
    step = max(1, min(_STEP_IOS, _STEP_BYTES // load.size))
    while True:
        blocks = disk.stream(places.take(step * _STEPS), load.size, queue_depth=load.depth)
        for count, _ in enumerate(blocks, 1):
            if count % step == 0 and not lane.add_many(step, now()):
                return


def in_asyncio(disk: Disk, load: Load, meter: Meter[Any]) -> None:
    """As many tasks as there are I/Os under way, each of which awaits one after the other."""
    _in_loop(asyncio.new_event_loop(), disk, load, meter)


def in_uvloop(disk: Disk, load: Load, meter: Meter[Any]) -> None:
    """As `in_asyncio`, in uvloop. Unsupported (EOPNOTSUPP) where that is not installed."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError as error:
        raise Unsupported("this way needs uvloop: pip install 'iscsi-swd[uvloop]'") from error
    _in_loop(uvloop.new_event_loop(), disk, load, meter)


def _in_loop(loop: asyncio.AbstractEventLoop, disk: Disk, load: Load, meter: Meter[Any]) -> None:
    """Ctrl-C comes out of `run_until_complete`; the tasks are ended then, while the loop still stands."""
    main = loop.create_task(_workers(disk, load, meter))
    try:
        loop.run_until_complete(main)
    finally:
        if not main.done():
            main.cancel()
            with suppress(asyncio.CancelledError, KeyboardInterrupt):  # the task that it came out of keeps it, too
                loop.run_until_complete(main)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _workers(disk: Disk, load: Load, meter: Meter[Any]) -> None:
    from swd.aio import AsyncDisk

    face = AsyncDisk(disk)
    read, write, lane = face.pread_into, face.pwrite, meter.lane()
    mix, data = _mix(load, disk.size, 0), os.urandom(load.size) if load.writes else b""

    async def work() -> None:
        buffer = bytearray(load.size)
        for offset, writes in mix:
            before = now()
            await (write(data, offset) if writes else read(buffer, offset))
            if not lane.add(before, now()):
                return

    tasks = [asyncio.ensure_future(work()) for _ in range(load.depth)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        meter.finish()
        await face.close()


def _mix(load: Load, disk_size: int, seed: int) -> Iterator[tuple[int, bool]]:
    """Endlessly: where the next I/O goes, and whether it writes."""
    import numpy as np

    places, chance = Places(load, disk_size, seed), np.random.default_rng(seed + 1)
    while True:
        writes = (chance.integers(0, 100, _TAKE) < load.writes).tolist()
        yield from zip(places.take(_TAKE).tolist(), writes, strict=True)


WAYS: Final[dict[str, Callable[[Any, Load, Meter[Any]], None]]] = {
    profiles.SYNC: sync,
    profiles.BATCH: batch,
    profiles.STREAM: stream,
    profiles.THREADS: threads,
    profiles.ASYNCIO: in_asyncio,
    profiles.UVLOOP: in_uvloop,
}
