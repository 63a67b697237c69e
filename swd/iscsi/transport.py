# SPDX-License-Identifier: Apache-2.0
"""TCP: connecting within a deadline, socket options, and exact reads for the login phase.

What goes wrong before login is complete is one thing to the caller, a device that is not there: NoSuchDevice (ENXIO)
with the socket's own error as its cause.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Iterator

from swd import messages
from swd.errors import NoSuchDevice, SwdError
from swd.iscsi.tally import PROCESS, Tally
from swd.iscsi.trace import Tap, tap_for
from swd.proto.options import DEFAULTS, Options
from swd.sockets import bound_send_queue
from swd.values import Portal

_log = logging.getLogger(__name__)

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # this host's limits, no target's

# An idle link is probed after 30 s and given up 30 s later; a silent one in mid-transfer by the command's deadline.
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Deadline:
    """A point on the monotonic clock, made once and carried through the steps of one operation."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left; never less than 0."""
        return max(0.0, self._at - time.monotonic())


class Stream:
    """A connected socket that gives exactly what is asked for, or raises NoSuchDevice at the deadline."""

    def __init__(self, sock: socket.socket, portal: Portal, deadline: Deadline) -> None:
        self._sock = sock
        self.portal = portal
        self._deadline = deadline
        self.tap: Tap | None = tap_for(sock)

    def send(self, data: bytes) -> None:
        with self._said("sending to"):
            self._sock.settimeout(self._left())
            self._sock.sendall(data)
        if self.tap is not None:
            self.tap.login(True, data)

    def read(self, length: int) -> bytes:
        data = bytearray()
        with self._said("waiting for"):
            while len(data) < length:
                self._sock.settimeout(self._left())
                piece = self._sock.recv(length - len(data))
                if not piece:
                    raise ConnectionResetError("it closed the connection")
                data += piece
                if self.tap is not None:
                    self.tap.login(False, piece)
        return bytes(data)

    def release(self) -> int:
        """The descriptor, blocking again, with no owner any more: the pump takes it over."""
        self._sock.setblocking(True)
        return self._sock.detach()

    def close(self) -> None:
        """After `release` this does nothing."""
        if self._sock.fileno() >= 0:
            self._sock.close()
            if self.tap is not None:
                self.tap.end()

    def _left(self) -> float:
        if not self._deadline.left:
            raise TimeoutError
        return self._deadline.left

    @contextlib.contextmanager
    def _said(self, doing: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise NoSuchDevice(
                f"{self.portal} was silent for {self._deadline.seconds:g} s before login was complete; "
                "is that an iSCSI target? (login_timeout= allows more time)"
            ) from error
        except OSError as error:
            raise NoSuchDevice(f"{self.portal}: lost while {doing} it during login: {words(error)}") from error


def connect(portal: Portal, deadline: Deadline, *, options: Options = DEFAULTS, tally: Tally = PROCESS) -> Stream:
    """Tries each address of the portal's host in the resolver's order; the last failure is the cause of
    NoSuchDevice.
    """
    try:
        addresses = socket.getaddrinfo(portal.host, portal.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        _unless_exhausted(portal, error)
        raise NoSuchDevice(f"the host name {portal.host!r} does not resolve: {words(error)}") from error
    failure: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        # Addresses that are still to be tried get their share of the time.
        patience = deadline.left / (len(addresses) - number)
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # this host does not speak the family, or has no descriptor to give
            failure = error
            continue
        tally.add("conn_open")
        try:
            _prepare(sock, options)
            sock.settimeout(max(patience, 0.001))
            sock.connect(address)
        except OSError as error:
            failure = error
            tally.add("connect_timeout" if isinstance(error, TimeoutError) else "connect_fail")
            sock.close()
        except BaseException:
            sock.close()
            raise
        else:
            if not options.sndbuf:
                bound_send_queue(sock)
            return Stream(sock, portal, deadline)
    _unless_exhausted(portal, failure)
    raise NoSuchDevice(f"{portal} cannot be reached: {words(failure)}; is the target running there?") from failure


def _unless_exhausted(portal: Portal, failure: Exception | None) -> None:
    """Raises SwdError with the failure's own errno where this host or process is at a limit: it says nothing about the
    portal.
    """
    if isinstance(failure, OSError) and failure.errno in EXHAUSTED:
        raise SwdError(
            f"no connection to {portal} can be made: {words(failure)}; close what is not needed, or raise the limit "
            "(ulimit -n)",
            errno=failure.errno,
        ) from failure


def _prepare(sock: socket.socket, options: Options) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    if hasattr(socket, "SO_NOSIGPIPE"):  # macOS has no MSG_NOSIGNAL
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_NOSIGPIPE, 1)
    # Buffers before the connection, for the window scale is settled by the SYN (RFC 7323 2.2).
    if options.rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.rcvbuf)
    if options.sndbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.sndbuf)
    if options.notsent_lowat and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, options.notsent_lowat)
    if options.congestion is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, options.congestion.encode())
        except (AttributeError, OSError) as error:
            messages.say(_log, "SWD_LOG_CONGESTION", name=options.congestion, why=error)


def words(error: BaseException | None) -> str:
    """An operating system's error in lower-case words, without its number."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        text = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
        return text[:1].lower() + text[1:]
    return str(error)
