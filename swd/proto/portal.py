# SPDX-License-Identifier: Apache-2.0
"""Portals: `host[:port]`, `[v6%scope]:port`, and the TargetAddress form of targets with its portal group tag.

Decides what may be handed to a resolver; looks nothing up.
"""

from __future__ import annotations

import ipaddress
import re

from swd.errors import InvalidArgument
from swd.values import DEFAULT_PORT, Portal

_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?", re.DOTALL)
_SCOPE = re.compile(r"(?!25)[A-Za-z0-9._~-]{1,32}")


def parse_portal(text: str) -> Portal:
    """The portal in `host`, `host:port`, `[v6]`, `[v6%scope]:port` or a bare IPv6 address. Raises InvalidArgument."""
    if "@" in text:  # what stands before it may be a password: repeat nothing
        raise InvalidArgument("a portal is host[:port] or [IPv6%scope]:port; user and secret do not belong into it")
    host, port = _parted(text)
    fault = "the port is a number 1..65535" if port is None else _host_fault(host)
    if fault is not None or port is None:
        raise InvalidArgument(f"{text[:80]!a} is no portal: {fault}; write host[:port] or [IPv6%scope]:port")
    return Portal(host, port)


def parse_target_address(text: str) -> Portal:
    """A TargetAddress (RFC 7143 13.8): a portal, then perhaps `,` and the portal group tag. Raises InvalidArgument."""
    address, comma, tag = text.partition(",")
    portal = parse_portal(address)
    if not comma:
        return portal
    if not re.fullmatch("[0-9]{1,5}", tag) or int(tag) > 65535:
        raise InvalidArgument(f"{text[:80]!a} is no TargetAddress: the portal group tag is a number 0..65535")
    return Portal(portal.host, portal.port, int(tag))


def _parted(text: str) -> tuple[str, int | None]:
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed:
        host = _scoped(bracketed[1])
        return (host if ":" in host else ""), _port(bracketed[2])
    if text.count(":") > 1:
        return _scoped(text), DEFAULT_PORT
    host, colon, port = text.partition(":")
    return host, _port(port if colon else None)


def _scoped(host: str) -> str:
    """`%25` is how a URL writes the '%' before the scope (RFC 6874): no scope may have a name that begins so."""
    return host.replace("%25", "%", 1)


def _port(text: str | None) -> int | None:
    if text is None:
        return DEFAULT_PORT
    if not re.fullmatch("[0-9]{1,5}", text):
        return None
    return int(text) if 1 <= int(text) <= 65535 else None


def _host_fault(host: str) -> str | None:
    if ":" in host:
        address, percent, scope = host.partition("%")
        sound = _is(ipaddress.IPv6Address, address) and (not percent or _SCOPE.fullmatch(scope))
        return None if sound else "that is no IPv6 address"
    if not _HOST.fullmatch(host):
        return "the host is a name (ASCII), an IPv4 address, or an IPv6 address in brackets"
    if re.fullmatch(r"[0-9.]+", host) and not _is(ipaddress.IPv4Address, host):
        return "that is no IPv4 address"
    return None


def _is(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True
