# SPDX-License-Identifier: Apache-2.0
"""From the names that only the registry knows (hardware paths, `wwid:`) to the `iscsi://` DEVs behind them, and from
the units of a session to the other ways to them.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from swd.errors import NoSuchDevice, SwdError
from swd.proto.recovery import Path
from swd.proto.url import HardwarePath, IscsiDev, Wwid

if TYPE_CHECKING:
    from swd.driver.registry import Registry
    from swd.scsi.unit import LogicalUnit


def paths(dev: HardwarePath | Wwid, registry: Registry) -> list[IscsiDev]:
    """The DEVs to try, in this order: those seen last come first. `NoSuchDevice` where the registry has none."""
    if isinstance(dev, HardwarePath):
        unit = registry.by_path(dev)
        found = [] if unit is None else [unit]
    else:
        found = registry.by_identity(dev.designator)
        # Disks of two sizes are two disks, whatever they call themselves.
        found = [unit for unit in found if (unit.size, unit.block_size) == (found[0].size, found[0].block_size)]
    if not found:
        raise NoSuchDevice(f"{dev}: the registry knows no such unit: find it with `swdctl scan PORTAL`")
    return [unit.dev for unit in found]


def standby(units: Mapping[int, LogicalUnit], registry: Registry) -> list[Path]:
    """The ways that lead to all of these units (SAM field -> unit), each under the LUN that it has here; those seen
    last come first. None where there is no unit, or one without a strong identity: who would notice another disk?
    """
    ways: list[Path] | None = None
    for field, unit in units.items():
        if not unit.identity_strong:
            return []
        size = unit.blocks * unit.block_size
        found = [
            Path(known.instance.portal, known.instance.target)
            for known in registry.by_identity(unit.identity)
            if (known.lun, known.size, known.block_size) == (field, size, unit.block_size)
        ]
        ways = found if ways is None else [way for way in ways if way in found]
    return ways or []


def none_answers(dev: HardwarePath | Wwid, failures: Sequence[tuple[IscsiDev, SwdError]]) -> SwdError:
    """The error to raise when every path failed; that of a single path as it is."""
    if len(failures) == 1:
        return failures[0][1]
    numbers = {error.errno for _, error in failures}
    reasons = "; ".join(f"{path}: {error.reason.splitlines()[0]}" for path, error in failures)
    error = NoSuchDevice(
        f"{dev}: none of its {len(failures)} paths answers: {reasons}",
        errno=numbers.pop() if len(numbers) == 1 else errno.ENXIO,
    )
    error.__cause__ = failures[0][1]
    return error
