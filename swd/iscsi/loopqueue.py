# SPDX-License-Identifier: Apache-2.0
"""A session's I/O in an event loop: when the compiled queue (`swd._asyncqueue`) flushes, polls, and looks at the clock.

Any loop with asyncio's methods will do (asyncio's own, uvloop). The loop watches a duplicate of the session's
descriptor, so that a connection that is replaced never leaves it with a number that means something else, and a
wake-up descriptor of its own. Nothing here waits: what has to wait (seeing that the target forgets an overdue command)
goes to a thread of the loop's executor.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swd._asyncqueue import AsyncQueue, Awaited, Pending
from swd._fastpath import Pump
from swd.errors import BadDescriptor, DeadlineExceeded, SwdError

if TYPE_CHECKING:
    import asyncio

TICK = 0.25  # seconds between two looks at deadlines and at the link, while something is under way

Expired = Callable[[DeadlineExceeded, int], object]


class LoopQueue:
    """Made in the loop's thread, and used only there. `expired` climbs the ladder for a command past its deadline; it
    may wait.
    """

    def __init__(self, pump: Pump, loop: asyncio.AbstractEventLoop, expired: Expired) -> None:
        self._pump = pump
        self._loop = loop
        self._expired = expired
        self._wake_read, self._wake_write = _wake_up()
        try:
            self.queue = AsyncQueue(pump, loop, self._wake_write)
        except BaseException:
            self._close_wake_up()
            raise
        self._fd = -1
        self._epoch = -1
        self._writing = False
        self._waiting: deque[asyncio.Future[None]] = deque()  # for a free slot of the engine
        try:
            loop.add_reader(self._wake_read, self._woken)
            self._watch()
        except BaseException:
            self.close()
            raise

    async def submit(self, start: Callable[..., Pending | None], *args: Any) -> Any:
        """Starts an I/O (`queue.read`, `.read_into` or `.write`) and waits for its outcome; dropped when cancelled."""
        while (one := start(*args)) is None:
            await self._room()
        try:
            self.arm()
            return await one.future
        except BaseException:
            self.queue.drop(one)
            raise

    def arm(self) -> None:
        """Something has been queued: it is sent this turn, and its deadline is looked at now and then."""
        if not self.queue.flushing:  # the loop first: Ctrl-C in between costs one flush too many, not all there are
            self._loop.call_soon(self._flush)
            self.queue.flushing = True
        if not self.queue.ticking:
            self._loop.call_later(TICK, self._tick)
            self.queue.ticking = True

    async def _room(self) -> None:
        """Until some other I/O has ended, or a tick is over: threads may have taken all the slots."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(future)
        timer = self._loop.call_later(TICK, _done, future)
        try:
            await future
        finally:
            timer.cancel()

    def _flush(self) -> None:
        self.queue.flushing = False
        try:
            self.queue.flush()
        except SwdError:
            self._readable()  # some may have ended well before
            return
        self._mind_room()

    def _mind_room(self) -> None:
        """Begins to watch for room in the socket, or stops."""
        blocked = self.queue.blocked
        if self._fd >= 0 and blocked != self._writing:
            self._writing = blocked
            if blocked:
                self._loop.add_writer(self._fd, self._flush)
                os.set_blocking(self._fd, True)
            else:
                self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            ended = self.queue.poll()
        except SwdError as error:
            self.queue.fail_all(error)
            return
        while ended and self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                ended -= 1
        if self._pump.fault is not None:
            self._look()
        else:
            self._watch()
            self._mind_room()

    def _woken(self) -> None:
        """A thread has ended some of ours, or the connection is another, or there is none."""
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass
        self._readable()

    def _look(self) -> None:
        """After a loss: have it seen to, and stop watching until there is a new connection; or end everything."""
        self._unwatch()
        self.queue.look()
        if not self._pump.alive:
            self.queue.fail_all(self._pump.fault or BadDescriptor("the session is closed"))

    def _tick(self) -> None:
        self.queue.ticking = False
        for lun, error in self.queue.overdue():
            self._loop.run_in_executor(None, self._climb, error, lun)
        if self._pump.fault is not None:
            self._look()
        else:
            self._watch()  # again, if the process had no descriptor left for it
        if self.queue.pending:
            self.queue.ticking = True
            self._loop.call_later(TICK, self._tick)

    def _climb(self, error: DeadlineExceeded, lun: int) -> None:
        try:
            self._expired(error, lun)
        except SwdError:
            pass  # the session has ended meanwhile: whoever uses it is told

    def _watch(self) -> None:
        if self._wake_read < 0 or (self._pump.epoch == self._epoch and self._fd >= 0):
            return
        self._unwatch()
        self._fd, self._epoch = self.queue.watched()
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._readable)
            # libuv makes what it polls non-blocking, and the session's own descriptor with it, which is the same open
            # socket: threads that wait for an answer in recv would turn round and round.
            os.set_blocking(self._fd, True)

    def _unwatch(self) -> None:
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._writing = False
        os.close(self._fd)
        self._fd = -1

    def close(self) -> None:
        """Cancels what is under way. The session stays."""
        if self._wake_read < 0:
            return
        futures: list[Awaited | asyncio.Future[None]] = [*self.queue.close(), *self._waiting]
        if not self._loop.is_closed():
            self._loop.remove_reader(self._wake_read)
            self._unwatch()
            for future in futures:
                future.cancel()
        elif self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._close_wake_up()

    def _close_wake_up(self) -> None:
        for fd in {self._wake_read, self._wake_write}:
            os.close(fd)
        self._wake_read = self._wake_write = -1


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _wake_up() -> tuple[int, int]:
    """(reading end, writing end), both non-blocking; on Linux one eventfd is both."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    return read, write
