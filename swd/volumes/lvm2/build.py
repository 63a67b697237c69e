# SPDX-License-Identifier: Apache-2.0
"""From the records of a volume group to the layers of one of its logical volumes.

Volumes stand on volumes; the way down is walked with a limit, and a volume that stands on itself is refused. What a
missing physical volume holds becomes a layer that fails when it is read, and a leg of an array with a part missing is
no leg at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from swd.errors import NoSuchDevice, Unsupported
from swd.volumes.lvm2 import parity, raid, raidstate, records
from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.layers import Area, Joined, Layer, Lost, Part, Striped
from swd.volumes.lvm2.mirror import Log
from swd.volumes.lvm2.raidstate import Leg, Shape
from swd.volumes.lvm2.records import LogicalVolume, Segment
from swd.volumes.lvm2.scan import Group
from swd.volumes.lvm2.snapshot import Snapshot
from swd.volumes.lvm2.text import BadText
from swd.volumes.lvm2.thin import Pool, Thin
from swd.volumes.lvm2.types import RAID, WRITABLE

MOST_DEPTH: Final = 16  # volumes on volumes; a thin volume on a raid has four
MOST_LEGS: Final = 256
STRIPE: Final = (1, 1 << 32)  # sectors


class Builder:
    """The layers of one group's volumes, each made once."""

    def __init__(self, group: Group) -> None:
        self.found = group
        self.group = group.group
        self._made: dict[str, Layer] = {}
        self._pools: dict[str, Pool] = {}
        self._gone: dict[str, bool] = {}
        self._fixed: dict[str, str] = {}
        self._under_way: list[str] = []
        segments = [(volume, one) for volume in self.group.logical.values() for one in volume.segments]
        snapshots = [(volume, one) for volume, one in segments if one.type == "snapshot"]
        self.stores = {records.string(one, "cow_store"): (volume, one) for volume, one in snapshots}
        self.merging = {records.string(one, "merging_store") for _, one in snapshots} - {""}
        self.origins = {records.string(one, "origin") for _, one in snapshots} | {
            records.string(one, "origin") for _, one in segments if one.type == "thin"
        }

    # --- one volume as its users see it ------------------------------------------------------------------------------

    def find(self, name: str) -> LogicalVolume:
        """The volume that a user may open by that name. Raises `NoSuchDevice` for one that is not there or internal."""
        volume = self.group.logical.get(name)
        if volume is None:
            raise NoSuchDevice(f"volume group {self.group.name} has no logical volume {name}")
        if not self.visible(volume):
            raise NoSuchDevice(f"{self.group.name}/{name} is a part of another volume, and has no device of its own")
        return volume

    def visible(self, volume: LogicalVolume) -> bool:
        """Whether users see it. A snapshot goes by the name of its store, which LVM does not mark as visible; the
        volume that joins store and origin has a name that nobody uses.
        """
        if volume.name in self.stores:
            return True
        return volume.visible and not any(one.type == "snapshot" for one in volume.segments)

    def view(self, name: str) -> Layer:
        """What reading the volume gives: of a snapshot's store, the snapshot. Raises as the layers' makers do."""
        if name in self.merging or any(
            records.string(one, "origin") == name and records.string(one, "merging_store")
            for one in (segment for volume in self.group.logical.values() for segment in volume.segments)
        ):
            raise Unsupported(
                f"{self.group.name}/{name}: a snapshot is being merged into it, which only the kernel can read"
            )
        if name in self.stores:
            volume, segment = self.stores[name]
            origin = records.string(segment, "origin")
            return Snapshot(name, self.volume(origin), self.volume(name), volume.extents * self.group.extent_size)
        return self.volume(name)

    # --- volumes by name ---------------------------------------------------------------------------------------------

    def volume(self, name: str) -> Layer:
        """The bytes of a volume, internal ones included."""
        if name in self._made:
            return self._made[name]
        volume = self.group.logical.get(name)
        if volume is None:
            raise BadText(f"volume group {self.group.name}: a volume {name} is referred to, and is not there")
        if name in self._under_way or len(self._under_way) >= MOST_DEPTH:
            raise BadText(
                f"volume group {self.group.name}: {' on '.join([*self._under_way, name])}: volumes in a circle"
            )
        self._under_way.append(name)
        try:
            made: Layer = Joined([self._segment(volume, one) for one in volume.segments])
        finally:
            self._under_way.pop()
        self._made[name] = made
        return made

    def gone(self, name: str, depth: int = 0) -> bool:
        """Whether a part of a volume lies on a physical volume that is missing."""
        if name in self.group.physical:
            return name not in self.found.members
        if name not in self._gone:
            volume = self.group.logical.get(name)
            self._gone[name] = True  # while it is looked at: a volume that stands on itself is not there
            self._gone[name] = (
                volume is None
                or depth > MOST_DEPTH
                or any(self.gone(below, depth + 1) for segment in volume.segments for below in references(segment))
            )
        return self._gone[name]

    def fixed(self, volume: LogicalVolume, depth: int = 0) -> str:
        """Why a volume, or one below it, must not be written; "" if nothing of its own is against that."""
        if volume.name not in self._fixed:
            self._fixed[volume.name] = f"{volume.name} stands on itself"
            self._fixed[volume.name] = _why_fixed(self, volume, depth)
        return self._fixed[volume.name]

    def _segment(self, volume: LogicalVolume, segment: Segment) -> Layer:
        make = _MAKERS.get(segment.type)
        if make is None and segment.type in RAID:
            make = _raid
        if make is None:
            raise Unsupported(
                f"{self.group.name}/{volume.name}: segments of type {segment.type} are not read by swd: "
                "docs/volumes.md lists those that are"
            )
        return make(self, volume, segment)

    def size(self, extents: int) -> int:
        return extents * self.group.extent_size

    def area(self, name: object, start: object, size: int) -> Layer:
        """`size` bytes from an extent of a physical or logical volume on."""
        if not isinstance(name, str) or not isinstance(start, int) or start < 0:
            raise BadText(f"volume group {self.group.name}: an area that is none: {str(name)[:40]} {str(start)[:40]}")
        physical = self.group.physical.get(name)
        if physical is None:
            layer = self.volume(name)
            if self.size(start) + size > layer.size:
                raise BadText(f"volume group {self.group.name}: an area passes the end of {name}")
            return Part(layer, self.size(start), size)
        if self.size(start) + size > self.size(physical.extents):
            raise BadText(f"volume group {self.group.name}: an area passes the end of {name}")
        member = self.found.members.get(name)
        if member is None:
            return Lost(size, f"physical volume {name} ({physical.uuid}) of volume group {self.group.name} is missing")
        return Area(member.device.disk, physical.start + self.size(start), size)

    def pool(self, name: str) -> Pool:
        """The metadata of a thin pool, read once."""
        if name not in self._pools:
            volume = self.group.logical.get(name)
            if volume is None or len(volume.segments) != 1 or volume.segments[0].type != "thin-pool":
                raise BadText(f"volume group {self.group.name}: {name} is no thin pool")
            segment = volume.segments[0]
            self._pools[name] = Pool(
                f"{self.group.name}/{name}",
                self.volume(records.string(segment, "metadata")),
                self.volume(records.string(segment, "pool")),
                records.number(segment, "chunk_size", 128, 1 << 22) * SECTOR,
                records.number(segment, "transaction_id", 0, 1 << 64),
            )
        return self._pools[name]


def references(segment: Segment) -> list[str]:
    """The names of all volumes, physical and logical, that a segment stands on."""
    found = [str(name) for key in ("stripes", "mirrors") for name in records.names(segment, key)[::2]]
    found += [str(name) for key in ("raids", "raid0_lvs") for name in records.names(segment, key)]
    keys = ["mirror_log", "metadata", "pool", "thin_pool", "external_origin", "origin", "cow_store", "merging_store"]
    if segment.type == "thin":  # its origin is history only
        keys.remove("origin")
    return found + [name for name in (records.string(segment, key) for key in keys) if name]


# --- one maker a segment type --------------------------------------------------------------------------------------


def _pairs(segment: Segment, key: str, count: int) -> list[tuple[Any, Any]]:
    words = records.names(segment, key)
    if len(words) != 2 * count:
        raise BadText(f"a {segment.type} segment with {len(words)} words in {key} for {count} areas")
    return list(zip(words[::2], words[1::2], strict=True))


def _striped(builder: Builder, _volume: LogicalVolume, segment: Segment) -> Layer:
    count = records.number(segment, "stripe_count", 1, MOST_LEGS)
    return _stripes(builder, segment, _pairs(segment, "stripes", count))


def _raid0(builder: Builder, _volume: LogicalVolume, segment: Segment) -> Layer:
    """Whole volumes for legs; raid0_meta has a metadata volume before each, which says nothing about data."""
    images = records.names(segment, "raid0_lvs") or records.names(segment, "raids")[1::2]
    return _stripes(builder, segment, [(name, 0) for name in images])


def _stripes(builder: Builder, segment: Segment, areas: Sequence[tuple[Any, Any]]) -> Layer:
    size, rest = divmod(builder.size(segment.length), len(areas) or 1)
    if not areas or rest:
        raise BadText(f"{segment.length} extents in {len(areas)} stripes")
    legs = [builder.area(name, start, size) for name, start in areas]
    if len(legs) == 1:
        return legs[0]
    stripe = records.number(segment, "stripe_size", *STRIPE) * SECTOR
    if size % stripe:
        raise BadText(f"stripes of {stripe} bytes do not fill {size}")
    return Striped(legs, stripe)


def _mirror(builder: Builder, volume: LogicalVolume, segment: Segment) -> Layer:
    count = records.number(segment, "mirror_count", 1, MOST_LEGS)
    size = builder.size(segment.length)
    legs: list[Layer | None] = []
    for name, start in _pairs(segment, "mirrors", count):
        legs.append(None if builder.gone(str(name)) else builder.area(name, start, size))
    log = records.string(segment, "mirror_log")
    layer = builder.volume(log) if log and not builder.gone(log) else None
    region = records.number(segment, "region_size", *STRIPE, 1024) * SECTOR
    agree = Log(layer, region).agree
    name = f"{builder.group.name}/{volume.name}"
    return raid.Copies(name, legs, [leg is not None for leg in legs], 0, agree, region, size)


def _raid(builder: Builder, volume: LogicalVolume, segment: Segment) -> Layer:
    kind = RAID[segment.type]
    count = records.number(segment, "device_count", 1, MOST_LEGS)
    name, size = f"{builder.group.name}/{volume.name}", builder.size(segment.length)
    legs = [_leg(builder, meta, image) for meta, image in _pairs(segment, "raids", count)]
    if len(volume.segments) != 1 or not _enough(kind, count):
        raise BadText(f"{name}: {count} legs in {len(volume.segments)} segments are no {segment.type}")
    stripe = 0 if kind.level == 1 else records.number(segment, "stripe_size", *STRIPE)
    state = raidstate.judge(name, legs, Shape(kind.level, (kind.layout,), stripe), nosync="NOTSYNCED" in volume.status)
    images = [leg.image for leg in legs]
    share = size if kind.level == 1 else _share(kind, count, size)
    if any(image is not None and image.size < share for image in images):
        raise BadText(f"{name}: a leg is smaller than its share, {share} bytes")
    if kind.level == 1:
        region = records.number(segment, "region_size", *STRIPE, 1024) * SECTOR
        return raid.Copies(name, images, state.usable, state.first_expected, state.agree, region, size)
    if kind.level == 10:
        return raid.Raid10(name, images, state, stripe * SECTOR, 2, size)
    return parity.Parity(name, images, state, stripe * SECTOR, kind.q, size)


def _leg(builder: Builder, meta: Any, image: Any) -> Leg:
    names = str(meta), str(image)
    if not all(name in builder.group.logical for name in names):
        raise BadText(f"volume group {builder.group.name}: a leg that is no volume: {names[0]} {names[1]}")
    if any(builder.gone(name) for name in names):
        return Leg(names[1], None, None)
    rebuild = "REBUILD" in builder.group.logical[names[1]].status
    return Leg(names[1], builder.volume(names[0]), builder.volume(names[1]), rebuild)


def _enough(kind: Any, count: int) -> bool:
    return count >= {1: 1, 10: 2, 5: 3, 6: 4}[kind.level] - (1 if kind.level == 5 else 0)


def _share(kind: Any, count: int, size: int) -> int:
    """What each leg holds, at least."""
    return -(-size * 2 // count) if kind.level == 10 else -(-size // (count - (2 if kind.q else 1)))


def _thin(builder: Builder, volume: LogicalVolume, segment: Segment) -> Layer:
    if records.string(segment, "external_origin"):
        raise Unsupported(
            f"{builder.group.name}/{volume.name}: a thin volume with an external origin is not read by swd"
        )
    pool = builder.pool(records.string(segment, "thin_pool"))
    return Thin(pool, records.number(segment, "device_id", 0, 1 << 24), builder.size(segment.length))


_MAKERS: Final[dict[str, Callable[[Builder, LogicalVolume, Segment], Layer]]] = {
    "striped": _striped,
    "raid0": _raid0,
    "raid0_meta": _raid0,
    "mirror": _mirror,
    "thin": _thin,
}


# --- writing -------------------------------------------------------------------------------------------------------


def why_group_not_writable(found: Group) -> str:
    """Why no volume of a group may be written through swd; "" if they may."""
    group, status = found.group, found.group.status
    for word, why in (("EXPORTED", "is exported"), ("SHARED", "is shared"), ("CLUSTERED", "is clustered")):
        if word in status:
            return f"volume group {group.name} {why}"
    if group.lock_type not in ("", "none"):
        return f"volume group {group.name} is shared (lock_type {group.lock_type})"
    if group.system_id:
        return f"volume group {group.name} belongs to the host with system ID {group.system_id}"
    if "WRITE" not in status:
        return f"volume group {group.name} is read-only"
    if found.missing:
        return f"volume group {group.name} is not complete: {', '.join(found.missing)} missing"
    return ""


def why_not_writable(builder: Builder, volume: LogicalVolume) -> str:
    """Why a volume must not be written through swd; "" if it may be."""
    if why := why_group_not_writable(builder.found):
        return why
    if volume.name in builder.stores or volume.name in builder.merging:
        return f"{volume.name} is a snapshot"
    if volume.name in builder.origins:
        return f"{volume.name} is the origin of a snapshot, which only the kernel can keep right"
    return builder.fixed(volume)


def _why_fixed(builder: Builder, volume: LogicalVolume, depth: int) -> str:
    if "WRITE" not in volume.status or "WRITE_LOCKED" in volume.status:
        return f"{volume.name} is read-only"
    for word in ("PVMOVE", "LOCKED", "PARTIAL"):
        if word in volume.status:
            return f"{volume.name} is marked {word}"
    for segment in volume.segments:
        if segment.type not in WRITABLE or depth > MOST_DEPTH:
            return f"{volume.name} has a segment of type {segment.type}"
        for below in references(segment):
            if below in builder.group.logical:
                why = builder.fixed(builder.group.logical[below], depth + 1)
                if why:
                    return why
    return ""
