# SPDX-License-Identifier: Apache-2.0
"""What `AsyncDisk.pwrite` returns: as for reads; besides, it holds its blocks in the unit's lock until it has ended."""

from __future__ import annotations

import array
import asyncio
import errno
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from support.straight import lock_of

from swd import aio
from swd.errors import BadDescriptor, CacheLost, InvalidArgument, MediumError, SwdError
from swd.target import Lun
from swd.target.faults import Fault, Plan

SIZE = 1 << 20
POWER_ON = 0x29

Main = Callable[[aio.AsyncDisk, Lun], Coroutine[Any, Any, None]]
Run = Callable[..., None]


def test_no_python_is_called_for_a_plain_write(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        data = [bytes([n]) * 4096 for n in range(200)]
        await disk.pwrite(data[0], 0)
        seen: Counter[str] = Counter()
        sys.setprofile(lambda frame, event, _: seen.update([frame.f_code.co_filename] if event == "call" else []))
        try:
            assert await asyncio.gather(*(disk.pwrite(one, n * 4096) for n, one in enumerate(data))) == [4096] * 200
        finally:
            sys.setprofile(None)
        assert await disk.pread(200 * 4096, 0) == b"".join(data)
        ours = sum(count for name, count in seen.items() if "/swd/" in name and "tests" not in name)
        assert 0 < ours < 100  # a turn of the loop arms, flushes and polls, whatever the number of its writes
        assert not lock_of(disk).entries

    run(main)


def test_nothing_happens_before_it_is_awaited(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        data = bytearray(b"1" * 512)
        write = disk.pwrite(data, 512)
        assert asyncio.iscoroutine(write)
        await asyncio.sleep(0.01)
        data[:] = b"2" * 512
        assert await disk.pread(512, 512) == bytes(512)
        assert not lock_of(disk).entries
        assert await write == 512
        assert await disk.pread(512, 512) == b"2" * 512
        with pytest.raises(RuntimeError, match="awaited already"):
            await write

    run(main)


def test_what_is_never_awaited_is_told_of(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        for begin, name in (
            (lambda: disk.pwrite(bytes(512), 0), "pwrite"),
            (lambda: disk.pread(512, 0), "pread"),
            (lambda: disk.pread_into(bytearray(512), 0), "pread_into"),
        ):
            with pytest.warns(RuntimeWarning, match=f"^{name} of an AsyncDisk was never awaited"):
                begin()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            disk.pwrite(bytes(512), 0).close()
            await disk.pwrite(bytes(512), 0)
            cancelled = asyncio.ensure_future(disk.pwrite(bytes(512), 0))
            cancelled.cancel()
            await asyncio.wait([cancelled])
            del cancelled
            with pytest.raises(TypeError):
                await disk.pwrite(5, 0)  # type: ignore[arg-type]

    run(main)


def test_a_buffer_may_change_while_it_is_written(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        for kind in (bytearray, lambda data: memoryview(bytearray(data)), lambda data: np.frombuffer(bytearray(data))):
            data: Any = kind(b"before!!" * 64)
            writing = asyncio.ensure_future(disk.pwrite(data, 0))
            await asyncio.sleep(0)
            data[:] = kind(b"after!!!" * 64)
            assert await writing == 512
            assert await disk.pread(512, 0) == b"before!!" * 64

    run(main, Plan([Fault("slow", command="WRITE", seconds=0.02)]))


def test_a_buffer_that_is_not_copied_stays_where_it_is(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        data = bytearray(512)
        writing = asyncio.ensure_future(disk.pwrite(data, 0))
        await asyncio.sleep(0)
        with pytest.raises(BufferError):
            data.append(0)
        assert await writing == 512
        data.append(0)

    run(main, Plan([Fault("slow", command="WRITE", seconds=0.05)]), stable_writes="none")


def test_any_buffer_is_written(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        apart = np.arange(1024, dtype=np.uint8)[::2]
        for data in (array.array("q", range(64)), apart, memoryview(bytes(range(256)) * 4)[::2], b"cut", b""):
            wanted = bytes(memoryview(data))
            assert await disk.pwrite(data, 1024) == len(wanted)
            assert await disk.pread(len(wanted), 1024) == wanted
        assert not lock_of(disk).entries

    run(main)


def test_bad_arguments_write_nothing(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        for data, offset, error in (
            (b"x" * 512, -512, InvalidArgument),
            (b"x" * 512, SIZE, MediumError),
            (b"x" * 512, 1 << 70, MediumError),
            (b"x" * 512, "0", TypeError),
            ("text", 0, TypeError),
            (512, 0, TypeError),
        ):
            with pytest.raises(error):
                await disk.pwrite(data, offset)  # type: ignore[arg-type]
        assert not any(await disk.pread(SIZE, 0))
        assert not lock_of(disk).entries

    run(main)


def test_numbers_that_are_no_integers_are_refused(run: Run) -> None:
    """Also where they would be whole, and the range a plain one."""

    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        for never in (512.0, "512", None):
            for begin in (
                lambda never: disk.pwrite(b"x" * 512, never),
                lambda never: disk.pread(512, never),
                lambda never: disk.pread(never, 512),
                lambda never: disk.pread_into(bytearray(512), never),
            ):
                with pytest.raises(TypeError):
                    await begin(never)
        assert await disk.pwrite(b"n" * 512, np.int64(512)) == 512  # type: ignore[arg-type]
        assert await disk.pread(np.int64(1024), False) == bytes(512) + b"n" * 512  # type: ignore[arg-type]

    run(main)


def test_a_disk_for_reading_takes_no_write(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        with pytest.raises(BadDescriptor, match="reading only"):
            await disk.pwrite(bytes(512), 0)

    run(main, mode="rb")


def test_an_odd_answer_is_settled_and_the_blocks_are_free(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, lun: Lun) -> None:
        lun.script.attention(POWER_ON)
        assert await disk.pwrite(b"a" * 512, 0) == 512
        assert await disk.pread(512, 0) == b"a" * 512
        lun.script.full = True
        with pytest.raises(SwdError) as caught:
            await disk.pwrite(b"b" * 512, 0)
        assert caught.value.errno == errno.ENOSPC
        assert not lock_of(disk).entries

    run(main)


@pytest.mark.parametrize("kind", ["B", "Q", "d"])
def test_items_of_any_size_are_settled_as_bytes(run: Run, kind: str) -> None:
    async def main(disk: aio.AsyncDisk, lun: Lun) -> None:
        data = np.arange(4096, dtype=np.uint8).view(kind).reshape(2, -1)
        lun.script.attention(POWER_ON)
        assert await disk.pwrite(data, 512) == 4096
        assert await disk.pread(5120, 0) == bytes(512) + data.tobytes() + bytes(512)

    run(main, stable_writes="none")


def test_an_odd_answer_is_settled_where_all_threads_wait_for_its_blocks(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, lun: Lun) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        lun.script.attention(POWER_ON)
        tasks = [asyncio.ensure_future(disk.pwrite(data, 0)) for data in (b"w" * 512, b"cut")]
        try:
            _, waiting = await asyncio.wait(tasks, timeout=5)
            assert not waiting
        finally:
            tasks[0].cancel()   # or the thread would wait for ever
        assert await disk.pread(512, 0) in (b"cut" + b"w" * 509, b"w" * 512)
        assert not lock_of(disk).entries

    run(main)


def test_it_waits_for_who_changes_a_part_of_its_blocks(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        with lock_of(disk).modify(3, 1):
            writing = asyncio.ensure_future(disk.pwrite(b"w" * 4096, 0))
            while not lock_of(disk).waiting:
                await asyncio.sleep(0.001)
            assert await disk.pread(4096, 0) == bytes(4096)
            assert await disk.pwrite(b"n" * 512, 4096) == 512  # a neighbour
        assert await writing == 4096
        assert await disk.pread(4608, 0) == b"w" * 4096 + b"n" * 512

    run(main)


def test_who_changes_a_part_waits_for_it(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        await disk.flush()  # there is a thread now
        writing = asyncio.ensure_future(disk.pwrite(b"w" * 4096, 0))
        await asyncio.sleep(0)
        changing = asyncio.ensure_future(disk.pwrite(b"cut", 1))
        while not lock_of(disk).waiting:
            await asyncio.sleep(0.001)
        assert not writing.done()
        assert await writing == 4096
        assert await changing == 3
        assert await disk.pread(4096, 0) == b"wcut" + b"w" * 4092

    run(main, Plan([Fault("slow", command="WRITE", seconds=0.3)]))


def test_a_flush_after_a_reset_tells_of_what_was_written(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, lun: Lun) -> None:
        await disk.pwrite(bytes(512), 0)
        await disk.flush()
        await disk.pwrite(bytes(512), 0)
        lun.script.attention(POWER_ON, 1)
        await disk.pread(512, 0)
        await disk.pwrite(bytes(512), 0)
        with pytest.raises(CacheLost):
            await disk.flush()
        await disk.flush()

    run(main)


def test_more_than_the_session_has_slots(run: Run) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        blocks = [n.to_bytes(512, "big") for n in range(SIZE // 512)]
        assert set(await asyncio.gather(*(disk.pwrite(one, n * 512) for n, one in enumerate(blocks)))) == {512}
        assert await disk.pread(SIZE, 0) == b"".join(blocks)
        assert not lock_of(disk).entries

    run(main)
