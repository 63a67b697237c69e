# SPDX-License-Identifier: Apache-2.0
"""What this host's network can reach by now, and when that changes: routes and addresses as the kernel tells them.

Linux's netlink, through pyroute2 (the extra `net`). Nothing is sent to anybody and no name is looked up: a portal with
an address is reached when there is a route to it over a link that is up, with a source address that may be used; one
with a name as soon as any link but the loopback has such an address.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from swd.errors import SwdError, Unsupported
from swd.values import Portal

_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400  # RTMGRP_*
_GROUPS: Final = _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE
_UP, _LOOPBACK, _CARRIER = 0x1, 0x8, 0x10000  # IFF_UP, IFF_LOOPBACK, IFF_LOWER_UP
_UNUSABLE = 0x40 | 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED
_ROUTED: Final = (1, 2)  # RTN_UNICAST, RTN_LOCAL; the others (unreachable, blackhole, prohibit) lead nowhere
_READ = 65536


@dataclass(frozen=True)
class View:
    """The network at one moment. `addresses` are the usable ones beyond the loopback; `routes` those to portals."""

    addresses: frozenset[tuple[str, str]]  # link, address
    routes: frozenset[tuple[str, str]]  # portal, link
    reached: tuple[str, ...]
    missing: tuple[str, ...]


class Network:
    """The network of the namespace that this process is in. A context manager; one thread uses it.

    Raises `Unsupported` without pyroute2 or netlink.
    """

    def __init__(self) -> None:
        if not hasattr(socket, "AF_NETLINK"):
            raise Unsupported("following the network needs Linux: run `startup --pass 2` when the network is up")
        try:
            from pyroute2 import IPRoute
        except ImportError as error:
            raise Unsupported(
                "following the network needs pyroute2: pip install 'iscsi-swd[net]';\n"
                "without it, let `startup --pass 2` run after network-online.target"
            ) from error
        self._stack = contextlib.ExitStack()
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._news = self._stack.enter_context(socket.socket(socket.AF_NETLINK, kind, 0))  # 0: NETLINK_ROUTE
            self._news.bind((0, _GROUPS))
            self._tables: Any = self._stack.enter_context(contextlib.closing(IPRoute()))
        except OSError as error:
            self._stack.close()
            raise SwdError(f"the kernel says nothing of the network: {error.strerror}", errno=error.errno) from error

    def __enter__(self) -> Network:  # noqa: PYI034  # typing.Self is of 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def wait(self, timeout: float) -> bool:
        """Whether something changed within `timeout` seconds; says so once."""
        poll = select.poll()
        poll.register(self._news, select.POLLIN)
        if not poll.poll(max(0.0, timeout) * 1000):
            return False
        self._drain()
        return True

    def _drain(self) -> None:
        while True:
            try:
                self._news.recv(_READ)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more happened than was kept for us: we look at all of it anyway
                    raise

    def look(self, portals: Iterable[Portal]) -> View:
        """The network as it is now, and which of `portals` can be reached."""
        links = {link["index"]: _Link.of(link) for link in self._tables.get_links()}
        found = [_Address.of(one, links) for one in self._tables.get_addr()]
        usable = [one for one in found if one.usable and one.link.up]
        routes: dict[str, str] = {}
        missing: list[str] = []
        for portal in dict.fromkeys(portals):
            way = self._way(portal.host, links, usable)
            if way is None:
                missing.append(str(portal))
            else:
                routes[str(portal)] = way
        seen = frozenset((one.link.name, one.text) for one in usable if one.everywhere and not one.link.loopback)
        return View(seen, frozenset(routes.items()), tuple(routes), tuple(missing))

    def _way(self, host: str, links: dict[int, _Link], usable: list[_Address]) -> str | None:
        """The link by which `host` is reached."""
        address, _, scope = host.partition("%")
        try:
            version = ipaddress.ip_address(address).version
        except ValueError:  # a name: the resolver, and what it says, come after the attempt
            return next((one.link.name for one in usable if not one.link.loopback and one.everywhere), None)
        if scope:
            return next((one.link.name for one in usable if one.link.name == scope), None)
        return self._route(address, socket.AF_INET6 if version == 6 else socket.AF_INET, links, usable)

    def _route(self, address: str, family: int, links: dict[int, _Link], usable: list[_Address]) -> str | None:
        from pyroute2 import NetlinkError

        try:
            route = next(iter(self._tables.route("get", family=family, dst=address)))
        except NetlinkError:  # no route
            return None
        link, source = links.get(route.get_attr("RTA_OIF")), route.get_attr("RTA_PREFSRC")
        if link is None or not link.up or route["type"] not in _ROUTED:
            return None
        return link.name if source is None or any(one.text == source for one in usable) else None


@dataclass(frozen=True)
class _Link:
    name: str
    up: bool  # switched on, and with a carrier
    loopback: bool

    @classmethod
    def of(cls, message: Any) -> _Link:
        flags = message["flags"]
        return cls(message.get_attr("IFLA_IFNAME"), flags & (_UP | _CARRIER) == _UP | _CARRIER, bool(flags & _LOOPBACK))


@dataclass(frozen=True)
class _Address:
    link: _Link
    text: str
    usable: bool
    everywhere: bool  # of global scope

    @classmethod
    def of(cls, message: Any, links: dict[int, _Link]) -> _Address:
        link = links.get(message["index"], _Link("", False, False))
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS") or ""
        return cls(link, text, not flags & _UNUSABLE, message["scope"] == 0)
