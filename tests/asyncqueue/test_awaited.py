# SPDX-License-Identifier: Apache-2.0
"""What tasks wait for: it does as a future of asyncio does, though many are woken in one turn of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import select
from asyncio import tasks as asyncio_tasks
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from support.pace import SLOWER
from support.peer import NAME, Closed, Talk, playing
from test_turns import at_once

import swd
from swd._asyncqueue import Awaited
from swd.iscsi.loopqueue import LoopQueue
from swd.proto.pdu import Opcode

AT_ONCE = 4
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")

Loop = asyncio.AbstractEventLoop


def by_fours(talk: Talk) -> None:
    """Takes four reads, and answers them all at once: they come in one receive. A block is full of its LBA."""
    talk.log_in()
    commands: list[Any] = []
    with contextlib.suppress(Closed):
        while True:
            header, data = talk.read()
            if header.opcode != Opcode.SCSI_COMMAND:
                talk.answer(header, data)
                continue
            commands.append(header)
            if len(commands) == AT_ONCE:
                at_once(talk, True)
                for command in commands:
                    talk.good(command, content(command.cdb[5]))
                at_once(talk, False)
                commands.clear()


def content(lba: int) -> bytes:
    return bytes([lba]) * 4096


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop: Loop = request.param()
    yield loop
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def queue(loop: Loop) -> Iterator[LoopQueue]:
    with playing(by_fours) as peer:
        session = swd.connect(str(peer.portal), NAME)
        queue = session.loop_queue(loop)
        yield queue
        queue.close()
        session.close(True)


def read(queue: LoopQueue, lba: int = 0) -> Coroutine[Any, Any, bytes]:
    return queue.submit(queue.queue.read, 0, lba, 8, 4096, 30.0)


def run(loop: Loop, main: Awaitable[Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(main, 5 * SLOWER))


def begun(queue: LoopQueue, count: int = AT_ONCE) -> list[Awaited]:
    """The futures of so many reads that are under way."""
    found = [queue.queue.read(0, lba, 8, 4096, 30.0) for lba in range(count)]
    queue.arm()
    return [one.future for one in found if one is not None]


def test_those_that_end_at_once_are_woken_without_a_handle_each(
    queue: LoopQueue, loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    call_soon = loop.call_soon

    def noted(*args: Any, **named: Any) -> object:
        made.append(args)
        return call_soon(*args, **named)

    async def main() -> None:
        reading = [loop.create_task(read(queue, lba)) for lba in range(AT_ONCE)]
        await asyncio.sleep(0)
        if isinstance(loop, asyncio.BaseEventLoop):  # uvloop's is not to be changed
            monkeypatch.setattr(loop, "call_soon", noted)
        assert await reading[0] == content(0)
        assert all(task.done() for task in reading), "in the same turn"
        assert len(made) <= 1, "the one task that somebody waits for tells of its end; the reads had no handles"
        assert [task.result() for task in reading] == [content(lba) for lba in range(AT_ONCE)]

    run(loop, main())


def test_each_is_woken_in_its_own_context(queue: LoopQueue, loop: Loop) -> None:
    seen: list[str] = []

    async def one(name: str) -> str:
        WHO.set(name)
        await read(queue)
        return WHO.get()

    async def main() -> None:
        names = ["a", "b", "c"]
        tasks = [loop.create_task(one(name)) for name in names]
        await asyncio.sleep(0)
        WHO.set("main")
        last = begun(queue, 1)[0]
        last.add_done_callback(lambda _: seen.append(WHO.get()))
        assert await asyncio.gather(*tasks) == names
        assert seen == ["main"]

    run(loop, main())


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_loop_leaves_nobody_asleep(queue: LoopQueue, loop: Loop, end: type[BaseException]) -> None:
    async def quitter() -> None:
        await read(queue)
        raise end

    quitting = loop.create_task(quitter())
    reading = [loop.create_task(read(queue, lba)) for lba in range(1, AT_ONCE)]
    with pytest.raises(end):
        run(loop, asyncio.gather(*reading, return_exceptions=True))
    assert quitting.done()
    assert isinstance(quitting.exception(), end)
    assert run(loop, asyncio.gather(*reading)) == [content(lba) for lba in range(1, AT_ONCE)]


def test_a_callback_that_fails_is_told_of_and_harms_no_other(queue: LoopQueue, loop: Loop) -> None:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, told_of: told.append(told_of))

    def broken(future: object) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        futures = begun(queue)
        futures[0].add_done_callback(broken)
        assert await asyncio.gather(*futures) == [content(lba) for lba in range(AT_ONCE)]

    run(loop, main())
    assert [(type(one["exception"]), "broken" in one["message"]) for one in told] == [(ZeroDivisionError, True)]


def test_several_may_wait_for_one_and_go_away(queue: LoopQueue, loop: Loop) -> None:
    called: list[tuple[str, object]] = []

    def first(future: object) -> None:
        called.append(("first", future))

    def second(future: object) -> None:
        called.append(("second", future))

    async def waits(future: Awaited) -> Any:
        return await future

    async def main() -> None:
        futures = begun(queue)
        for callback in (first, second, first, second, first):
            futures[0].add_done_callback(callback)
        assert futures[0].remove_done_callback(first) == 3
        assert futures[0].remove_done_callback(first) == 0
        assert await asyncio.gather(*(waits(futures[0]) for _ in range(3))) == [content(0)] * 3
        assert await futures[0] == content(0)
        assert called == [("second", futures[0])] * 2
        futures[0].add_done_callback(first)
        await asyncio.sleep(0)
        assert called[2:] == [("first", futures[0])]

    run(loop, main())


def test_one_that_is_woken_may_send_another_away(queue: LoopQueue, loop: Loop) -> None:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, told_of: told.append(told_of))

    async def main() -> None:
        futures = begun(queue)
        unwanted: list[object] = []
        futures[1].add_done_callback(unwanted.append)
        futures[0].add_done_callback(lambda _: futures[1].remove_done_callback(unwanted.append))
        assert await asyncio.gather(*futures[2:]) == [content(2), content(3)]
        assert unwanted == []

    run(loop, main())
    assert told == []


def test_asyncio_takes_it_for_a_future(queue: LoopQueue, loop: Loop) -> None:
    async def main() -> None:
        futures: list[Any] = begun(queue)
        assert [asyncio.isfuture(one) for one in futures] == [True] * AT_ONCE
        with pytest.raises(asyncio.InvalidStateError):
            futures[0].result()
        with pytest.raises(asyncio.InvalidStateError):
            futures[0].exception()
        done, pending = await asyncio.wait(futures, timeout=5 * SLOWER)
        assert (len(done), pending) == (AT_ONCE, set())
        assert [(one.done(), one.cancelled(), one.exception()) for one in futures] == [(True, False, None)] * AT_ONCE
        assert not futures[0].cancel()
        again: list[Any] = begun(queue)
        assert await asyncio.gather(asyncio.wait_for(again[0], 5 * SLOWER), asyncio.shield(again[1])) == [
            content(0),
            content(1),
        ]

    run(loop, main())


def test_a_cancelled_one_says_so(queue: LoopQueue, loop: Loop) -> None:
    async def main() -> None:
        future = begun(queue, 1)[0]
        assert future.cancel("enough")
        assert not future.cancel("twice")
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await future
        lone = loop.create_task(read(queue))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(lone, 0.05)
        assert lone.cancelled()
        assert queue.queue.pending == 1, "what was begun above"

    run(loop, main())


def test_an_answer_that_comes_after_the_cancellation_changes_nothing(queue: LoopQueue, loop: Loop) -> None:
    async def main() -> None:
        futures = begun(queue)
        assert futures[0].cancel()
        assert await asyncio.gather(*futures[1:]) == [content(lba) for lba in range(1, AT_ONCE)]
        assert queue.queue.pending == 0, "all four have come"
        with pytest.raises(asyncio.CancelledError):
            await futures[0]

    run(loop, main())


@pytest.mark.parametrize("ended", [True, False], ids=["whose answer has come too", "who waits still"])
def test_a_task_may_cancel_another_as_it_is_woken(queue: LoopQueue, loop: Loop, ended: bool) -> None:
    async def canceller() -> None:
        await read(queue)
        victim.cancel()

    async def main() -> list[Any]:
        others = begun(queue, AT_ONCE - (2 if ended else 1))
        return [*await asyncio.gather(cancelling, victim, return_exceptions=True), *await asyncio.gather(*others)][:2]

    cancelling = loop.create_task(canceller())
    victim = loop.create_task(read(queue) if ended else asyncio.sleep(60))
    outcome = run(loop, main())
    assert outcome[0] is None
    assert isinstance(outcome[1], asyncio.CancelledError)
    assert queue.queue.pending == 0


def test_a_task_that_is_written_in_python(queue: LoopQueue) -> None:
    loop = queue._loop
    made: Any = asyncio_tasks._PyTask  # type: ignore[attr-defined]

    async def main() -> None:
        assert await asyncio.gather(*(made(read(queue, lba), loop=loop) for lba in range(AT_ONCE))) == [
            content(lba) for lba in range(AT_ONCE)
        ]

    run(loop, main())


def test_whose_context_is_in_use_is_woken_by_the_loop(queue: LoopQueue, loop: Loop) -> None:
    seen: list[str] = []
    context = contextvars.copy_context()
    context.run(WHO.set, "in use")
    futures = [queue.queue.read(0, lba, 8, 4096, 30.0) for lba in range(AT_ONCE)]
    assert queue.queue.flush()
    for one in futures:
        assert one is not None
        one.future.add_done_callback(lambda _: seen.append(WHO.get()), context=context)
    while queue.queue.pending:
        assert select.select([queue._fd], [], [], 5 * SLOWER)[0]
        context.run(queue.queue.poll)
    assert seen == []
    run(loop, asyncio.sleep(0))
    assert seen == ["in use"] * AT_ONCE
