# SPDX-License-Identifier: Apache-2.0
"""INQUIRY: standard data and the vital product data pages 00, 80, 83, B0 and B2, as frozen records.

Every parser takes any bytes and gives a record or raises ProtocolViolation. A page that ends early is read as far as it
goes: pages have grown from one standard to the next, and what is missing reads as 0. SPC-4 6.6 and 7.8, SBC-3 6.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from swd.errors import ProtocolViolation
from swd.scsi.fields import byte, need, number, text

PAGE_SUPPORTED, PAGE_SERIAL, PAGE_IDENTIFICATION, PAGE_BLOCK_LIMITS, PAGE_PROVISIONING = 0x00, 0x80, 0x83, 0xB0, 0xB2

DISK = 0x00
TYPE_WORDS: dict[int, str] = {  # SPC-4 table 141
    0x00: "disk",
    0x01: "tape drive",
    0x03: "processor",
    0x04: "write-once device",
    0x05: "CD/DVD drive",
    0x07: "optical memory",
    0x08: "medium changer",
    0x0C: "storage array controller",
    0x0D: "enclosure services device",
    0x0E: "simplified direct-access device",
    0x11: "object-based storage device",
    0x12: "automation/drive interface",
    0x14: "host-managed zoned disk",
    0x1E: "well-known logical unit",
    0x1F: "unknown device, or none",
}


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Standard INQUIRY data. `qualifier` 0: a device is there; 1: one could be; 3: none can be (SPC-4 table 140)."""

    qualifier: int
    device_type: int
    removable: bool
    version: int
    vendor: str
    product: str
    revision: str

    @property
    def present(self) -> bool:
        return self.qualifier == 0 and self.device_type != 0x1F

    @property
    def type_words(self) -> str:
        return TYPE_WORDS.get(self.device_type, f"device of type {self.device_type:02X}h")


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """VPD B0 (SBC-3 6.5.3), in blocks; 0 where the target reports no limit."""

    optimal_granularity: int = 0
    max_transfer: int = 0
    optimal_transfer: int = 0
    max_unmap_blocks: int = 0
    max_unmap_descriptors: int = 0
    unmap_granularity: int = 0
    max_write_same: int = 0
    unmap_alignment: int = 0  # the first block of a granule, where the unit says so (UGAVALID)


@dataclass(frozen=True, slots=True)
class Provisioning:
    """VPD B2 (SBC-3 6.5.4): which commands unmap, and whether unmapped blocks read as zeros (LBPRZ)."""

    unmap: bool = False
    write_same_unmaps: bool = False
    reads_zeros: bool = False
    kind: int = 0  # 0 not reported, 1 resource provisioned, 2 thin


def parse_standard(data: bytes) -> Inquiry:
    need(data, 5, "standard INQUIRY data")
    return Inquiry(
        qualifier=data[0] >> 5,
        device_type=data[0] & 0x1F,
        removable=bool(data[1] & 0x80),
        version=data[2],
        vendor=text(data[8:16]),
        product=text(data[16:32]),
        revision=text(data[32:36]),
    )


def page_length(data: bytes) -> int:
    """Bytes of the whole page as its header announces them; ask again with this length where more than was sent."""
    need(data, 4, "a VPD page")
    return 4 + number(data, 2, 2)


def page_body(data: bytes, page: int) -> bytes:
    """What follows the header of VPD page `page`, cut to the announced length or to what is there."""
    length = page_length(data)
    if data[1] != page:
        reason = f"VPD page {page:02X}h was asked for and page {data[1]:02X}h came; the target is at fault"
        raise ProtocolViolation(reason, clause="SPC-4 7.8")
    return data[4:length]


def parse_supported(data: bytes) -> frozenset[int]:
    """VPD 00: the codes of the pages that there are."""
    return frozenset(page_body(data, PAGE_SUPPORTED))


def parse_serial(data: bytes) -> str:
    """VPD 80: the unit's serial number, "" where it has none."""
    return text(page_body(data, PAGE_SERIAL))


def parse_block_limits(data: bytes) -> BlockLimits:
    need(page_body(data, PAGE_BLOCK_LIMITS), 12, "VPD page B0h")
    page = data[: page_length(data)]  # offsets below are those of the standard, from the start of the page
    return BlockLimits(
        optimal_granularity=number(page, 6, 2),
        max_transfer=number(page, 8, 4),
        optimal_transfer=number(page, 12, 4),
        max_unmap_blocks=number(page, 20, 4),
        max_unmap_descriptors=number(page, 24, 4),
        unmap_granularity=number(page, 28, 4),
        unmap_alignment=alignment & 0x7FFFFFFF if (alignment := number(page, 32, 4)) >> 31 else 0,
        max_write_same=number(page, 36, 8),
    )


def parse_provisioning(data: bytes) -> Provisioning:
    page = page_body(data, PAGE_PROVISIONING)
    flags = byte(page, 1)
    return Provisioning(
        unmap=bool(flags & 0x80),
        write_same_unmaps=bool(flags & 0x40),
        reads_zeros=bool(flags & 0x04),
        kind=byte(page, 2) & 0x07,
    )
