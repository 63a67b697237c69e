# SPDX-License-Identifier: Apache-2.0
"""A connection that can be spoken to while it waits: pings to the initiator, asynchronous messages, commands that end
later. It waits for its socket and its mailbox together, on the Python path; only sessions of targets with `attended` in
their configuration are worth that.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from swd.proto.pdu import NopIn, NopOut, Opcode
from swd.target.config import Limits
from swd.target.connection import Connection, Host
from swd.target.framing import HIGH_WATER, Frame
from swd.target.node import TargetNode
from swd.target.normal import NormalSession
from swd.values import RESERVED_TAG, Negotiated

Action = Callable[[], object]
_GONE = select.POLLHUP | select.POLLERR


class Mailbox:
    """Actions from any thread for the one thread that waits. After `close` they are dropped."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._actions: deque[Action] = deque()

    def fileno(self) -> int:
        """Readable while there are actions."""
        return self._reader.fileno()

    def post(self, action: Action) -> None:
        """Have the waiting thread call this soon."""
        self._actions.append(action)
        with contextlib.suppress(OSError):  # full: it will wake up anyway; closed: nobody is there any more
            self._writer.send(b"x")

    def run(self) -> None:
        """Call what has come, in order."""
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)
        while self._actions:
            self._actions.popleft()()

    def close(self) -> None:
        """Idempotent."""
        self._reader.close()
        self._writer.close()


class Pings:
    """When to ask whether the initiator is still there. No clock: `now` is an argument, in seconds.

    After `interval` without a PDU a ping is due; if none is answered within `timeout`, the initiator is gone.
    """

    def __init__(self, interval: float, timeout: float, now: float) -> None:
        self._interval, self._timeout = interval, timeout
        self._heard = now
        self._asked: tuple[int, float] | None = None  # tag, and when

    def heard(self, now: float) -> None:
        """A PDU came."""
        self._heard = now

    def answered(self, ttt: int) -> None:
        """A NOP-Out came for a ping."""
        if self._asked is not None and self._asked[0] == ttt:
            self._asked = None

    def asked(self, ttt: int, now: float) -> None:
        """A ping goes out."""
        self._asked = (ttt, now)

    def patience(self, now: float) -> float | None:
        """Seconds until there is something to do; None: nothing, ever."""
        if not self._interval:
            return None
        until = self._heard + self._interval if self._asked is None else self._asked[1] + self._timeout
        return max(0.0, until - now)

    def due(self, now: float) -> bool:
        """Whether to ping now. Raises TimeoutError if one has been open for too long."""
        if not self._interval:
            return False
        if self._asked is not None:
            if now >= self._asked[1] + self._timeout:
                raise TimeoutError("the initiator does not answer pings")
            return False
        return now >= self._heard + self._interval


class AttendedConnection(Connection):
    """Serve one accepted socket; a session of a target that is not `attended` is served as by any connection."""

    def __init__(self, sock: socket.socket, host: Host, limits: Limits) -> None:
        super().__init__(sock, host, limits)
        self._mailbox: Mailbox | None = None
        self._pings = Pings(0, 0, 0)

    def post(self, action: Action) -> bool:
        """Have the session's own thread call this soon; False if the session is not attended."""
        mailbox = self._mailbox
        if mailbox is None:
            return False
        mailbox.post(action)
        return True

    def run(self) -> None:
        try:
            super().run()
        finally:
            if self._mailbox is not None:
                self._mailbox.close()

    def _normal_session(self, agreed: Negotiated, node: TargetNode) -> NormalSession:
        session = super()._normal_session(agreed, node)
        config = node.config
        if config.attended:
            self._mailbox = Mailbox()
            self._pings = Pings(config.nop_interval, config.nop_timeout, time.monotonic())
            session.post = self._mailbox.post
            session.observed = True
        return session

    def _handle(self, frame: Frame) -> None:
        if self._mailbox is not None:
            self._pings.heard(time.monotonic())
            if frame.opcode == Opcode.NOP_OUT:
                self._pings.answered(NopOut.unpack(frame.bhs).ttt)
        super()._handle(frame)

    def _receive(self) -> bool:
        """As in any connection, but the mailbox and the time wake it, too."""
        mailbox, session = self._mailbox, self.session
        if mailbox is None or session is None:
            return super()._receive()
        waiter = select.poll()
        reading = 0 if self._closing or self._outbox.size > HIGH_WATER else select.POLLIN
        waiter.register(self._sock, reading | (select.POLLOUT if self._outbox.size else 0))
        waiter.register(mailbox, select.POLLIN)
        patience = self._pings.patience(time.monotonic())
        events = dict(waiter.poll(None if patience is None else int(patience * 1000) + 1))
        if mailbox.fileno() in events:
            mailbox.run()
        if self._pings.due(time.monotonic()):
            self._ping(session.new_ttt())
        self._closing = self._closing or session.closing
        self._send()
        if not events.get(self._sock.fileno(), 0) & ((select.POLLIN | _GONE) if reading else _GONE):
            return False
        return super()._receive_now()

    def _ping(self, ttt: int) -> None:
        """A NOP-In with a tag of its own wants a NOP-Out; it takes no StatSN (RFC 7143 11.19.2)."""
        assert self.session is not None
        self._pings.asked(ttt, time.monotonic())
        self._outbox.put(NopIn(itt=RESERVED_TAG, ttt=ttt, **self.session.numbers(status=False)))
