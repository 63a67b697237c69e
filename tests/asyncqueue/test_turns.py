# SPDX-License-Identifier: Apache-2.0
"""Who sends, who receives and who is told, where a loop and threads share a session; and a queue whose end comes early.

The keeper stands still here: what it would mend within a second counts as lost.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from support.pace import SLOWER
from support.peer import NAME, Script, Talk, playing

import swd
from swd._asyncqueue import AsyncQueue
from swd.driver.session import Session as DriverSession
from swd.errors import BadDescriptor, InvalidArgument
from swd.iscsi.loopqueue import LoopQueue
from swd.proto import pdu
from swd.proto.pdu import Opcode

READ = (0, 0, 8)  # LUN, LBA, blocks
PATIENCE = 4 * SLOWER  # seconds for what takes milliseconds
SLOW = {"InitialR2T": "Yes", "ImmediateData": "No"}


@pytest.fixture(autouse=True)
def no_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DriverSession, "look_in", lambda session: None)


Main = Callable[[LoopQueue, swd.Session], Coroutine[Any, Any, None]]


def in_loop(script: Script, main: Main, **options: object) -> None:
    async def run() -> None:
        with playing(script) as peer:
            session = await asyncio.to_thread(swd.connect, str(peer.portal), NAME, **options)
            queue = session.loop_queue(asyncio.get_running_loop())
            try:
                await asyncio.wait_for(main(queue, session), PATIENCE)
            finally:
                queue.close()
                await asyncio.to_thread(session.close, True)

    asyncio.run(run())


def r2t(talk: Talk, command: pdu.ScsiCommand, length: int = 4096) -> None:
    talk.send(
        pdu.R2T(itt=command.itt, lun=command.lun, ttt=9, buffer_offset=0, desired_data_transfer_length=length),
        numbered=False,
    )


def take_data(talk: Talk, command: pdu.ScsiCommand) -> None:
    data, content = talk.take(Opcode.DATA_OUT)
    assert (data.itt, data.ttt, content) == (command.itt, 9, b"w" * 4096)
    talk.good(command)


def at_once(talk: Talk, on: bool) -> None:
    """Between on and off, PDUs collect, and come in one receive."""
    talk.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)


def test_a_lone_write_sends_its_data_when_asked_for_it() -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in(**SLOW)
        for _ in range(3):
            command, _ = talk.take(Opcode.SCSI_COMMAND)
            r2t(talk, command)
            take_data(talk, command)
        return talk.serve()

    async def main(queue: LoopQueue, _: swd.Session) -> None:
        for _ in range(3):
            assert await queue.submit(queue.queue.write, *READ, b"w" * 4096, 30.0) == 4096

    in_loop(script, main)


def test_a_thread_that_has_done_leaves_nothing_unsent() -> None:
    """The thread receives its own answer and, with it, an R2T for the loop; then it is gone."""

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in(**SLOW)
        ping, data = talk.take(Opcode.NOP_OUT)
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        at_once(talk, True)
        r2t(talk, command)
        talk.send(pdu.NopIn(itt=ping.itt), data)
        at_once(talk, False)
        take_data(talk, command)
        return talk.serve()

    async def main(queue: LoopQueue, session: swd.Session) -> None:
        pinging = asyncio.ensure_future(asyncio.to_thread(session.ping, b"thread"))
        while not session.statistics["sends"]:
            await asyncio.sleep(0.001)
        queue._loop.remove_reader(queue._fd)  # the thread is to receive it
        writing = asyncio.ensure_future(queue.submit(queue.queue.write, *READ, b"w" * 4096, 30.0))
        await pinging
        queue._loop.add_reader(queue._fd, queue._readable)
        assert await writing == 4096

    in_loop(script, main)


MUCH = 262144


def narrow(session: swd.Session) -> None:
    """Little fits into the socket."""
    with socket.socket(fileno=os.dup(session._pump.fileno())) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


@pytest.mark.parametrize("by_thread", [False, True], ids=["the loop finds it full", "a thread finds it full and goes"])
def test_room_in_the_socket_is_waited_for(by_thread: bool) -> None:
    """Nothing comes that would remind of it: the answers are sent when all the data is there."""
    full = threading.Event()

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in(**SLOW, MaxBurstLength=str(MUCH))
        if by_thread:
            ping, data = talk.take(Opcode.NOP_OUT)
        commands = [talk.take(Opcode.SCSI_COMMAND)[0] for _ in range(16)]
        at_once(talk, True)
        for command in commands:
            r2t(talk, command, MUCH)
        if by_thread:
            talk.send(pdu.NopIn(itt=ping.itt), data)
        at_once(talk, False)
        assert full.wait(PATIENCE)
        came = 0
        while came < 16 * MUCH:
            came += len(talk.take(Opcode.DATA_OUT)[1])
        for command in commands:
            talk.good(command)
        return talk.serve()

    async def main(queue: LoopQueue, session: swd.Session) -> None:
        narrow(session)
        if by_thread:
            pinging = asyncio.ensure_future(asyncio.to_thread(session.ping, b"thread"))
            while not session.statistics["sends"]:
                await asyncio.sleep(0.001)
            queue._loop.remove_reader(queue._fd)
        data = bytes(MUCH)
        writes = [queue.submit(queue.queue.write, 0, 0, MUCH // 512, data, 30.0) for _ in range(16)]
        writing = asyncio.gather(*writes)
        if by_thread:
            await pinging
            queue._loop.add_reader(queue._fd, queue._readable)
        while not queue.queue.blocked:
            await asyncio.sleep(0.001)
        full.set()
        assert await writing == [MUCH] * 16

    in_loop(script, main)


def test_a_thread_that_ends_an_io_wakes_the_loop() -> None:
    """Twice, for the second call of the loop needs the first to be over."""

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        for _ in range(2):
            ping, data = talk.take(Opcode.NOP_OUT)
            command, _ = talk.take(Opcode.SCSI_COMMAND)
            at_once(talk, True)
            talk.good(command, b"r" * 4096)
            talk.send(pdu.NopIn(itt=ping.itt), data)
            at_once(talk, False)
        return talk.serve()

    async def main(queue: LoopQueue, session: swd.Session) -> None:
        queue._loop.remove_reader(queue._fd)
        for _ in range(2):
            sends = session.statistics["sends"]
            pinging = asyncio.ensure_future(asyncio.to_thread(session.ping, b"thread"))
            while session.statistics["sends"] == sends:
                await asyncio.sleep(0.001)
            assert await queue.submit(queue.queue.read, *READ, 4096, 30.0) == b"r" * 4096
            await pinging

    in_loop(script, main)


WITHOUT_INPUT = """
import asyncio, os, swd
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

async def main(session):
    os.close(0)
    queue = session.loop_queue(asyncio.get_running_loop())
    assert queue._wake_read == 0
    queue._loop.remove_reader(queue._fd)  # a thread is to receive it
    reading = asyncio.ensure_future(queue.submit(queue.queue.read, 0, 0, 8, 4096, 30.0))
    for _ in range(20):
        await asyncio.to_thread(session.ping, b"thread")
    await asyncio.wait_for(reading, 4)
    print("ended")
    queue.close()

with TargetServer([TargetConfig("iqn.2026-01.org.example:x", {0: Lun(RamMedium(1 << 20))})]) as server:
    with swd.connect(str(server.portal), "iqn.2026-01.org.example:x") as session:
        asyncio.run(main(session))
"""


def test_a_process_without_standard_input() -> None:
    """Its wake-up descriptor may be number 0."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_INPUT], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


def test_a_thread_waiting_for_the_reader_role_is_given_it() -> None:
    """The loop receives what comes first; the thread waits on."""

    def script(talk: Talk) -> list[Opcode]:
        talk.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        talk.log_in()
        return talk.serve()

    async def main(queue: LoopQueue, session: swd.Session) -> None:
        for _ in range(50):
            ping = asyncio.ensure_future(asyncio.to_thread(session.ping, b"thread"))
            await asyncio.gather(*(queue.submit(queue.queue.read, *READ, 4096, 30.0) for _ in range(4)))
            assert await ping == b"thread"

    in_loop(script, main)


def test_a_loss_that_only_the_loop_sees_is_mended() -> None:
    connections = []

    def script(talk: Talk) -> object:
        talk.log_in()
        connections.append(talk)
        if len(connections) > 1:
            return talk.serve()
        talk.take(Opcode.SCSI_COMMAND)
        return talk.sock.shutdown(socket.SHUT_RDWR)

    async def main(queue: LoopQueue, _: swd.Session) -> None:
        assert await queue.submit(queue.queue.read, *READ, 4096, 30.0) == bytes(4096)

    in_loop(script, main, default_time2wait=0)


def test_a_closed_queue_takes_nothing_more() -> None:
    async def main(queue: LoopQueue, session: swd.Session) -> None:
        place = bytearray(4096)
        reading = asyncio.ensure_future(queue.submit(queue.queue.read_into, *READ, place, 30.0))
        full = [queue.queue.read(*READ, 4096, 30.0) for _ in range(10_000)]
        assert None in full
        waiting = asyncio.ensure_future(queue.submit(queue.queue.read, *READ, 4096, 30.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queue.close()
        queue.close()
        ends = await asyncio.gather(reading, waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 2
        place.append(0)
        with pytest.raises(BadDescriptor):
            await queue.submit(queue.queue.write, *READ, bytes(4096), 30.0)
        assert (queue.queue.poll(), queue.queue.pending) == (0, 0)

    in_loop(lambda talk: (talk.log_in(), talk.until_closed()), main)


@pytest.fixture
def session() -> Iterator[swd.Session]:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        talk.take(Opcode.SCSI_COMMAND)
        return talk.until_closed()

    with playing(script) as peer:
        session = swd.connect(str(peer.portal), NAME)
        try:
            yield session
        finally:
            session.close(True)


def test_a_loop_that_was_closed_first(session: swd.Session) -> None:
    loop = asyncio.new_event_loop()
    before = os.listdir("/dev/fd")
    queue = session.loop_queue(loop)
    places = [bytearray(4096) for _ in range(3)]
    tasks = [loop.create_task(queue.submit(queue.queue.read_into, *READ, place, 30.0)) for place in places]
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
    assert queue.queue.pending == 3
    loop.close()
    queue.close()
    for place in places:
        place.append(0)
    assert queue.queue.pending == 0
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert len(os.listdir("/dev/fd")) < len(before), "the loop's own are gone as well"


def test_a_forgotten_queue_lets_go(session: swd.Session) -> None:
    wake = os.eventfd(0)
    loop = asyncio.new_event_loop()
    queue = AsyncQueue(session._pump, loop, wake)
    place = bytearray(4096)
    one = queue.read_into(*READ, place, 30.0)
    loop.queue = queue  # type: ignore[attr-defined]  # a circle
    loop.close()
    assert session.statistics["open_tasks"] == 1
    del one, queue, loop
    gc.collect()
    place.append(0)
    assert session.statistics["open_tasks"] == 0
    os.close(wake)


def test_a_queue_that_cannot_be_made_leaves_no_descriptor(session: swd.Session) -> None:
    session.close(True)
    loop = asyncio.new_event_loop()
    before = os.listdir("/dev/fd")
    with pytest.raises(BadDescriptor):
        session.loop_queue(loop)
    assert len(os.listdir("/dev/fd")) == len(before)
    loop.close()


def test_an_overdue_command_has_let_go_of_its_buffer(session: swd.Session) -> None:
    """As soon as it is said, whoever else lets go later."""
    wake = os.eventfd(0)
    loop = asyncio.new_event_loop()
    queue = AsyncQueue(session._pump, loop, wake)
    place = bytearray(4096)
    one = queue.read_into(*READ, place, 0.05)
    assert one is not None
    assert queue.flush()
    found: list[tuple[int, swd.DeadlineExceeded]] = []
    until = time.monotonic() + PATIENCE
    while not found and time.monotonic() < until:
        found = queue.overdue()
    assert [lun for lun, _ in found] == [0]
    assert one.future.exception() is found[0][1]
    place.append(0)
    assert (queue.pending, queue.overdue()) == (0, [])
    queue.close()
    loop.close()
    os.close(wake)


def test_fail_all_fails_all_at_once(session: swd.Session) -> None:
    wake = os.eventfd(0)
    loop = asyncio.new_event_loop()
    queue = AsyncQueue(session._pump, loop, wake)
    places = [bytearray(4096) for _ in range(3)]
    begun = [queue.read_into(*READ, place, 30.0) for place in places]
    error = BadDescriptor("the end")
    queue.fail_all(error)
    assert [one is not None and one.future.exception() for one in begun] == [error] * 3
    for place in places:
        place.append(0)
    assert queue.pending == 0
    queue.close()
    loop.close()
    os.close(wake)


def test_what_cannot_begin_leaves_nothing_behind(session: swd.Session) -> None:
    wake = os.eventfd(0)
    loop = asyncio.new_event_loop()
    queue = AsyncQueue(session._pump, loop, wake)
    huge = (ctypes.c_char * ((1 << 32) + 4096)).from_address(ctypes.addressof(ctypes.c_char()))  # nobody may look
    with pytest.raises(InvalidArgument):
        queue.read_into(*READ, huge, 30.0)
    assert (queue.pending, session.statistics["open_tasks"]) == (0, 0)
    queue.close()
    loop.close()
    os.close(wake)
