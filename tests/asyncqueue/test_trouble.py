# SPDX-License-Identifier: Apache-2.0
"""I/O of an event loop that does not go well: overdue, cancelled, lost with its connection, ended by a close."""

from __future__ import annotations

import array
import asyncio
import errno
import itertools
import os
import socket
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.peer import NAME, Script, Talk, playing

import swd
from swd import aio
from swd.errors import BadDescriptor, ConnectionLost, DeadlineExceeded
from swd.iscsi import session as session_module
from swd.iscsi.loopqueue import LoopQueue
from swd.proto import pdu
from swd.proto.pdu import Opcode
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

READ = (0, 0, 8)  # LUN, LBA, blocks


@asynccontextmanager
async def queue_on(script: Script, **options: object) -> AsyncIterator[tuple[LoopQueue, swd.Session, Any]]:
    with playing(script) as peer:
        session = await asyncio.to_thread(swd.connect, str(peer.portal), NAME, **options)
        queue = session.loop_queue(asyncio.get_running_loop())
        try:
            yield queue, session, peer
        finally:
            queue.close()
            await asyncio.to_thread(session.close)


def read_into(queue: LoopQueue, place: Any, timeout: float = 30.0) -> asyncio.Task[Any]:
    return asyncio.ensure_future(queue.submit(queue.queue.read_into, *READ, place, timeout))


def test_an_overdue_read_is_aborted_and_the_session_lives() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.overdue()
        abort, _ = talk.take_behind_pings(Opcode.TASK_MANAGEMENT_REQUEST)
        assert (abort.function, abort.referenced_task_tag) == (1, command.itt)
        talk.send(pdu.TaskManagementResponse(itt=abort.itt))
        return talk.serve()

    async def main() -> None:
        async with queue_on(script) as (queue, session, _):
            place = bytearray(4096)
            with pytest.raises(DeadlineExceeded):
                await read_into(queue, place, 0.1)
            place.append(0)  # BufferError if it were still exported
            while not session.statistics.get("task_management") or session.statistics["open_tasks"]:
                await asyncio.sleep(0)
            assert await read_into(queue, bytearray(4096)) == 4096
            while session.statistics["open_tasks"]:
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("late", [False, True], ids=["no answer", "a late answer"])
def test_a_cancelled_read_leaves_its_buffer_alone(late: bool) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        ping, data = talk.take(Opcode.NOP_OUT)
        if late:
            talk.good(command, b"\xee" * 4096)
        talk.send(pdu.NopIn(itt=ping.itt), data)
        return talk.serve()

    async def main() -> None:
        async with queue_on(script) as (queue, session, _):
            place = bytearray(4096)
            reading = read_into(queue, place)
            while not session.statistics["sends"]:
                await asyncio.sleep(0)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert queue.queue.pending == 0, "the loop looks at the clock while there are any"
            await asyncio.to_thread(session.ping, b"afterwards")
            assert place == bytes(4096)
            place.append(0)
            assert await read_into(queue, bytearray(4096)) == 4096

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_dead_link_ends_every_future() -> None:
    def script(talk: Talk) -> None:
        talk.log_in()
        for _ in range(5):
            talk.take(Opcode.SCSI_COMMAND)
        talk.sock.shutdown(socket.SHUT_RDWR)

    async def main() -> None:
        async with queue_on(script, replacement_timeout=0) as (queue, _, _):
            places = [bytearray(4096) for _ in range(5)]
            ends = await asyncio.gather(*(read_into(queue, place) for place in places), return_exceptions=True)
            assert [type(end) for end in ends] == [ConnectionLost] * 5
            assert {end.errno for end in ends if isinstance(end, OSError)} == {errno.EIO}
            for place in places:
                place.append(0)
            with pytest.raises(ConnectionLost):
                await read_into(queue, places[0])

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_session_closed_elsewhere_ends_every_future() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        return talk.until_closed()

    async def main() -> None:
        async with queue_on(script) as (queue, session, _):
            reading = read_into(queue, bytearray(4096))
            while not session.statistics["sends"]:
                await asyncio.sleep(0)
            await asyncio.to_thread(session.close, True)
            with pytest.raises(BadDescriptor):
                await reading

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_protocol_error_ends_the_future_with_it() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.send(pdu.DataIn(itt=command.itt, data_sn=3, lun=command.lun), bytes(4096), numbered=False)
        return talk.until_closed()

    async def main() -> None:
        async with queue_on(script) as (queue, _, _):
            with pytest.raises(swd.ProtocolViolation):
                await read_into(queue, bytearray(4096))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_tasks_go_on_when_the_connection_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are cut again and again; every read has the right bytes, every write is there."""
    monkeypatch.setattr(session_module, "ABORT_TIMEOUT", 1.0)
    size = 4 << 20
    config = TargetConfig("iqn.2026-01.org.example:cut", {0: Lun(RamMedium(size))})

    async def main(server: TargetServer) -> None:
        dev = f"iscsi://{server.portal}/{config.name}/0?default_time2wait=0"
        async with await aio.open(dev, "r+b") as disk:
            session = disk.disk.unit.session  # type: ignore[attr-defined]

            async def one(number: int) -> None:
                for turn in itertools.count(1):
                    data = array.array("I", [number, turn] * 512).tobytes()
                    assert await disk.pwrite(data, number * 8192) == 4096
                    assert await disk.pread(4096, number * 8192) == data
                    if cutting.done():
                        return

            async def cut() -> None:
                for _ in range(4):
                    epoch, reads = session._pump.epoch, session.statistics["reads"]
                    while session.statistics["reads"] < reads + 100:
                        await asyncio.sleep(0)
                    session._pump.cut(ConnectionLost("cut by the test"), epoch)
                    while session._pump.epoch == epoch:
                        await asyncio.sleep(0.01)

            cutting = asyncio.ensure_future(cut())
            await asyncio.gather(cutting, *(one(number) for number in range(24)))
            assert session.statistics["recoveries"] == 4

    with TargetServer([config]) as server:
        asyncio.run(asyncio.wait_for(main(server), 60))


def in_a_child(run: Callable[[], object]) -> int:
    """The status of a fork of this process: 0 if it ran to its end."""
    child = os.fork()
    if not child:
        status = 1
        try:
            run()
            status = 0
        except BaseException:  # noqa: BLE001  # nothing of pytest may go on there
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def test_a_child_that_opens_its_own_is_no_stranger() -> None:
    """What is let go of there is let go of, though all was imported before the fork."""
    assert in_a_child(lambda: test_a_cancelled_read_leaves_its_buffer_alone(late=True)) == 0


def test_a_forked_child_that_ends_sends_nothing() -> None:
    """Not even what was queued, when one of its parent's queues goes and another is there."""

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        return talk.serve()

    async def main() -> None:
        async with queue_on(script) as (queue, session, peer):
            other = session.loop_queue(asyncio.get_running_loop())
            reading = queue.queue.read_into(*READ, bytearray(4096), 30.0)
            assert await asyncio.to_thread(in_a_child, other.queue.close) == 0
            queue.arm()
            assert await reading.future == 4096
            await asyncio.to_thread(session.ping, b"behind all that was sent")
            other.close()
        assert peer.results[0].count(Opcode.SCSI_COMMAND) == 1

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_forked_child_is_refused() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        return talk.serve()

    async def main() -> None:
        async with queue_on(script) as (queue, _, _):
            child = os.fork()
            if not child:
                status = 1
                try:
                    queue.queue.read_into(*READ, bytearray(4096), 1.0)
                except BadDescriptor:
                    status = 0
                finally:
                    os._exit(status)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0
            assert await read_into(queue, bytearray(4096)) == 4096

    asyncio.run(asyncio.wait_for(main(), 30))


