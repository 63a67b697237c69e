# SPDX-License-Identifier: Apache-2.0
"""The table of loads, and where their I/Os go."""

from __future__ import annotations

import pytest

from swd.errors import InvalidArgument
from swd.measure.profiles import EVERY_WAY, PROFILES, READS, WRITES, Load, Places, loads


def test_nothing_writes_unless_asked() -> None:
    assert not any(load.writes for name in ("", *PROFILES) for load in loads((name,) if name else (), writing=False))
    assert {load.profile for load in loads((), writing=True)} == set(PROFILES)
    assert [load.operation for load in loads(("mixed",), writing=True)] == ["random 70/30"]


@pytest.mark.parametrize("load", [*READS, *WRITES], ids=str)
def test_a_load_stays_inside_and_is_aligned(load: Load) -> None:
    size = 8 * load.size + 512  # a rest at the end that no I/O may touch
    offsets = Places(load, size).take(100)
    assert not (offsets % load.size).any()
    assert offsets.min() >= 0
    assert offsets.max() <= size - load.size
    assert set(load.ways) <= set(EVERY_WAY)
    if load.in_order:
        assert offsets[:9].tolist() == [load.size * (at % 8) for at in range(9)]


def test_an_io_is_at_least_a_block_and_at_most_the_disk() -> None:
    load = READS[0]
    assert load.fitted(65536, 1 << 20).size == 65536
    with pytest.raises(InvalidArgument, match="has 4095 bytes"):
        load.fitted(512, 4095)
