# SPDX-License-Identifier: Apache-2.0
"""The log of an old mirror, by hand: a bit a region, 1 where the legs agree; what makes no sense agrees to nothing."""

from __future__ import annotations

import struct

import pytest
from ram_unit import RamUnit

from swd.disk import Disk
from swd.volumes.lvm2 import mirror
from swd.volumes.lvm2.layers import Area
from swd.volumes.lvm2.mirror import Log

REGION = 4  # sectors
MAGIC = 0x4D695272


def log(bits: bytes = b"\x05", *, magic: int = MAGIC, version: int = 2, regions: int = 8, size: int = 4096) -> Log:
    unit = RamUnit(size // 512)
    unit.data[: min(size, 16)] = struct.pack("<IIQ", magic, version, regions)
    unit.data[1024 : 1024 + len(bits)] = bits
    return Log(Area(Disk(unit, writable=False), 0, size), REGION * 512)


def agreed(found: Log, regions: int = 20) -> list[int]:
    return [n for n in range(regions) if found.agree(n * REGION, n * REGION + REGION - 1)]


def test_each_region_has_a_bit_from_the_lowest_on() -> None:
    assert agreed(log(b"\x05\x82", regions=16)) == [0, 2, 9, 15]


def test_a_range_agrees_where_all_of_its_regions_do() -> None:
    found = log(b"\x0e")
    assert found.agree(REGION, 4 * REGION - 1)
    assert found.agree(2 * REGION - 1, 2 * REGION)
    assert not found.agree(REGION - 1, REGION)
    assert not found.agree(3 * REGION, 4 * REGION)


def test_beyond_its_regions_nothing_agrees_though_there_are_bits() -> None:
    assert agreed(log(b"\xff\xff\xff", regions=5)) == [0, 1, 2, 3, 4]
    everything = (4096 - 1024) * 8
    assert agreed(log(b"\xff" * 3072, regions=1 << 60), everything + 8) == list(range(everything))


@pytest.mark.parametrize(
    "broken", [{"magic": MAGIC + 1}, {"version": 1}, {"version": 3}, {"regions": 0}, {"size": 1024}, {"size": 512}]
)
def test_what_makes_no_sense_agrees_to_nothing(broken: dict[str, int]) -> None:
    bits = b"" if broken.get("size", 4096) <= 1024 else b"\xff"
    assert agreed(log(bits, **broken)) == []


def test_no_log_agrees_to_nothing() -> None:
    assert agreed(Log(None, REGION * 512)) == []


def test_no_more_of_a_log_is_read_than_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "MOST_LOG", 1026)
    assert agreed(log(b"\xff\xff\xff\xff", regions=32), 40) == list(range(16))
