# SPDX-License-Identifier: Apache-2.0
"""The scopes of the configuration: for which sessions a setting holds, and which of two settings is the narrower.

    top                        above all tables of a file: this host
    startup                    [startup]: what this host asks for when it starts; no session
    all                        [all]: every session
    discovery/PORTAL           [discovery."PORTAL"]: discovery sessions with this portal, and no others
    target/NAME                [target."NAME"]: sessions with this target
    target/NAME/PORTAL         [target."NAME".address."PORTAL"]: sessions with it through this portal

Names and portals are compared in their normalised form: another spelling must not evade a scope that requires
authentication. Nothing is looked up: a host name and its address are two portals.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from swd.errors import InvalidArgument
from swd.proto import names
from swd.proto.portal import parse_portal
from swd.values import Portal

SYNTAX: Final = "all, startup, discovery/HOST:PORT, target/NAME or target/NAME/HOST:PORT"

_WIDEST_FIRST: Final = (
    ("top", False),
    ("startup", False),
    ("all", False),
    ("discovery", True),
    ("target", False),
    ("target", True),
)


@dataclass(frozen=True, slots=True)
class Scope:
    """`kind` is "top", "startup", "all", "discovery" or "target"; `target` and `portal` are normalised by
    `of_target`...
    """

    kind: str
    target: str | None = None
    portal: Portal | None = None

    def __str__(self) -> str:
        """As `--scope` takes it and `config show` prints it."""
        return "/".join(str(part) for part in (self.kind, self.target, self.portal) if part is not None)

    @property
    def rank(self) -> int:
        """The wider the smaller: settings are applied in this order."""
        return _WIDEST_FIRST.index((self.kind, self.portal is not None))

    @property
    def table(self) -> tuple[str, ...]:
        """The path of its table in a file; of the top level, no path."""
        if self.kind == "target" and self.portal is not None:
            return ("target", str(self.target), "address", str(self.portal))
        return {
            "top": (),
            "startup": ("startup",),
            "all": ("all",),
            "discovery": ("discovery", str(self.portal)),
            "target": ("target", str(self.target)),
        }[self.kind]

    def holds_for(self, session: Scope) -> bool:
        """Whether settings of this scope apply to a session of that scope: to itself and to all that lie inside it."""
        if self.kind in ("top", "all"):
            return self.kind == "top" or session.kind not in ("top", "startup")
        return (
            self.kind == session.kind
            and self.target == session.target
            and (self.portal is None or self.portal == session.portal)
        )


TOP: Final = Scope("top")
ALL: Final = Scope("all")
STARTUP: Final = Scope("startup")


def of_discovery(portal: Portal) -> Scope:
    """A discovery session with `portal`."""
    return Scope("discovery", portal=_normal(portal))


def of_target(name: str, portal: Portal | None = None) -> Scope:
    """Sessions with a target, or those through one portal. Raises InvalidArgument for what is no iSCSI name."""
    return Scope("target", names.validate(name), None if portal is None else _normal(portal))


def parse(text: str) -> Scope:
    """What `str(scope)` wrote. Raises InvalidArgument."""
    kind, *rest = text.split("/", 2)
    if kind in ("top", "all", "startup") and not rest:
        return Scope(kind)
    if kind == "discovery" and len(rest) == 1:
        return of_discovery(parse_portal(rest[0]))
    if kind == "target" and rest:
        return of_target(rest[0], parse_portal(rest[1]) if len(rest) == 2 else None)
    raise InvalidArgument(f"{text[:80]!a} is no scope: write {SYNTAX}")


def of_table(path: Sequence[str]) -> Scope:
    """The scope of a table of a file. Raises InvalidArgument for names and portals that are none."""
    kind, *rest = path or ("top",)
    if kind == "discovery":
        return of_discovery(parse_portal(rest[0]))
    if kind == "target":
        return of_target(rest[0], parse_portal(rest[2]) if len(rest) == 3 else None)
    return Scope(kind)


def _normal(portal: Portal) -> Portal:
    """Host names in lower case without the root's dot, IPv6 addresses in their shortest form."""
    host, percent, scope = portal.host.partition("%")
    if ":" in host:
        return Portal(ipaddress.IPv6Address(host).compressed + percent + scope, portal.port)
    return Portal(host.lower().rstrip("."), portal.port)
