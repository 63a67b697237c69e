# SPDX-License-Identifier: Apache-2.0
"""`isw:`: the driver itself, after HP-UX's /dev/isw. It has no blocks; only ioctl means anything to it.

There is no daemon: what it logs in to is held by the descriptor, shared with the disks of the same Driver, and given
back by SWD_LOGOUT or by the close of the descriptor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

from swd.driver import statistics
from swd.driver.ioctl import Request
from swd.driver.row import Unit, Wanted
from swd.driver.rows import iscsi
from swd.driver.sessions import Lease
from swd.errors import InvalidArgument, Unsupported
from swd.proto import options
from swd.proto.url import IscsiDev, IswDev, parse_dev


class Held:
    """What a descriptor keeps: how it was opened, and its logins. `lock` guards `leases`; nobody logs in under it."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.lock = threading.Lock()
        self.leases: dict[str, list[Lease]] = {}


def attach(dev: IswDev, wanted: Wanted) -> Unit:
    from swd.driver.devsw import find

    options.read(wanted.options)
    return Unit(find(dev), str(dev), wanted.writable, kept=Held(wanted))


def detach(unit: Unit) -> None:
    """Gives back the sessions that SWD_LOGIN held."""
    held: Held = unit.kept
    with held.lock:
        leases = [lease for several in held.leases.values() for lease in several]
        held.leases.clear()
    for lease in leases:
        held.wanted.sessions.release(lease)


def open_(unit: Unit, flags: int) -> None:
    """Any mode will do."""


def close(unit: Unit) -> None:
    """Nothing is kept for a descriptor but what `detach` lets go."""


def ioctl(unit: Unit, request: Request, arg: Any) -> object:
    """The entry points answer what is the same for every driver."""
    if request not in _ANSWERS:
        raise Unsupported(f"isw: has no blocks, so it has no {request.name}: open a disk")
    return _ANSWERS[request](unit.kept, dict(arg or {}))


def _statistics(held: Held, _arg: dict[str, Any]) -> dict[str, object]:
    """What this Driver holds, and the rows of the process."""
    ours = {"descriptors": held.wanted.descriptors(), "sessions": len(held.wanted.sessions)}
    return {**ours, **statistics.report(statistics.snapshot())}


def _clear(_held: Held, _arg: dict[str, Any]) -> None:
    """Counts from here on, in all sessions."""
    statistics.clear()


def _get(held: Held, _arg: dict[str, Any]) -> dict[str, object]:
    wanted = held.wanted
    return {"options": asdict(options.read(wanted.parameters, wanted.config().options))}


def _set(held: Held, arg: dict[str, Any]) -> dict[str, object]:
    """All keys are checked before one is taken."""
    options.read(arg, source="SWD_PARAMS_SET")
    held.wanted.parameters.update(arg)
    return dict(held.wanted.parameters)


def _login(held: Held, arg: dict[str, Any]) -> dict[str, object]:
    dev = _device(arg)
    held.wanted.gate(dev)
    lease = iscsi.hold(dev, held.wanted)
    with held.lock:
        held.leases.setdefault(str(dev), []).append(lease)
    return asdict(lease.session.parameters)


def _logout(held: Held, arg: dict[str, Any]) -> dict[str, object]:
    name = str(_device(arg))
    with held.lock:
        several = held.leases.get(name)
        if not several:
            raise InvalidArgument(f"{name} was not logged in to through this descriptor: SWD_LOGIN comes first")
        lease = several.pop()
    held.wanted.sessions.release(lease)
    return {"logged_out": not lease.session.alive}


def _reset(held: Held, arg: dict[str, Any]) -> dict[str, object]:
    """Through the session with that target and portal that this Driver has, whoever opened it."""
    level = arg.pop("level", "lun")
    dev = _device(arg)
    session = iscsi.session_to(dev, held.wanted)
    if session is None:
        raise InvalidArgument(f"{dev}: no session of this Driver leads there: SWD_LOGIN makes one")
    return iscsi.reset(session, dev.lun, level)


def _device(arg: dict[str, Any]) -> IscsiDev:
    if set(arg) != {"device"} or not isinstance(arg["device"], str):
        raise InvalidArgument("a dict with the one key `device` is wanted: an iscsi:// DEV")
    dev = parse_dev(arg["device"])
    if not isinstance(dev, IscsiDev):
        raise InvalidArgument(f"{dev} is not an iscsi:// DEV: there is nothing to log in to")
    return dev


_ANSWERS: Final[dict[Request, Callable[[Held, dict[str, Any]], object]]] = {
    Request.SWD_STATS_GET: _statistics,
    Request.SWD_STATS_CLEAR: _clear,
    Request.SWD_PARAMS_GET: _get,
    Request.SWD_PARAMS_SET: _set,
    Request.SWD_LOGIN: _login,
    Request.SWD_LOGOUT: _logout,
    Request.SWD_RESET: _reset,
}
