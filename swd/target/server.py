# SPDX-License-Identifier: Apache-2.0
"""The embedded target as a server: a listening socket, one thread a connection, and what all of them share.

    with TargetServer([TargetConfig("iqn.2026-01.org.example:disk", {0: Lun(RamMedium(64 << 20))})]) as server:
        print(server.portal, server.statistics["logins"], server.sessions)

For demos and tests, yours and ours; not for serving data in production. It binds loopback unless it is told otherwise.
"""

from __future__ import annotations

import errno
import itertools
import logging
import mmap
import os
import select
import socket
import threading
from collections.abc import Sequence
from types import TracebackType

from swd import messages
from swd.errors import InvalidArgument
from swd.proto import chap as chap_rules
from swd.proto import names
from swd.sockets import bound_send_queue
from swd.target import portals
from swd.target.announce import Announcer
from swd.target.attended import AttendedConnection
from swd.target.config import Limits, TargetConfig
from swd.target.connection import Connection
from swd.target.faults.injector import Injector
from swd.target.faults.plan import Plan
from swd.target.node import TargetNode
from swd.target.portals import Door
from swd.target.scsi.nexus import NexusId
from swd.target.statistics import Snapshot, Statistics
from swd.target.store import ReservationFile
from swd.values import Chap, Negotiated, Portal

_log = logging.getLogger("swd.target")
_MAX_SPIN = 1000
_MAX_TSIH = 65535
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # what accept(2) may lack
_ROOM = 16 << 20  # bytes of address space: a stack, and what Python needs to begin on it
_BREATH = 100  # milliseconds until the next try to accept where something lacks: the peer waits in the backlog


class TargetServer:
    """Serve targets from `start` (or `with`) until `stop`. Media stay open: they are the caller's.

    portal: address to listen on, "host:port" or "[v6]:port", or several; port 0 picks a free one, see `portal` and
    `portals` afterwards. "host:port,2" is a portal of group 2, whatever the targets' own. state_file: where persistent
    reservations are kept that are to outlive the server (APTPL).
    discovery_chap: what SendTargets sessions must prove; None: nothing. public: allow an address that is not loopback.
    `announce` sends asynchronous messages to sessions of targets that are `attended`.
    faults: what shall go wrong (`swd.target.faults`); an empty Plan is for one that `set_plan` gives later.
    compiled: let plain reads and writes of memory run without the GIL. spin_us: microseconds, at most 1000, for which
    such a session looks for the next command before it sleeps, if that comes in on another CPU. congestion: TCP
    congestion control of accepted connections; one that the kernel refuses is a warning.
    Raises InvalidArgument for a bad configuration, NoSuchDevice if the address cannot be bound.
    """

    def __init__(
        self,
        targets: Sequence[TargetConfig],
        portal: str | Portal | Sequence[str | Portal] = "127.0.0.1:0",
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
        state_file: str | os.PathLike[str] | None = None,
    ) -> None:
        if not 0 <= spin_us <= _MAX_SPIN:
            raise InvalidArgument(f"to spin for {spin_us} microseconds is not possible: from 0 to {_MAX_SPIN}")
        self.compiled = compiled
        self.spin_us = spin_us
        self._congestion = congestion
        self.login_timeout = login_timeout
        self.counts = Statistics()
        self._discovery = TargetConfig("", chap=discovery_chap, limits=discovery_limits or Limits())
        self._wanted = portals.read(portal)
        self._nodes = {names.validate(config.name): TargetNode(config, self._groups(config)) for config in targets}
        if len(self._nodes) != len(targets):
            raise InvalidArgument("two targets have the same name: give each its own")
        for config in (*targets, self._discovery):
            if config.chap is not None:
                chap_rules.check(config.chap)
        self._doors: list[Door] = []
        self._bound = [wanted.portal for wanted in self._wanted]
        self._state_file = None if state_file is None else ReservationFile(state_file)
        self._public = public
        self.faults = None if faults is None else Injector(faults)
        self._attended = any(config.attended for config in targets)
        self.announce = Announcer(self._live, attended=self._attended)
        self._max_connections = max_connections
        # Every connection must take what any target of ours declares: its target is not known before login.
        self._limits = max(
            (config.limits for config in (*targets, self._discovery)), key=lambda one: one.max_recv_data_segment_length
        )
        self._tsih = itertools.count()
        self._lock = threading.Lock()  # guards _connections and _tsih; nothing that waits is called under it
        self._connections: dict[Connection, threading.Thread] = {}
        self._acceptor: threading.Thread | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None

    def start(self) -> None:
        """Take up kept reservations, bind, and begin to accept. Raises InvalidArgument and NoSuchDevice."""
        if self._state_file is not None:
            for node in self._nodes.values():
                node.scsi.restore(self._state_file)
        self._doors = portals.open_all(self._wanted, public=self._public, prepare=self._choose_congestion)
        self._bound = [door.portal for door in self._doors]
        self._wake = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, args=(self._wake[0],), name="swd-target-accept")
        self._acceptor.start()

    def stop(self) -> None:
        """Stop accepting, end every connection, and join all threads. Idempotent."""
        if self._acceptor is None or self._wake is None:
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
        for sock in (*(door.sock for door in self._doors), *self._wake):
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
        """Where it listens, with the real port; the first of `portals`."""
        return self._bound[0]

    @property
    def portals(self) -> list[Portal]:
        """All that it listens on, in the order in which they were given."""
        return list(self._bound)

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

    def addresses(self, target_name: str | None, initiator_name: str, local: Portal) -> list[tuple[str, list[str]]]:
        """What SendTargets says to an initiator that is connected to `local`: the targets that it may use, or one, with
        the portals that lead to each."""
        configs = self.targets() if target_name is None else [config] if (config := self.find(target_name)) else []
        return [
            (config.name, [f"{door.reached(local)},{config.group(door.group)}" for door in self._leading_to(config)])
            for config in configs
            if config.admits(initiator_name)
        ]

    def leading_to(self, config: TargetConfig) -> list[Portal]:
        """The portals by which a target can be reached."""
        return [door.portal for door in self._leading_to(config)]

    def _leading_to(self, config: TargetConfig) -> list[Door]:
        return [door for door in self._doors if config.reached_by(door.group)]

    def session_exists(self, identity: NexusId, tsih: int) -> bool:
        """Whether that session lives; discovery sessions are not looked for, they cannot be joined."""
        return bool(identity.target_name) and self._nodes[names.validate(identity.target_name)].holds(identity, tsih)

    def new_tsih(self) -> int:
        """The next TSIH that no live session has."""
        taken = {agreed.tsih for agreed in self.sessions}
        with self._lock:
            return next(tsih for number in self._tsih if (tsih := number % _MAX_TSIH + 1) not in taken)

    def ended(self, connection: Connection) -> None:
        """A connection's thread is about to leave."""
        with self._lock:
            self._connections.pop(connection, None)

    def _accept(self, wake: socket.socket) -> None:
        waiter, rest = select.poll(), select.poll()
        doors = {door.sock.fileno(): door for door in self._doors}
        for fd in (*doors, wake.fileno()):
            waiter.register(fd, select.POLLIN)
        rest.register(wake.fileno(), select.POLLIN)
        short = False
        while True:
            ready = [fd for fd, _ in waiter.poll()]
            if wake.fileno() in ready:
                return
            for door in (doors[fd] for fd in ready):
                try:
                    sock, _ = door.sock.accept()
                except OSError as error:
                    if error.errno in _SHORT_OF:  # else the peer was gone again
                        if not short:
                            messages.say(_log, "SWD_LOG_TARGET_SHORT", portal=door.portal, why=error.strerror)
                        short = True
                        rest.poll(_BREATH)
                    continue
                short = False
                self.counts.count("accepts")
                self._begin(sock, door)

    def _live(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def _groups(self, config: TargetConfig) -> tuple[int, ...]:
        """The portal groups of a target, without repetition."""
        found = (config.group(one.group) for one in self._wanted if config.reached_by(one.group))
        return tuple(dict.fromkeys(found))

    def _connection(self, sock: socket.socket) -> Connection:
        if self.faults is None:
            kind = AttendedConnection if self._attended else Connection
            return kind(sock, self, self._limits)
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

    def _begin(self, sock: socket.socket, door: Door) -> None:
        with self._lock:
            full = len(self._connections) >= self._max_connections
        try:
            sock.setblocking(True)  # macOS hands the listener's mode down
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            bound_send_queue(sock)
            connection = None if full else self._connection(sock)
            if connection is not None:
                connection.come_by(door.group)
        except (OSError, MemoryError):
            connection = None
        if connection is None:
            sock.close()
            return
        thread = threading.Thread(target=connection.run, name="swd-target-connection", daemon=True)
        with self._lock:
            self._connections[connection] = thread
        try:
            # `start` waits for ever for a thread that dies of want of memory before it can say that it lives.
            mmap.mmap(-1, _ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
            thread.start()
        except (RuntimeError, MemoryError, OSError):  # no room for another thread
            connection.leave()
