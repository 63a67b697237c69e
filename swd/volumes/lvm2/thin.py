# SPDX-License-Identifier: Apache-2.0
"""Thin volumes: a B-tree in the pool's metadata says which block of the pool's data has each block of a volume.

The metadata (drivers/md/dm-thin-metadata.c, persistent-data/dm-btree.c) is blocks of 4 KiB with checksums. The tree has
two levels, the volume's number and then its blocks. Every node is checked before it is used: its checksum, its own
address, the order of its keys, and that they lie where the node above says; so no walk goes in a circle.
"""

from __future__ import annotations

import struct
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from swd._crc32c import crc32c
from swd.errors import MediumError, Unsupported
from swd.volumes.lvm2.label import SECTOR
from swd.volumes.lvm2.layers import Layer, Piece, zero
from swd.volumes.lvm2.transfer import read

BLOCK: Final = 4096
MAGIC: Final = 27022010
SUPERBLOCK_XOR, NODE_XOR = 160774, 121107
NEEDS_CHECK: Final = 1
MOST_DEPTH: Final = 16
KEPT: Final = 512  # nodes in memory
_INTERNAL, _LEAF = 1, 2
_VALUE: Final = 8

_SUPER = struct.Struct("<IIQ16sQIIQQ128s128sQQIIQIII")
_NODE = struct.Struct("<IIQIII4x")


class Super(NamedTuple):
    """The superblock's fields, by dm-thin-metadata.c."""

    csum: int
    flags: int
    place: int
    uuid: bytes
    magic: int
    version: int
    time: int
    transaction: int
    held_root: int
    data_space: bytes
    metadata_space: bytes
    mappings: int
    details: int
    data_block: int
    metadata_block: int
    blocks: int
    compat: int
    compat_ro: int
    incompat: int


class Node(NamedTuple):
    leaf: bool
    keys: tuple[int, ...]
    values: tuple[int, ...]


def checksum(block: bytes, xor: int) -> int:
    """Of a metadata block: CRC-32C of all but the checksum, not inverted at the end, then changed by its kind."""
    return crc32c(memoryview(block)[4:]) ^ 0xFFFFFFFF ^ xor


class Pool:
    """The metadata of a pool. Raises MediumError (EIO) where it is damaged, asks for a repair (needs_check), or is not
    of the transaction that LVM knows; Unsupported (EOPNOTSUPP) for features that came later.
    """

    def __init__(self, name: str, metadata: Layer, data: Layer, block: int, transaction: int) -> None:
        self.name = name
        self.metadata = metadata
        self.data = data
        self.block = block
        self._nodes: OrderedDict[int, Node] = OrderedDict()
        self._lock = threading.Lock()  # guards _nodes; nothing is called under it
        self.root = self._superblock(transaction).mappings

    def _superblock(self, transaction: int) -> Super:
        raw = read(self.metadata, 0, BLOCK)
        found = Super._make(_SUPER.unpack_from(raw))
        if found.magic != MAGIC or found.place != 0 or found.csum != checksum(raw, SUPERBLOCK_XOR):
            raise self._bad("no sound superblock")
        if found.version not in (1, 2) or found.incompat or found.metadata_block * SECTOR != BLOCK:
            raise Unsupported(f"thin pool {self.name}: metadata of version {found.version} with unknown features")
        if found.flags & NEEDS_CHECK:
            raise self._bad("needs_check is set: repair it with lvconvert --repair where it is attached")
        if found.data_block * SECTOR != self.block:
            raise self._bad(f"its blocks have {found.data_block} sectors, and LVM says {self.block // SECTOR}")
        if found.transaction != transaction:
            raise self._bad(f"it is of transaction {found.transaction}, and LVM's metadata of {transaction}")
        return found

    def _bad(self, why: str) -> MediumError:
        return MediumError(f"the metadata of thin pool {self.name}: {why}")

    def node(self, place: int) -> Node:
        """The node in a block of the metadata, checked."""
        with self._lock:
            found = self._nodes.get(place)
            if found is not None:
                self._nodes.move_to_end(place)
                return found
        found = self._read(place)
        with self._lock:
            self._nodes[place] = found
            while len(self._nodes) > KEPT:
                self._nodes.popitem(last=False)
        return found

    def _read(self, place: int) -> Node:
        if not 0 < place < self.metadata.size // BLOCK:
            raise self._bad(f"a node in block {place}, which it does not have")
        raw = read(self.metadata, place * BLOCK, BLOCK)
        csum, flags, where, count, most, value_size = _NODE.unpack_from(raw)
        if where != place or csum != checksum(raw, NODE_XOR):
            raise self._bad(f"block {place} is damaged")
        room = (BLOCK - _NODE.size) // (8 + _VALUE)
        if flags not in (_INTERNAL, _LEAF) or value_size != _VALUE or not count <= most <= room:
            raise self._bad(f"block {place} is no node of this tree")
        keys = struct.unpack_from(f"<{count}Q", raw, _NODE.size)
        values = struct.unpack_from(f"<{count}Q", raw, _NODE.size + 8 * most)
        if any(first >= second for first, second in pairwise(keys)):
            raise self._bad(f"the keys of block {place} are not in order")
        return Node(flags == _LEAF, keys, values)

    def walk(self, root: int, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The pairs (key, value) of a tree with first <= key <= last, in order."""
        return self._walk(root, first, last, 0, 1 << 64, 0)

    def _walk(self, place: int, first: int, last: int, low: int, high: int, depth: int) -> Iterator[tuple[int, int]]:
        if depth > MOST_DEPTH:
            raise self._bad("a tree that is too deep")
        node = self.node(place)
        keys = node.keys
        if keys and not low <= keys[0] <= keys[-1] < high:
            raise self._bad(f"the keys of block {place} are not those that the node above says")
        if node.leaf:
            for index in range(bisect_left(keys, first), bisect_right(keys, last)):
                yield keys[index], node.values[index]
            return
        for index in range(max(0, bisect_right(keys, first) - 1), bisect_right(keys, last)):
            end = keys[index + 1] if index + 1 < len(keys) else high
            yield from self._walk(node.values[index], first, last, keys[index], end, depth + 1)

    def volume(self, number: int) -> int:
        """The root of a volume's own tree."""
        for _, root in self.walk(self.root, number, number):
            return root
        raise self._bad(f"it has no volume number {number}")


class Thin:
    """A thin volume as a layer. What was never written, or was discarded, is zeros."""

    def __init__(self, pool: Pool, number: int, size: int) -> None:
        self.pool = pool
        self.root = pool.volume(number)
        self.size = size

    def pieces(self, offset: int, length: int) -> Iterator[Piece]:
        size, end = self.pool.block, offset + length
        for key, value in self.pool.walk(self.root, offset // size, (end - 1) // size):
            start = key * size
            if offset < start:
                yield Piece(start - offset, None, fill=zero)
                offset = start
            stop = min(end, start + size)
            yield from self._block(value >> 24, offset - start, stop - offset)  # the low 24 bits are a time
            offset = stop
        if offset < end:
            yield Piece(end - offset, None, fill=zero)

    def _block(self, block: int, skip: int, length: int) -> Iterator[Piece]:
        place = block * self.pool.block
        if place + self.pool.block > self.pool.data.size:
            raise MediumError(f"thin pool {self.pool.name}: a volume has block {block}, which the pool does not have")
        return self.pool.data.pieces(place + skip, length)
