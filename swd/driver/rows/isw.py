# SPDX-License-Identifier: Apache-2.0
"""`isw:`: the driver itself, after HP-UX's /dev/isw. It has no blocks; only ioctl means anything to it."""

from __future__ import annotations

from typing import Any

from swd.driver import statistics
from swd.driver.ioctl import Request
from swd.driver.row import Unit, Wanted
from swd.errors import Unsupported
from swd.proto import options
from swd.proto.url import IswDev


def attach(dev: IswDev, wanted: Wanted) -> Unit:
    from swd.driver.devsw import find

    options.read(wanted.options)
    return Unit(find(dev), str(dev), wanted.writable, kept=wanted)


def detach(unit: Unit) -> None:
    """There is nothing to let go."""


def open_(unit: Unit, flags: int) -> None:
    """Any mode will do."""


def close(unit: Unit) -> None:
    """Nothing is kept for a descriptor."""


def ioctl(unit: Unit, request: Request, _arg: Any) -> object:
    """SWD_STATS_GET: what this Driver holds, and the rows of the process; SWD_STATS_CLEAR clears these.

    The entry points answer what is the same for every driver.
    """
    if request is Request.SWD_STATS_GET:
        wanted: Wanted = unit.kept
        held = {"descriptors": wanted.descriptors(), "sessions": len(wanted.sessions)}
        return {**held, **statistics.report(statistics.snapshot())}
    if request is Request.SWD_STATS_CLEAR:
        statistics.clear()
        return None
    raise Unsupported(f"isw: has no blocks, so it has no {request.name}: open a disk")
