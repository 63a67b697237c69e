# SPDX-License-Identifier: Apache-2.0
"""Text negotiation in the full-feature phase, split over PDUs where it must be (RFC 7143 11.10, 6.2)."""

from __future__ import annotations

from collections.abc import Callable

from swd.errors import ProtocolViolation
from swd.proto import pdu, text
from swd.proto.pdu import TextRequest, TextResponse
from swd.values import RESERVED_TAG

Answer = Callable[[text.Pairs], text.Pairs]


class TextExchange:
    """One text negotiation at a time. A request with the reserved tag begins a new one and drops what was left."""

    def __init__(self) -> None:
        self._collector = text.Collector()
        self._pieces: list[bytes] = []
        self._ttt = RESERVED_TAG

    def receive(
        self, request: TextRequest, data: bytes, answer: Answer, limit: int, new_ttt: Callable[[], int]
    ) -> tuple[pdu.TextResponse, bytes]:
        """The response to one request: its header and data segment, of at most `limit` bytes.

        Raises ProtocolViolation for text that is malformed or comes out of turn; start afresh then.
        """
        if request.ttt == RESERVED_TAG:
            self._collector, self._pieces = text.Collector(), []
        elif request.ttt != self._ttt:
            raise ProtocolViolation("a Text Request continues a negotiation that is not open", clause="11.10.4")
        if self._pieces and data:
            raise ProtocolViolation("new text came before the answer had been fetched", clause="6.2")
        if not self._pieces:
            whole = self._collector.add(data, continued=request.continued)
            if whole is None:
                return self._open(request, new_ttt, continued=False), b""
            self._pieces = text.split(text.encode(answer(text.decode(whole))), limit)
        piece = self._pieces.pop(0)
        if self._pieces or not request.final:
            return self._open(request, new_ttt, continued=bool(self._pieces)), piece
        self._ttt = RESERVED_TAG
        return TextResponse(lun=request.lun, itt=request.itt), piece

    def _open(self, request: TextRequest, new_ttt: Callable[[], int], *, continued: bool) -> TextResponse:
        """A response that is not the last: it has a tag by which the initiator goes on."""
        self._ttt = new_ttt()
        return TextResponse(final=False, continued=continued, lun=request.lun, itt=request.itt, ttt=self._ttt)
