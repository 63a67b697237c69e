# SPDX-License-Identifier: Apache-2.0
"""How large a unit is, whether it may be written, and which units a target has: bytes to records, within bounds.

READ CAPACITY(10) and (16): SBC-3 5.15 and 5.16. Mode parameters: SPC-4 7.5, caching page SBC-3 6.4.5. REPORT LUNS:
SPC-4 6.33. Any bytes give a record or ProtocolViolation.
"""

from __future__ import annotations

from dataclasses import dataclass

from swd.errors import ProtocolViolation
from swd.scsi.fields import byte, need, number

MIN_BLOCK, MAX_BLOCK = 256, 1 << 20  # a size outside of this is no disk's; it would only serve to make memory grow
MAX_BYTES = (1 << 63) - 1  # off_t
TOO_LARGE_FOR_10 = 0xFFFFFFFF  # READ CAPACITY(10): "ask READ CAPACITY(16)"
CACHING_PAGE = 0x08


@dataclass(frozen=True, slots=True)
class Capacity:
    """`blocks` of `block_size` bytes; `physical_block_size` is what the medium writes at once (a multiple)."""

    blocks: int
    block_size: int
    physical_block_size: int
    thin: bool = False  # LBPME: logical block provisioning management is enabled
    reads_zeros: bool = False  # LBPRZ


@dataclass(frozen=True, slots=True)
class ModeParameters:
    """`write_cache` is the WCE bit of the caching page, None where there is no such page."""

    write_protected: bool = False
    dpo_fua: bool = False
    write_cache: bool | None = None


def parse_capacity_10(data: bytes) -> Capacity | None:
    """None: the unit is too large for this command."""
    need(data, 8, "READ CAPACITY(10) data")
    last = number(data, 0, 4)
    if last == TOO_LARGE_FOR_10:
        return None
    return _capacity(last, number(data, 4, 4), 0)


def parse_capacity_16(data: bytes) -> Capacity:
    need(data, 12, "READ CAPACITY(16) data")
    flags = byte(data, 14)
    exponent = byte(data, 13) & 0x0F
    return _capacity(number(data, 0, 8), number(data, 8, 4), exponent, bool(flags & 0x80), bool(flags & 0x40))


def _capacity(last: int, block_size: int, exponent: int, thin: bool = False, reads_zeros: bool = False) -> Capacity:
    if not MIN_BLOCK <= block_size <= MAX_BLOCK:
        reason = f"the unit says that its blocks have {block_size} bytes; no disk has such blocks"
        raise ProtocolViolation(reason, clause="SBC-3 5.16")
    if (last + 1) * block_size > MAX_BYTES:
        reason = f"the unit says that its last block is {last}: more bytes than 63 bits can count"
        raise ProtocolViolation(reason, clause="SBC-3 5.16")
    return Capacity(last + 1, block_size, block_size << exponent, thin, reads_zeros)


def parse_mode_6(data: bytes) -> ModeParameters:
    need(data, 4, "MODE SENSE(6) data")
    return _mode(data[: 1 + data[0]] if data[0] >= 3 else data[:4], data[2], 4 + data[3])


def parse_mode_10(data: bytes) -> ModeParameters:
    need(data, 8, "MODE SENSE(10) data")
    return _mode(data[: 2 + max(6, number(data, 0, 2))], data[3], 8 + number(data, 6, 2))


def _mode(data: bytes, device_specific: int, first_page: int) -> ModeParameters:
    return ModeParameters(bool(device_specific & 0x80), bool(device_specific & 0x10), _write_cache(data, first_page))


def _write_cache(data: bytes, at: int) -> bool | None:
    """Walk the mode pages; a page is a code (with SPF in bit 6), a length, and so many bytes."""
    while at + 2 <= len(data):
        code, sub_page = data[at] & 0x3F, bool(data[at] & 0x40)
        if code == CACHING_PAGE and not sub_page:
            return bool(data[at + 2] & 0x04) if at + 2 < len(data) else None
        at += 4 + number(data, at + 2, 2) if sub_page else 2 + data[at + 1]
    return None


def luns_length(data: bytes) -> int:
    """Bytes of the whole REPORT LUNS answer as its header announces them."""
    need(data, 8, "REPORT LUNS data")
    return 8 + number(data, 0, 4)


def parse_luns(data: bytes) -> tuple[int, ...]:
    """The 64-bit LUN fields (SAM-5 4.7) that are wholly there, in the target's order, without repetition."""
    end = min(len(data), luns_length(data))
    fields = (number(data, at, 8) for at in range(8, end - 7, 8))
    return tuple(dict.fromkeys(fields))
