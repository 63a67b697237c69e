# SPDX-License-Identifier: Apache-2.0
"""Which legs of an array count, from superblocks and bitmaps that are written here by hand."""

from __future__ import annotations

import errno
import struct

import pytest
from ram_unit import RamUnit

from swd.disk import Disk
from swd.errors import SwdError, Unsupported
from swd.volumes.lvm2.layers import Area
from swd.volumes.lvm2.raidstate import Leg, Shape, State, judge

ALL = (1 << 64) - 1
RAID1, RAID5 = Shape(1, (0,), 0), Shape(5, (2,), 128)


def leg(
    position: int,
    *,
    events: int = 10,
    failed: int = 0,
    recovery: int = ALL,
    resync: int = ALL,
    shape: Shape = RAID1,
    dirty: bytes = bytes(8),
    bitmap: bool = True,
    rebuild: bool = False,
    **changes: int,
) -> Leg:
    """A leg of a three-legged array with chunks of 64 sectors in its bitmap."""
    unit = RamUnit(64)
    first = (b"DmRd", changes.get("compat", 1), 3, position, events, failed, recovery, resync)
    same = (shape.level, shape.layouts[0], shape.stripe)
    struct.pack_into("<4sIIIQQQQIII", unit.data, 0, *first, *same)
    second = (changes.get("flags", 0), 0, *same, changes.get("delta", 0), 0, changes.get("data_offset", 0), 0, 0)
    struct.pack_into("<IQIIIIQQQQ3QI", unit.data, 60, *second, 0, 0, 0, changes.get("incompat", 0))
    if bitmap:
        state = changes.get("state", 0)
        struct.pack_into("<4sI16sQQQIII", unit.data, 4096, b"bitm", 4, b"", events, 0, 4096, state, 32768, 5)
        unit.data[4096 + 256 : 4096 + 256 + len(dirty)] = dirty
    meta = Area(Disk(unit, writable=False), 0, len(unit.data))
    return Leg(f"leg{position}", meta, Area(Disk(RamUnit(8), writable=False), 0, 4096), rebuild)


def gone(position: int) -> Leg:
    return Leg(f"leg{position}", None, None)


def new(position: int) -> Leg:
    made = leg(position)
    return Leg(made.name, Area(Disk(RamUnit(64), writable=False), 0, 32768), made.image)


def state(*legs: Leg, shape: Shape = RAID1, nosync: bool = False) -> State:
    return judge("vg/lv", legs, shape, nosync=nosync)


def test_all_is_well() -> None:
    found = state(leg(0), leg(1), leg(2))
    assert found.usable == found.expected == (True, True, True)
    assert found.agree(0, 4095)
    assert found.parity(0, 4095)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (leg(1, events=9), "stale"),
        (leg(1, recovery=100), "being rebuilt"),
        (leg(1, rebuild=True), "being rebuilt"),
        (leg(2), "that of leg 2"),
        (new(1), "new"),
        (gone(1), "missing"),
    ],
)
def test_a_leg_that_must_not_be_read(bad: Leg, why: str) -> None:
    found = state(leg(0), bad, leg(2))
    assert found.usable == (True, False, True)
    assert why in found.why[1]


def test_a_leg_that_a_newest_superblock_has_as_failed() -> None:
    for place in (0, 2):
        found = state(*(leg(i, failed=2 if i == place else 0) for i in range(3)))
        assert found.usable == found.expected == (True, False, True)
    assert state(leg(0, failed=2, events=9), leg(1), leg(2)).usable == (False, True, True)  # an old one does not count


def test_where_the_first_resync_has_not_been_nothing_agrees() -> None:
    found = state(*(leg(i, resync=1000) for i in range(3)))
    assert found.agree(0, 999)
    assert not found.agree(0, 1000)
    assert not found.parity(1000, 1000)


def test_dirty_chunks_do_not_agree() -> None:
    found = state(leg(0), leg(1, dirty=b"\x02" + bytes(7)), leg(2))
    assert [found.agree(64 * chunk, 64 * chunk + 63) for chunk in range(3)] == [True, False, True]
    assert not found.agree(0, 64)
    assert not found.parity(64, 64)
    assert not found.agree(64 * 64, 64 * 64)  # behind what the bitmap has


def test_dirty_chunks_of_an_array_without_a_leg_leave_parity_alone() -> None:
    legs = [leg(i, failed=1, dirty=b"\xff" * 8, shape=RAID5) for i in range(3)]
    found = state(*legs, shape=RAID5)
    assert found.usable == (False, True, True)
    assert found.parity(0, 63)
    assert not found.agree(0, 63)


@pytest.mark.parametrize("broken", [leg(1, bitmap=False), leg(1, state=2), leg(1, state=4)])
def test_without_a_sound_bitmap_nothing_agrees(broken: Leg) -> None:
    assert not state(leg(0), broken, leg(2)).agree(0, 1)


@pytest.mark.parametrize("change", ["flags", "delta", "data_offset", "incompat"])
def test_an_array_that_is_being_reshaped_is_refused(change: str) -> None:
    with pytest.raises(Unsupported):
        state(*(leg(i, **{change: 1}) for i in range(3)))


def test_an_array_that_is_not_what_the_text_says_is_refused() -> None:
    for legs, shape in (([leg(0), leg(1)], RAID1), ([leg(i) for i in range(3)], RAID5)):
        with pytest.raises(Unsupported):
            state(*legs, shape=shape)


def test_without_any_superblock_only_a_whole_new_array_is_read() -> None:
    found = state(new(0), new(1), new(2))
    assert found.usable == (True, True, True)
    assert not found.agree(0, 0)
    assert state(new(0), new(1), new(2), nosync=True).agree(0, 0)
    for legs in ((gone(0), gone(1), gone(2)), (new(0), gone(1), new(2))):
        with pytest.raises(SwdError) as caught:
            state(*legs)
        assert caught.value.errno == errno.EIO


def test_parity_of_an_array_made_without_a_resync_is_never_sure() -> None:
    legs = [leg(i, shape=RAID5) for i in range(3)]
    assert state(*legs, shape=RAID5).parity(0, 0)
    assert not state(*legs, shape=RAID5, nosync=True).parity(0, 0)
    assert state(*(leg(i) for i in range(3)), nosync=True).agree(0, 0)
