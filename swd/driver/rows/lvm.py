# SPDX-License-Identifier: Apache-2.0
"""`lvm://VG/LV`: a logical volume of an active volume group, over the DEVs that its record names.

The metadata is read again at each open. While a volume is open its process is on record, so that `vg deactivate` can
name it. All opens of one volume in a process share a range lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from weakref import WeakValueDictionary

from swd._rangelock import RangeLock
from swd.disk import Disk
from swd.driver import holders, partition, volumes
from swd.driver.row import Unit, Wanted
from swd.errors import MediumError, SwdError
from swd.proto import options
from swd.proto.url import LvmDev
from swd.volumes.lvm2.build import Builder, why_not_writable
from swd.volumes.lvm2.unit import VolumeUnit

_lock = threading.Lock()  # guards _locks
_locks: WeakValueDictionary[str, RangeLock] = WeakValueDictionary()  # by the UUIDs of group and volume


def attach(dev: LvmDev, wanted: Wanted) -> Unit:
    """Raises `NoSuchDevice` for a group that is not active and a volume that is not there; MediumError with EROFS for
    writing where the group was not activated for it, or the volume must not be written; and what `volumes.opened` does.
    """
    from swd.driver.devsw import find

    named = options.read(dev.options, source="lvm://")
    number = options.read(wanted.options, named).partition
    record = volumes.find(dev.vg, wanted.registry())
    if wanted.writable and not record.writable:
        raise MediumError(
            f"volume group {dev.vg} is active for reading only: `swdctl vg activate --rw {dev.vg}`", errno=errno.EROFS
        )
    keys = {**dict(dev.options), **wanted.options}
    below = replace(wanted, options={key: value for key, value in keys.items() if key != "partition"}, exclusive=False)
    with ExitStack() as stack:
        group = stack.enter_context(volumes.opened(record, below))
        builder = Builder(group)
        volume = builder.find(dev.lv)
        refusal = why_not_writable(builder, volume) if record.writable else "its group is active for reading only"
        if wanted.writable and refusal:
            raise MediumError(f"{dev} cannot be written: {refusal}", errno=errno.EROFS)
        layer = builder.view(dev.lv)
        uuid = f"{group.group.uuid}.{volume.uuid}"
        with contextlib.suppress(SwdError):  # no place for the record: then `deactivate` cannot know of us
            stack.enter_context(holders.holding(f"has {dev} open", [volumes.holder_name(record.uuid)]))
        disks = list(_disks(builder))
        unit = VolumeUnit(layer, disks, f"lvm.{uuid}", read_only=bool(refusal), lock=_lock_of(uuid), refusal=refusal)
        disk = Disk(unit, writable=wanted.writable, on_close=stack.pop_all().close)
    return partition.chosen(Unit(find(dev), str(dev), wanted.writable, disk), number)


def _disks(builder: Builder) -> Iterator[Disk]:
    for member in builder.found.members.values():
        yield member.device.disk


def _lock_of(uuid: str) -> RangeLock:
    with _lock:
        lock = _locks.get(uuid)
        if lock is None:
            lock = _locks[uuid] = RangeLock()
        return lock


def _forget() -> None:
    """In a forked child the locks may be held by threads that it does not have."""
    global _lock
    _lock = threading.Lock()
    _locks.clear()


os.register_at_fork(after_in_child=_forget)
