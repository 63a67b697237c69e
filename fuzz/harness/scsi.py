# SPDX-License-Identifier: Apache-2.0
"""What a logical unit says of itself: sense, vital product data, capacity, mode pages; and the headers of PDUs."""

from __future__ import annotations

from harness.choices import Choices
from harness.texts import harmless
from swd.errors import ProtocolViolation
from swd.proto import pdu
from swd.proto import sense as proto_sense
from swd.scsi import capacity, identity, inquiry
from swd.scsi import sense as words
from swd.values import Sense


def sense(data: bytes) -> None:
    """Any bytes are sense data, or none; nothing raises."""
    for found in (proto_sense.parse(data), proto_sense.from_response(data)):
        assert found is None or isinstance(found, Sense)
        assert harmless(words.describe(found))
        if found is not None:
            assert 0 <= found.key <= 15
            assert 0 <= found.asc <= 255
            words.is_deferred(found)


def designators(data: bytes) -> None:
    found = identity.parse_designators(data)
    named = identity.identify(found, inquiry.parse_serial(b"\0\x80\0\x04" + data[:4]))
    assert harmless(str(named))
    assert all(harmless(one.text) for one in found)
    assert not named.strong or any(one.strong and one.text == named.text for one in found)


PARSERS = (
    designators,
    inquiry.parse_standard,
    inquiry.parse_supported,
    inquiry.parse_serial,
    inquiry.parse_block_limits,
    inquiry.parse_provisioning,
    capacity.parse_capacity_10,
    capacity.parse_capacity_16,
    capacity.parse_mode_6,
    capacity.parse_mode_10,
)


def pages(data: bytes) -> None:
    """One parser, chosen by the first byte; only ProtocolViolation may come out, and no text that harms a terminal."""
    choices = Choices(data)
    parse = choices.pick(PARSERS)
    try:
        found = parse(choices.rest())
    except ProtocolViolation:
        return
    if isinstance(found, capacity.Capacity):
        assert 0 < found.blocks * found.block_size <= capacity.MAX_BYTES
        assert found.physical_block_size % found.block_size == 0
    if isinstance(found, inquiry.Inquiry):
        assert harmless(found.vendor + found.product + found.revision + found.type_words)
    if isinstance(found, str):
        assert harmless(found)


def headers(data: bytes) -> None:
    """48 bytes are a header, and packing it gives the bits that it has fields for."""
    header = data[:48].ljust(48, b"\0")
    try:
        found = pdu.unpack(header)
    except ProtocolViolation:
        return
    packed = found.pack()
    assert len(packed) == 48
    assert pdu.unpack(packed) == found
    assert all(was | now == was for was, now in zip(header, packed, strict=True) if now != was), "pack made a bit up"
