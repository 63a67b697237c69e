# SPDX-License-Identifier: Apache-2.0
"""`discover`: the targets behind a portal."""

from __future__ import annotations

from dataclasses import dataclass

import swd
from swd.cli.call import Call
from swd.proto.portal import parse_portal


@dataclass(frozen=True, slots=True)
class Found:
    """A row: a target by one portal. A target that names no portal is reached by the one that was asked."""

    target: str
    portal: str
    portal_group: int | None


def discover(call: Call, *, portal: str) -> list[Found]:
    """A row for each way to each target, in the portal's own order."""
    asked = parse_portal(portal)
    return [
        Found(target.name, str(way), way.tpgt)
        for target in swd.discover(portal, **call.options)
        for way in target.portals or [asked]
    ]
