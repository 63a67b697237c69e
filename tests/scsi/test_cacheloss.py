# SPDX-License-Identifier: Apache-2.0
"""Which unit attentions mean that unflushed writes may be gone, and UNMAP by whole granules."""

from __future__ import annotations

import struct

import pytest
from fake_disk import FakeDisk, check_condition
from hypothesis import given
from hypothesis import strategies as st

from swd.scsi.cacheloss import CacheWatch
from swd.scsi.unit import LogicalUnit
from swd.values import Sense


def attention(asc: int, ascq: int) -> Sense:
    return Sense(0x6, asc, ascq)


def watch(*, strict: bool = False, write_cache: bool = True) -> CacheWatch:
    found = CacheWatch(strict=strict)
    found.write_cache = write_cache
    return found


@pytest.mark.parametrize(
    ("asc", "ascq", "fresh", "settled", "strict"),
    [
        (0x29, 0x00, 0, 1, 1),
        (0x29, 0x01, 1, 1, 1),
        (0x29, 0x02, 0, 0, 0),
        (0x29, 0x03, 0, 0, 0),
        (0x29, 0x04, 1, 1, 1),
        (0x29, 0x07, 0, 0, 0),
        (0x2A, 0x01, 0, 0, 0),
        (0x3F, 0x03, 0, 0, 0),
    ],
)
def test_what_counts(asc: int, ascq: int, fresh: int, settled: int, strict: int) -> None:
    new, old, exact, through = watch(), watch(), watch(strict=True), watch(write_cache=False)
    old.settle()
    for one in (new, old, exact, through):
        one.saw(attention(asc, ascq))
        assert one.seen == {(asc, ascq): 1}
    assert (new.losses, old.losses, exact.losses, through.losses) == (fresh, settled, strict, 0)


def test_only_the_first_attention_of_a_session_is_forgiven() -> None:
    one = watch()
    one.saw(attention(0x29, 0x07))
    one.saw(attention(0x29, 0x00))
    assert one.losses == 1
    one.begin()
    one.saw(attention(0x29, 0x00))
    assert one.losses == 1
    one.saw(attention(0x29, 0x00))
    assert one.losses == 2


def test_other_sense_is_not_an_attention() -> None:
    one = watch()
    one.saw(None)
    one.saw(Sense(0x3, 0x29, 0x04))
    assert (one.losses, one.seen) == (0, {})


@pytest.mark.parametrize("strict", [False, True])
def test_a_unit_over_its_sessions(strict: bool) -> None:
    disk = FakeDisk()
    power_on = check_condition(0x6, 0x29, 0x00)
    disk.script[0x00].append(power_on)
    unit = LogicalUnit(disk, 0, timeout=1.0, strict_cache_loss=strict)
    assert unit.cache_losses == 0
    disk.script[0x9E].append(power_on)  # on the session that was reinstated
    assert unit.confirm(disk) is None
    assert unit.cache_losses == int(strict)
    disk.script[0x2A].append(power_on)
    unit.write_blocks(0, bytes(512))
    disk.script[0x00].append(check_condition(0x6, 0x29, 0x04))
    unit.execute(bytes(6))
    assert unit.cache_losses == 2 + int(strict)


def test_a_unit_without_a_write_cache_loses_nothing() -> None:
    disk = FakeDisk()
    disk.write_cache = False
    unit = LogicalUnit(disk, 0, timeout=1.0)
    disk.script[0x2A].append(check_condition(0x6, 0x29, 0x04))
    unit.write_blocks(0, bytes(512))
    assert unit.cache_losses == 0


@given(st.integers(0, 255), st.integers(1, 256), st.integers(1, 40), st.integers(0, 39), st.integers(1, 100))
def test_unmap_sends_whole_granules_within_the_limit(lba: int, blocks: int, grain: int, skew: int, most: int) -> None:
    blocks = min(blocks, 256 - lba)
    disk = FakeDisk()
    disk.pages[0xB0] = struct.pack(">BBHIIIIIIIQ", 0, 0, 8, 128, 64, 0, most, 1, grain, 1 << 31 | skew % grain, 64)
    disk.data[:] = b"\xff" * len(disk.data)
    unit = LogicalUnit(disk, 0, timeout=1.0)
    disk.log.clear()
    unit.discard(lba, blocks)
    assert len(disk.log) <= -(-blocks // (most - most % grain or most)) + 1
    if most >= grain:
        assert all((start - skew) % grain == 0 for start in disk.unmapped)
    whole = {
        block
        for start in range(skew % grain - grain, 256, grain)
        if start >= lba and start + grain <= lba + blocks
        for block in range(start, start + grain)
    }
    assert {block for block in range(256) if not disk.data[block * 512]} == whole
