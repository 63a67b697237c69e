# SPDX-License-Identifier: Apache-2.0
"""Text negotiation in the full-feature phase: a question that may be split, an answer that may take many PDUs.

All requests of one sequence carry the same Initiator Task Tag, and the target's tag of the answer before (RFC 7143
11.10.4, 11.11.4). An answer has a budget of bytes and of PDUs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from swd._fastpath import Pump
from swd.errors import ProtocolViolation
from swd.iscsi.transport import Deadline
from swd.proto import text
from swd.proto.pdu import Opcode, TextRequest, TextResponse
from swd.values import RESERVED_TAG

BUDGET = 16 << 20  # bytes: a hundred thousand targets
EXCHANGES = 4096  # PDUs


class _Answer(NamedTuple):
    header: TextResponse
    data: bytes


def exchange(pump: Pump, keys: Mapping[str, str], limit: int, deadline: Deadline) -> list[tuple[str, str]]:
    """Sends the keys in segments of at most `limit` bytes; the pairs of the whole answer, in their order.

    Raises ProtocolViolation, after which the connection must not be used any more, or what `Pump.control` raises.
    """
    collector = text.Collector(BUDGET, EXCHANGES)
    pairs: list[tuple[str, str]] = []
    answer = _ask(pump, text.split(text.encode(keys.items()), limit), deadline)
    for _ in range(EXCHANGES):
        whole = collector.add(answer.data, continued=answer.header.continued)
        if whole is not None:
            pairs += text.decode(whole, repeats=True)
        if answer.header.final:
            if whole is None:
                raise ProtocolViolation("a text answer is final and to be continued at once", clause="11.11.2")
            return pairs
        if answer.header.ttt == RESERVED_TAG:
            raise ProtocolViolation("a text answer breaks off: neither final nor to be continued", clause="11.11.4")
        answer = _more(pump, answer.header, deadline)
    raise ProtocolViolation(f"a text answer did not end after {EXCHANGES} PDUs", clause="11.11")


def _ask(pump: Pump, pieces: list[bytes], deadline: Deadline) -> _Answer:
    request, itt = TextRequest(itt=0), RESERVED_TAG
    for piece in pieces[:-1]:
        answer = _send(pump, replace(request, final=False, continued=True), piece, itt, deadline)
        if answer.data or answer.header.final:
            raise ProtocolViolation("the target answers a text that has not ended", clause="11.10.3")
        request, itt = replace(request, ttt=answer.header.ttt), answer.header.itt
    return _send(pump, request, pieces[-1], itt, deadline)


def _more(pump: Pump, header: TextResponse, deadline: Deadline) -> _Answer:
    """An empty request asks for the rest. F=0 while a text is split (11.10.1), F=1 where the target has more to say."""
    request = TextRequest(itt=0, final=not header.continued, ttt=header.ttt, lun=header.lun)
    return _send(pump, request, b"", header.itt, deadline)


def _send(pump: Pump, request: TextRequest, data: bytes, itt: int, deadline: Deadline) -> _Answer:
    answer = pump.control(request.pack(), data, answer=Opcode.TEXT_RESPONSE, itt=itt, timeout=max(deadline.left, 0.001))
    return _Answer(TextResponse.unpack(answer.bhs), answer.data)
