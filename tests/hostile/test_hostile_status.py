# SPDX-License-Identifier: Apache-2.0
"""How commands end: sense data of any shape, residuals, statuses without end, and units that talk nonsense."""

from __future__ import annotations

import errno

import pytest
from hostile_rig import bounded, connect, once, open_disk, payload, read_against, refused, serving, write_against
from target.disk import BLOCK, INQUIRY, READ, READ_CAPACITY, READY, Disk, Part, pattern, reply
from target.script import Connection, Peer
from target.wire import Op, Pdu

from swd.errors import NoSuchDevice, ProtocolViolation, ScsiError, SwdError, Unsupported

SIZE = 8 * BLOCK
CHECK_CONDITION = 2


def fixed(key: int, asc: int = 0, ascq: int = 0) -> bytes:
    return bytes([0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq, 0, 0, 0, 0])


def prefixed(sense: bytes) -> bytes:
    return len(sense).to_bytes(2, "big") + sense


# The data segment of a CHECK CONDITION -> errno of the read.
SENSE: dict[str, tuple[bytes, int]] = {
    "none-at-all": (b"", errno.EIO),
    "one-byte-of-length": (b"\0", errno.EIO),
    "length-0": (b"\0\0", errno.EIO),
    "length-without-sense": (b"\0\x12", errno.EIO),
    "length-of-65535": (b"\xff\xff" + fixed(3, 0x11), errno.EIO),
    "length-shorter-than-sense": (b"\0\x03" + fixed(5, 0x24), errno.EIO),
    "one-byte": (prefixed(b"\x70"), errno.EIO),
    "key-alone": (prefixed(b"\x70\0\x03"), errno.EIO),
    "additional-length-0": (prefixed(b"\x70\0\x05\0\0\0\0\0"), errno.EIO),
    "additional-length-255": (prefixed(b"\x70\0\x05\0\0\0\0\xff" + bytes(4) + b"\x24\0"), errno.EINVAL),
    "unknown-format": (prefixed(b"\x55" * 18), errno.EIO),
    "vendor-format": (prefixed(b"\x7f" * 18), errno.EIO),
    "descriptor-format": (prefixed(b"\x72\x05\x24\0\0\0\0\0"), errno.EINVAL),
    "descriptors-that-never-end": (prefixed(b"\x72\x05\x24\0\0\0\0\xff" + b"\0\xff" * 20), errno.EINVAL),
    "descriptors-of-length-0": (prefixed(b"\x72\x05\x24\0\0\0\0\xf4" + b"\0\0" * 122), errno.EINVAL),
    "65000-bytes": (prefixed(fixed(3, 0x11) + bytes(64982)), errno.EIO),
    "medium-error": (prefixed(fixed(3, 0x11)), errno.EIO),
    "hardware-error": (prefixed(fixed(4, 0x44)), errno.EIO),
    "no-medium": (prefixed(fixed(2, 0x3A)), errno.ENOMEDIUM),
    "not-ready-for-good": (prefixed(fixed(2, 0x04, 3)), errno.EBUSY),
    "not-ready-for-ever": (prefixed(fixed(2, 0x04, 1)), errno.EBUSY),
    "write-protected": (prefixed(fixed(7, 0x27)), errno.EROFS),
    "thin-pool-full": (prefixed(fixed(7, 0x27, 7)), errno.ENOSPC),
    "out-of-range": (prefixed(fixed(5, 0x21)), errno.EIO),
    "unit-attention-for-ever": (prefixed(fixed(6, 0x29)), errno.EIO),
    "unit-attention-nobody-knows": (prefixed(fixed(6, 0x77, 7)), errno.EIO),
    "reservation-preempted": (prefixed(fixed(6, 0x2A, 3)), errno.EBUSY),
    "aborted-for-ever": (prefixed(fixed(0xB, 0x4B)), errno.EIO),
    "miscompare": (prefixed(fixed(0xE, 0x1D)), errno.EILSEQ),
    "key-of-the-reserved-sort": (prefixed(fixed(0xF)), errno.EIO),
}


@pytest.mark.parametrize("shape", SENSE)
def test_sense_data_of_any_shape(shape: str) -> None:
    data, number = SENSE[shape]

    def part(target: Connection, command: Pdu) -> None:
        target.send(target.response(command, CHECK_CONDITION, data=data, residual=SIZE))

    script = serving({READ: part})
    with Peer(script) as peer, open_disk(peer, timeout=0.3) as disk, refused(ScsiError, number):
        disk.pread(SIZE, 0)


STATUSES = {
    "busy-for-ever": (0x08, errno.EBUSY),
    "task-set-full-for-ever": (0x28, errno.EBUSY),
    "reservation-conflict": (0x18, errno.EBUSY),
    "aca-active": (0x30, errno.EBUSY),
    "task-aborted-for-ever": (0x40, errno.EIO),
    "a-status-that-is-none": (0x7F, errno.EIO),
}


@pytest.mark.parametrize("status", STATUSES)
def test_a_status_other_than_good(status: str) -> None:
    code, number = STATUSES[status]
    script = serving({READ: lambda t, c: t.send(t.response(c, code, residual=SIZE))})
    with Peer(script) as peer, open_disk(peer, timeout=0.3) as disk, refused(ScsiError, number):
        disk.pread(SIZE, 0)


@pytest.mark.parametrize("response", [1, 0x80, 0xFF], ids=["target-failure", "vendor-response", "last-response"])
def test_a_response_other_than_completed(response: int) -> None:
    with refused(ScsiError, errno.EIO):
        read_against(lambda t, c: t.send(t.response(c, response=response, residual=SIZE)))


PASSING: dict[str, bytes] = {
    "power-on": prefixed(fixed(6, 0x29)),
    "capacity-changed-but-it-has-not": prefixed(fixed(6, 0x2A, 9)),
    "luns-changed": prefixed(fixed(6, 0x3F, 0x0E)),
    "aborted": prefixed(fixed(0xB, 0x4B)),
    "becoming-ready": prefixed(fixed(2, 0x04, 1)),
    "deferred-recovered": prefixed(b"\x71" + fixed(1)[1:]),
}


@pytest.mark.parametrize("sense", PASSING)
def test_what_passes_gives_right_data(sense: str) -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(target.response(command, CHECK_CONDITION, data=PASSING[sense], residual=SIZE))

    with bounded():
        assert read_against(once(part)) == pattern(0, 8)


def recovered_by_half(target: Connection, command: Pdu) -> None:
    """Half of the data, then RECOVERED ERROR with no residual: the buffer is not filled, whatever the status says."""
    target.send(target.data_in(command, pattern(0, 4), final=True))
    target.send(target.response(command, CHECK_CONDITION, sense=fixed(1, 0x17)))


def test_recovered_error_after_half_of_the_data_is_read_again() -> None:
    with bounded():
        assert read_against(once(recovered_by_half)) == pattern(0, 8)


def test_recovered_error_after_half_of_the_data_for_ever() -> None:
    with refused(ScsiError, errno.EIO):
        read_against(recovered_by_half)


RESIDUALS: dict[str, tuple[Part, type[SwdError], int]] = {
    "overflow-of-a-read": (
        lambda t, c: t.send(t.data_in(c, pattern(0, 8)), t.response(c, residual=-512)),
        ScsiError,
        errno.EIO,
    ),
    "underflow-of-all": (lambda t, c: t.send(t.response(c, residual=SIZE)), ScsiError, errno.EIO),
    "underflow-though-all-came": (
        lambda t, c: t.send(t.data_in(c, pattern(0, 8)), t.response(c, residual=512)),
        ProtocolViolation,
        errno.EPROTO,
    ),
    "underflow-of-more-than-asked": (
        lambda t, c: t.send(t.response(c, residual=1 << 31)),
        ProtocolViolation,
        errno.EPROTO,
    ),
}


@pytest.mark.parametrize("case", RESIDUALS)
def test_a_residual_is_held_against_what_came(case: str) -> None:
    part, kind, number = RESIDUALS[case]
    with refused(kind, number):
        read_against(part)


def test_a_write_of_which_the_target_says_that_a_part_is_missing() -> None:
    def part(target: Connection, command: Pdu) -> None:
        target.send(target.r2t(command, 0, SIZE))
        target.expect(Op.DATA_OUT)
        target.send(target.response(command, residual=512))

    with refused(ScsiError, errno.EIO, "512 bytes too few"):
        write_against(part, SIZE)


# ---- units that talk nonsense when they are opened ----


def says(data: bytes) -> Part:
    return lambda target, command: reply(target, command, data)


def page(code: int, body: bytes) -> Part:
    """That VPD page; the disk's own answers to the others."""

    def part(target: Connection, command: Pdu) -> None:
        if command.cdb[1] & 1 and command.cdb[2] == code:
            reply(target, command, body)
        else:
            Disk().answer(target, command)

    return part


def capacity(last: int, size: int) -> Part:
    return says(last.to_bytes(8, "big") + size.to_bytes(4, "big") + bytes(20))


NONSENSE: dict[str, tuple[int, Part, type[SwdError], int]] = {
    "inquiry-of-nothing": (INQUIRY, says(b""), ProtocolViolation, errno.EPROTO),
    "inquiry-of-4-bytes": (INQUIRY, says(b"\0\0\6\2"), ProtocolViolation, errno.EPROTO),
    "no-device": (INQUIRY, says(b"\x7f" + bytes(35)), NoSuchDevice, errno.ENXIO),
    "a-tape": (INQUIRY, says(b"\x01\x80\x06\x02\x1f" + bytes(31)), Unsupported, errno.EOPNOTSUPP),
    "another-page-than-asked-for": (INQUIRY, page(0x83, b"\0\x80\0\4abcd"), ProtocolViolation, errno.EPROTO),
    "page-list-of-2-bytes": (INQUIRY, page(0, b"\0\0"), ProtocolViolation, errno.EPROTO),
    "blocks-of-0-bytes": (READ_CAPACITY, capacity(255, 0), ProtocolViolation, errno.EPROTO),
    "blocks-of-4-gib": (READ_CAPACITY, capacity(255, 0xFFFFFFFF), ProtocolViolation, errno.EPROTO),
    "2^64-blocks": (READ_CAPACITY, capacity((1 << 64) - 1, 512), ProtocolViolation, errno.EPROTO),
    "capacity-of-8-bytes": (READ_CAPACITY, says(bytes(8)), ProtocolViolation, errno.EPROTO),
    "never-ready": (READY, lambda t, c: t.send(t.response(c, 8)), ScsiError, errno.EBUSY),
}


@pytest.mark.parametrize("mistake", NONSENSE)
def test_a_unit_that_talks_nonsense(mistake: str) -> None:
    opcode, part, kind, number = NONSENSE[mistake]
    with Peer(serving({opcode: part})) as peer, refused(kind, number):
        open_disk(peer, timeout=0.3)


STRANGE: dict[str, bytes] = {
    "designator-longer-than-the-page": bytes([0, 0x83, 0, 8, 1, 3, 0, 255, 1, 2, 3, 4]),
    "designators-of-length-0": bytes([0, 0x83, 0, 200]) + bytes(200),
    "page-longer-than-it-came": bytes([0, 0x83, 0xFF, 0xFF, 1, 3, 0, 8]) + bytes(8),
    "a-name-with-control-characters": bytes([0, 0x83, 0, 12, 2, 1, 0, 8]) + b"\x1b[2J\r\n\0\x7f",
}


@pytest.mark.parametrize("form", STRANGE)
def test_a_strange_identity_is_read_within_bounds(form: str) -> None:
    with bounded(), Peer(serving({INQUIRY: page(0x83, STRANGE[form])})) as peer, open_disk(peer) as disk:
        assert disk.identity.isprintable()
        assert disk.pread(SIZE, 0) == pattern(0, 8)


LUNS: dict[str, tuple[bytes, list[int]]] = {
    "a-list-of-4-gib": (b"\xff\xff\xff\xf8" + bytes(4) + bytes(8) + b"\0\1" + bytes(6), [0, 1]),
    "half-an-entry": (b"\0\0\0\x0c" + bytes(4) + bytes(8) + b"\0\1\0\0", [0]),
    "the-same-a-thousand-times": ((8000).to_bytes(4, "big") + bytes(4) + (b"\0\2" + bytes(6)) * 1000, [2]),
    "empty": (bytes(8), []),
}


@pytest.mark.parametrize("form", LUNS)
def test_a_list_of_units(form: str) -> None:
    data, luns = LUNS[form]
    with bounded(), Peer(serving({0xA0: says(data)})) as peer, connect(peer) as session:
        assert session.luns() == luns


def test_a_write_to_which_the_unit_says_busy_until_the_deadline_is_not_acknowledged() -> None:
    script = serving({0x2A: lambda t, c: t.send(t.response(c, 8, residual=SIZE))})
    with Peer(script) as peer, open_disk(peer, timeout=0.3) as disk, refused(ScsiError, errno.EBUSY):
        disk.pwrite(payload(SIZE), 0)
