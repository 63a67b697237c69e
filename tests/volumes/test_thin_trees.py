# SPDX-License-Identifier: Apache-2.0
"""Trees of a thin pool made by hand, sound but for one thing each, so that each check of a walk has its own witness."""

from __future__ import annotations

import errno
import struct

import pytest
from ram_unit import RamUnit

from swd.disk import Disk
from swd.errors import MediumError
from swd.volumes.lvm2 import thin
from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.layers import Area
from swd.volumes.lvm2.thin import BLOCK, Pool, Thin
from swd.volumes.lvm2.transfer import read

SIZE = 1 << 16  # bytes of a block of the pool's data
DATA = 8  # blocks of data
ROOT, VOLUME, LEFT, RIGHT = 1, 2, 3, 4  # blocks of the metadata; others are free for what a test puts there
METADATA = 32
Pairs = dict[int, int]


def node(place: int, pairs: Pairs, *, leaf: bool) -> bytes:
    most = (BLOCK - 32) // 16
    head = struct.pack("<IIQIII4x", 0, 2 if leaf else 1, place, len(pairs), most, 8)
    keys = struct.pack(f"<{most}Q", *pairs, *[0] * (most - len(pairs)))
    values = struct.pack(f"<{most}Q", *pairs.values(), *[0] * (most - len(pairs)))
    block = bytearray((head + keys + values).ljust(BLOCK, b"\0"))
    block[:4] = struct.pack("<I", thin.checksum(bytes(block), thin.NODE_XOR))
    return bytes(block)


def superblock() -> bytes:
    fields = thin.Super(
        0, 0, 0, bytes(16), thin.MAGIC, 2, 0, 0, 0, bytes(128), bytes(128), ROOT, 0, SIZE // SECTOR, BLOCK // SECTOR,
        METADATA, 0, 0, 0,
    )  # fmt: skip
    block = bytearray(struct.pack("<IIQ16sQIIQQ128s128sQQIIQIII", *fields).ljust(BLOCK, b"\0"))
    block[:4] = struct.pack("<I", thin.checksum(bytes(block), thin.SUPERBLOCK_XOR))
    return bytes(block)


def held(block: int) -> int:
    """The value of a mapping: a block of the data, and a time below it."""
    return block << 24 | 7


def content(**nodes: Pairs) -> bytes:
    """What volume 5 has in its 16 blocks: of data, block n is full of n. `leaf3={...}` puts a leaf into block 3,
    `inner3` an internal node, in place of what is right.
    """
    blocks = {
        ROOT: node(ROOT, {5: VOLUME}, leaf=True),
        VOLUME: node(VOLUME, {0: LEFT, 10: RIGHT}, leaf=False),
        LEFT: node(LEFT, {1: held(3), 4: held(1)}, leaf=True),
        RIGHT: node(RIGHT, {10: held(2), 15: held(7)}, leaf=True),
    }
    for name, pairs in nodes.items():
        place = int(name[-2:].lstrip("afern"))
        blocks[place] = node(place, pairs, leaf=name.startswith("leaf"))
    metadata, data = RamUnit(METADATA * BLOCK // 512), RamUnit(DATA * SIZE // 512)
    metadata.data[:BLOCK] = superblock()
    for place, block in blocks.items():
        metadata.data[place * BLOCK : (place + 1) * BLOCK] = block
    data.data[:] = b"".join(bytes([number]) * SIZE for number in range(DATA))
    areas = [Area(Disk(unit, writable=False), 0, len(unit.data)) for unit in (metadata, data)]
    volume = Thin(Pool("p", areas[0], areas[1], SIZE, 0), 5, 16 * SIZE)
    whole = read(volume, 0, volume.size)
    assert all(whole[at : at + SIZE] == whole[at : at + 1] * SIZE for at in range(0, volume.size, SIZE))
    return whole[::SIZE]


def test_a_sound_tree() -> None:
    assert content() == bytes([0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 7])


BOUNDS = "the keys of block {} are not those that the node above says"


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"leaf4": {9: held(2), 15: held(7)}}, BOUNDS.format(4)),
        ({"leaf3": {1: held(3), 10: held(1)}}, BOUNDS.format(3)),
        ({"inner4": {9: 6}, "leaf6": {10: held(2)}}, BOUNDS.format(4)),
        ({"inner3": {0: 6, 5: 7}, "leaf6": {1: held(3), 5: held(1)}, "leaf7": {5: held(2)}}, BOUNDS.format(6)),
        ({"leaf3": {1: held(3), 4: held(1), 2: held(2), 9: held(2)}}, "the keys of block 3 are not in order"),
        ({"leaf3": {1: held(3), 4: held(DATA)}}, f"a volume has block {DATA}, which the pool does not have"),
        ({"inner2": {0: LEFT, 10: METADATA}}, f"a node in block {METADATA}, which it does not have"),
        ({"inner2": {0: 0, 10: RIGHT}}, "a node in block 0, which it does not have"),
        ({"leaf1": {4: VOLUME, 6: VOLUME}}, "it has no volume number 5"),
        ({f"inner{n}": {0: n + 1} for n in range(2, 30)}, "a tree that is too deep"),
    ],
)
def test_a_tree_with_one_fault(nodes: dict[str, Pairs], why: str) -> None:
    with pytest.raises(MediumError, match=why) as caught:
        content(**nodes)
    assert caught.value.errno == errno.EIO


def test_a_tree_may_be_as_deep_as_it_may_be() -> None:
    last = 2 + thin.MOST_DEPTH
    nodes = {f"inner{n}": {0: n + 1} for n in range(2, last)}
    assert content(**nodes, **{f"leaf{last}": {1: held(3)}})[:3] == bytes([0, 3, 0])
