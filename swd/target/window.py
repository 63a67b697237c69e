# SPDX-License-Identifier: Apache-2.0
"""The command window: which requests are due, which wait for a gap to close, which are ignored (RFC 7143 4.2.2.1).

Pure. Everything that carries a CmdSN passes here; what is handed on comes in CmdSN order, immediate requests at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from swd.errors import ProtocolViolation
from swd.proto import serial
from swd.target.framing import Frame

SMALLEST_SEGMENT = 512  # bytes; nobody declares a MaxRecvDataSegmentLength below it (RFC 7143 13.12)
MORE_PDUS = 16  # unsolicited Data-Out beyond those that a first burst in such segments takes


class Held:
    """A request that is kept, and the unsolicited Data-Out PDUs behind it: no more than `first_burst` bytes."""

    def __init__(self, frame: Frame, itt: int, first_burst: int) -> None:
        self.frames = [frame.kept()]
        self.itt = itt
        self._size = len(frame.data)  # of all data segments
        self._first_burst = first_burst
        self._most_frames = 1 + first_burst // SMALLEST_SEGMENT + MORE_PDUS

    def add(self, frame: Frame) -> None:
        """Raises ProtocolViolation for more data than may come unasked: what is not due is not to fill our memory."""
        self._size += len(frame.data)
        if self._size > self._first_burst or len(self.frames) == self._most_frames:
            raise ProtocolViolation(
                f"unsolicited data of a command that waits for its turn went beyond {self._first_burst} bytes "
                f"(FirstBurstLength), or came in more than {self._most_frames - 1} PDUs",
                clause="13.14",
            )
        self.frames.append(frame.kept())


class Window:
    """ExpCmdSN, MaxCmdSN, and the requests between them that came out of order.

    `depth` is how many commands a session may have open: MaxCmdSN never goes back, but it stands still while tasks are
    open, so that nobody makes the target hold more than that. Each of the commands that are held may have `first_burst`
    bytes of data behind it that were not asked for, its own segment among them (RFC 7143 13.14): together, no more than
    `depth` times the longer of that and a data segment.
    """

    def __init__(self, cmd_sn: int, depth: int, first_burst: int = 65536) -> None:
        self.exp_cmd_sn = cmd_sn
        self.max_cmd_sn = serial.add(cmd_sn, depth - 1)
        self._depth = depth
        self._first_burst = first_burst
        self._held: dict[int, Held] = {}
        self._skipped: set[int] = set()  # aborted before they came (11.6.1): counted as received

    @property
    def holds(self) -> bool:
        """Whether a number that comes now may release something, or be one that was aborted."""
        return bool(self._held or self._skipped)

    def open_for(self, tasks: int) -> None:
        """Move MaxCmdSN for a session with so many tasks open."""
        limit = serial.add(self.exp_cmd_sn, self._depth - tasks - 1)
        if serial.lt(self.max_cmd_sn, limit):
            self.max_cmd_sn = limit

    def admits(self, cmd_sn: int) -> bool:
        """Whether a non-immediate request of this number is within the window."""
        return serial.le(self.exp_cmd_sn, cmd_sn) and serial.le(cmd_sn, self.max_cmd_sn)

    def arrive(self, frame: Frame, cmd_sn: int, itt: int) -> Iterator[Frame]:
        """Take a non-immediate request; yields what is due now, in order. Outside the window: nothing, ignored."""
        if not self.admits(cmd_sn) or cmd_sn in self._held or cmd_sn in self._skipped:
            return
        if cmd_sn != self.exp_cmd_sn:
            self._held[cmd_sn] = Held(frame, itt, self._first_burst)
            return
        self.exp_cmd_sn = serial.add(cmd_sn, 1)
        yield frame
        yield from self._due()

    def hold_data(self, frame: Frame, itt: int) -> bool:
        """Keep unsolicited data of a command that is itself held; False if none is. Raises what `Held.add` does."""
        held = next((held for held in self._held.values() if held.itt == itt), None)
        if held is None:
            return False
        held.add(frame)
        return True

    def skip(self, cmd_sn: int) -> bool:
        """Abort a command that is held or has not come: its number counts as received. False if outside the window.

        Ask `released` afterwards for what that made due.
        """
        if not self.admits(cmd_sn):
            return False
        self._held.pop(cmd_sn, None)
        self._skipped.add(cmd_sn)
        return True

    def released(self) -> Iterator[Frame]:
        """What is due after `skip`."""
        yield from self._due()

    def _due(self) -> Iterator[Frame]:
        while self.exp_cmd_sn in self._held or self.exp_cmd_sn in self._skipped:
            held = self._held.pop(self.exp_cmd_sn, None)
            self._skipped.discard(self.exp_cmd_sn)
            self.exp_cmd_sn = serial.add(self.exp_cmd_sn, 1)
            if held is not None:
                yield from held.frames
