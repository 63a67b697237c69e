# SPDX-License-Identifier: Apache-2.0
"""NOP-Out as a sign of life, sent by the keeper without waiting: only where nothing has come for a while.

Any PDU counts as life, so a busy link is never pinged, and a slow command never mistaken for a dead target.
"""

from __future__ import annotations

import time

from swd._fastpath import Pump
from swd.proto.pdu import NopOut, Opcode

IDLE = 5.0  # seconds without a byte from the target before it is pinged
PATIENCE = 15.0  # seconds that a ping may take; a tape or a busy array may be slow

_PING = NopOut(immediate=True, itt=0).pack()


class Keepalive:
    """What is known of one link's life. Used by the keeper's thread alone."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._bytes = -1
        self._heard = time.monotonic()
        self._ping: int | None = None
        self._sent = 0.0

    def is_dead(self) -> bool:
        """To be asked now and then: pings if it is time to, and tells whether a ping has gone unanswered for too
        long.
        """
        now = time.monotonic()
        received = self._pump.statistics()["bytes_in"]
        if received != self._bytes or self._pump.down:
            self._bytes, self._heard = received, now
        if self._ping is not None and self._pump.claim(self._ping):
            self._ping = None
        if self._ping is not None:
            return now - max(self._sent, self._heard) > PATIENCE
        if now - self._heard > IDLE:
            self._ping = self._pump.begin_control(_PING, answer=Opcode.NOP_IN)
            self._sent = now
        return False
