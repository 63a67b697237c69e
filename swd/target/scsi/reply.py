# SPDX-License-Identifier: Apache-2.0
"""What a command handler is given and what it gives back: the seam between SCSI and the transport.

A handler takes a `Request` and returns a `Reply` (the command is over) or a `WantData` (it needs Data-Out first), or
raises `CheckCondition`. It never sees a PDU; lengths are what the CDB says, and the transport works out residuals
against the initiator's ExpectedDataTransferLength.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from swd.errors import ScsiError
from swd.target.media import Buffer
from swd.values import Sense

if TYPE_CHECKING:
    from swd.target.scsi.nexus import Nexus

GOOD, CHECK_CONDITION, CONDITION_MET, BUSY = 0x00, 0x02, 0x04, 0x08  # SAM-5 5.3.1
RESERVATION_CONFLICT, TASK_SET_FULL = 0x18, 0x28

NOT_READY, MEDIUM_ERROR, HARDWARE_ERROR, ILLEGAL_REQUEST = 0x2, 0x3, 0x4, 0x5  # SPC-4 4.5.6
UNIT_ATTENTION, DATA_PROTECT, COPY_ABORTED, ABORTED_COMMAND, MISCOMPARE = 0x6, 0x7, 0xA, 0xB, 0xE


class Request(NamedTuple):
    """One command on its way to a unit: the 16 bytes of the CDB and the I_T nexus that it came over.

    promised: bytes of Data-Out that the initiator announced (its ExpectedDataTransferLength); None: what is asked for.
    """

    cdb: bytes
    nexus: Nexus
    promised: int | None = None

    def exactly(self, length: int) -> None:
        """Refuse a command that makes no sense with more or less Data-Out than its CDB says. Raises CheckCondition."""
        if self.promised not in (None, length):
            raise invalid_field()


class Reply(NamedTuple):
    """A finished command. `data` is Data-In, already cut to the allocation length; it may be a view of the medium."""

    status: int = GOOD
    data: Buffer = b""
    sense: bytes = b""


class WantData(NamedTuple):
    """A command that needs `length` bytes of Data-Out, and what to do with them.

    `finish` gets the bytes that came, fewer than `length` where the initiator promised fewer. Where `place` is not
    None, all `length` bytes may be put there instead of into a buffer of the transport's, and `finish` gets it back.
    """

    length: int
    finish: Callable[[memoryview], Reply | Later]
    place: memoryview | None = None


class Later(NamedTuple):
    """A command that takes its time. `work` does it and never raises; a session that can be woken later lets a thread
    do it and goes on, any other does it at once."""

    work: Callable[[], Reply]


Outcome = Reply | WantData | Later


class CheckCondition(ScsiError):
    """Ends a command with CHECK CONDITION and this sense (SPC-4 4.5; codes in annex F)."""

    def __init__(
        self, key: int, asc: int, ascq: int = 0, *, information: int | None = None, specific: bytes = b""
    ) -> None:
        sense = Sense(key, asc, ascq, information, fixed_sense(key, asc, ascq, information, specific))
        super().__init__(f"check condition {key:x}h {asc:02x}h/{ascq:02x}h", sense=sense, status=CHECK_CONDITION)
        self.reply = Reply(CHECK_CONDITION, b"", sense.raw)


def fixed_sense(key: int, asc: int, ascq: int, information: int | None = None, specific: bytes = b"") -> bytes:
    """18 bytes of fixed-format sense data, current error (SPC-4 4.5.3). INFORMATION is 32 bits wide here.

    specific: 3 bytes of SENSE KEY SPECIFIC, with their valid bit (4.5.2.4).
    """
    valid = information is not None and information < 1 << 32
    return bytes([
        0xF0 if valid else 0x70, 0, key,
        *((information or 0) if valid else 0).to_bytes(4, "big"),
        10, 0, 0, 0, 0, asc, ascq, 0, *(specific or bytes(3)),
    ])  # fmt: skip


def invalid_field() -> CheckCondition:
    """INVALID FIELD IN CDB."""
    return CheckCondition(ILLEGAL_REQUEST, 0x24)


def invalid_parameter() -> CheckCondition:
    """INVALID FIELD IN PARAMETER LIST."""
    return CheckCondition(ILLEGAL_REQUEST, 0x26)


def parameter_list_length() -> CheckCondition:
    """PARAMETER LIST LENGTH ERROR."""
    return CheckCondition(ILLEGAL_REQUEST, 0x1A)


def conflict() -> Reply:
    """RESERVATION CONFLICT: the status says all, there is no sense (SAM-5 5.3.1)."""
    return Reply(RESERVATION_CONFLICT)
