# SPDX-License-Identifier: Apache-2.0
"""Builders of the CDBs that swd itself sends. What is too large for its field raises struct.error.

Blocks and block counts, never bytes, except for the allocation lengths. SPC-4 clause 6 and SBC-3 clause 5. READ and
WRITE are also built in C, on the fast path: these here serve the slow path and its messages.
"""

from __future__ import annotations

import struct

TEST_UNIT_READY = bytes(6)

_MAX_LBA_10 = 0xFFFFFFFF
_MAX_BLOCKS_10 = 0xFFFF
_UNMAP_DESCRIPTOR = struct.Struct(">QI4x")


def request_sense(length: int = 252) -> bytes:
    return struct.pack(">BxxxBx", 0x03, length)


def inquiry(length: int = 96) -> bytes:
    """Standard INQUIRY (SPC-4 6.6) for at most `length` bytes."""
    return struct.pack(">BxxHx", 0x12, length)


def inquiry_page(page: int, length: int = 255) -> bytes:
    """INQUIRY with EVPD=1: vital product data page `page`."""
    return struct.pack(">BBBHx", 0x12, 0x01, page, length)


def mode_sense_6(page: int, length: int = 192) -> bytes:
    """Current values of a mode page, without block descriptors (DBD=1)."""
    return struct.pack(">BBBxBx", 0x1A, 0x08, page, length)


def mode_sense_10(page: int, length: int = 192) -> bytes:
    return struct.pack(">BBB4xHx", 0x5A, 0x08, page, length)


def read_capacity_10() -> bytes:
    return struct.pack(">B9x", 0x25)


def read_capacity_16(length: int = 32) -> bytes:
    return struct.pack(">BB8xIxx", 0x9E, 0x10, length)


def report_luns(length: int) -> bytes:
    """SELECT REPORT 00h: all logical units but the well-known ones (SPC-4 6.33)."""
    return struct.pack(">B5xIxx", 0xA0, length)


def read(lba: int, blocks: int) -> bytes:
    """READ(10) where the address and the count fit, READ(16) otherwise."""
    return _transfer(0x28, 0x88, lba, blocks)


def write(lba: int, blocks: int) -> bytes:
    """WRITE(10) where the address and the count fit, WRITE(16) otherwise."""
    return _transfer(0x2A, 0x8A, lba, blocks)


def _transfer(code_10: int, code_16: int, lba: int, blocks: int) -> bytes:
    if lba + blocks - 1 <= _MAX_LBA_10 and blocks <= _MAX_BLOCKS_10:
        return struct.pack(">BxIxHx", code_10, lba, blocks)
    return struct.pack(">BxQIxx", code_16, lba, blocks)


def synchronize_cache_10() -> bytes:
    """The whole medium: address 0, count 0 (SBC-3 5.21)."""
    return struct.pack(">B9x", 0x35)


def synchronize_cache_16() -> bytes:
    return struct.pack(">B15x", 0x91)


def write_same_16(lba: int, blocks: int, *, unmap: bool = False) -> bytes:
    """One block of data repeated `blocks` times. A count of 0 would mean "to the end of the medium": refused here.

    `unmap`: the unit may deallocate instead; what it does not, it writes (SBC-3 5.46), so that the blocks read as the
    block of data where unmapped blocks read as zeros and that is zeros, too.
    """
    if blocks <= 0:
        raise ValueError("WRITE SAME of no blocks means all blocks to the end: not sent")
    return struct.pack(">BBQIxx", 0x93, 0x08 if unmap else 0, lba, blocks)


def unmap(parameter_length: int) -> bytes:
    return struct.pack(">B6xHx", 0x42, parameter_length)


def unmap_parameters(lba: int, blocks: int) -> bytes:
    """The parameter list of an UNMAP of one range (SBC-3 5.28.2)."""
    size = _UNMAP_DESCRIPTOR.size
    return struct.pack(">HH4x", 6 + size, size) + _UNMAP_DESCRIPTOR.pack(lba, blocks)
