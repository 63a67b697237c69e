# SPDX-License-Identifier: Apache-2.0
"""The key `partition`: a row attaches the whole device, and this cuts the partition out of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from swd import messages
from swd.driver.row import Unit

if TYPE_CHECKING:
    from swd.disk import Disk

_log = logging.getLogger("swd.driver")


def of(disk: Disk, number: int | None, name: str) -> Disk:
    """Partition `number` of a disk, which is closed with it; None: the disk itself. `name` is for messages.

    Raises `NoSuchDevice` where there is no such partition, and what reading the table does; the disk is closed then.
    """
    if number is None:
        return disk
    from swd.volumes import partitions

    try:
        found, warnings = partitions.find(disk, number)
        for warning in warnings:
            messages.say(_log, "SWD_LOG_PARTITION_TABLE", device=name, why=warning)
        return partitions.view(disk, found)
    except BaseException:
        disk.close()
        raise


def chosen(unit: Unit, number: int | None) -> Unit:
    """The unit with the partition for its disk. Errors: as `of`."""
    return unit if number is None else replace(unit, block_device=of(unit.disk, number, unit.name))
