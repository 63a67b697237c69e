# SPDX-License-Identifier: Apache-2.0
"""Thin pools and snapshot stores whose own words say that they must not be used, or that are damaged."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import pytest
from ram_unit import RamUnit
from support import golden

from swd.disk import Disk
from swd.errors import SwdError
from swd.volumes.lvm2 import thin
from swd.volumes.lvm2.build import Builder
from swd.volumes.lvm2.layers import Layer
from swd.volumes.lvm2.scan import Device, choose, scan
from swd.volumes.lvm2.transfer import read


class Case:
    """A golden group in memory, and the bytes of one of its internal volumes, which the test may change."""

    def __init__(self, name: str, folder: Path, inside: str) -> None:
        self.units = []
        for path in golden.unpack(name, folder):
            self.units.append(RamUnit(path.stat().st_size // 512))
            self.units[-1].data = bytearray(path.read_bytes())
        devices = [Device(str(i), Disk(unit, writable=False), str(i)) for i, unit in enumerate(self.units)]
        self.group = choose(scan(devices), name)
        self.inside: Layer = Builder(self.group).volume(inside)

    def bytes_at(self, offset: int, length: int) -> bytes:
        return read(self.inside, offset, length)

    def put(self, offset: int, data: bytes) -> None:
        for piece in self.inside.pieces(offset, len(data)):
            assert piece.disk is not None
            assert piece.length == len(data)
            unit = piece.disk.unit
            assert isinstance(unit, RamUnit)
            unit.data[piece.offset : piece.offset + len(data)] = data

    def content(self, volume: str) -> bytes:
        layer = Builder(self.group).view(volume)
        return read(layer, 0, layer.size)


def test_a_leg_that_is_no_volume(tmp_path: Path) -> None:
    case = Case("raid5", tmp_path, "ls_rimage_0")
    volume = case.group.group.logical["ls"]
    assert isinstance(volume.segments[0].values, dict)
    volume.segments[0].values["raids"][1] = "pv3"
    with pytest.raises(SwdError, match="a leg that is no volume: ls_rmeta_0 pv3"):
        case.content("ls")


def sealed(block: bytearray, xor: int) -> bytes:
    block[:4] = struct.pack("<I", thin.checksum(bytes(block), xor))
    return bytes(block)


@pytest.fixture
def pool(tmp_path: Path) -> Case:
    return Case("thin", tmp_path, "pool64_tmeta")


@pytest.mark.parametrize(
    ("offset", "value", "why", "number"),
    [
        (4, b"\1", "needs_check", errno.EIO),
        (48, struct.pack("<Q", 77), "transaction", errno.EIO),
        (32, struct.pack("<Q", 1), "no sound superblock", errno.EIO),
        (40, struct.pack("<I", 9), "unknown features", errno.EOPNOTSUPP),
        (360, b"\1", "unknown features", errno.EOPNOTSUPP),
        (336, struct.pack("<I", 256), "its blocks have 256", errno.EIO),
    ],
)
def test_a_pool_that_says_no(pool: Case, offset: int, value: bytes, why: str, number: int) -> None:
    block = bytearray(pool.bytes_at(0, 4096))
    block[offset : offset + len(value)] = value
    pool.put(0, sealed(block, thin.SUPERBLOCK_XOR))
    with pytest.raises(SwdError, match=why) as caught:
        pool.content("small")
    assert caught.value.errno == number
    assert len(pool.content("large")) == 24 << 20  # the other pool is sound


def test_a_pool_with_a_wrong_checksum(pool: Case) -> None:
    pool.put(300, b"\xff\xff")
    with pytest.raises(SwdError, match="no sound superblock"):
        pool.content("small")


@pytest.mark.parametrize("change", ["checksum", "place", "order", "loop", "value_size", "count"])
def test_a_tree_that_is_none(pool: Case, change: str) -> None:
    """The root of the mappings, changed; all but one change with the right checksum."""
    root = struct.unpack_from("<Q", pool.bytes_at(0, 4096), 320)[0]
    block = bytearray(pool.bytes_at(root * 4096, 4096))
    count, most = struct.unpack_from("<II", block, 16)
    assert count > 1
    if change == "place":
        block[8:16] = struct.pack("<Q", root + 1)
    elif change == "order":
        block[32:40] = struct.pack("<Q", 1 << 40)
    elif change == "loop":
        block[4:8] = struct.pack("<I", 1)  # an internal node that leads to itself
        block[32 + 8 * most : 32 + 8 * (most + count)] = struct.pack("<Q", root) * count
    elif change == "value_size":
        block[24:28] = struct.pack("<I", 24)
    elif change == "count":
        block[16:20] = struct.pack("<I", most + 1)
    if change == "checksum":
        block[100] ^= 1
    else:
        sealed(block, thin.NODE_XOR)
    pool.put(root * 4096, bytes(block))
    with pytest.raises(SwdError) as caught:
        pool.content("small")
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (4, struct.pack("<I", 0), "is invalid"),
        (0, b"XnAp", "no header"),
        (8, struct.pack("<I", 2), "no header"),
        (12, struct.pack("<I", 0), "cannot be"),
        (12, struct.pack("<I", 7), "cannot be"),
        (12, struct.pack("<I", 1 << 31), "cannot be"),
        (4096 + 8, struct.pack("<Q", 1 << 60), "make no sense"),
    ],
)
def test_a_store_that_says_no(tmp_path: Path, offset: int, value: bytes, why: str) -> None:
    case = Case("cow", tmp_path, "snap4")
    case.put(offset, value)
    with pytest.raises(SwdError, match=why) as caught:
        case.content("snap4")
    assert caught.value.errno == errno.EIO
    assert len(case.content("snap64")) == len(case.content("origin")) == 4 << 20
