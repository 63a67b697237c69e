# SPDX-License-Identifier: Apache-2.0
"""`discover`: the targets behind a portal."""

from __future__ import annotations

from dataclasses import dataclass

import swd
from swd.cli.call import Call


@dataclass(frozen=True, slots=True)
class Found:
    """A row: a target by one portal. A target that names no portal is reached by the one that was asked."""

    target: str
    portal: str
    portal_group: int | None


def discover(call: Call, *, portal: str) -> list[Found]:
    """A row for each way to each target, in the portal's own order."""
    return [
        Found(target.name, str(way) if way else portal, way.tpgt if way else None)
        for target in swd.discover(portal, **call.options)
        for way in target.portals or [None]
    ]
