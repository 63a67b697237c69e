# SPDX-License-Identifier: Apache-2.0
"""Volume groups as this host uses them: which are there, which are active, and on which DEVs.

There is no daemon and no kernel state: a group is active when its checked record is in the registry, which says by
which DEVs its physical volumes are reached. Opening `lvm://VG/LV` works from that record and reads the metadata again.
The phase gate runs before the registry is opened; where no DEV is named, the group may lead to iSCSI, and counts as if
it did.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from swd import messages
from swd.driver import config, holders, phase, pvs
from swd.driver.pvs import Openers
from swd.driver.row import Wanted
from swd.driver.sessions import SessionPool
from swd.errors import DeviceBusy, MediumError, NoSuchDevice, StaleIdentity, SwdError
from swd.proto.url import parse_dev
from swd.volumes.lvm2 import build
from swd.volumes.lvm2 import scan as lvm2
from swd.volumes.lvm2.scan import Group, Scan

if TYPE_CHECKING:
    from swd.driver.registry import Registry

_log = logging.getLogger("swd.driver")


@dataclass(frozen=True)
class Activation:
    """The record of an active group. `devices`: UUID of a physical volume -> DEV, with `?partition=` as `Place` has it;
    `missing`: UUIDs of those that were not there.
    """

    name: str
    uuid: str
    seqno: int
    devices: dict[str, str]
    missing: tuple[str, ...]
    partial: bool
    writable: bool
    since: float


def gate(devices: Sequence[str] | None) -> None:
    """The phase gate for these DEVs; for whatever the registry knows, where none is named."""
    if devices is None:
        phase.gate("scan")
    for dev in devices or ():
        phase.gate(parse_dev(dev))


@contextlib.contextmanager
def looking(
    devices: Sequence[str] | None = None, options: dict[str, Any] | None = None, *, strict: bool = True
) -> Iterator[Scan]:
    """The volume groups on these DEVs (None: on all units that the registry knows), open for reading inside the block.

    `strict`: a DEV that is named and cannot be opened raises; else, and for a known unit, it costs a warning.
    """
    gate(devices)
    named = devices is not None
    with ExitStack() as stack:
        wanted = Wanted(False, False, options or {}, config.load, SessionPool(), gate=phase.gate)
        openers = Openers(wanted, stack, strict=strict and named)
        found = lvm2.scan(openers.open(devices if devices is not None else _known(wanted.registry())))
        found.warnings[:0] = openers.warnings
        yield found


def _known(registry: Registry) -> list[str]:
    """A DEV for each unit; one that all paths can be found by, where there is such a name."""
    return [f"wwid:{unit.identity}" if unit.strong else str(unit.dev) for unit in registry.units()]


@contextlib.contextmanager
def group(name: str, devices: Sequence[str] | None = None, options: dict[str, Any] | None = None) -> Iterator[Group]:
    """One group, open for reading: on these DEVs; else on those of its record; else, where it is not active, on the
    units that the registry knows. A group that is not whole is shown all the same.
    """
    gate(devices)
    if devices is None:
        from swd.driver import registry

        record = next((one for one in active(registry.host()) if one.name == name), None)
        devices = None if record is None else [pvs.place(dev)[0] for dev in record.devices.values()]
    with looking(devices, options, strict=False) as found:
        yield lvm2.choose(found, name)


def scan(devices: Sequence[str] | None = None, **options: Any) -> list[dict[str, object]]:
    """The groups that are there: name, uuid, seqno, physical volumes, missing ones, warnings. See `looking`."""
    with looking(devices, options) as found:
        return [summary(group) for group in found.groups]


def summary(group: Group) -> dict[str, object]:
    """A group in plain values."""
    facts = group.group
    return {
        "name": facts.name,
        "uuid": facts.uuid,
        "seqno": facts.seqno,
        "size_bytes": sum(one.extents for one in facts.physical.values()) * facts.extent_size,
        "volumes": sum(map(build.Builder(group).visible, facts.logical.values())),
        "physical": {one.uuid: _where(group, name) for name, one in facts.physical.items()},
        "missing": [facts.physical[name].uuid for name in group.missing],
        "problem": group.conflict.reason if group.conflict else "",
        "warnings": list(group.warnings),
    }


def _where(group: Group, name: str) -> str:
    return group.members[name].device.name if name in group.members else ""


def activate(
    name: str, *, devices: Sequence[str] | None = None, partial: bool = False, writable: bool = False, **options: Any
) -> Activation:
    """Check a group, by name or UUID, and record it as active; a record that is there already is replaced.

    Raises `NetworkNotInitialized`; `NoSuchDevice` (ENXIO) where the group or, unless `partial`, a physical volume is
    not there; SwdError with EEXIST for doubles; MediumError with EROFS for `writable` where the group must not be
    written.
    """
    with looking(devices, options) as found:
        _warn(found.warnings)
        return _activate(lvm2.choose(found, name), partial, writable)


def activate_all(
    *, devices: Sequence[str] | None = None, partial: bool = False, writable: bool = False, **options: Any
) -> tuple[list[Activation], list[SwdError]]:
    """Every group that is there; and what was wrong with those that could not be activated."""
    done, failures = [], []
    with looking(devices, options) as found:
        _warn(found.warnings)
        for group in found.groups:
            try:
                done.append(_activate(lvm2.choose(found, group.group.uuid), partial, writable))
            except SwdError as error:
                failures.append(error)
    return done, failures


def _activate(group: Group, partial: bool, writable: bool) -> Activation:
    from swd.driver import registry

    facts = group.group
    missing = tuple(facts.physical[name].uuid for name in group.missing)
    if missing and not partial:
        told = "; ".join(line for line in group.warnings if line.split(" ", 1)[0] in group.missing)
        raise NoSuchDevice(
            f"volume group {facts.name}: {len(missing)} of {len(facts.physical)} physical volumes are not there: {told}"
            "\n--partial activates what is there, for reading"
        )
    if writable and (why := build.why_group_not_writable(group)):
        raise MediumError(f"{why}: it cannot be activated for writing", errno=errno.EROFS)
    record = Activation(
        facts.name,
        facts.uuid,
        facts.seqno,
        {one.label.uuid: one.device.name for one in group.members.values()},
        missing,
        partial,
        writable,
        time.time(),
    )
    _warn(group.warnings)
    registry.host().activate(record.name, asdict(record))
    return record


def _warn(warnings: Sequence[str]) -> None:
    for why in warnings:
        messages.say(_log, "SWD_LOG_VOLUME_GROUP", why=why)


def active(registry: Registry) -> list[Activation]:
    """The records, by name."""
    return [_parsed(one) for one in registry.activations()]


def find(name: str, registry: Registry) -> Activation:
    """The record of an active group. Raises `NoSuchDevice` (ENXIO)."""
    for one in active(registry):
        if one.name == name:
            return one
    raise NoSuchDevice(f"volume group {name} is not active: `swdctl vg activate {name}` comes first")


def _parsed(record: dict[str, Any]) -> Activation:
    return Activation(**{**record, "missing": tuple(record["missing"])})


def deactivate(name: str) -> Activation:
    """The group is active no more. Raises `DeviceBusy`, naming the process, while one has a volume of it open."""
    from swd.driver import registry

    memory = registry.host()
    record = find(name, memory)
    for holder in holders.living(holder_name(record.uuid)):
        raise DeviceBusy(f"volume group {name} is in use by process {holder.pid} ({holder.what}): end that first")
    memory.deactivate(name)
    return record


def holder_name(uuid: str) -> str:
    """What a process that has a volume of this group open records as its target."""
    return f"lvm:{uuid}"


@contextlib.contextmanager
def opened(record: Activation, wanted: Wanted) -> Iterator[Group]:
    """The group of a record as it is now, its disks open as `wanted` says. Raises StaleIdentity (ESTALE) where another
    group, or an older state of it, is found; `NoSuchDevice` where a physical volume is gone since.
    """
    with ExitStack() as stack:
        openers = Openers(wanted, stack, strict=not record.partial)
        found = lvm2.scan(openers.open(list(record.devices.values()), exact=True))
        group = next((one for one in found.groups if one.group.uuid == record.uuid), None)
        if group is None:
            raise StaleIdentity(
                f"volume group {record.name} ({record.uuid}) is not on its disks any more: {'; '.join(found.warnings)}"
                f"\nactivate it again: `swdctl vg activate {record.name}`"
            )
        if group.conflict is not None:
            raise group.conflict
        if group.group.seqno < record.seqno:
            raise StaleIdentity(
                f"volume group {record.name} is at seqno {group.group.seqno}, and was at {record.seqno} when it was "
                "activated: disks went back in time, or the newest is not there"
            )
        if group.missing and not record.partial:
            raise NoSuchDevice(
                f"volume group {record.name}: {', '.join(group.missing)} not there since it was activated:\n"
                f"{'; '.join(group.warnings)}"
            )
        yield group
