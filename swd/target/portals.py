# SPDX-License-Identifier: Apache-2.0
"""Where a server listens: portals, the portal groups that they belong to, and the sockets behind them.

A portal is written HOST:PORT or HOST:PORT,GROUP. One without a group belongs to each target's own group.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

from swd.errors import InvalidArgument, NoSuchDevice
from swd.proto.portal import parse_portal
from swd.values import Portal

_BACKLOG = 128


class Wanted(NamedTuple):
    """A portal as it was asked for; port 0 takes a free one."""

    portal: Portal
    group: int | None


class Door(NamedTuple):
    """A portal that is listened on. `wildcard`: it is every address of the host, so it has none of its own."""

    sock: socket.socket
    portal: Portal
    group: int | None
    wildcard: bool

    def reached(self, local: Portal) -> Portal:
        """The address to give to a peer that is connected to `local`, by whichever door it came."""
        return Portal(local.host, self.portal.port) if self.wildcard else self.portal


def read(portals: str | Portal | Sequence[str | Portal]) -> list[Wanted]:
    """Portals to listen on. Raises InvalidArgument."""
    given = [portals] if isinstance(portals, (str, Portal)) else list(portals)
    if not given:
        raise InvalidArgument("a server needs a portal to listen on, such as 127.0.0.1:0")
    return [Wanted(one, None) if isinstance(one, Portal) else _wanted(one) for one in given]


def _wanted(text: str) -> Wanted:
    address, comma, group = text.partition(",")
    if comma and not (group.isascii() and group.isdigit() and 0 < int(group) < 65536):
        raise InvalidArgument(f"{text[:60]!a} has no portal group: it is a number from 1 to 65535 behind the comma")
    return Wanted(listening_portal(address), int(group) if comma else None)


def listening_portal(text: str) -> Portal:
    """A portal to listen on; unlike one to connect to, its port may be 0. Raises InvalidArgument."""
    host, colon, port = text.rpartition(":")
    if colon and port == "0" and (":" not in host or host.endswith("]")):
        return Portal(parse_portal(host).host, 0)
    return parse_portal(text)


def open_all(wanted: Sequence[Wanted], *, public: bool, prepare: Callable[[socket.socket], None]) -> list[Door]:
    """Bind all or none. `prepare` gets each socket before it is bound. Raises InvalidArgument and NoSuchDevice."""
    doors: list[Door] = []
    try:
        doors.extend(_open(one, public=public, prepare=prepare) for one in wanted)
    except BaseException:
        for door in doors:
            door.sock.close()
        raise
    return doors


def _open(wanted: Wanted, *, public: bool, prepare: Callable[[socket.socket], None]) -> Door:
    family, address = _resolve(wanted.portal, public=public)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        prepare(listener)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise NoSuchDevice(f"cannot listen on {wanted.portal}: {error.strerror}; choose another portal") from error
    bound = Portal(*listener.getsockname()[:2])
    return Door(listener, bound, wanted.group, _ip(bound.host).is_unspecified)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host.partition("%")[0])


def _resolve(portal: Portal, *, public: bool) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(portal.host, portal.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise NoSuchDevice(f"cannot listen on {portal}: {error.strerror}; choose another portal") from error
    family, _, _, _, address = found[0]
    if not public and not _ip(str(address[0])).is_loopback:
        raise InvalidArgument(
            f"{portal} is not a loopback address: --public (`public=True`) lets others reach this target"
        )
    return family, address
