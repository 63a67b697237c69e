# SPDX-License-Identifier: Apache-2.0
"""Awaited writes that are cancelled, given up, refused or cut off: buffer and blocks are free, and nobody waits."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.peer import NAME
from support.straight import lock_of

from swd import aio
from swd.errors import BadDescriptor, SwdError
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Fault, Plan

SIZE = 1 << 20
POWER_ON = 0x29

Main = Callable[[aio.AsyncDisk, Lun], Coroutine[Any, Any, None]]
Run = Callable[..., None]


def test_what_is_settled_holds_its_blocks_though_it_was_cancelled(run: Run) -> None:
    """A thread sends it once more: who changes a part of its blocks waits for that."""

    async def main(disk: aio.AsyncDisk, lun: Lun) -> None:
        settling, go = threading.Event(), threading.Event()
        settle = disk.disk.unit.settle  # type: ignore[attr-defined]

        def slowly(*arguments: object) -> None:
            settling.set()
            assert go.wait(10)
            settle(*arguments)

        disk.disk.unit.settle = slowly  # type: ignore[attr-defined]
        lun.script.attention(POWER_ON)
        writing = asyncio.ensure_future(disk.pwrite(b"w" * 512, 0))
        await asyncio.to_thread(settling.wait, 10)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        try:
            changing = asyncio.ensure_future(disk.pwrite(b"cut", 0))
            await asyncio.sleep(0.05)
            assert not changing.done()
        finally:
            go.set()
        await changing
        assert await disk.pread(512, 0) == b"cut" + b"w" * 509

    run(main)


@pytest.mark.parametrize("buffer", [bytearray, bytes])
def test_a_cancelled_write_frees_its_buffer_and_its_blocks_at_once(run: Run, buffer: type) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        data = buffer(512)
        task = asyncio.create_task(disk.pwrite(data, 512))
        await asyncio.sleep(0.05)
        assert lock_of(disk).entries == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not lock_of(disk).entries
        if buffer is bytearray:
            data.append(0)
        assert await disk.pwrite(bytes(512), 0) == 512

    run(main, Plan([Fault("no_answer", command="WRITE", lba="1-")]), stable_writes="none")


def test_a_cancelled_call_that_a_thread_does_has_its_buffer_back_at_once(run: Run) -> None:
    """Cut blocks, and what is settled: no byte of the buffer is read or written any more."""

    async def main(disk: aio.AsyncDisk, lun: Lun) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        unit: Any = disk.disk.unit
        begun, go = threading.Event(), threading.Event()

        def held(call: Callable[..., Any]) -> Callable[..., Any]:
            def later(*arguments: object) -> Any:
                begun.set()
                assert go.wait(10)
                return call(*arguments)

            return later

        unit.read_blocks, unit.settle = held(unit.read_blocks), held(unit.settle)
        for settled in (False, True):
            for begin in (disk.pwrite, disk.pread_into):
                data = bytearray(b"data" * 128)
                if settled:
                    lun.script.attention(POWER_ON)
                begun.clear()
                go.clear()
                task = asyncio.ensure_future(begin(data, 4096 if settled else 4097))
                while not begun.is_set():
                    await asyncio.sleep(0.001)
                task.cancel()
                await asyncio.wait([task])
                try:
                    data.append(0)
                    data[:] = bytes(len(data))
                finally:
                    go.set()
                await asyncio.to_thread(go.is_set)  # behind it in the only thread
                assert not any(data)
                assert await disk.pread(512, 4096 if settled else 4097) == b"data" * 128

    run(main, stable_writes="none")


def test_a_write_whose_task_is_gone_frees_its_blocks(places: None) -> None:
    """As where a program closes its loop, and then the disk, without waiting for all that it has begun."""
    plan = Plan([Fault("no_answer", command="WRITE")])
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})], faults=plan) as server:
        loop = asyncio.new_event_loop()
        disk = loop.run_until_complete(aio.open(f"iscsi://{server.portal}/{NAME}/0", "r+b"))

        async def begin() -> asyncio.Task[int]:
            task = loop.create_task(disk.pwrite(bytes(512), 0))
            await asyncio.sleep(0.01)
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            return task

        task = loop.run_until_complete(begin())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        held, lock = disk._held, lock_of(disk)
        assert held is not None
        held.let_go()
        assert lock.entries == 1
        del task
        gc.collect()
        assert not lock.entries
        disk.disk.close()


def test_a_write_that_cannot_begin_says_why_and_nothing_else(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        disk.disk.unit.session.close(True)  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for begin in (lambda: disk.pwrite(bytes(512), 0), lambda: disk.pread(512, 0)):
                with pytest.raises(BadDescriptor, match="session is closed"):
                    await begin()
        assert not lock_of(disk).entries

    run(main)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_one_that_cannot_be_sent_frees_its_buffer_and_its_blocks(run: Run, error: type[BaseException]) -> None:
    """As where Ctrl-C comes between queueing it and asking the loop to send it."""

    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        class Interrupted:
            def __init__(self, loop: Any) -> None:
                self.times, self.loop = 1, loop

            def call_soon(self, *arguments: object) -> object:
                self.times -= 1
                if self.times == 0:
                    raise error
                return self.loop.call_soon(*arguments)

            def __getattr__(self, name: str) -> Any:
                return getattr(self.loop, name)

        await disk.pwrite(bytes(512), 0)
        queue: Any = disk._held.queue  # type: ignore[union-attr]
        queue._loop = Interrupted(queue._loop)
        data = bytearray(512)
        write = disk.pwrite(data, 512)
        with pytest.raises(error):
            await write
        data.append(0)
        assert not lock_of(disk).entries
        assert await disk.pwrite(bytes(512), 0) == 512  # it is sent, and so is what comes after

    run(main, stable_writes="none")


def test_a_dead_session_takes_no_buffer(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        await asyncio.to_thread(disk.disk.unit.session.close, True)  # type: ignore[attr-defined]
        for begin in (disk.pwrite, disk.pread_into):
            data = bytearray(512)
            transfer = begin(data, 0)
            with pytest.raises(SwdError):
                await transfer
            data.append(0)
        assert not lock_of(disk).entries

    run(main, stable_writes="none")


def test_two_cannot_wait_for_the_same(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        write = disk.pwrite(b"w" * 512, 0)

        async def again() -> int:
            return await write

        first, second = asyncio.ensure_future(write), asyncio.ensure_future(again())
        with pytest.raises(RuntimeError, match="awaited already"):
            await second
        assert await asyncio.wait_for(first, 5) == 512
        assert await disk.pread(512, 0) == b"w" * 512

    run(main)


def test_those_that_wait_for_a_slot_may_be_cancelled(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        count = SIZE // 512
        tasks = [asyncio.ensure_future(disk.pwrite(bytes(512), n * 512)) for n in range(count)]
        await asyncio.sleep(0.05)
        assert lock_of(disk).entries == count
        assert disk.disk.unit.session.statistics["slot_waits"]  # type: ignore[attr-defined]
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in ended} == {asyncio.CancelledError}
        assert not lock_of(disk).entries

    run(main, Plan([Fault("no_answer", command="WRITE")]))


def test_a_closed_disk_is_refused_and_what_is_under_way_is_cancelled(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        later = disk.pwrite(bytes(512), 512)
        writing = asyncio.ensure_future(disk.pwrite(bytes(512), 0))
        await asyncio.sleep(0.01)
        lock = lock_of(disk)
        await disk.close()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert not lock.entries
        with pytest.raises(BadDescriptor):
            await later

    run(main, Plan([Fault("no_answer", command="WRITE")]))
