# SPDX-License-Identifier: Apache-2.0
"""`scan` and `list`: the units that are there, and those that are remembered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import swd
from swd.cli.call import Call
from swd.cli.progress import size_text


@dataclass(frozen=True, slots=True)
class KnownTarget:
    """A target that is remembered: its instances with their portals, and the last error, if it has one."""

    target: str
    wanted: bool
    portals: dict[str, str]
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Known:
    """What `list` shows. `file` is None where the registry is in memory only."""

    file: str | None
    discovery_addresses: list[str]
    targets: list[KnownTarget]
    units: list[swd.LogicalUnit]


def scan(call: Call, *, portal: str | None, target: str | None) -> list[swd.LogicalUnit] | list[str]:
    """The units by all paths; for people as a tree: a disk, and below it the paths to it."""
    units = swd.scan(portal, target, **call.options)
    return units if call.json else list(tree(units))


def known(call: Call) -> Known | list[str]:
    """What the registry remembers, without the network."""
    from swd.driver import registry
    from swd.driver.scan import join, remembered

    memory = registry.host()
    wanted, errors = set(memory.wanted()), memory.errors()
    targets = [
        KnownTarget(
            name,
            name in wanted,
            {str(way.number): str(way.portal) for way in memory.instances(name)},
            errors.get(name),
        )
        for name in sorted({*memory.targets(), *wanted})
    ]
    units = join(remembered(memory, None, "known"))
    record = Known(
        None if memory.in_memory else str(memory.path), [str(one) for one in memory.addresses()], targets, units
    )
    return record if call.json else [*_targets(targets), *tree(units)]


def _targets(targets: Sequence[KnownTarget]) -> Iterator[str]:
    for one in targets:
        trouble = f"  last error: {one.last_error.splitlines()[0]}" if one.last_error else ""
        yield f"{one.target}  {'wanted' if one.wanted else 'not wanted'}{trouble}"


def tree(units: Sequence[swd.LogicalUnit]) -> Iterator[str]:
    """A line for each disk, and indented below it one for each path."""
    shown: set[str] = set()
    for unit in units:
        if unit.dev in shown:
            continue
        yield _disk(unit)
        paths = [one for one in units if one.dev == unit.dev or one.dev in unit.paths]
        shown.update(one.dev for one in paths)
        for path in paths:
            reason = f"  ({path.reason.splitlines()[0]})" if path.reason else ""
            where = path.hardware_path or f"LUN {path.lun}"
            yield f"  {where:<18} {path.phase:<11} {path.target}  {path.portal}  LUN {path.lun}{reason}"


def _disk(unit: swd.LogicalUnit) -> str:
    if unit.size is None:
        return "no disk"
    weak = "" if unit.strong else " (weak)"
    return f"{unit.identity}{weak}  {size_text(unit.size)}  {unit.block_size}-byte blocks"
