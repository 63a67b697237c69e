# SPDX-License-Identifier: Apache-2.0
"""From the names that only the registry knows (hardware paths, `wwid:`) to the `iscsi://` DEVs behind them."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from swd.errors import NoSuchDevice, SwdError
from swd.proto.url import HardwarePath, IscsiDev, Wwid

if TYPE_CHECKING:
    from swd.driver.registry import Registry


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
