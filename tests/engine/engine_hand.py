# SPDX-License-Identifier: Apache-2.0
"""An engine, and the target's PDUs written by hand: what the tests of single rules are made of.

Numbers default to what a correct target would send; a test overrides the one that matters.
"""

from __future__ import annotations

import dataclasses

import pytest
from engine_rig import LUN, READ, WRITE, Guarded
from model import wire
from model.wire import FINAL, RESERVED, STATUS, UNDERFLOW, Pdu

from swd._engine import Engine
from swd.errors import ProtocolViolation, SwdError
from swd.values import Completion, Negotiated

AGREED = Negotiated(
    cmd_sn=10,
    exp_stat_sn=100,
    max_cmd_sn=41,
    max_recv_data_segment_length=1024,
    target_max_recv_data_segment_length=1024,
    max_burst_length=4096,
    first_burst_length=2048,
)


class Hand:
    """Hand(**changes to AGREED): `engine`, and a pen for the other side."""

    def __init__(self, *, slots: int = 8, **changes: object) -> None:
        self.agreed = dataclasses.replace(AGREED, **changes)  # type: ignore[arg-type]
        self.engine = Engine(self.agreed, slots=slots)
        self.splitter = wire.Splitter(self.agreed.header_digest, self.agreed.data_digest)
        self.stat_sn = self.agreed.exp_stat_sn
        self.exp_cmd_sn = self.agreed.cmd_sn
        self.max_cmd_sn = self.agreed.max_cmd_sn
        self.buffers: dict[int, Guarded] = {}

    # ---- ours ----

    def read(self, length: int) -> int:
        """A read that the target knows."""
        guarded = Guarded(length)
        itt = self.engine.submit(LUN, READ, None, guarded.view)
        self.buffers[itt] = guarded
        self.sent()
        return itt

    def write(self, data: bytes) -> int:
        return self.engine.submit(LUN, WRITE, data)

    def sent(self) -> list[Pdu]:
        pdus = self.splitter.take(self.engine.output())
        self.exp_cmd_sn += sum(not made.immediate and made.opcode != wire.DATA_OUT for made in pdus)
        return pdus

    def ended(self) -> dict[int, Completion]:
        """SCSI commands that have ended since the last call."""
        return {itt: end for itt, end in self.engine.completions() if isinstance(end, Completion)}

    # ---- the target's ----

    def made(self, opcode: int, flags: int = FINAL, *, status: bool, data: bytes = b"", **numbers: int) -> Pdu:
        """A PDU with the target's numbers; `status`: it uses up a StatSN."""
        ours = {"n24": self.stat_sn, "n28": self.exp_cmd_sn, "n32": self.max_cmd_sn, "ttt": RESERVED}
        self.stat_sn = (self.stat_sn + status) & 0xFFFFFFFF
        return wire.pdu(opcode, flags, data=data, **{**ours, **numbers})

    def data_in(
        self, itt: int, data: bytes, offset: int = 0, sn: int = 0, *, status: bool = False, **numbers: int
    ) -> Pdu:
        flags = numbers.pop("flags", FINAL | (STATUS if status else 0))
        return self.made(
            wire.DATA_IN, flags, status=status, data=data, **{"itt": itt, "n36": sn, "n40": offset, **numbers}
        )

    def response(self, itt: int, *, missing: int = 0, data: bytes = b"", **numbers: int) -> Pdu:
        flags = numbers.pop("flags", FINAL | (UNDERFLOW if missing else 0))
        return self.made(wire.SCSI_RESPONSE, flags, status=True, data=data, **{"itt": itt, "n44": missing, **numbers})

    def r2t(self, itt: int, offset: int, length: int, sn: int = 0, ttt: int = 7, **numbers: int) -> Pdu:
        asked = {"itt": itt, "ttt": ttt, "n36": sn, "n40": offset, "n44": length}
        return self.made(wire.R2T, status=False, **{**asked, **numbers})

    def ping(self, ttt: int = RESERVED, lun: bytes = bytes(8), **numbers: int) -> Pdu:
        made = self.made(wire.NOP_IN, status=False, **{"itt": RESERVED, "ttt": ttt, **numbers})
        made.bhs[8:16] = lun
        return made

    def frame(self, *pdus: Pdu) -> bytes:
        return b"".join(wire.frame(made, self.agreed.header_digest, self.agreed.data_digest) for made in pdus)

    def feed(self, *pdus: Pdu) -> None:
        self.engine.feed(self.frame(*pdus))

    def refuses(self, *pdus: Pdu, match: str, kind: type[SwdError] = ProtocolViolation) -> SwdError:
        """Asserts that these PDUs end the connection, and that nothing lies outside a buffer; gives the error."""
        with pytest.raises(kind, match=match) as caught:
            self.feed(*pdus)
        assert all(guarded.intact() for guarded in self.buffers.values())
        return caught.value


def renewed(hand: Hand, **changes: object) -> Negotiated:
    """The hand's pen writes on a new connection from here on."""
    agreed = dataclasses.replace(AGREED, **{"cmd_sn": 1, "exp_stat_sn": 7, "max_cmd_sn": 32, **changes})  # type: ignore[arg-type]
    hand.agreed = agreed
    hand.splitter = wire.Splitter(agreed.header_digest, agreed.data_digest)
    hand.stat_sn, hand.exp_cmd_sn, hand.max_cmd_sn = agreed.exp_stat_sn, agreed.cmd_sn, agreed.max_cmd_sn
    return agreed
