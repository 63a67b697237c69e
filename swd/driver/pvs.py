# SPDX-License-Identifier: Apache-2.0
"""Opens DEVs to look for physical volumes on them, and on their partitions.

It says what a DEV *is*, so that two paths to one unit are not taken for two disks: a strong identity; else a unit of
one target; a file by its inode.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from swd.driver import devsw, sidebyside
from swd.driver.errnos import During, translated
from swd.driver.row import Unit, Wanted
from swd.driver.rows.file import File
from swd.errors import InvalidArgument, NetworkNotInitialized, NoSuchDevice, SwdError
from swd.proto.url import Dev, FileDev, LvmDev, parse_dev
from swd.scsi.unit import LogicalUnit
from swd.volumes import partitions
from swd.volumes.lvm2 import label
from swd.volumes.lvm2.scan import Device
from swd.volumes.window import Window

if TYPE_CHECKING:
    from swd.disk import Disk

_PARTITION: Final = " partition "


def place(name: str) -> tuple[str, int | None]:
    """A device's name in a record: a DEV, and the partition that was found on it."""
    dev, mark, number = name.partition(_PARTITION)
    return dev, int(number) if mark else None


def lasting(dev: Dev) -> str:
    """A name that means the same from any working directory; it has no spaces."""
    return str(replace(dev, path=os.path.abspath(dev.path)) if isinstance(dev, FileDev) else dev)


class Openers:
    """Opens devices into `stack`, as `wanted` says. `strict`: what cannot be opened raises; else it is a warning."""

    def __init__(self, wanted: Wanted, stack: ExitStack, *, strict: bool) -> None:
        self.wanted = wanted
        self.stack = stack
        self.strict = strict
        self.warnings: list[str] = []

    def open(self, names: Iterable[str], *, exact: bool = False) -> list[Device]:
        """The devices of these DEVs: each whole, or, where that has no label, its partitions with one. `exact`: the
        names are those of a record, and nothing else is looked for.
        """
        wanted = list(dict.fromkeys(names))
        opened = sidebyside.each(lambda name: self._try(name, exact), wanted, "swd-vg")
        found: list[Device] = []
        for name, devices in zip(wanted, opened, strict=True):
            if isinstance(devices, list):
                found += devices
            elif self.strict or isinstance(devices, NetworkNotInitialized):
                raise devices
            else:
                self.warnings.append(f"{name}: {devices.reason}")
        return found

    def _try(self, name: str, exact: bool) -> list[Device] | SwdError:
        """The devices of one DEV. Several threads are here at once, so that one dead portal delays nobody else."""
        text, number = place(name) if exact else (name, None)
        try:
            unit, dev = self._attach(text, number)
            if exact or not _has_partitions(unit.disk):
                return [Device(name if exact else lasting(dev), unit.disk, what(unit))]
            return list(self._partitions(text, unit, lasting(dev)))
        except SwdError as error:
            return error

    def _attach(self, text: str, number: int | None) -> tuple[Unit, Dev]:
        dev = parse_dev(text)
        if isinstance(dev, LvmDev):  # nor does LVM, unless told to; and two groups could stand on each other
            raise InvalidArgument(f"{dev} is a logical volume: physical volumes are not looked for on those")
        self.wanted.gate(dev)
        options = {**self.wanted.options} if number is None else {**self.wanted.options, "partition": number}
        with translated(During.OPEN, text):
            unit = devsw.find(dev).attach(dev, replace(self.wanted, options=options))
        self.stack.callback(unit.row.detach, unit)
        return unit, dev

    def _partitions(self, text: str, unit: Unit, name: str) -> Iterator[Device]:
        """Those with a label; each is opened by itself, so that closing one leaves the others alone."""
        for one in partitions.read(unit.disk).partitions:
            with contextlib.suppress(NoSuchDevice):
                part, _ = self._attach(text, one.number)
                if label.find(part.disk)[0] is not None:
                    yield Device(f"{name}{_PARTITION}{one.number}", part.disk, what(part))


def _has_partitions(disk: Disk) -> bool:
    """Whether to look at the partitions of a disk: it has a table, and no label of its own."""
    if label.find(disk)[0] is not None:
        return False
    try:
        return bool(partitions.read(disk).partitions)
    except NoSuchDevice:
        return False


def what(unit: Unit) -> str:
    """The same for two DEVs if, and as far as can be known only if, they are paths to the same blocks."""
    disk = unit.disk.unit
    whole = disk.unit if isinstance(disk, Window) else disk
    part = disk.identity[len(whole.identity) :]
    if isinstance(whole, LogicalUnit) and not whole.identity_strong:  # it names the disk inside one target only
        return f"{unit.kept.parameters.target_name} LUN {whole.lun:#x} {whole.identity}{part}"
    if isinstance(whole, File):
        found = os.stat(whole.path)
        return f"file {found.st_dev}:{found.st_ino}:{found.st_rdev}{part}"
    return f"{whole.identity}{part}"
