# SPDX-License-Identifier: Apache-2.0
"""Administration of targets: prove a login and want it, want it no more, forget it. No session outlives a call."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from swd.driver import holders, known, phase, plain, registry, scan
from swd.errors import DeviceBusy, InvalidArgument, NetworkNotInitialized, NoSuchDevice, SwdError
from swd.proto import names
from swd.proto.dev import HardwarePath, IscsiDev, Wwid
from swd.proto.url import parse_dev
from swd.values import LogicalUnit, Portal


@dataclass(frozen=True)
class Proof:
    """A login that worked: what was negotiated, and the units that were seen, identities included.

    `remembered`: that the target is wanted stands in the registry, and does not end with this process.
    """

    target: str
    portal: str
    auth: str
    header_digest: bool
    data_digest: bool
    units: tuple[LogicalUnit, ...]
    remembered: bool = True


@dataclass(frozen=True)
class Place:
    """A way to a target, or to one of its units (`lun`); `settings` are those of the DEV that named it."""

    target: str
    portal: Portal
    lun: int | None = None
    settings: tuple[tuple[str, str], ...] = ()


def prove(name: str, options: Mapping[str, Any]) -> Proof:
    """Log in to a target by its DEV, or by its name if the registry knows it; want it; log out.

    Of several ways the first that works will do. Raises what the login raises; NoSuchDevice for a name that is not
    known, or a DEV whose unit is not there.
    """
    phase.gate("login")
    memory = registry.host()
    failures: list[SwdError] = []
    for place in places(name, memory):
        try:
            proof = prove_at(place, options)
        except NetworkNotInitialized:
            raise
        except SwdError as error:
            memory.note_error(place.target, error)
            failures.append(error)
        else:
            memory.note_error(place.target, None)
            memory.want(place.target)
            return replace(proof, remembered=not memory.in_memory)
    raise failures[0]


def prove_at(place: Place, options: Mapping[str, Any]) -> Proof:
    """Log in by this way, record the units behind it, log out. Raises what the login raises."""
    phase.gate("login")
    memory = registry.host()
    with plain.connect(str(place.portal), place.target, **{**dict(place.settings), **options}) as session:
        if place.lun is not None:
            session.unit(place.lun, writable=False).close()  # raises where it is not there, or is no disk
        number = memory.instance(place.target, place.portal)
        luns = session.luns() if place.lun is None else [place.lun]
        units = [scan.probe(memory, number, place.target, place.portal, session, lun) for lun in luns]
        agreed = session.parameters
        return Proof(
            place.target, str(place.portal), agreed.auth, agreed.header_digest, agreed.data_digest, tuple(units)
        )


def places(name: str, memory: registry.Registry) -> list[Place]:
    """The ways that a target's name or a DEV stands for. Raises NoSuchDevice where none is known."""
    if names.valid(name):
        ways = memory.instances(name)
        if not ways:
            raise NoSuchDevice(f"{name}: the registry knows no way to it: run `swdctl scan PORTAL`, or name a DEV")
        return [Place(way.target, way.portal) for way in ways]
    dev = parse_dev(name)
    if isinstance(dev, IscsiDev):
        return [Place(dev.target, dev.portal, dev.lun, tuple(dev.settings.items()))]
    if isinstance(dev, (HardwarePath, Wwid)):
        return [Place(path.target, path.portal, path.lun) for path in known.paths(dev, memory)]
    raise InvalidArgument(f"{dev}: there is nothing to log in to: name an iSCSI target or one of its units")


def release(name: str, *, forget: bool) -> list[str]:
    """Want the targets of a name no more (several only for a `wwid:`); `forget` them too. Gives their names.

    DeviceBusy, naming the process, while one holds a session with any of them; NoSuchDevice for what is not known;
    SwdError (EROFS) where the registry cannot be written, for then they are wanted still.
    """
    phase.gate("logout")
    memory = registry.host()
    remembered = {*memory.targets(), *memory.wanted()}
    targets = [name] if names.valid(name) else list(dict.fromkeys(place.target for place in places(name, memory)))
    for target in targets:
        if target not in remembered:
            raise NoSuchDevice(f"{target}: the registry does not know it: `swdctl list` shows what it knows")
        for holder in holders.living(target):
            raise DeviceBusy(f"{target} is in use by process {holder.pid} ({holder.what}): end that first")
    for target in targets:
        (memory.forget if forget else memory.unwant)(target)
    if memory.in_memory:
        raise SwdError(f"{memory.path} cannot be written: nothing was changed in it", errno=errno.EROFS)
    return targets
