# SPDX-License-Identifier: Apache-2.0
"""Capacity, mode parameters and LUN lists: from the wire to records, within bounds."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.errors import ProtocolViolation
from swd.scsi import capacity
from swd.scsi.capacity import Capacity, ModeParameters

CACHING = bytes([0x08, 0x12, 0x04]) + bytes(17)


def test_capacity_10() -> None:
    assert capacity.parse_capacity_10(struct.pack(">II", 2047, 512)) == Capacity(2048, 512, 512)
    assert capacity.parse_capacity_10(struct.pack(">II", 0xFFFFFFFF, 512)) is None
    with pytest.raises(ProtocolViolation):
        capacity.parse_capacity_10(bytes(7))


def test_capacity_16() -> None:
    data = struct.pack(">QIBBBB16x", (1 << 33) - 1, 512, 0, 0x13, 0xC0, 0)
    assert capacity.parse_capacity_16(data) == Capacity(1 << 33, 512, 4096, thin=True, reads_zeros=True)
    assert capacity.parse_capacity_16(data[:12]) == Capacity(1 << 33, 512, 512)


@pytest.mark.parametrize(
    ("last", "block_size"),
    [(0, 0), (0, 1), (0, 255), (0, (1 << 20) + 1), (0, 0xFFFFFFFF), ((1 << 64) - 1, 512), ((1 << 54) - 1, 512)],
)
def test_sizes_that_no_disk_has(last: int, block_size: int) -> None:
    with pytest.raises(ProtocolViolation):
        capacity.parse_capacity_16(struct.pack(">QI20x", last, block_size))


def test_the_largest_disk() -> None:
    assert capacity.parse_capacity_16(struct.pack(">QI20x", (1 << 54) - 2, 512)).blocks == (1 << 54) - 1


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (bytes([3, 0, 0x00, 0]), ModeParameters()),
        (bytes([3, 0, 0x90, 0]), ModeParameters(write_protected=True, dpo_fua=True)),
        (bytes([23, 0, 0x00, 0]) + CACHING, ModeParameters(write_cache=True)),
        (bytes([23, 0, 0x00, 0, 0x88, 0x12, 0x00]) + bytes(17), ModeParameters(write_cache=False)),  # PS bit set
        (bytes([31, 0, 0x00, 8]) + bytes(8) + CACHING, ModeParameters(write_cache=True)),  # after a block descriptor
        (bytes([35, 0, 0x00, 0, 0x0A, 10]) + bytes(10) + CACHING, ModeParameters(write_cache=True)),
        (
            bytes([28, 0, 0x00, 0, 0x48, 1, 0, 1, 0xFF]) + CACHING,
            ModeParameters(write_cache=True),
        ),  # sub-page 8/1 before
        (bytes([3, 0, 0x00, 0]) + CACHING, ModeParameters()),  # behind the announced length
        (bytes([23, 0, 0x00, 200]) + CACHING, ModeParameters()),  # block descriptors that are not there
        (bytes([5, 0, 0x00, 0, 0x08, 0x12]), ModeParameters()),  # cut off before WCE
    ],
)
def test_mode_parameters(data: bytes, found: ModeParameters) -> None:
    assert capacity.parse_mode_6(data) == found
    ten = struct.pack(">HBB2xH", data[0] + 3, data[1], data[2], data[3]) + data[4:]
    assert capacity.parse_mode_10(ten) == found


def test_luns() -> None:
    fields = [0, 1 << 48, 0x4100 << 48, 1 << 48]
    data = struct.pack(">II", 32, 0) + b"".join(field.to_bytes(8, "big") for field in fields)
    assert capacity.parse_luns(data) == (0, 1 << 48, 0x4100 << 48)
    assert capacity.parse_luns(data[:-1]) == (0, 1 << 48, 0x4100 << 48)
    assert capacity.parse_luns(data[:23]) == (0,)
    assert capacity.luns_length(data) == 40
    assert capacity.parse_luns(struct.pack(">II", 8, 0) + data[8:]) == (0,)


PARSERS: list[Callable[[bytes], object]] = [
    capacity.parse_capacity_10,
    capacity.parse_capacity_16,
    capacity.parse_mode_6,
    capacity.parse_mode_10,
    capacity.parse_luns,
]


@settings(max_examples=400)
@given(st.binary(max_size=64), st.sampled_from(PARSERS))
def test_any_bytes_give_a_record_or_a_violation(raw: bytes, parse: Callable[[bytes], object]) -> None:
    found = None
    with suppress(ProtocolViolation):
        found = parse(raw)
    if isinstance(found, Capacity):
        assert 0 < found.blocks * found.block_size <= capacity.MAX_BYTES
    if isinstance(found, tuple):
        assert len(found) <= len(raw) // 8
