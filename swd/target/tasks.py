# SPDX-License-Identifier: Apache-2.0
"""Commands that wait for Data-Out: what has come, what to ask for, and when it is complete. Pure, but for one lock.

A write's data comes in sequences: the immediate data together with the unsolicited Data-Out PDUs, then one sequence for
each R2T. In each, DataSN counts from 0 and offsets run on (RFC 7143 11.7, 4.2.5.3). Whatever breaks that ends the
command with the sense of 11.4.7.2 and the rest of its Data-Out is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from swd.proto import pdu
from swd.target.scsi.reply import ABORTED_COMMAND, CheckCondition, WantData
from swd.target.scsi.unit import LogicalUnit
from swd.values import RESERVED_TAG, Negotiated


def unexpected_data() -> CheckCondition:
    """WRITE ERROR - UNEXPECTED UNSOLICITED DATA."""
    return CheckCondition(ABORTED_COMMAND, 0x0C, 0x0C)


def incorrect_amount() -> CheckCondition:
    """WRITE ERROR - NOT ENOUGH UNSOLICITED DATA, used for any sequence that is not what was agreed on."""
    return CheckCondition(ABORTED_COMMAND, 0x0C, 0x0D)


def data_phase_error() -> CheckCondition:
    """DATA PHASE ERROR: DataSN or Buffer Offset out of order."""
    return CheckCondition(ABORTED_COMMAND, 0x4B)


@dataclass
class Sequence:
    """One Data-Out sequence: where it goes on, where it ends, and the DataSN that comes next."""

    offset: int
    end: int
    data_sn: int = 0


class Ask(NamedTuple):
    """An R2T to send."""

    ttt: int
    r2t_sn: int
    offset: int
    length: int


class WriteTask:
    """One command with Data-Out. `length` is what moves: the CDB's length or the initiator's promise, the lesser.

    Unsolicited data may run up to the promise; what lies beyond `length` is dropped, and counts as residual.
    """

    def __init__(self, command: pdu.ScsiCommand, unit: LogicalUnit, want: WantData, agreed: Negotiated) -> None:
        self.command = command
        self.unit = unit
        self.want = want
        self.promised = command.expected_data_transfer_length if command.write else 0
        self.length = min(self.promised, want.length)
        # The medium itself may be written only if all of it will come: a partial block must not.
        whole = self.length == want.length
        self.buffer = want.place if whole and want.place is not None else memoryview(bytearray(self.length))
        self._agreed = agreed
        self._unsolicited: Sequence | None = Sequence(0, min(self.promised, agreed.first_burst_length))
        self._solicited: dict[int, Sequence] = {}
        self._asked = 0  # the offset of the next R2T
        self._r2t_sn = 0

    @property
    def complete(self) -> bool:
        """Whether all the data is there and no sequence is open."""
        return self._unsolicited is None and not self._solicited and self._asked >= self.length

    def immediate(self, data: memoryview) -> None:
        """Take the data segment of the command itself. Raises CheckCondition for data that was not agreed on."""
        final = self.command.final
        if (len(data) and not self._agreed.immediate_data) or (not final and self._agreed.initial_r2t):
            raise unexpected_data()
        assert self._unsolicited is not None
        self._store(self._unsolicited, data)
        if final:
            self._end_unsolicited()

    def data_out(self, header: pdu.DataOut, data: memoryview) -> bool:
        """Take one Data-Out PDU; False if it belongs to no sequence that is open. Raises CheckCondition."""
        solicited = header.ttt != RESERVED_TAG
        sequence = self._solicited.get(header.ttt) if solicited else self._unsolicited
        if sequence is None:
            return False
        if header.data_sn != sequence.data_sn or header.buffer_offset != sequence.offset:
            raise data_phase_error()
        if header.final and solicited and sequence.offset + len(data) != sequence.end:
            raise incorrect_amount()
        sequence.data_sn += 1
        self._store(sequence, data)
        if header.final and solicited:
            del self._solicited[header.ttt]
        elif header.final:
            self._end_unsolicited()
        return True

    def asks(self, new_ttt: Callable[[], int]) -> Iterator[Ask]:
        """The R2Ts to send now: none before the unsolicited data has ended, at most MaxOutstandingR2T open."""
        while (
            self._unsolicited is None
            and self._asked < self.length
            and len(self._solicited) < self._agreed.max_outstanding_r2t
        ):
            length = min(self.length - self._asked, self._agreed.max_burst_length)
            ask = Ask(new_ttt(), self._r2t_sn, self._asked, length)
            self._solicited[ask.ttt] = Sequence(ask.offset, ask.offset + length)
            self._asked += length
            self._r2t_sn += 1
            yield ask

    def _store(self, sequence: Sequence, data: memoryview) -> None:
        start, end = sequence.offset, sequence.offset + len(data)
        if end > sequence.end:
            raise incorrect_amount()
        useful = min(end, self.length)
        if start < useful:
            with self.unit.state.changes if self.buffer is self.want.place else nullcontext():
                self.buffer[start:useful] = data[: useful - start]
        sequence.offset = end

    def _end_unsolicited(self) -> None:
        assert self._unsolicited is not None
        self._asked = self._unsolicited.offset
        self._unsolicited = None


class OtherTasks(Protocol):
    """Open writes of the session that the compiled data path has, and what it is to know of ours."""

    others: int

    def __len__(self) -> int: ...
    def __contains__(self, itt: int, /) -> bool: ...
    def drop(self, itt: int, /) -> bool: ...
    def abort(self, lun: int | None = None, /) -> int: ...


class TaskSet:
    """The open tasks of one session, by ITT: writes, and commands that end later. Other sessions' threads may abort in
    it (resets), hence the lock.

    Length, `in`, `drop` and `abort` are about all of them, wherever they are; the rest is about those of Python.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _tasks, _deferred, and the count that `_others` has; nothing waits
        self._tasks: dict[int, WriteTask] = {}
        self._deferred: dict[int, int] = {}  # commands that a thread of their own carries out: ITT -> LUN
        self._others: OtherTasks | None = None

    def defer(self, itt: int, lun: int) -> None:
        """A command goes on by itself; it is open until `settle`."""
        with self._lock:
            self._deferred[itt] = lun

    def settle(self, itt: int) -> bool:
        """It has ended; False if somebody aborted it."""
        with self._lock:
            return self._deferred.pop(itt, None) is not None

    def join(self, others: OtherTasks) -> None:
        """From now on these tasks count, too."""
        with self._lock:
            self._others = others
            self._tell()

    def __len__(self) -> int:
        own = len(self._tasks) + len(self._deferred)
        return own + (len(self._others) if self._others is not None else 0)

    def __contains__(self, itt: int) -> bool:
        return itt in self._tasks or itt in self._deferred or (self._others is not None and itt in self._others)

    def add(self, task: WriteTask) -> None:
        with self._lock:
            self._tasks[task.command.itt] = task
            self._tell()

    def get(self, itt: int) -> WriteTask | None:
        return self._tasks.get(itt)

    def take(self, itt: int) -> WriteTask | None:
        """Remove and return a task; None if it is not there (any more): then somebody aborted it."""
        with self._lock:
            task = self._tasks.pop(itt, None)
            self._tell()
        return task

    def drop(self, itt: int) -> bool:
        """Abort one task; False if it is not there."""
        return self.take(itt) is not None or self.settle(itt) or (self._others is not None and self._others.drop(itt))

    def abort(self, lun: int | None = None) -> int:
        """Drop all tasks, or all of one unit; the number dropped."""
        with self._lock:
            doomed = [itt for itt, task in self._tasks.items() if lun in (None, task.command.lun)]
            for itt in doomed:
                del self._tasks[itt]
            going = [itt for itt, of in self._deferred.items() if lun in (None, of)]
            for itt in going:
                del self._deferred[itt]
            self._tell()
        return len(doomed) + len(going) + (self._others.abort(lun) if self._others is not None else 0)

    def _tell(self) -> None:
        if self._others is not None:
            self._others.others = len(self._tasks)
