# SPDX-License-Identifier: Apache-2.0
"""How ranges of bytes are cut into commands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ram_unit import RamUnit

from swd.errors import MediumError
from swd.ioqueue import COMMAND_BYTES, Part, parts, transfer


@pytest.mark.parametrize(
    ("offset", "length", "found"),
    [
        (0, 512, [Part(0, 512, True)]),
        (1024, 4096, [Part(0, 4096, True)]),
        (1, 10, [Part(0, 10, False)]),
        (500, 100, [Part(0, 12, False), Part(12, 100, False)]),
        (512, 513, [Part(0, 512, True), Part(512, 513, False)]),
        (511, 513, [Part(0, 1, False), Part(1, 513, True)]),
        (511, 514, [Part(0, 1, False), Part(1, 513, True), Part(513, 514, False)]),
    ],
)
def test_cuts(offset: int, length: int, found: list[Part]) -> None:
    assert parts(offset, length, 512, bounce=0) == found


def test_small_unaligned_ranges_are_not_cut() -> None:
    assert parts(511, 514, 512, bounce=2048) == [Part(0, 514, False)]
    assert parts(511, 1026, 512, bounce=2048) == [Part(0, 1026, False)]
    assert len(parts(511, 1026, 512, bounce=2047)) == 3
    assert parts(0, 4096, 512, bounce=1 << 20) == [Part(0, 4096, True)]


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 20), st.sampled_from([512, 520, 4096]), st.integers(0, 1 << 17))
def test_the_parts_are_the_range(offset: int, length: int, block_size: int, bounce: int) -> None:
    found = parts(offset, length, block_size, bounce)
    assert [part.start for part in found] == [0, *(part.stop for part in found[:-1])]
    assert found[-1].stop == length
    assert len(found) <= 3
    for part in found:
        assert part.start < part.stop
        aligned = not (offset + part.start) % block_size and not (offset + part.stop) % block_size
        assert part.whole == aligned or not part.whole
    assert all(part.whole for part in found) == (not offset % block_size and not length % block_size)


def test_a_short_transfer_is_one_command() -> None:
    unit = RamUnit(blocks=8192)
    transfer(unit, False, 5, memoryview(bytearray(1024)))
    transfer(unit, True, 0, memoryview(bytes(COMMAND_BYTES)))
    assert unit.log == [("read", 5, 2), ("write", 0, 2048)]


def test_a_long_transfer_is_one_batch_of_equal_commands_and_the_rest() -> None:
    unit = RamUnit(blocks=8192)
    per_command = COMMAND_BYTES // 512
    data = bytes(range(256)) * (3 * COMMAND_BYTES // 256) + b"\x77" * 1536
    transfer(unit, True, 7, memoryview(data))
    assert unit.log == [("batch write", 7, 3), ("write", 7 + 3 * per_command, 3)]
    assert unit.data[7 * 512 : 7 * 512 + len(data)] == data
    back = bytearray(len(data))
    transfer(unit, False, 7, memoryview(back))
    assert back == data


def test_a_unit_that_takes_little_at_once() -> None:
    unit = RamUnit(blocks=64, max_transfer=3 * 512)
    data = bytes(i % 251 for i in range(10 * 512))
    transfer(unit, True, 2, memoryview(data))
    assert unit.log == [("batch write", 2, 3), ("write", 11, 1)]
    assert unit.data[1024 : 1024 + len(data)] == data


def test_the_first_failure_of_a_batch_is_raised() -> None:
    unit = RamUnit(blocks=64, max_transfer=512)
    unit.bad = {9, 5, 7}
    with pytest.raises(MediumError, match="block 5"):
        transfer(unit, False, 4, memoryview(bytearray(8 * 512)))
