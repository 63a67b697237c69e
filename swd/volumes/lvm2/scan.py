# SPDX-License-Identifier: Apache-2.0
"""From disks to volume groups: which disks belong together, and which copy of a group's metadata is in force.

The copy with the highest seqno wins, wherever it stands. Two texts with one highest seqno and different checksums, two
disks with one UUID, and two groups with one name are conflicts: nothing is guessed, the group cannot be used.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swd.errors import NoSuchDevice, SwdError
from swd.volumes.lvm2 import area, label, records
from swd.volumes.lvm2.records import VolumeGroup

if TYPE_CHECKING:
    from swd.disk import Disk


@dataclass(frozen=True)
class Device:
    """A disk to look at. `name` is for people; `unit` is what it is: two devices with one `unit` are paths to one."""

    name: str
    disk: Disk
    unit: str


@dataclass(frozen=True)
class Member:
    """A disk with a sound label; `groups` are those that its own metadata names, newest first."""

    device: Device
    label: label.Label
    texts: tuple[area.Text, ...]
    groups: tuple[VolumeGroup, ...]


@dataclass(frozen=True)
class Group:
    """A volume group: `members` by the text's own names (pv0); `missing` are those that are not there, or stale."""

    group: VolumeGroup
    members: dict[str, Member]
    missing: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    conflict: SwdError | None = None


@dataclass
class Scan:
    """What was found. `orphans` have a label and no group; `warnings` are those of disks that belong to no group."""

    groups: list[Group] = field(default_factory=list)
    orphans: list[Member] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def scan(devices: Iterable[Device]) -> Scan:
    """Look at all devices. A disk that cannot be read costs a warning; nothing is raised for what it holds."""
    found = Scan()
    members, doubles = _members(devices, found.warnings)
    newest: dict[str, list[VolumeGroup]] = {}
    for member in members:
        for group in member.groups:
            newest.setdefault(group.uuid, []).append(group)
    for copies in newest.values():
        found.groups.append(_group(copies, members, doubles))
    used = {id(one) for group in found.groups for one in group.members.values()}
    found.orphans = [one for one in members if id(one) not in used and not one.groups]
    found.groups.sort(key=lambda one: (one.group.name, one.group.uuid))
    return found


def choose(found: Scan, name: str) -> Group:
    """The group of a name, or of a UUID. Raises `NoSuchDevice` (ENXIO) where there is none, SwdError with EEXIST where
    there are two, and the group's own conflict.
    """
    groups = [one for one in found.groups if name in (one.group.name, one.group.uuid)]
    if not groups:
        there = ", ".join(one.group.name for one in found.groups) or "no volume group at all"
        raise NoSuchDevice(f"no volume group {name} was found; there is {there}")
    if len(groups) > 1:
        uuids = " and ".join(one.group.uuid for one in groups)
        raise SwdError(
            f"there are {len(groups)} volume groups {name}: say which by its UUID, {uuids}", errno=errno.EEXIST
        )
    if groups[0].conflict is not None:
        raise groups[0].conflict
    return groups[0]


# --- one disk ------------------------------------------------------------------------------------------------------


def look(device: Device, warnings: list[str]) -> Member | None:
    """The label of one disk and the metadata in its areas; None where there is no label. Raises what reading does."""
    found, problems = label.find(device.disk)
    warnings += [f"{device.name}: {problem}" for problem in problems]
    if found is None:
        return None
    texts, groups = [], []
    for number, extent in enumerate(found.metadata, 1):
        text = area.read(device.disk, extent)
        if isinstance(text, str):
            warnings.append(f"{device.name}: metadata area {number}: {text}")
            continue
        texts.append(text)
        if text.content is not None:
            try:
                groups.append(records.read(text.content, text.checksum))
            except SwdError as error:
                warnings.append(f"{device.name}: metadata area {number}: {error.reason}")
    groups.sort(key=lambda one: -one.seqno)
    return Member(device, found, tuple(texts), tuple(groups))


def _members(devices: Iterable[Device], warnings: list[str]) -> tuple[list[Member], dict[str, SwdError]]:
    """The disks with labels, each once however many paths lead to it; and the UUIDs that two disks have."""
    members: dict[str, Member] = {}
    doubles: dict[str, SwdError] = {}
    for device in devices:
        try:
            member = look(device, warnings)
        except SwdError as error:
            warnings.append(f"{device.name}: cannot be read: {error.reason}")
            continue
        if member is None:
            continue
        first = members.setdefault(member.label.uuid, member)
        if first is not member and first.device.unit != device.unit:
            doubles[member.label.uuid] = SwdError(
                f"{first.device.name} ({first.device.unit}) and {device.name} ({device.unit}) are two disks with one "
                f"physical volume UUID, {member.label.uuid}:\none is a copy of the other; leave it out (--device), or "
                "give it a UUID of its own with vgimportclone",
                errno=errno.EEXIST,
            )
    return list(members.values()), doubles


# --- one group -----------------------------------------------------------------------------------------------------


def _group(copies: Sequence[VolumeGroup], members: Sequence[Member], doubles: dict[str, SwdError]) -> Group:
    best = max(copies, key=lambda one: one.seqno)
    warnings, conflict = [], None
    if any(one.seqno == best.seqno and one.checksum != best.checksum for one in copies):
        conflict = SwdError(
            f"volume group {best.name}: two different metadata texts have one seqno, {best.seqno}:\n"
            "two hosts changed it at once; mend it with vgcfgrestore where it is attached"
        )
    old = sorted({one.seqno for one in copies} - {best.seqno})
    if old:
        warnings.append(
            f"an older copy of the metadata is about (seqno {', '.join(map(str, old))}; used: {best.seqno})"
        )
    by_uuid = {one.label.uuid: one for one in members}
    present: dict[str, Member] = {}
    missing = []
    for name, volume in best.physical.items():
        member = by_uuid.get(volume.uuid)
        why = _unusable(best, name, member)
        if member is None or why:
            missing.append(name)
            warnings.append(f"{name} ({volume.uuid}): {why}")
        else:
            present[name] = member
            conflict = conflict or doubles.get(volume.uuid)
    listed = {volume.uuid for volume in best.physical.values()}
    warnings += [
        f"{member.device.name} was in this volume group once, and is not any more"
        for member in members
        if member.label.uuid not in listed and any(one.uuid == best.uuid for one in member.groups)
    ]
    return Group(best, present, tuple(missing), tuple(warnings), conflict)


def _unusable(group: VolumeGroup, name: str, member: Member | None) -> str:
    volume = group.physical[name]
    if member is None:
        return f"not found (last seen as {volume.device})" if volume.device else "not found"
    if volume.missing:
        return f"the group went on without {member.device.name}: what it holds is stale"
    if member.groups and all(one.uuid != group.uuid for one in member.groups):
        return f"{member.device.name} belongs to volume group {member.groups[0].name} now"
    end = volume.start + volume.extents * group.extent_size
    if end > member.device.disk.size:
        return f"{member.device.name} has {member.device.disk.size} bytes, and the metadata needs {end}"
    return ""
