# SPDX-License-Identifier: Apache-2.0
"""Who may take the compiled data path (`swd._targetpath`), and the seam between it and a session in Python.

The path answers plain reads and writes of memory; whatever else comes is handed to `NormalSession.receive` in its
turn, as if there were no such path. `access` alone says what it may do. A session none of whose units it may ever touch
is served by the loop of `connection`, and one that is `observed` is among those.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import NamedTuple, TypeGuard

from swd._targetpath import Flat, TargetPath
from swd.proto.pdu import Opcode
from swd.target.framing import HIGH_WATER, IN, OUT, Frame, Inbox, Outbox
from swd.target.normal import NormalSession
from swd.target.scsi.unit import LogicalUnit
from swd.target.session import Session
from swd.target.tasks import data_phase_error, incorrect_amount

_Grant = tuple[int, Flat, int, int, int, bool, bool]
_SENSES = (incorrect_amount().reply.sense, data_phase_error().reply.sense)


class Access(NamedTuple):
    """The memory of a unit, and what plain commands may do with it without asking."""

    memory: Flat
    read: bool
    write: bool


def access(session: Session, unit: LogicalUnit) -> Access | None:
    """What the compiled path may do for this session on this unit just now; None: nothing, and that will stay so.

    It has to be asked again when the gate of the target has been touched, and when the session itself has been busy
    with the unit.
    """
    memory = unit.medium.flat()
    if session.observed or memory is None or not isinstance(session, NormalSession):
        return None
    return Access(memory, *unit.unhindered(session.nexus))


class CompiledPath:
    """One session and its `TargetPath`. `serve` takes the connection over; any thread may call `counts`."""

    def __init__(
        self, session: NormalSession, sock: socket.socket, inbox: Inbox, outbox: Outbox, spin_us: int = 0
    ) -> None:
        self._session = session
        self._scsi = session.node.scsi
        buffer, start, end, checked = inbox.hand_over()
        self._buffer = memoryview(buffer)
        self._path = TargetPath(
            sock.fileno(), buffer, start, end, session.agreed, session.node.config.queue_depth,
            inbox.max_segment, self._scsi.gate, _SENSES, spin_us, checked,
        )  # fmt: skip
        self._path.position = session.position
        self._path.held = session.window.holds
        self._granted: dict[int, _Grant | None] = {}  # by LUN field, as it was when the gate had passed `_seen`
        self._seen = -1
        outbox.divert(self._path)
        session.tasks.join(self._path)
        session.relieve = self._relieve

    @staticmethod
    def suits(session: Session) -> TypeGuard[NormalSession]:
        """Whether there is anything for it to do in this session."""
        return isinstance(session, NormalSession) and any(
            access(session, unit) is not None for unit in session.node.scsi.units.values()
        )

    def serve(self) -> None:
        """Serve until the session closes. Raises what `TargetPath.run` and `Session.receive` raise."""
        while not self._session.closing:
            odd = self._path.run()
            if odd is None:
                self._admit()
            else:
                bhs, start, end = odd
                self._answer(Frame(bhs, self._buffer[start:end]))
        self._path.drain()

    def flush(self) -> None:
        """Send what the socket takes of what is queued. Raises OSError."""
        self._path.flush()

    def let_go(self) -> None:
        """The connection has ended."""
        self._path.let_go()

    def counts(self) -> Counter[str]:
        """As a connection counts."""
        traffic, pdus_in, pdus_out = self._path.counts()
        counts = Counter(traffic)
        for opcode, count in pdus_in.items():
            counts[IN.get(opcode, "in.OTHER")] += count
        for opcode, count in pdus_out.items():
            counts[OUT[opcode]] += count
        return counts

    def _relieve(self) -> None:
        if self._path.unsent > HIGH_WATER:
            self._path.drain()

    def _answer(self, frame: Frame) -> None:
        session, path = self._session, self._path
        session.position = path.position
        try:
            session.receive(frame)
        finally:
            path.position = session.position
            path.held = session.window.holds
        if frame.opcode == Opcode.SCSI_COMMAND:
            self._look_again(int.from_bytes(frame.bhs[8:16], "big"))

    def _look_again(self, lun: int) -> None:
        """A command of the session may have taken an attention of its unit; whatever else changes touches the gate.

        A target may have thousands of units: they are not asked, all of them, after each command to one.
        """
        if self._seen != self._scsi.gate.passed:
            self._admit()
        elif lun in self._granted and (grant := self._grant(lun)) != self._granted[lun]:
            self._granted[lun] = grant
            self._tell()

    def _admit(self) -> None:
        self._seen = self._scsi.gate.passed
        self._granted = {lun: self._grant(lun) for lun in self._scsi.units}
        self._tell()

    def _tell(self) -> None:
        self._path.admit(self._seen, [grant for grant in self._granted.values() if grant is not None])

    def _grant(self, lun: int) -> _Grant | None:
        """A unit as `TargetPath.admit` wants it."""
        unit = self._scsi.units[lun]
        allowed = access(self._session, unit)
        if allowed is None:
            return None
        return (lun, allowed.memory, unit.blocks, unit.block_size, unit.max_transfer, *allowed[1:])
