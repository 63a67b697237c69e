# SPDX-License-Identifier: Apache-2.0
"""`swd.scan`: who is behind a portal, or behind all that the registry knows. What is found is recorded.

Ways are walked side by side, so that a dead portal delays only the end. The paths of one disk are joined afterwards,
by strong identity, size and block size: one of them is live, the others are standby.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swd.driver import phase, plain, registry, sidebyside
from swd.driver.registry import Registry
from swd.errors import NetworkNotInitialized, SwdError
from swd.proto import lun as lun_rules
from swd.proto.dev import IscsiDev
from swd.proto.portal import parse_portal
from swd.scsi.unit import LogicalUnit as ScsiUnit
from swd.values import Chap, LogicalUnit, Portal

if TYPE_CHECKING:
    from swd.driver.session import Session

LIVE, STANDBY, UNREACHABLE, GONE, SKIPPED = "live", "standby", "unreachable", "gone", "skipped"
_log = logging.getLogger("swd.driver")


@dataclass(frozen=True)
class _Way:
    target: str
    portal: Portal


def scan(
    portal: str | None = None, target: str | None = None, *, chap: Chap | None = None, **options: object
) -> list[LogicalUnit]:
    """The units behind a portal, by every portal that it names; without one, all that the registry knows, asked again.

    `target` leaves out all other targets. A way that does not answer costs a warning, and its known units come back as
    "unreachable"; if no way to anything answers, the first error is raised. Raises as `swd.discover`.
    """
    phase.gate("scan")
    memory = registry.host()
    ways = _known(memory) if portal is None else _discovered(memory, portal, chap, options)
    ways = [way for way in ways if target in (None, way.target)]
    for way in ways:  # in the order of the answer, whoever is faster afterwards
        memory.instance(way.target, way.portal)
    walked = sidebyside.each(lambda way: _walk(memory, way, chap, options), ways, "swd-scan")
    _note(memory, {way: error for way, (_, error) in zip(ways, walked, strict=True)})
    failures = [error for _, error in walked if error is not None]
    units = [unit for found, _ in walked for unit in found]
    if failures and not units and len(failures) == len(ways):
        raise failures[0]
    return join(units)


def _known(memory: Registry) -> list[_Way]:
    return [_Way(way.target, way.portal) for way in memory.instances()]


def _discovered(memory: Registry, portal: str, chap: Chap | None, options: Mapping[str, object]) -> list[_Way]:
    found = plain.discover(portal, chap=chap, **options)
    asked = parse_portal(portal)
    memory.asked(asked)
    return list(dict.fromkeys(_Way(one.name, way) for one in found for way in one.portals or [asked]))


def _walk(
    memory: Registry, way: _Way, chap: Chap | None, options: Mapping[str, object]
) -> tuple[list[LogicalUnit], SwdError | None]:
    """The units by one way, and the error that kept us from asking."""
    try:
        with plain.connect(str(way.portal), way.target, chap=chap, **options) as session:
            number = memory.instance(way.target, way.portal)
            found = [probe(memory, number, way.target, way.portal, session, lun) for lun in session.luns()]
    except NetworkNotInitialized:
        raise
    except SwdError as error:
        _log.warning("%s at %s: %s", way.target, way.portal, error.reason)
        return _remembered(memory, way, UNREACHABLE, error.reason, ()), error
    seen = {unit.lun for unit in found}
    return found + _remembered(memory, way, GONE, "the target does not list it any more", seen), None


def probe(memory: Registry, number: int, target: str, portal: Portal, session: Session, lun: int) -> LogicalUnit:
    """One unit asked and, if it is a disk, recorded; what cannot be used as a disk is shown as skipped."""
    field = lun_rules.field(lun)
    path = registry.hardware_path(number, field)
    place = LogicalUnit(
        str(path) if path else None,
        lun_rules.text(field),
        str(IscsiDev(portal, target, field)),
        None,
        None,
        "",
        False,
        target,
        str(portal),
        SKIPPED,
    )
    try:
        with session.unit(field, writable=False) as disk:
            unit = disk.unit
            assert isinstance(unit, ScsiUnit)
            size, strong = disk.size, unit.identity_strong
            memory.remember(number, field, unit.identity, strong, size, unit.block_size)
            return replace(
                place, size=size, block_size=unit.block_size, identity=unit.identity, strong=strong, phase=LIVE
            )
    except SwdError as error:
        if not session.alive:
            raise
        return replace(place, reason=error.reason)


def _note(memory: Registry, ended: Mapping[_Way, SwdError | None]) -> None:
    """A target is up if one way to it is; else the error of its first way is its last error."""
    for target in dict.fromkeys(way.target for way in ended):
        errors = [error for way, error in ended.items() if way.target == target]
        memory.note_error(target, None if None in errors else errors[0])


def _remembered(memory: Registry, way: _Way, state: str, reason: str, seen: Iterable[str]) -> list[LogicalUnit]:
    return [
        unit
        for unit in remembered(memory, way.target, state, reason)
        if unit.portal.lower() == str(way.portal).lower() and unit.lun not in seen
    ]


def remembered(memory: Registry, target: str | None, state: str, reason: str = "") -> list[LogicalUnit]:
    """What the registry knows, without asking anybody."""
    return [
        LogicalUnit(
            str(unit.hardware_path) if unit.hardware_path else None,
            lun_rules.text(unit.lun),
            str(unit.dev),
            unit.size,
            unit.block_size,
            unit.identity,
            unit.strong,
            unit.instance.target,
            str(unit.instance.portal),
            state,
            reason,
        )
        for unit in memory.units(target)
    ]


def join(units: Iterable[LogicalUnit]) -> list[LogicalUnit]:
    """The same units with their `paths`; of several live paths to one disk the first stays live."""
    disks: dict[object, list[LogicalUnit]] = defaultdict(list)
    for unit in units:
        disks[(unit.identity, unit.size, unit.block_size) if unit.strong else unit.dev].append(unit)
    found = []
    for disk in disks.values():
        paths = tuple(unit.dev for unit in disk)
        used = next((unit.dev for unit in disk if unit.phase == LIVE), None)
        for unit in disk:
            state = STANDBY if unit.phase == LIVE and unit.dev != used else unit.phase
            found.append(replace(unit, paths=paths, phase=state))
    return found
