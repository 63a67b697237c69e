# SPDX-License-Identifier: Apache-2.0
"""`swd.aio` on a real target: the right bytes, in few system calls, whatever else uses the session meanwhile."""

from __future__ import annotations

import asyncio
import errno
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

import swd
from swd import aio
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:loop"
SIZE = 16 << 20
TASKS = 16
SHARE = SIZE // TASKS

@pytest.fixture(params=["plain", "digests and R2T"])
def server(request: pytest.FixtureRequest) -> Iterator[TargetServer]:
    small = Limits(max_recv_data_segment_length=8192, max_burst_length=32768, initial_r2t=True, immediate_data=False)
    demanding = request.param != "plain"
    config = TargetConfig(
        NAME,
        {0: Lun(RamMedium(SIZE)), 1: Lun(RamMedium(SIZE), read_only=True)},
        header_digest=("crc32c",) if demanding else ("none",),
        data_digest=("crc32c",) if demanding else ("none",),
        limits=small if demanding else Limits(),
    )
    with TargetServer([config]) as server:
        yield server


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """`asyncio.run`, in each of the two loops."""
    make = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(main: Coroutine[Any, Any, None]) -> None:
        loop = make()
        try:
            loop.run_until_complete(asyncio.wait_for(main, 60))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    return run


Run = Callable[[Coroutine[Any, Any, None]], None]


def url(server: TargetServer, lun: int = 0) -> str:
    return f"iscsi://{server.portal}/{NAME}/{lun}"


async def work(disk: aio.AsyncDisk, number: int) -> tuple[int, bytes]:
    """Writes and reads at random places of one task's share, against a copy in memory."""
    chance, base = random.Random(number), number * SHARE
    model = bytearray(await disk.pread(SHARE, base))
    for _ in range(60):
        length = chance.choice((512, 4096, 4096, 8192, 65536, 1, 700, 300_000))
        at = chance.randrange(0, SHARE - length, 1 if length in (1, 700) else 512)
        kind = chance.random()
        if kind < 0.4:
            data: Any = chance.randbytes(length) if kind < 0.2 else bytearray(chance.randbytes(length))
            model[at : at + length] = data
            writing = asyncio.ensure_future(disk.pwrite(data, base + at))
            await asyncio.sleep(0)
            if isinstance(data, bytearray):
                data[:] = bytes(length)  # it was copied
            assert await writing == length
        elif kind < 0.7:
            assert await disk.pread(length, base + at) == model[at : at + length]
        else:
            place = bytearray(length)
            assert await disk.pread_into(place, base + at) == length
            assert place == model[at : at + length]
    return base, bytes(model)


def test_many_tasks_and_threads_on_one_session(server: TargetServer, run: Run) -> None:
    def reader(disk: swd.Disk, stop: threading.Event) -> int:
        count = 0
        while not stop.is_set():
            disk.pread(4096, (count % 64) * 4096)
            count += 1
        return count

    async def main() -> None:
        async with await aio.open(url(server), "r+b") as disk:
            stop = threading.Event()
            with ThreadPoolExecutor(2) as pool:
                readers = [pool.submit(reader, disk.disk, stop) for _ in range(2)]
                try:
                    shares = await asyncio.gather(*(work(disk, number) for number in range(TASKS)))
                finally:
                    stop.set()
            assert all(reader.result() for reader in readers)
            for base, model in shares:
                assert disk.disk.pread(SHARE, base) == model

    run(main())


def test_what_a_turn_of_the_loop_asks_for_leaves_in_one_call(run: Run) -> None:
    async def main() -> None:
        async with await aio.open(url(server), "r+b") as disk:
            statistics = lambda: disk.disk.unit.session.statistics  # type: ignore[attr-defined]  # noqa: E731
            before = statistics()
            blocks = await asyncio.gather(*(disk.pread(4096, number * 4096) for number in range(64)))
            after = statistics()
            assert blocks == [bytes(4096)] * 64
            assert after["reads"] - before["reads"] == 64
            assert after["sends"] - before["sends"] <= 2
            assert after["receives"] - before["receives"] <= 40

    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})]) as server:
        run(main())


def test_more_tasks_than_the_session_has_slots(server: TargetServer, run: Run) -> None:
    async def main() -> None:
        async with await aio.open(url(server), "r+b") as disk:
            await asyncio.gather(*(disk.pwrite(number.to_bytes(512, "big"), number * 512) for number in range(400)))
            found = await asyncio.gather(*(disk.pread(512, number * 512) for number in range(400)))
            assert [int.from_bytes(block, "big") for block in found] == list(range(400))
            await disk.flush()

    run(main())


def test_it_says_what_the_blocking_calls_say(server: TargetServer, run: Run) -> None:
    async def refused(call: Awaitable[object]) -> int | None:
        with pytest.raises(swd.SwdError) as caught:
            await call
        return caught.value.errno

    async def main() -> None:
        async with await aio.open(url(server), "r+b") as disk:
            assert await refused(disk.pwrite(bytes(1024), SIZE - 512)) == errno.ENOSPC
            assert await disk.pread(4096, SIZE - 512) == bytes(512)
            assert await disk.pread(4096, SIZE) == b""
            assert await disk.pread(0, 0) == b""
            assert await refused(disk.pread(512, -512)) == errno.EINVAL
            assert (disk.size, disk.block_size, disk.read_only) == (SIZE, 512, False)
        assert await refused(disk.pread(512, 0)) == errno.EBADF
        async with await aio.open(url(server, 1)) as disk:
            assert await refused(disk.pwrite(bytes(512), 0)) == errno.EBADF
        assert await refused(aio.open(url(server, 1), "r+b")) == errno.EROFS
        assert await refused(aio.open(url(server, 9))) == errno.ENXIO

    run(main())


def test_the_other_names(server: TargetServer, run: Run) -> None:
    async def main() -> None:
        [target] = await aio.discover(str(server.portal))
        assert target.name == NAME
        assert {unit.lun for unit in await aio.scan(str(server.portal))} == {"0", "1"}
        async with await aio.connect(str(server.portal), NAME) as session:
            assert await session.luns() == [0, 1]
            assert await session.ping(b"from a loop") == b"from a loop"
            assert (await session.execute(bytes(6), lun=0)).status in (0, 2)
            async with await session.unit(0) as disk:
                offsets = [0, 4096, 8192]
                assert (await disk.read_many(offsets, 4096)).shape == (3, 4096)
                await disk.write_many(offsets, bytes(range(256)) * 48)
                await disk.zero(offset=4096, length=4096)
                assert await disk.pread(4096, 4096) == bytes(4096)
                assert await disk.pread(256, 8192) == bytes(range(256))
                await disk.discard(offset=0, length=4096)

    run(main())


def test_a_local_disk_has_the_same_face(run: Run) -> None:
    async def main() -> None:
        async with await aio.open("mem://1M", "r+b") as disk:
            assert await disk.pwrite(b"here", 700) == 4
            assert await disk.pread(4, 700) == b"here"

    run(main())


def test_before_the_network_it_is_silent(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from swd.driver import phase

    phase.begin()

    async def main() -> None:
        for call in (aio.open("iscsi://127.0.0.1/iqn.2026-01.org.example:x/0"), aio.discover("127.0.0.1"), aio.scan()):
            with pytest.raises(swd.NetworkNotInitialized) as caught:
                await call
            assert caught.value.errno == errno.ENETUNREACH

    run(main())


def test_another_loop_is_told_so(server: TargetServer) -> None:
    disk = asyncio.run(aio.open(url(server)))

    async def elsewhere() -> None:
        with pytest.raises(swd.BadDescriptor, match="another event loop"):
            await disk.pread(512, 0)
        await disk.close()

    asyncio.run(elsewhere())


@pytest.mark.parametrize("wrong", [512, [0] * 512, "text", None])
def test_what_is_no_buffer_is_a_type_error_and_writes_nothing(run: Run, wrong: Any) -> None:
    """`bytes(512)` is 512 zeros: a copy made that way would write them."""

    async def main() -> None:
        async with await aio.open(url(server), "r+b") as disk:
            await disk.pwrite(b"\xff" * 512, 0)
            with pytest.raises(TypeError):
                await disk.pwrite(wrong, 0)
            assert await disk.pread(512, 0) == b"\xff" * 512
        if wrong is not None:
            async with await aio.connect(str(server.portal), NAME) as session:
                with pytest.raises(TypeError):
                    await session.execute(b"\x2a" + bytes(7) + b"\x01\0", lun=0, data_out=wrong)
        with swd.open(f"{url(server)}?stable_writes=copy", "r+b") as stable, pytest.raises(TypeError):
            stable.write_many([0], wrong)

    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})]) as server:
        run(main())


def test_threads_wait_in_the_kernel_whatever_the_loop_made_of_the_socket(server: TargetServer, run: Run) -> None:
    async def main() -> None:
        async with await aio.open(url(server)) as disk:
            session: Any = disk.disk.unit.session
            await disk.pread(4096, 0)  # the loop watches the socket now
            before = session.statistics["receives"]
            loop = asyncio.get_running_loop()
            for at in range(20):  # each waits for an answer in recv, once
                await loop.run_in_executor(None, disk.disk.pread, 4096, at * 4096)
            assert session.statistics["receives"] - before < 20 * 8

    run(main())
