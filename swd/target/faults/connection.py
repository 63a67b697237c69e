# SPDX-License-Identifier: Apache-2.0
"""One connection under a fault plan: PDUs are held against it as they come and as they go.

It is the target's connection in all else, and always on the Python path. Faults of PDUs strike here (on their way in
before the command window, on their way out in the outbox), those of requests in the session (`session.py`).

What a delay keeps is bounded (`_full`): beyond that the connection is read no more, and nothing that came is carried
out, until the delay is over. Nothing is lost, and memory is safe from an initiator that does not wait for answers.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from swd.proto.pdu import LoginRequest, Opcode, Pdu
from swd.target.config import Limits
from swd.target.connection import Connection, Host
from swd.target.faults.answers import Context
from swd.target.faults.injector import Injector
from swd.target.faults.judge import Judge
from swd.target.faults.login_faults import answer_login
from swd.target.faults.plan import Fault
from swd.target.faults.sending import OVERHEAD, End, PlannedOutbox, Sending
from swd.target.faults.session import PlannedDiscovery, PlannedNormal
from swd.target.faults.timers import Timers
from swd.target.framing import HIGH_WATER, Frame
from swd.target.media import Buffer
from swd.target.node import TargetNode
from swd.target.session import Session
from swd.values import Negotiated

MOST_KEPT = HIGH_WATER  # bytes of requests, and of answers, that wait; beyond either nothing more is taken
_LINGER = 2.0  # seconds that a closed connection waits for the peer's own end
_RDHUP = getattr(select, "POLLRDHUP", 0)  # Linux: the peer has closed, though there are bytes to read


class _Stalled(NamedTuple):
    """A request that waits for a delay. `judged`: it is the one that was delayed; it is not held against it again."""

    frame: Frame
    judged: bool

    @property
    def size(self) -> int:
        return len(self.frame.bhs) + len(self.frame.data) + OVERHEAD


class PlannedConnection(Connection):
    """Serve one accepted socket by a plan."""

    has_plan = True

    def __init__(self, sock: socket.socket, host: Host, limits: Limits, injector: Injector) -> None:
        super().__init__(sock, host, limits)
        self.injector = injector
        self.judge = Judge(injector, self._state, self._stop_reading)
        self._planned = PlannedOutbox(self._counts, self)
        self._outbox = self._planned
        self._timers = Timers()
        self._ended: End | None = None
        self._deaf = False
        self._stalled: deque[_Stalled] = deque()  # a request that was delayed, and those behind it
        self._stalled_size = 0
        self._waits = False  # the delay is not over
        self._behind: Frame | None = None  # a request that lets the next one pass

    # --- what goes ---------------------------------------------------------------------------------------------------

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        self._timers.at(time.monotonic() + seconds, action)

    def judged(self, pdu: Pdu, data: Buffer) -> Sending:
        """What the plan makes of a PDU that is about to be sent."""
        return self.judge.judged(pdu, data, self._context)

    def _state(self) -> str:
        if self.session is None:
            return "login"
        return "discovery" if self.session.agreed.session_type == "Discovery" else "full_feature"

    def _context(self, expected: int, max_cmd_sn: int | None) -> Context:
        return Context(
            self._outbox.header_digest,
            self._outbox.data_digest,
            None if self.session is None else self.session.agreed,
            expected,
            max_cmd_sn,
            self.injector.random_bytes,
            (lambda: 0) if self.session is None else self.session.new_ttt,
        )

    # --- what comes --------------------------------------------------------------------------------------------------

    def _handle(self, frame: Frame) -> None:
        if self._ended is not None:
            return
        if self._stalled:
            self._stall(frame)
        else:
            self._judge(frame)

    def _judge(self, frame: Frame) -> None:
        for fault in self.injector.due("wire", self.judge.came(frame.bhs)):
            self.injector.injected(fault)
            if self._strike(fault, frame):
                return
        self._pass(frame)
        behind, self._behind = self._behind, None
        if behind is not None:
            self._pass(behind)

    def _strike(self, fault: Fault, frame: Frame) -> bool:
        """Carry out a fault of a PDU that came; whether it goes no further."""
        name = fault.kind.name
        if name == "delay":
            self._waits = True
            self._stall(frame, first=True)
            self.at(fault.settings["seconds"], self._resume)
        elif name == "reorder" and self._behind is not None:
            return False  # it is the one that passes
        elif name == "reorder":
            self._behind = frame.kept()
            self.at(0.2, self._catch_up)  # where nothing comes behind it
        elif name == "stop_reading":
            self._stop_reading(fault)
            return False
        elif name in ("close", "silence"):
            self.end("close" if name == "close" else "silence")
        elif name in ("reset", "poison"):
            self.end("reset")
        return True

    def _pass(self, frame: Frame) -> None:
        """What the connection would have done with it."""
        if self.session is None and frame.opcode == Opcode.LOGIN_REQUEST:
            for fault in self.injector.due("login", self.judge.came(frame.bhs)):
                response, data = answer_login(self._login, LoginRequest.unpack(frame.bhs), fault, str(self._local))
                self.injector.injected(fault)
                self._outbox.put(response, data)
                self._host.counts.count("login_failures")
                self._closing = True
                return
        super()._handle(frame)
        self._closing = self._closing or self._ended == "close"

    def _stall(self, frame: Frame, *, first: bool = False) -> None:
        kept = _Stalled(frame.kept(), first)
        self._stalled.insert(0 if first else len(self._stalled), kept)
        self._stalled_size += kept.size

    def _resume(self) -> None:
        self._waits = False

    def _go_on(self) -> None:
        """What is due by now: timers, and requests whose delay is over, as far as there is room for their answers."""
        self._timers.run(time.monotonic())
        self._send()
        while self._stalled and not self._waits and not self._closing and self._has_room():
            kept = self._stalled.popleft()
            self._stalled_size -= kept.size
            if kept.judged:
                self._pass(kept.frame)
            else:
                self._judge(kept.frame)  # it may be delayed again, and those behind it with it
            self._send()

    def _catch_up(self) -> None:
        behind, self._behind = self._behind, None
        if behind is not None:
            self._pass(behind)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            super()._serve()
        finally:
            if self._ended == "close":
                self._part()

    def _receive(self) -> bool:
        """As in the connection without a plan, but timers run, and the target may be deaf."""
        self._go_on()
        if self._closing and not self._outbox.size:
            return False
        events = self._wait(reading=not self._deaf and not self._closing and not self._full())
        return bool(events & (select.POLLIN | select.POLLHUP | select.POLLERR)) and self._receive_now()

    def _wait_for_room(self) -> None:
        while self._full() and not self._closing:
            self._wait(reading=False)
            self._go_on()

    def _has_room(self) -> bool:
        """Whether more answers may be made: those that wait for a delay or for the peer, and timers, are not many."""
        return self._outbox.size + self._planned.late + len(self._timers) * OVERHEAD <= MOST_KEPT

    def _full(self) -> bool:
        return self._ended is None and (self._stalled_size > MOST_KEPT or not self._has_room())

    def _wait(self, *, reading: bool) -> int:
        """Wait for the socket or a timer, and send what can be sent. Raises ConnectionResetError, TimeoutError."""
        patience = self._timers.next(time.monotonic())
        limit = None if self._ended else self._sock.gettimeout()  # the deadline of login
        expires = limit is not None and (patience is None or limit < patience)
        events = self._poll(limit if expires else patience, reading)
        if not events and expires:
            raise TimeoutError("no login in time")
        if events & select.POLLOUT:
            self._send()
        if not reading and not self._closing and events & (_RDHUP | select.POLLHUP | select.POLLERR):
            raise ConnectionResetError("the initiator closed the connection")
        return events

    def _poll(self, patience: float | None, reading: bool) -> int:
        waiter = select.poll()
        heed = select.POLLIN if reading else 0 if self._closing else _RDHUP
        waiter.register(self._sock, heed | (select.POLLOUT if self._outbox.size else 0))
        found = waiter.poll(None if patience is None else int(patience * 1000) + 1)
        return found[0][1] if found else 0

    def _stop_reading(self, fault: Fault) -> None:
        self._deaf = True
        seconds = fault.settings["seconds"]
        if seconds:
            self.at(seconds, self._hear)

    def _hear(self) -> None:
        self._deaf = False

    # --- the end -----------------------------------------------------------------------------------------------------

    def end(self, how: End) -> None:
        """close: when what was sent before has gone out; reset: at once, in this thread; silence: only seemingly."""
        if self._ended is None:
            self._ended = how
        if how == "reset":
            self._planned.empty()
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionResetError("the plan resets the connection")
        self._planned.close()
        self._stalled.clear()
        self._stalled_size = 0
        self._closing = how == "close"

    def _part(self) -> None:
        """FIN, then the peer's: closing a socket with unread bytes in it would be a reset."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + _LINGER
            while (left := deadline - time.monotonic()) > 0:
                self._sock.settimeout(left)
                if not self._sock.recv(1 << 16):
                    return
        except OSError:
            pass  # it has ended by itself

    # --- sessions ----------------------------------------------------------------------------------------------------

    def _discovery_session(self, agreed: Negotiated) -> Session:
        session = PlannedDiscovery(agreed, self._outbox, self, self.drop)
        session.connection = self
        return session

    def _normal_session(self, agreed: Negotiated, node: TargetNode) -> PlannedNormal:
        session = PlannedNormal(agreed, self._outbox, self, self.drop, node)
        session.connection = self
        return session
