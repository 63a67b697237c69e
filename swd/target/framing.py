# SPDX-License-Identifier: Apache-2.0
"""Bytes to PDUs and back: padding, digests, and batches. No socket: the connection says where bytes come from and go.

`Inbox` owns one buffer. Many PDUs that came with one receive are handed out one after the other, their data as views of
that buffer, so a frame must be used up before more is received. `Outbox` gathers what one tick of work wants to say
into a list of buffers for one `sendmsg`; Data-In is not copied again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from swd._crc32c import crc32c
from swd.errors import DigestMismatch, ProtocolViolation
from swd.proto.pdu import BHS_LENGTH, Opcode, Pdu
from swd.target.media import Buffer

_DIGEST = 4
_MAX_AHS = 255 * 4
_RING = 256 * 1024  # bytes beyond the longest PDU, so that one receive brings many
IN = {int(opcode): f"in.{opcode.name}" for opcode in Opcode}
OUT = {int(opcode): f"out.{opcode.name}" for opcode in Opcode}
HIGH_WATER = 8 << 20  # unsent bytes beyond which nothing more is received, and no further request is carried out
IOV_MAX = 1024  # buffers of one sendmsg (POSIX's usual limit)


class Frame(NamedTuple):
    """One PDU as it came. `data` is valid until the next `Inbox.space`."""

    bhs: bytes
    data: memoryview

    @property
    def opcode(self) -> int:
        return self.bhs[0] & 0x3F

    def kept(self) -> Frame:
        """A copy that outlives the receive buffer."""
        return Frame(self.bhs, memoryview(bytes(self.data)))


class Inbox:
    """Received bytes, and the PDUs in them. `counts` gets the PDUs by opcode (in.NAME), bytes, and digests checked."""

    def __init__(self, max_segment: int, counts: Counter[str]) -> None:
        self.header_digest = False
        self.data_digest = False
        self.max_segment = max_segment
        self._counts = counts
        longest = BHS_LENGTH + _MAX_AHS + max_segment + 3 + 2 * _DIGEST
        self._buffer = bytearray(longest + _RING)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._header_checked = False  # that of the PDU at _start, whose data has not all come

    def space(self) -> memoryview:
        """Where the next bytes go; never empty. Frames handed out before are void from here on."""
        if self._start:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        return self._view[self._end :]

    def filled(self, count: int) -> None:
        """`count` bytes have been put into `space`."""
        self._end += count
        self._counts["bytes_in"] += count

    def frames(self) -> Iterator[Frame]:
        """All complete PDUs. The digest settings are read anew for each, because login changes them between two.

        Raises DigestMismatch, and ProtocolViolation for a data segment that is longer than we said we take.
        """
        while (frame := self._next()) is not None:
            yield frame

    def hand_over(self) -> tuple[bytearray, int, int, bool]:
        """The buffer, where in it what is unread begins and ends, and whether the digest of the header that it begins
        with has been checked: for somebody else to go on with."""
        return self._buffer, self._start, self._end, self._header_checked

    def _next(self) -> Frame | None:
        at, available = self._start, self._end - self._start
        if available < BHS_LENGTH:
            return None
        header = BHS_LENGTH + 4 * self._view[at + 4]
        length = int.from_bytes(self._view[at + 5 : at + 8], "big")
        body = at + header + (_DIGEST if self.header_digest else 0)
        if self.header_digest and not self._header_checked:  # before anything that the header says is believed
            if body > self._end:
                return None
            self._check(at, header, "header")
            self._header_checked = True
        if length > self.max_segment:
            raise ProtocolViolation(
                f"a data segment of {length} bytes came, {self.max_segment} were declared", clause="13.12"
            )
        padded = length + (-length & 3)
        end = body + padded + (_DIGEST if self.data_digest and length else 0)
        if end > self._end:
            return None
        if self.data_digest and length:
            self._check(body, padded, "data")
        self._start, self._header_checked = end, False
        self._counts[IN.get(self._view[at] & 0x3F, "in.OTHER")] += 1
        return Frame(bytes(self._view[at : at + BHS_LENGTH]), self._view[body : body + length])

    def _check(self, at: int, length: int, what: str) -> None:
        """A wrong digest closes the connection at recovery level 0 (RFC 7143 7.7, 7.8)."""
        self._counts[f"{what}_digests_checked"] += 1
        found = int.from_bytes(self._view[at + length : at + length + _DIGEST], "little")
        if crc32c(self._view[at : at + length]) != found:
            raise DigestMismatch(f"the {what} digest of a PDU is wrong")


class Queue(Protocol):
    """Somebody else's send queue, which may take an outbox over."""

    def append(self, data: Buffer, /) -> None:
        """Queue a copy."""

    def own(self) -> None:
        """As `Outbox.own`."""


class Outbox:
    """PDUs on their way out, as the buffers of a gathered send; `size` is what they hold in bytes."""

    def __init__(self, counts: Counter[str]) -> None:
        self.header_digest = False
        self.data_digest = False
        self.size = 0
        self._counts = counts
        self._buffers: list[memoryview] = []
        self._queue: Queue | None = None

    def divert(self, queue: Queue) -> None:
        """From now on, what is put goes there. The outbox is empty, and stays so."""
        self._queue = queue

    def put(self, pdu: Pdu, data: Buffer = b"") -> None:
        """Queue one PDU; its DataSegmentLength is filled in here.

        Data with a digest is copied: a view of the medium may change between the checksum and the send.
        """
        self._counts[OUT[pdu.opcode]] += 1
        header = bytearray(pdu.pack())
        header[5:8] = len(data).to_bytes(3, "big")
        if self.header_digest:
            header += crc32c(header).to_bytes(_DIGEST, "little")
        self._append(header)
        if not data:
            return
        padding = bytes(-len(data) & 3)
        if self.data_digest:
            data = bytes(data) + padding
            padding = crc32c(data).to_bytes(_DIGEST, "little")
        self._append(data)
        if padding:
            self._append(padding)

    def own(self) -> None:
        """Copy what is borrowed from a medium, before a command runs that must not be seen by those before it."""
        if self._queue is not None:
            self._queue.own()
        self._buffers = [buffer if buffer.readonly else memoryview(bytes(buffer)) for buffer in self._buffers]

    def pending(self) -> list[memoryview]:
        """The buffers to send next, as many as one call takes."""
        return self._buffers[:IOV_MAX]

    def sent(self, count: int) -> None:
        """The first `count` bytes have gone out."""
        self.size -= count
        self._counts["bytes_out"] += count
        whole = 0
        while whole < len(self._buffers) and count >= len(self._buffers[whole]):
            count -= len(self._buffers[whole])
            whole += 1
        del self._buffers[:whole]
        if count:
            self._buffers[0] = self._buffers[0][count:]

    def _append(self, data: Buffer) -> None:
        if self._queue is not None:
            self._queue.append(data)
            return
        self._buffers.append(memoryview(data))
        self.size += len(data)
