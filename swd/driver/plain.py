# SPDX-License-Identifier: Apache-2.0
"""The plain Python face: `swd.open`, `swd.connect`, `swd.discover`. Each passes the phase gate before anything else.

They read the phase file, then the configuration, then the secrets, and only then is there a socket.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from swd.driver import config, devsw, phase
from swd.driver.errnos import During, translated
from swd.driver.row import Wanted
from swd.driver.sessions import SessionPool
from swd.errors import InvalidArgument
from swd.proto import options as option_rules
from swd.proto.url import parse_dev, parse_portal
from swd.values import Chap, Portal, Target

if TYPE_CHECKING:
    from swd.disk import Disk
    from swd.driver.session import Session

_MODES: Final = {"rb": os.O_RDONLY, "r+b": os.O_RDWR}


def open(dev: str, mode: str = "rb", **options: object) -> Disk:
    """The disk that a DEV names, for reading ("rb") or for both ("r+b"); a context manager. `options`: the keys of a
    DEV's query.

    Raises `NetworkNotInitialized` before the network's first attempt, `NoSuchDevice` for what is not there or cannot be
    reached, `SwdError` with EROFS for writing to a read-only disk, `Unsupported` for a DEV without blocks (`isw:`).
    """
    if not isinstance(dev, str):
        raise TypeError(f"a DEV is a str, not {type(dev).__name__}")
    parsed = parse_dev(dev)
    phase.gate(parsed)
    if mode not in _MODES:
        raise InvalidArgument(f"mode {mode!r} is neither 'rb' nor 'r+b'")
    row, wanted = devsw.find(parsed), Wanted(mode == "r+b", False, options, config.load, SessionPool())
    with translated(During.OPEN, str(parsed)):
        unit = row.attach(parsed, wanted)
        try:
            row.open(unit, _MODES[mode])
            return unit.disk
        except BaseException:
            row.detach(unit)
            raise


def connect(portal: str, target: str, *, chap: Chap | None = None, **options: object) -> Session:
    """A session with a target at `portal` ("host[:port]", "[v6%scope]:port"; port 3260 if left out); a context manager.

    Raises `NetworkNotInitialized`; `NoSuchDevice` if the portal cannot be reached or has no such target;
    `LoginRefused`, `AuthenticationFailed`, `ProtocolViolation` from the login.
    """
    phase.gate("connect")
    where = _portal(portal)
    if not isinstance(target, str):
        raise TypeError(f"a target name is a str, not {type(target).__name__}")
    effective = option_rules.read(options, config.load().for_target(target, where))
    if effective.sessions > 1:
        raise InvalidArgument("sessions= spreads a disk, and swd.connect makes one session: use swd.open")
    from swd.driver import initiator, secrets
    from swd.driver.session import Session

    credentials = secrets.resolve(effective, chap=chap, peer=target)
    with translated(During.LOGIN, f"{target} at {where}"):
        return Session(where, target, chap=credentials, options=effective, initiator_name=initiator.name(effective))


def discover(portal: str, *, chap: Chap | None = None, **options: object) -> list[Target]:
    """The targets that a portal tells of (SendTargets), with the portals that lead to each. Errors: as `connect`."""
    phase.gate("discover")
    where = _portal(portal)
    effective = option_rules.read(options, config.load().for_discovery(where))
    from swd.driver import initiator, secrets
    from swd.iscsi import discovery

    credentials = secrets.resolve(effective, chap=chap, peer=str(where))
    with translated(During.LOGIN, f"discovery at {where}"):
        return discovery.discover(where, chap=credentials, options=effective, initiator_name=initiator.name(effective))


def _portal(text: str) -> Portal:
    if not isinstance(text, str):
        raise TypeError(f"a portal is a str, not {type(text).__name__}")
    return parse_portal(text)
