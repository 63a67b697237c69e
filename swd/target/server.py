# SPDX-License-Identifier: Apache-2.0
"""The embedded target as a server: a listening socket, one thread a connection, and what all of them share.

    with TargetServer([TargetConfig("iqn.2026-01.org.example:disk", {0: Lun(RamMedium(64 << 20))})]) as server:
        print(server.portal, server.statistics["logins"], server.sessions)

For demos and tests, yours and ours; not for serving data in production. It binds loopback unless it is told otherwise.
"""

from __future__ import annotations

import ipaddress
import itertools
import logging
import select
import socket
import threading
from collections.abc import Sequence
from types import TracebackType

from swd import messages
from swd.errors import InvalidArgument, NoSuchDevice
from swd.proto import chap as chap_rules
from swd.proto import names
from swd.proto.portal import parse_portal
from swd.target.config import Limits, TargetConfig
from swd.target.connection import Connection
from swd.target.faults.injector import Injector
from swd.target.faults.plan import Plan
from swd.target.node import TargetNode
from swd.target.scsi.nexus import NexusId
from swd.target.statistics import Snapshot, Statistics
from swd.values import Chap, Negotiated, Portal

_log = logging.getLogger("swd.target")
_BACKLOG = 128
_MAX_SPIN = 1000
_MAX_TSIH = 65535


class TargetServer:
    """Serve targets from `start` (or `with`) until `stop`. Media stay open: they are the caller's.

    portal: address to listen on, "host:port" or "[v6]:port"; port 0 picks a free one, see `portal` afterwards.
    discovery_chap: what SendTargets sessions must prove; None: nothing. public: allow an address that is not loopback.
    faults: what shall go wrong (`swd.target.faults`); an empty Plan is for one that `set_plan` gives later.
    compiled: let plain reads and writes of memory run without the GIL. spin_us: microseconds, at most 1000, for which
    such a session looks for the next command before it sleeps, if that comes in on another CPU. congestion: TCP
    congestion control of accepted connections; one that the kernel refuses is a warning.
    Raises InvalidArgument for a bad configuration, NoSuchDevice if the address cannot be bound.
    """

    def __init__(
        self,
        targets: Sequence[TargetConfig],
        portal: str | Portal = "127.0.0.1:0",
        *,
        discovery_chap: Chap | None = None,
        discovery_limits: Limits | None = None,
        login_timeout: float = 15.0,
        max_connections: int = 256,
        public: bool = False,
        faults: Plan | None = None,
        compiled: bool = True,
        spin_us: int = 0,
        congestion: str | None = None,
    ) -> None:
        if not 0 <= spin_us <= _MAX_SPIN:
            raise InvalidArgument(f"to spin for {spin_us} microseconds is not possible: from 0 to {_MAX_SPIN}")
        self.compiled = compiled
        self.spin_us = spin_us
        self._congestion = congestion
        self.login_timeout = login_timeout
        self.counts = Statistics()
        self._discovery = TargetConfig("", chap=discovery_chap, limits=discovery_limits or Limits())
        self._nodes = {names.validate(config.name): TargetNode(config) for config in targets}
        if len(self._nodes) != len(targets):
            raise InvalidArgument("two targets have the same name: give each its own")
        for config in (*targets, self._discovery):
            if config.chap is not None:
                chap_rules.check(config.chap)
        self._wanted = portal if isinstance(portal, Portal) else listening_portal(portal)
        self._bound = self._wanted
        self._public = public
        self.faults = None if faults is None else Injector(faults)
        self._max_connections = max_connections
        # Every connection must take what any target of ours declares: its target is not known before login.
        self._limits = max(
            (config.limits for config in (*targets, self._discovery)), key=lambda one: one.max_recv_data_segment_length
        )
        self._tsih = itertools.count()
        self._lock = threading.Lock()  # guards _connections and _tsih; nothing that waits is called under it
        self._connections: dict[Connection, threading.Thread] = {}
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None

    def start(self) -> None:
        """Bind and begin to accept."""
        family, address = _resolve(self._wanted, public=self._public)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._choose_congestion(listener)
            listener.bind(address)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise NoSuchDevice(f"cannot listen on {self._wanted}: {error.strerror}; choose another portal") from error
        self._bound = Portal(*listener.getsockname()[:2])
        self._listener = listener
        self._wake = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, args=(listener, self._wake[0]), name="swd-target-accept")
        self._acceptor.start()

    def stop(self) -> None:
        """Stop accepting, end every connection, and join all threads. Idempotent."""
        if self._acceptor is None or self._wake is None or self._listener is None:
            return
        self._wake[1].send(b"x")
        self._acceptor.join()
        with self._lock:
            live = list(self._connections.items())
        for connection, _ in live:
            connection.drop()
        if self.faults is not None:
            self.faults.stop()
        for _, thread in live:
            thread.join()
        for sock in (self._listener, *self._wake):
            sock.close()
        self._acceptor = None

    def __enter__(self) -> TargetServer:  # noqa: PYI034  (typing.Self is of 3.11)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def portal(self) -> Portal:
        """Where it listens, with the real port."""
        return self._bound

    @property
    def statistics(self) -> Snapshot:
        """All counts; they stay after `stop`."""
        injected = {} if self.faults is None else self.faults.counts
        return self.counts.snapshot(len(self.sessions), injected)

    def set_plan(self, plan: Plan) -> None:
        """Go on by another fault plan, at once; where there was none, from the next connection on."""
        if self.faults is None:
            self.faults = Injector(plan)
        else:
            self.faults.replace(plan)

    @property
    def sessions(self) -> list[Negotiated]:
        """What each live session agreed on, in the initiator's words (`max_recv_data_segment_length` is its own)."""
        with self._lock:
            live = [connection.session for connection in self._connections]
        return [session.agreed for session in live if session is not None]

    def find(self, target_name: str | None) -> TargetConfig | None:
        """The target of that name, or what holds for discovery."""
        if target_name is None:
            return self._discovery
        if not names.valid(target_name):
            return None
        node = self._nodes.get(names.validate(target_name))
        return node.config if node is not None else None

    def targets(self) -> list[TargetConfig]:
        """All targets, in the order in which they were given."""
        return [node.config for node in self._nodes.values()]

    def node(self, config: TargetConfig) -> TargetNode:
        """The running node of a configuration that `find` gave."""
        return self._nodes[names.validate(config.name)]

    def session_exists(self, config: TargetConfig, initiator_name: str, isid: bytes, tsih: int) -> bool:
        """Whether that session lives; discovery sessions are not looked for, they cannot be joined."""
        identity = NexusId(initiator_name, isid, config.name, config.portal_group)
        return bool(config.name) and self.node(config).holds(identity, tsih)

    def new_tsih(self) -> int:
        """The next TSIH that no live session has."""
        taken = {agreed.tsih for agreed in self.sessions}
        with self._lock:
            return next(tsih for number in self._tsih if (tsih := number % _MAX_TSIH + 1) not in taken)

    def ended(self, connection: Connection) -> None:
        """A connection's thread is about to leave."""
        with self._lock:
            self._connections.pop(connection, None)

    def _accept(self, listener: socket.socket, wake: socket.socket) -> None:
        waiter = select.poll()
        waiter.register(listener, select.POLLIN)
        waiter.register(wake, select.POLLIN)
        while all(fd != wake.fileno() for fd, _ in waiter.poll()):
            try:
                sock, _ = listener.accept()
            except OSError:
                continue  # the peer was gone again, or we are out of descriptors
            self.counts.count("accepts")
            self._begin(sock)

    def _connection(self, sock: socket.socket) -> Connection:
        if self.faults is None:
            return Connection(sock, self, self._limits)
        from swd.target.faults.connection import PlannedConnection  # what costs nothing where nobody plans

        return PlannedConnection(sock, self, self._limits, self.faults)

    def _choose_congestion(self, listener: socket.socket) -> None:
        """Accepted sockets inherit it."""
        if self._congestion is None:
            return
        try:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self._congestion.encode())
        except (OSError, AttributeError) as error:  # macOS has no such option
            messages.say(_log, "SWD_LOG_CONGESTION", name=self._congestion, why=error)

    def _begin(self, sock: socket.socket) -> None:
        with self._lock:
            full = len(self._connections) >= self._max_connections
        try:
            sock.setblocking(True)  # macOS hands the listener's mode down
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = None if full else self._connection(sock)
        except OSError:
            connection = None
        if connection is None:
            sock.close()
            return
        thread = threading.Thread(target=connection.run, name="swd-target-connection", daemon=True)
        with self._lock:
            self._connections[connection] = thread
        thread.start()


def listening_portal(text: str) -> Portal:
    """A portal to listen on; unlike one to connect to, its port may be 0. Raises InvalidArgument."""
    host, colon, port = text.rpartition(":")
    if colon and port == "0" and (":" not in host or host.endswith("]")):
        return Portal(parse_portal(host).host, 0)
    return parse_portal(text)


def _resolve(portal: Portal, *, public: bool) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(portal.host, portal.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise NoSuchDevice(f"cannot listen on {portal}: {error.strerror}; choose another portal") from error
    family, _, _, _, address = found[0]
    if not public and not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise InvalidArgument(
            f"{portal} is not a loopback address: --public (`public=True`) lets others reach this target"
        )
    return family, address
