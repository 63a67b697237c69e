# SPDX-License-Identifier: Apache-2.0
"""Is an XFS log clean: is the last thing in it the record that an unmount writes?

The log is a ring of 512-byte blocks. The first word of each is the number of the round in which it was written (in a
record's first block the second word is), so the head, where this round's blocks end, is found by halving. The rule is
the kernel's (xlog_find_tail); whatever it cannot place, the answer here is "not clean".
"""

from __future__ import annotations

from typing import Final

from swd.volumes.filesystems.record import Look

BLOCK: Final = 512
MAGIC: Final = bytes.fromhex("feedbabe")
ROUND_PER_HEADER: Final = 32 << 10  # a version 2 record has one more header block for each of these after the first
LOOK_BACK: Final = 1 << 20  # a record is 256 KiB at most, and padded to a stripe unit of 256 KiB
UNMOUNT: Final = 0x20
LOG_CLIENT: Final = 0xAA


def is_clean(look: Look, offset: int, length: int) -> bool:
    """The log lies at `offset` of the disk. Reads some 20 blocks of it and the last record."""
    blocks = length // BLOCK
    if blocks < 4:
        return False
    first, last = _round(look, offset, 0), _round(look, offset, blocks - 1)
    if not first:
        return not last  # a log of zeros, as xfs_repair -L left it once
    head = blocks if first == last else _head(look, offset, blocks, first)
    return _ends_in_unmount(look, offset, head, first)


def _head(look: Look, offset: int, blocks: int, first: int) -> int:
    """The first block that is not of the round `first`."""
    low, high = 0, blocks - 1  # block `low` is of this round, block `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        if _round(look, offset, middle) == first:
            low = middle
        else:
            high = middle
    return high


def _round(look: Look, offset: int, block: int) -> int:
    raw = look.at(offset + block * BLOCK, 8)
    return int.from_bytes(raw[4:] if raw[:4] == MAGIC else raw[:4], "big")


def _ends_in_unmount(look: Look, offset: int, head: int, this_round: int) -> bool:
    start = max(0, head - LOOK_BACK // BLOCK)
    raw = look.at(offset + start * BLOCK, (head - start) * BLOCK)
    for block in reversed(range(head - start)):
        header = raw[block * BLOCK : (block + 1) * BLOCK]
        if header[:4] == MAGIC:
            return _is_unmount(raw, block, header, head - start) and _number(header, 4) == this_round
    return False


def _is_unmount(raw: bytes, block: int, header: bytes, head: int) -> bool:
    version, length, operations, size = (
        _number(header, 8),
        _number(header, 12),
        _number(header, 40),
        _number(header, 320),
    )
    headers = max(1, -(-size // ROUND_PER_HEADER)) if version & 2 else 1
    body = (block + headers) * BLOCK
    if operations != 1 or body + 12 > len(raw) or block + headers + -(-length // BLOCK) != head:
        return False
    return raw[body + 8] == LOG_CLIENT and bool(raw[body + 9] & UNMOUNT)


def _number(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 4], "big")
