# SPDX-License-Identifier: Apache-2.0
"""`vg` and `lv`: volume groups and logical volumes, for people and scripts. Before the network: not a word."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swd.cli.call import Call
from swd.cli.progress import size_text
from swd.errors import InvalidArgument, SwdError

if TYPE_CHECKING:
    from swd.driver.volumes import Activation
    from swd.volumes.lvm2.scan import Group


@dataclass(frozen=True, slots=True)
class Scanned:
    """What `vg scan` found; `orphans` are physical volumes of no group."""

    groups: list[dict[str, object]]
    orphans: list[str]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Volume:
    """A logical volume. `readable` and `writable` are yes, or why not; of a group that is not active, what
    its metadata allows."""

    volume: str
    uuid: str
    size_bytes: int
    types: str
    readable: str
    writable: str
    dev: str


def scan(call: Call, *, device: tuple[str, ...]) -> Scanned | list[str]:
    """Looks at DEVs and their partitions; at all units that the registry knows where none is named."""
    from swd.driver import volumes

    with volumes.looking(device or None, dict(call.options)) as found:
        record = Scanned(
            [volumes.summary(group) for group in found.groups],
            [f"{one.device.name} ({one.label.uuid})" for one in found.orphans],
            found.warnings,
        )
    return record if call.json else list(_tree(record))


def _tree(found: Scanned) -> Iterator[str]:
    """A line for each group, and indented below it one for each of its disks and of its problems."""
    for group in found.groups:
        facts: dict[str, Any] = dict(group)
        size = size_text(facts["size_bytes"])
        yield f"{facts['name']}  {facts['uuid']}  {size}, {facts['volumes']} volumes, seqno {facts['seqno']}"
        yield from (f"  {uuid}  {where or 'missing'}" for uuid, where in facts["physical"].items())
        problem = [facts["problem"].splitlines()[0]] if facts["problem"] else []
        yield from (f"  {line}" for line in [*problem, *facts["warnings"]])
    yield from (f"no group  {one}" for one in found.orphans)
    yield from (f"warning  {one.splitlines()[0]}" for one in found.warnings)


def known(call: Call) -> list[Activation] | list[str]:
    """The groups that are active. Asks nobody."""
    from swd.driver import registry, volumes

    records = volumes.active(registry.host())
    return records if call.json else [_activated(one) for one in records]


def activate(
    call: Call, *, vg: str | None, device: tuple[str, ...], partial: bool, rw: bool
) -> list[Activation] | list[str]:
    """One group, or all that are there; the first that fails is raised after all have been tried."""
    from swd.driver import volumes

    words: dict[str, Any] = {"devices": device or None, "partial": partial, "writable": rw, **call.options}
    if vg is not None:
        done = [volumes.activate(vg, **words)]
    else:
        done, failures = volumes.activate_all(**words)
        if failures:
            raise failures[0]
    return done if call.json else [_activated(one) for one in done]


def _activated(one: Activation) -> str:
    lacking = f", {len(one.missing)} missing" if one.missing else ""
    mode = "reading and writing" if one.writable else "reading"
    return f"{one.name} is active for {mode}: {len(one.devices)} physical volumes{lacking}, seqno {one.seqno}"


def deactivate(call: Call, *, vg: str | None) -> list[Activation] | list[str]:
    """One group, or all that are active."""
    from swd.driver import registry, volumes

    names = [vg] if vg is not None else [one.name for one in volumes.active(registry.host())]
    failures: list[SwdError] = []
    done = []
    for name in names:
        try:
            done.append(volumes.deactivate(name))
        except SwdError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return done if call.json else [f"{one.name} is active no more" for one in done]


def info(call: Call, *, vg: str, device: tuple[str, ...]) -> dict[str, object]:
    """A group with its volumes: on these DEVs, else on those of its record."""
    from swd.driver import volumes

    with volumes.group(vg, device or None, dict(call.options)) as group:
        facts = group.group
        return {
            **volumes.summary(group),
            "status": sorted(facts.status),
            "system_id": facts.system_id,
            "extent_size_bytes": facts.extent_size,
            "logical": _volumes(group),
        }


def volumes_of(call: Call, *, vg: str | None, device: tuple[str, ...]) -> list[Volume]:
    """The volumes of a group, or of all active ones."""
    from swd.driver import registry, volumes

    volumes.gate(device or None)
    names = [vg] if vg is not None else [one.name for one in volumes.active(registry.host())]
    found: list[Volume] = []
    for name in names:
        with volumes.group(name, device or None, dict(call.options)) as group:
            found += _volumes(group)
    return found


def volume(call: Call, *, name: str, device: tuple[str, ...]) -> dict[str, object]:
    """One volume with its segments."""
    from swd.cli.render import plain
    from swd.driver import volumes

    group_name, slash, own = name.removeprefix("lvm://").partition("/")
    if not slash:
        raise InvalidArgument(f"{name}: write VG/LV")
    with volumes.group(group_name, device or None, dict(call.options)) as group:
        from swd.volumes.lvm2.build import Builder

        builder = Builder(group)
        found = builder.find(own)
        segments = [
            {"start": one.start, "extents": one.length, "type": _type(one), "on": _below(one)} for one in found.segments
        ]
        return {
            **plain(_described(builder, own)),
            "tags": found.tags,
            "status": sorted(found.status),
            "segments": segments,
        }


def _type(segment: Any) -> str:
    """As LVM's own tools name it: the text on the disk has linear as striped, on one stripe."""
    kind: str = segment.type
    return "linear" if kind == "striped" and segment.values.get("stripe_count") == 1 else kind


def _below(segment: Any) -> str:
    from swd.volumes.lvm2.build import references

    return " ".join(references(segment))


def _volumes(group: Group) -> list[Volume]:
    from swd.volumes.lvm2.build import Builder

    builder = Builder(group)
    return [_described(builder, name) for name, one in sorted(group.group.logical.items()) if builder.visible(one)]


def _described(builder: Any, name: str) -> Volume:
    volume = builder.find(name)
    try:
        size, readable = builder.view(name).size, "yes"
    except SwdError as error:
        size, readable = builder.size(volume.extents), error.reason
    return Volume(
        name,
        volume.uuid,
        size,
        ",".join(dict.fromkeys("snapshot" if name in builder.stores else _type(one) for one in volume.segments)),
        readable,
        _why_not_writable(builder, volume) or "yes",
        f"lvm://{builder.group.name}/{name}",
    )


def _why_not_writable(builder: Any, volume: Any) -> str:
    """What the volume has against it; then, where its group is active, what the activation has."""
    from swd.driver import registry, volumes
    from swd.volumes.lvm2.build import why_not_writable

    active = (one for one in volumes.active(registry.host()) if one.uuid == builder.group.uuid)
    reading_only = "its group is active for reading only" if any(not one.writable for one in active) else ""
    return why_not_writable(builder, volume) or reading_only
