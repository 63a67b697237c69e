# SPDX-License-Identifier: Apache-2.0
"""One PDU on its way out under a plan, and the outbox that spoils it. No clock and no socket: timers and endings are
asked of the connection.

Numbers and fields are changed before the digest is made, so that they arrive as the target's word; `damage` is done
after it, as a bad link would.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from swd._crc32c import crc32c
from swd.proto.pdu import Pdu
from swd.target.framing import Outbox
from swd.target.media import Buffer

Part = Literal["header", "header_digest", "data", "data_digest"]
End = Literal["close", "reset", "silence", "stop_reading"]
OVERHEAD = 256  # bytes that a PDU costs beside its own while it is kept, or a timer
_DIGEST = 4


class Damage(NamedTuple):
    """Bits of one byte that are flipped when everything else is done."""

    part: Part
    byte: int
    bits: int


@dataclass
class Sending:
    """What will be sent in place of one PDU. `length`: DataSegmentLength where it is to be a lie."""

    pdu: Pdu
    data: bytes
    lost: bool = False
    copies: int = 1
    before: bytes = b""
    after: list[Pdu] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    length: int | None = None
    keep: int | None = None  # only so many bytes, then the connection ends
    late: float = 0.0
    swapped: bool = False
    end: End | None = None

    def change(self, name: str, value: int) -> None:
        """Another value of a field, cut to its width."""
        self.pdu = changed(self.pdu, name, value)


def changed(pdu: Pdu, name: str, value: int) -> Pdu:
    """The PDU with another value in a field, cut to the field's width."""
    place = next(place for place in pdu.layout if place.name == name)
    size = getattr(place, "size", None)
    if size is None:  # bits: a bool or a small number
        cut: object = bool(value) if isinstance(getattr(pdu, name), bool) else value
    elif isinstance(getattr(pdu, name), bytes):
        cut = (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")
    else:
        cut = value & ((1 << 8 * size) - 1)
    return dataclasses.replace(pdu, **{name: cut})  # type: ignore[arg-type]


class Director(Protocol):
    """What the outbox asks of its connection."""

    def judged(self, pdu: Pdu, data: Buffer) -> Sending:
        """The PDU as the plan wants it."""

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Call back in the connection's thread, so much later."""

    def end(self, how: End) -> None:
        """End the connection in this way, now or when the outbox is empty."""


class PlannedOutbox(Outbox):
    """An outbox that asks what to make of each PDU. `late`: bytes that wait for delays, as memory."""

    def __init__(self, counts: Counter[str], director: Director) -> None:
        super().__init__(counts)
        self.late = 0
        self._shut = False  # nothing is taken any more
        self._director = director
        self._late: deque[bytes] = deque()
        self._waiting = 0  # delays that are not over: what is put meanwhile waits behind them
        self._swapped: bytes | None = None

    def put(self, pdu: Pdu, data: Buffer = b"") -> None:
        """As `Outbox.put`; the data is always copied, and some of it may come to harm."""
        if self._shut:
            return
        sending = self._director.judged(pdu, data)
        if sending.late:
            self._waiting += 1
            self._director.at(sending.late, self._over)
        if not sending.lost:
            self._send(sending)
        for more in sending.after:
            self._emit(self._encode(more, b"", None, []))
        if sending.end is not None:
            self._release()
            self._director.end(sending.end)

    def own(self) -> None:
        """Everything here is the outbox's own."""

    def _send(self, sending: Sending) -> None:
        self._counted(sending.pdu, sending.copies)
        whole = self._encode(sending.pdu, sending.data, sending.length, sending.damage)
        kept = (sending.before + whole * sending.copies)[: sending.keep]
        if sending.swapped and self._swapped is None:
            self._swapped = kept
            self._director.at(0.2, self._unswap)  # where nothing comes behind it, it goes by itself
            return
        self._emit(kept)
        self._unswap()

    def _emit(self, data: bytes) -> None:
        if self._waiting:
            self._late.append(data)
            self.late += len(data) + OVERHEAD
        elif data:
            self._append(data)

    def _unswap(self) -> None:
        held, self._swapped = self._swapped, None
        if held is not None and not self._shut:
            self._emit(held)

    def _over(self) -> None:
        """A delay has passed; what waited goes when the last one has."""
        self._waiting -= 1
        if not self._waiting:
            self._release()

    def _release(self) -> None:
        self._waiting = 0
        while self._late:
            self._append(self._late.popleft())
        self.late = 0

    def empty(self) -> None:
        """Forget what has not been sent, and take nothing more."""
        self.close()
        self.size = 0
        self._buffers.clear()

    def close(self) -> None:
        """Take nothing more; what was not late is still sent."""
        self._shut = True
        self._late.clear()
        self.late = 0

    def _encode(self, pdu: Pdu, data: bytes, length: int | None, damage: list[Damage]) -> bytes:
        header = bytearray(pdu.pack())
        header[5:8] = (len(data) if length is None else length).to_bytes(3, "big")
        body = bytearray(data + bytes(-len(data) & 3))
        parts = {
            "header": header,
            "header_digest": bytearray(_digest(header) if self.header_digest else b""),
            "data": body,
            "data_digest": bytearray(_digest(body) if self.data_digest and data else b""),
        }
        for part, byte, bits in damage:
            if parts[part]:
                parts[part][byte % len(parts[part])] ^= bits
        return b"".join(parts.values())

    def _counted(self, pdu: Pdu, times: int) -> None:
        self._counts[f"out.{pdu.opcode.name}"] += times


def _digest(data: Buffer) -> bytes:
    return crc32c(data).to_bytes(_DIGEST, "little")


def keys_of(data: bytes) -> Iterator[tuple[str, str]]:
    """The key=value pairs of a text segment, as they stand."""
    for item in data.split(b"\0"):
        if item:
            key, _, value = item.decode("utf-8", "replace").partition("=")
            yield key, value
