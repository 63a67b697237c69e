# SPDX-License-Identifier: Apache-2.0
"""Where a command says which blocks it means: one layout a CDB length, found by the group code of the opcode."""

from __future__ import annotations

from typing import NamedTuple

from swd.target.scsi.reply import ILLEGAL_REQUEST, CheckCondition


class _Layout(NamedTuple):
    """Byte ranges of LOGICAL BLOCK ADDRESS and TRANSFER LENGTH, and the mask of the first byte of the address."""

    lba: slice
    blocks: slice


_LAYOUTS = {  # group code (top three bits of the opcode, SPC-4 4.2.5.1) -> layout
    0: _Layout(slice(1, 4), slice(4, 5)),
    1: _Layout(slice(2, 6), slice(7, 9)),
    2: _Layout(slice(2, 6), slice(7, 9)),
    4: _Layout(slice(2, 10), slice(10, 14)),
    5: _Layout(slice(2, 6), slice(6, 10)),
}


def blocks_of(cdb: bytes) -> tuple[int, int]:
    """(LBA, number of blocks) of a block command of 6, 10, 12 or 16 bytes."""
    group = cdb[0] >> 5
    layout = _LAYOUTS[group]
    lba, blocks = int.from_bytes(cdb[layout.lba], "big"), int.from_bytes(cdb[layout.blocks], "big")
    if group == 0:  # 21 bits of address, and zero blocks means 256 (SBC-3 5.8)
        return lba & 0x1FFFFF, blocks or 256
    return lba, blocks


def check_range(lba: int, blocks: int, capacity: int) -> None:
    """Refuse what reaches past the end; a range of no blocks may start at most at the last block (SBC-3 4.19)."""
    if lba + blocks > capacity or lba >= capacity:
        raise CheckCondition(ILLEGAL_REQUEST, 0x21, information=capacity)


def allocation(cdb: bytes, place: slice, data: bytes) -> bytes:
    """Data-In cut to the ALLOCATION LENGTH at `place` of the CDB (SPC-4 4.2.5.6)."""
    return data[: int.from_bytes(cdb[place], "big")]
