# SPDX-License-Identifier: Apache-2.0
"""MODE SENSE: the caching and control pages (SPC-4 6.13, 7.5; SBC-3 6.5). Nothing can be changed, so no MODE SELECT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swd.target.scsi.cdb import allocation
from swd.target.scsi.reply import ILLEGAL_REQUEST, CheckCondition, Reply, Request, invalid_field

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit

_CHANGEABLE, _SAVED = 1, 3  # PC field
_WRITE_PROTECT, _DPOFUA = 0x80, 0x10

_CACHING = bytes([0x08, 0x12, 0x04]) + bytes(17)  # WCE=1: writes are durable after SYNCHRONIZE CACHE
_CONTROL = bytes([0x0A, 0x0A, 0x00, 0x10]) + bytes(8)  # D_SENSE=0, QUEUE ALGORITHM MODIFIER 1: unrestricted reordering
PAGES = {0x08: _CACHING, 0x0A: _CONTROL}
_ALL_PAGES, _ALL_SUBPAGES = 0x3F, 0xFF


def mode_sense_6(unit: LogicalUnit, request: Request) -> Reply:
    pages = _pages(request.cdb)
    block = b"" if request.cdb[1] & 0x08 else _short_block_descriptor(unit)
    header = bytes([3 + len(block) + len(pages), 0, _device_specific(unit), len(block)])
    return Reply(data=allocation(request.cdb, slice(4, 5), header + block + pages))


def mode_sense_10(unit: LogicalUnit, request: Request) -> Reply:
    pages = _pages(request.cdb)
    long_lba = bool(request.cdb[1] & 0x10)  # LLBAA
    describe = _long_block_descriptor if long_lba else _short_block_descriptor
    block = b"" if request.cdb[1] & 0x08 else describe(unit)
    length = 6 + len(block) + len(pages)
    header = length.to_bytes(2, "big") + bytes([0, _device_specific(unit), long_lba, 0]) + len(block).to_bytes(2, "big")
    return Reply(data=allocation(request.cdb, slice(7, 9), header + block + pages))


def _pages(cdb: bytes) -> bytes:
    control, code, subpage = cdb[2] >> 6, cdb[2] & 0x3F, cdb[3]
    if control == _SAVED:
        raise CheckCondition(ILLEGAL_REQUEST, 0x39)  # SAVING PARAMETERS NOT SUPPORTED
    chosen = PAGES if code == _ALL_PAGES else {code: PAGES[code]} if code in PAGES else {}
    if not chosen or subpage not in (0, _ALL_SUBPAGES):
        raise invalid_field()
    return b"".join(page[:2] + bytes(len(page) - 2) if control == _CHANGEABLE else page for page in chosen.values())


def _device_specific(unit: LogicalUnit) -> int:
    return _DPOFUA | (_WRITE_PROTECT if unit.read_only else 0)


def _short_block_descriptor(unit: LogicalUnit) -> bytes:
    return min(unit.blocks, 0xFFFFFFFF).to_bytes(4, "big") + unit.block_size.to_bytes(4, "big")


def _long_block_descriptor(unit: LogicalUnit) -> bytes:
    return unit.blocks.to_bytes(8, "big") + bytes(4) + unit.block_size.to_bytes(4, "big")
