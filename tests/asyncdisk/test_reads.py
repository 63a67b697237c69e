# SPDX-License-Identifier: Apache-2.0
"""What `AsyncDisk.pread` and `pread_into` return: a coroutine in all but its type, and nothing of Python on its way."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from support.peer import NAME, Talk, playing
from support.straight import Plain

from swd import aio
from swd.disk import Disk
from swd.errors import BadDescriptor, InvalidArgument
from swd.proto.pdu import Opcode
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Fault, Plan

SIZE = 1 << 20
CONTENT = b"".join(n.to_bytes(8, "big") for n in range(SIZE // 8))
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]

Main = Callable[[aio.AsyncDisk, Lun], Coroutine[Any, Any, None]]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, places: None) -> Callable[[Main], None]:
    """Runs a coroutine with a disk on an embedded target, in a loop of either kind."""

    def runs(main: Main, plan: Plan | None = None) -> None:
        medium = RamMedium(SIZE)
        medium.write(0, CONTENT)
        lun = Lun(medium)

        async def whole(server: TargetServer) -> None:
            async with await aio.open(f"iscsi://{server.portal}/{NAME}/0") as disk:
                await main(disk, lun)

        loop = request.param()
        with TargetServer([TargetConfig(NAME, {0: lun})], faults=plan) as server:
            loop.run_until_complete(asyncio.wait_for(whole(server), 30))
        loop.close()

    return runs


def test_it_is_a_coroutine_in_all_but_its_type(run: Callable[[Main], None]) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        read = disk.pread(512, 0)
        assert asyncio.iscoroutine(read)
        assert inspect.isawaitable(read)
        assert isinstance(read, collections.abc.Coroutine)
        assert await asyncio.create_task(read) == CONTENT[:512]
        assert await asyncio.wait_for(disk.pread(512, 512), 5) == CONTENT[512:1024]
        found = await asyncio.gather(*(disk.pread(512, n * 512) for n in range(100)))
        assert b"".join(found) == CONTENT[:51200]
        assert await asyncio.shield(disk.pread(512, 0)) == CONTENT[:512]
        first, _ = await asyncio.wait([asyncio.ensure_future(disk.pread(512, 0))])
        assert first.pop().result() == CONTENT[:512]

    run(main)


def test_no_python_is_called_for_a_plain_read(run: Callable[[Main], None]) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        buffers = [bytearray(4096) for _ in range(200)]
        await disk.pread_into(buffers[0], 0)
        seen: Counter[str] = Counter()
        sys.setprofile(lambda frame, event, _: seen.update([frame.f_code.co_filename] if event == "call" else []))
        try:
            await asyncio.gather(*(disk.pread_into(one, n * 4096) for n, one in enumerate(buffers)))
        finally:
            sys.setprofile(None)
        assert b"".join(buffers) == CONTENT[: 200 * 4096]
        ours = sum(count for name, count in seen.items() if "/swd/" in name and "tests" not in name)
        assert 0 < ours < 100  # a turn of the loop arms, flushes and polls, whatever the number of its reads

    run(main)


def test_nothing_happens_before_it_is_awaited(run: Callable[[Main], None]) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        buffer = bytearray(512)
        read = disk.pread_into(buffer, 512)
        before = disk.disk.unit.session.statistics["commands"]  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
        assert disk.disk.unit.session.statistics["commands"] == before  # type: ignore[attr-defined]
        buffer.append(0)  # not pinned
        del buffer[-1]
        assert await read == 512
        assert buffer == CONTENT[512:1024]
        with pytest.raises(RuntimeError, match="awaited already"):
            await read
        disk.pread(512, 0).close()

    run(main)


@pytest.mark.parametrize(("length", "offset"), [(100, 0), (512, 9), (4096, SIZE - 512), (0, 0), (SIZE, 0), (3, SIZE)])
def test_what_does_not_go_straight_goes_round(run: Callable[[Main], None], length: int, offset: int) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        wanted, buffer = CONTENT[offset : offset + length], bytearray(length)
        assert await disk.pread(length, offset) == wanted
        assert await disk.pread_into(buffer, offset) == len(wanted)
        assert buffer[: len(wanted)] == wanted

    run(main)


def test_bad_arguments(run: Callable[[Main], None]) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        with pytest.raises(InvalidArgument):
            await disk.pread(512, -512)
        for length in (-1, -512):
            with pytest.raises(InvalidArgument):
                await disk.pread(length, 0)
        with pytest.raises(TypeError):
            await disk.pread_into(bytes(512), 0)
        with pytest.raises(TypeError):
            await disk.pread_into(None, 0)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await disk.pread(512, "0")  # type: ignore[arg-type]

    run(main)


def test_a_unit_attention_in_between_is_settled(run: Callable[[Main], None]) -> None:
    async def main(disk: aio.AsyncDisk, lun: Lun) -> None:
        buffer = bytearray(512)
        lun.script.attention(0x29)
        assert await disk.pread(512, 512) == CONTENT[512:1024]
        lun.script.attention(0x29)
        assert await disk.pread_into(buffer, 1024) == 512
        assert buffer == CONTENT[1024:1536]

    run(main)


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_cancelled_read_lets_go_of_its_buffer_at_once(new_loop: Callable[[], Any], places: None) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        return talk.serve()

    async def main() -> None:
        with playing(script) as peer:
            session = await aio.connect(str(peer.portal), NAME)
            disk = aio.AsyncDisk(Disk(Plain(session.session), writable=False))
            queue = session.session.loop_queue(asyncio.get_running_loop())
            disk._go_straight(disk.disk, queue.queue, asyncio.get_running_loop(), queue.arm)
            buffer = bytearray(4096)
            task = asyncio.create_task(disk.pread_into(buffer, 0))
            await asyncio.sleep(0.05)
            with pytest.raises(BufferError):
                buffer.append(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            buffer.append(0)
            queue.close()
            await session.close(True)

    loop = new_loop()
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()


def test_another_loop_is_refused_and_nothing_is_queued(places: None) -> None:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(SIZE))})]) as server:
        first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
        disk = first.run_until_complete(aio.open(f"iscsi://{server.portal}/{NAME}/0"))

        async def reads() -> None:
            await disk.pread(512, 0)

        for _ in range(2):
            with pytest.raises(BadDescriptor, match="another event loop"):
                second.run_until_complete(reads())
        first.run_until_complete(reads())
        first.run_until_complete(disk.close())
        first.close()
        second.close()


def test_a_closed_disk_is_refused(run: Callable[[Main], None]) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        read = disk.pread(512, 0)
        await disk.close()
        for late in (read, disk.pread(512, 0), disk.pread_into(bytearray(512), 0)):
            with pytest.raises(BadDescriptor):
                await late

    run(main)


def test_a_stream_gives_the_blocks_in_order_and_lets_go_of_the_rest(run: Callable[[Main], None]) -> None:
    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        places = [n * 7919 % 2000 * 512 for n in range(100)]
        found = [block async for block in disk.stream(places, 512, queue_depth=7)]
        assert found == [CONTENT[at : at + 512] for at in places]
        assert [block async for block in disk.stream([], 512)] == []
        async with contextlib.aclosing(disk.stream(places, 512)) as blocks:
            assert await anext(blocks) == CONTENT[:512]
        found = [block async for block in disk.stream([0, SIZE - 100, SIZE], 512)]
        assert found == [CONTENT[:512], CONTENT[-100:], b""]
        with pytest.raises(InvalidArgument):
            await anext(disk.stream([0], 512, queue_depth=0))
        assert await disk.pread(512, 512) == CONTENT[512:1024]

    run(main)


def test_a_stream_that_is_left_early_waits_for_no_read_and_leaves_none_behind(run: Callable[[Main], None]) -> None:
    """The first read is answered, the others never are: whoever waited for them would do so until their deadline."""

    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        before = asyncio.all_tasks()
        blocks = disk.stream(range(0, SIZE, 512), 512, queue_depth=8)
        assert await anext(blocks) == CONTENT[:512]
        assert len(asyncio.all_tasks() - before) == 7
        began = asyncio.get_running_loop().time()
        await blocks.aclose()
        assert asyncio.get_running_loop().time() - began < 10
        assert asyncio.all_tasks() == before
        assert await disk.pread(512, 0) == CONTENT[:512]

    run(main, Plan([Fault("no_answer", command="READ", lba="1-")]))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_read_may_be_cancelled_where_its_disk_is_closed(run: Callable[[Main], None], when: str) -> None:
    """Its task learns of that when the disk has no queue any more."""

    async def main(disk: aio.AsyncDisk, _lun: Lun) -> None:
        reads = [asyncio.ensure_future(disk.pread_into(bytearray(512), 512 * n)) for n in range(1, 8)]
        await disk.pread(512, 0)  # which is behind them
        if when == "after":
            await disk.close()
        for read in reads:
            read.cancel()
        if when == "before":
            await disk.close()
        ended = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)

    run(main, Plan([Fault("no_answer", command="READ", lba="1-")]))
