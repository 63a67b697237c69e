# SPDX-License-Identifier: Apache-2.0
"""The device server on a bench: CDBs in, replies and sense out, from as many initiators as a test wants; no socket."""

from __future__ import annotations

from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.scsi.nexus import Nexus, NexusId
from swd.target.scsi.reply import (
    CHECK_CONDITION,
    GOOD,
    RESERVATION_CONFLICT,
    Later,
    Outcome,
    Reply,
    Request,
    WantData,
)
from swd.target.scsi.target import ScsiTarget

NAME = "iqn.2026-01.org.example:units"
BLOCKS = 256
ILLEGAL = 5
CONFLICT = (RESERVATION_CONFLICT, 0, 0)


class Bench:
    """A target with LUN 0 (512, thin), 1 (4096, thick, 512-byte medium rest), 2 (write protected)."""

    def __init__(self, config: TargetConfig | None = None) -> None:
        luns = {
            0: Lun(RamMedium(BLOCKS * 512), physical_block_size=4096),
            1: Lun(RamMedium(BLOCKS * 4096 + 512), block_size=4096, thin=False),
            2: Lun(RamMedium(BLOCKS * 512), read_only=True),
        }
        self.target = ScsiTarget(config or TargetConfig(NAME, luns))
        self.nexus = self.enter("me")

    def enter(self, name: str, group: int = 1) -> Nexus:
        """A nexus of another initiator, by that portal group; its power-on attentions have been taken."""
        nexus = self.target.nexuses.enter(
            NexusId(f"iqn.2026-01.org.example:{name}", b"\x80\0\0\0\0\1", self.target.name, group)
        )
        for lun in self.target.luns:
            nexus.take(lun)
        return nexus

    def start(
        self, cdb: bytes, lun: int = 0, *, by: Nexus | None = None, promised: int | None = None
    ) -> Outcome:
        field = lun if lun > 0xFFFF else lun << 48
        return self.target.execute(field, Request(cdb.ljust(16, b"\0"), by or self.nexus, promised))

    def run(self, cdb: bytes, lun: int = 0, data: bytes = b"", *, by: Nexus | None = None) -> Reply:
        outcome = self.start(cdb, lun, by=by)
        if isinstance(outcome, WantData):
            assert outcome.length == len(data)
            outcome = self.target.units[lun << 48].finish(outcome, memoryview(bytearray(data)))
        return outcome.work() if isinstance(outcome, Later) else outcome

    def good(self, cdb: bytes, lun: int = 0, data: bytes = b"", *, by: Nexus | None = None) -> bytes:
        reply = self.run(cdb, lun, data, by=by)
        assert reply.status == GOOD, (reply.status, reply.sense.hex())
        return bytes(reply.data)

    def sense(self, cdb: bytes, lun: int = 0, data: bytes = b"", *, by: Nexus | None = None) -> tuple[int, int, int]:
        """Key, ASC and ASCQ; CONFLICT for that status, which has no sense."""
        reply = self.run(cdb, lun, data, by=by)
        assert not reply.data
        if reply.status == RESERVATION_CONFLICT:
            assert not reply.sense
            return CONFLICT
        assert reply.status == CHECK_CONDITION
        return reply.sense[2] & 15, reply.sense[12], reply.sense[13]
