# SPDX-License-Identifier: Apache-2.0
"""One connection: a socket, a thread's loop, and the machines that it feeds: first login, then a session.

The loop receives as much as there is, lets the machine answer all of it, and sends the answers with one `sendmsg`. When
the peer does not read, the loop goes on receiving (a peer that is stuck in a send of its own would wait for ever)
until a limit of unsent bytes is reached. A session that has units in memory is served by the compiled path instead,
which does the same (`compiled`).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import Counter
from functools import partial
from typing import Protocol

from swd.errors import DigestMismatch, ProtocolViolation
from swd.proto.pdu import LoginRequest, Opcode
from swd.target.compiled import CompiledPath
from swd.target.config import Limits, TargetConfig
from swd.target.framing import HIGH_WATER, Frame, Inbox, Outbox
from swd.target.login import Catalogue, Moved, TargetLogin
from swd.target.node import TargetNode
from swd.target.normal import NormalSession
from swd.target.session import Session
from swd.target.statistics import Statistics
from swd.values import Negotiated, Portal

_CHALLENGE = 32  # bytes of a CHAP challenge


class Host(Catalogue, Protocol):
    """What a connection needs of the server."""

    counts: Statistics
    login_timeout: float
    compiled: bool
    spin_us: int

    def node(self, config: TargetConfig) -> TargetNode: ...

    def addresses(
        self, target_name: str | None, initiator_name: str, local: Portal
    ) -> list[tuple[str, list[str]]]: ...

    def ended(self, connection: Connection) -> None: ...


class Connection:
    """Serve one accepted socket; `run` is the body of its thread, `drop` may be called from any other."""

    has_plan = False  # with a fault plan, which has to see every PDU

    def __init__(self, sock: socket.socket, host: Host, limits: Limits) -> None:
        self.session: Session | None = None
        self._sock = sock
        self._host = host
        self._counts: Counter[str] = Counter()
        self._path: CompiledPath | None = None
        self._inbox = Inbox(limits.max_recv_data_segment_length, self._counts)
        self._outbox = Outbox(self._counts)
        self._login = TargetLogin(host, chap_id=os.urandom(1)[0], challenge=os.urandom(_CHALLENGE))
        self._closing = False
        self._local = Portal(*sock.getsockname()[:2])
        host.counts.connected(self._traffic)

    def run(self) -> None:
        """Serve until either side ends the connection. Raises nothing that the peer can cause."""
        statistics = self._host.counts
        try:
            self._serve()
        except DigestMismatch:
            statistics.count("digest_errors")
            self._last_words()
        except ProtocolViolation:
            statistics.count("protocol_errors")
            self._last_words()
        except (OSError, MemoryError):
            pass  # the peer is gone, `drop` was called, or there is no memory for this one: there is nobody to tell
        finally:
            self.leave()

    def leave(self) -> None:
        """How `run` ends; or instead of it, where there is no thread to run it."""
        if self.session is not None:
            self.session.end()
        if self._path is not None:
            self._path.let_go()
        self._sock.close()
        self._host.counts.disconnected(self._traffic)
        self._host.ended(self)

    def drop(self) -> None:
        """End the connection from outside: its thread wakes up and leaves."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended by itself

    def come_by(self, portal_group: int | None) -> None:
        """Before `run`: the portal that the peer came by has a group."""
        self._login.portal_group = portal_group

    def addresses(self, target_name: str | None) -> list[tuple[str, list[str]]]:
        """SendTargets: all targets, or one, as this peer may see and reach them."""
        assert self.session is not None
        return self._host.addresses(target_name, self.session.agreed.initiator_name, self._local)

    def _traffic(self) -> Counter[str]:
        """What this connection has counted, wherever that was."""
        counts = self._counts.copy()
        if self._path is not None:
            counts.update(self._path.counts())
        return counts

    def _last_words(self) -> None:
        """Send what was answered before the peer broke the rules, if it takes it at once."""
        with contextlib.suppress(OSError):
            if self._path is not None:
                self._path.flush()
            else:
                self._send()

    def _serve(self) -> None:
        deadline = time.monotonic() + self._host.login_timeout
        undecided = True
        while True:
            if self.session is None:
                self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
            if self._receive():
                for frame in self._inbox.frames():
                    self._handle(frame)
                    if self._closing:
                        break
                    self._wait_for_room()
                self._send()
            if self._closing and not self._outbox.size:
                return
            if undecided and self.session is not None and not self._outbox.size:
                undecided = False
                if self._host.compiled and CompiledPath.suits(self.session):
                    self._serve_compiled(self.session)
                    return

    def _serve_compiled(self, session: NormalSession) -> None:
        self._path = CompiledPath(session, self._sock, self._inbox, self._outbox, self._host.spin_us)
        self._path.serve()

    def _handle(self, frame: Frame) -> None:
        if self.session is None:
            self._log_in(frame)
        else:
            self.session.receive(frame)
            self._closing = self.session.closing

    def _receive(self) -> bool:
        """Wait until something has come in (True) or only some of what is unsent has gone out (False)."""
        if self._outbox.size:
            reading = 0 if self._closing or self._outbox.size > HIGH_WATER else select.POLLIN
            waiter = select.poll()
            waiter.register(self._sock, reading | select.POLLOUT)
            events = waiter.poll()[0][1]
            if events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                self._send()
            if not events & select.POLLIN:
                return False
        return self._receive_now()

    def _receive_now(self) -> bool:
        count = self._sock.recv_into(self._inbox.space())
        if not count:
            raise ConnectionResetError("the initiator closed the connection")
        self._inbox.filled(count)
        return True

    def _wait_for_room(self) -> None:
        """One receive may bring thousands of requests: their answers wait for the peer, too."""
        waiter = select.poll()
        waiter.register(self._sock, select.POLLOUT)
        while self._outbox.size > HIGH_WATER:
            waiter.poll()
            self._send()

    def _send(self) -> None:
        """Send what the socket takes without waiting."""
        while self._outbox.size:
            try:
                self._outbox.sent(self._sock.sendmsg(self._outbox.pending(), (), socket.MSG_DONTWAIT))
            except BlockingIOError:
                return

    def _log_in(self, frame: Frame) -> None:
        if frame.opcode != Opcode.LOGIN_REQUEST:
            raise ProtocolViolation("a PDU other than a Login Request came before login", clause="6.3")
        step = self._login.receive(LoginRequest.unpack(frame.bhs), bytes(frame.data))
        if step.agreed is not None:
            self._enter(step.agreed)
        self._outbox.put(step.response, step.data)
        if step.agreed is not None:
            self._inbox.header_digest = self._outbox.header_digest = step.agreed.header_digest
            self._inbox.max_segment = step.agreed.target_max_recv_data_segment_length
            self._inbox.data_digest = self._outbox.data_digest = step.agreed.data_digest
        if step.refusal is not None:
            if not isinstance(step.refusal, Moved):
                self._host.counts.count("login_failures")
            self._closing = True

    def _enter(self, agreed: Negotiated) -> None:
        """Begin the full-feature phase; an older session of the same initiator port ends first (RFC 7143 6.3.5)."""
        self._host.counts.count("logins")
        self._sock.settimeout(None)
        if agreed.session_type == "Discovery":
            self.session = self._discovery_session(agreed)
            return
        node = self._host.node(self._login.config)
        session = self._normal_session(agreed, node)
        session.relieve = partial(Connection._wait_for_room, self)  # not what a plan makes of it: no other request now
        session.observed = session.observed or self.has_plan
        while (old := node.enter(session)) is not None:
            old.reinstate()
            self._host.counts.count("reinstatements")
        self.session = session

    def _discovery_session(self, agreed: Negotiated) -> Session:
        return Session(agreed, self._outbox, self, self.drop)

    def _normal_session(self, agreed: Negotiated, node: TargetNode) -> NormalSession:
        return NormalSession(agreed, self._outbox, self, self.drop, node)
