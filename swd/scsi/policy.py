# SPDX-License-Identifier: Apache-2.0
"""What to do when a SCSI command did not end plainly GOOD: pure judgement over literal tables.

`judge` looks at one result and says: done, try again (now or after a pause), look first whether this is still the same
disk, or give up with this error. It keeps no state, sleeps never, sends nothing: how often a command has been tried for
which cause is an argument, so every rule can be read and tested as a row. Sense data: the first row that matches wins.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from swd.errors import ScsiError
from swd.scsi.opcodes import Opcode, lookup
from swd.scsi.sense import SenseKey, describe, is_deferred
from swd.values import Direction, ScsiResult, Sense

GOOD, CHECK_CONDITION, CONDITION_MET, BUSY = 0x00, 0x02, 0x04, 0x08
RESERVATION_CONFLICT, TASK_SET_FULL, ACA_ACTIVE, TASK_ABORTED = 0x18, 0x28, 0x30, 0x40

STATUS_WORDS: dict[int, str] = {  # SAM-5 table 43
    GOOD: "GOOD",
    CHECK_CONDITION: "CHECK CONDITION",
    CONDITION_MET: "CONDITION MET",
    BUSY: "BUSY",
    RESERVATION_CONFLICT: "RESERVATION CONFLICT",
    TASK_SET_FULL: "TASK SET FULL",
    ACA_ACTIVE: "ACA ACTIVE",
    TASK_ABORTED: "TASK ABORTED",
}

ENOMEDIUM = getattr(errno, "ENOMEDIUM", errno.ENXIO)


class Action(enum.Enum):
    DONE = "done"
    RETRY = "retry"  # after `delay` seconds
    REREAD = "reread"  # identity and capacity, then retry if they are the same
    FAIL = "fail"


class Cause(enum.Enum):
    """Why a command is tried again; each has a limit of its own. The words end a sentence "given up: ..."."""

    ATTENTION = "unit attentions without end"
    BUSY = "the unit stayed busy"
    NOT_READY = "the unit did not become ready"
    ABORTED = "the target aborted it again and again"
    RANGE = "the address is out of range"


class Verdict(NamedTuple):
    """`delay` in seconds (RETRY), `error` what to raise (FAIL); the caller counts the `cause` of RETRY and REREAD."""

    action: Action
    cause: Cause | None = None
    delay: float = 0.0
    error: ScsiError | None = None


LIMITS: dict[Cause, int | None] = {  # retries a command; None: until the caller's deadline
    Cause.ATTENTION: 10,
    Cause.BUSY: None,
    Cause.NOT_READY: 8,
    Cause.ABORTED: 3,
    Cause.RANGE: 1,
}
_PAUSES: dict[Cause, tuple[float, float]] = {  # seconds: the first pause, and the longest; each is twice the one before
    Cause.ATTENTION: (0.0, 0.0),
    Cause.BUSY: (0.01, 1.0),
    Cause.NOT_READY: (0.1, 2.0),
    Cause.ABORTED: (0.01, 0.1),
    Cause.RANGE: (0.0, 0.0),
}

ANY = -1


class _Rule(NamedTuple):
    """Sense key, ASC and ASCQ (ANY matches all; a range of ASCQ is a range) -> what to do, for which cause."""

    key: int
    asc: int
    ascq: int | range
    action: Action
    cause: Cause | None = None


_NOW, _REREAD, _FAIL = Action.RETRY, Action.REREAD, Action.FAIL
_SENSE_ACTIONS: tuple[_Rule, ...] = (
    _Rule(SenseKey.NO_SENSE, ANY, ANY, Action.DONE),  # a CHECK CONDITION about nothing: the data stands
    _Rule(SenseKey.RECOVERED_ERROR, ANY, ANY, Action.DONE),
    _Rule(SenseKey.UNIT_ATTENTION, 0x2A, range(0x03, 0x06), _FAIL),  # our reservation or registration was taken away
    _Rule(SenseKey.UNIT_ATTENTION, 0x29, ANY, _NOW, Cause.ATTENTION),  # power on, reset, nexus loss
    _Rule(SenseKey.UNIT_ATTENTION, 0x2A, 0x01, _NOW, Cause.ATTENTION),  # mode parameters
    _Rule(SenseKey.UNIT_ATTENTION, 0x2A, 0x06, _NOW, Cause.ATTENTION),  # asymmetric access state
    _Rule(SenseKey.UNIT_ATTENTION, 0x38, 0x07, _NOW, Cause.ATTENTION),  # thin provisioning soft threshold
    _Rule(SenseKey.UNIT_ATTENTION, ANY, ANY, _REREAD, Cause.ATTENTION),  # 2A/09, 3F/xx, and what nobody foresaw
    _Rule(SenseKey.NOT_READY, 0x3A, ANY, _FAIL),  # no medium: waiting brings none
    _Rule(SenseKey.NOT_READY, 0x04, range(0x02, 0x04), _FAIL),  # START STOP UNIT or a person is needed
    _Rule(SenseKey.NOT_READY, ANY, ANY, _NOW, Cause.NOT_READY),
    _Rule(SenseKey.ABORTED_COMMAND, ANY, ANY, _NOW, Cause.ABORTED),
    _Rule(SenseKey.ILLEGAL_REQUEST, 0x21, 0x00, _REREAD, Cause.RANGE),
    _Rule(ANY, ANY, ANY, _FAIL),
)

_STATUS_ACTIONS: dict[int, tuple[Action, Cause | None]] = {
    GOOD: (Action.DONE, None),
    CONDITION_MET: (Action.DONE, None),
    BUSY: (_NOW, Cause.BUSY),
    TASK_SET_FULL: (_NOW, Cause.BUSY),
    TASK_ABORTED: (_NOW, Cause.ABORTED),
}

_STATUS_ERRNOS: dict[int, int] = {
    RESERVATION_CONFLICT: errno.EBUSY,
    BUSY: errno.EBUSY,
    TASK_SET_FULL: errno.EBUSY,
    ACA_ACTIVE: errno.EBUSY,
}


class _Errno(NamedTuple):
    key: int
    asc: int
    ascq: int | range
    errno: int
    on_write: int | None = None  # where writing differs


_SENSE_ERRNOS: tuple[_Errno, ...] = (
    _Errno(ANY, 0x27, 0x07, errno.ENOSPC),  # a thin pool is full
    _Errno(ANY, 0x27, ANY, errno.EROFS),
    _Errno(SenseKey.NOT_READY, 0x3A, ANY, ENOMEDIUM),
    _Errno(SenseKey.NOT_READY, ANY, ANY, errno.EBUSY),
    _Errno(SenseKey.ILLEGAL_REQUEST, 0x20, ANY, errno.EOPNOTSUPP),
    _Errno(SenseKey.ILLEGAL_REQUEST, 0x21, 0x00, errno.EIO, errno.ENOSPC),
    _Errno(SenseKey.ILLEGAL_REQUEST, 0x24, 0x00, errno.EINVAL),
    _Errno(SenseKey.ILLEGAL_REQUEST, 0x25, ANY, errno.ENXIO),
    _Errno(SenseKey.ILLEGAL_REQUEST, 0x26, range(0x04), errno.EINVAL),
    _Errno(SenseKey.ILLEGAL_REQUEST, 0x1A, 0x00, errno.EINVAL),
    _Errno(SenseKey.UNIT_ATTENTION, 0x2A, range(0x03, 0x06), errno.EBUSY),
    _Errno(SenseKey.MISCOMPARE, ANY, ANY, errno.EILSEQ),
    _Errno(ANY, ANY, ANY, errno.EIO),
)

_ADVICE: dict[int, str] = {
    errno.EBUSY: "it is reserved, not ready, or has too much to do: try again later",
    errno.EROFS: "the unit is write protected: open it for reading, or lift the protection on the target",
    errno.ENOSPC: "no space is left there: stay inside the unit's size, or enlarge the pool behind it",
    errno.EOPNOTSUPP: "the unit does not have this command",
    errno.EINVAL: "the unit does not take these parameters",
    errno.ENXIO: "the target has no such logical unit: list those that it has",
    ENOMEDIUM: "there is no medium in the unit",
    errno.EILSEQ: "the data on the unit differs from what was expected",
}
_NEVER: Mapping[Cause, int] = MappingProxyType({})
_DEFAULT_ADVICE = "look into the target's log"


def judge(cdb: bytes, result: ScsiResult, tried: Mapping[Cause, int] = _NEVER) -> Verdict:
    """What to do about `result` of the command `cdb`, tried again `tried[cause]` times so far for each cause."""
    action, cause = _rule(result)
    if cause is None:
        return Verdict(action, error=error_for(result, cdb) if action is Action.FAIL else None)
    count, limit = tried.get(cause, 0), LIMITS[cause]
    if limit is not None and count >= limit:
        return Verdict(Action.FAIL, error=error_for(result, cdb, given_up=cause))
    if cause is Cause.ABORTED and not lookup(cdb).replayable:
        return Verdict(Action.FAIL, error=error_for(result, cdb))  # it may have been carried out by half
    first, longest = _PAUSES[cause]
    return Verdict(action, cause, min(first * 2 ** min(count, 16), longest))


def error_for(result: ScsiResult, cdb: bytes, *, given_up: Cause | None = None) -> ScsiError:
    """The error for a command that ended like this: words, status, sense, and the errno of the contract."""
    row = lookup(cdb)
    number = errno_for(result, row.direction)
    reason = f"{_command_words(row, cdb)} ended with {_end_words(result)}"
    if given_up is not None:
        reason += f"; given up: {given_up.value}"
    reason += f"\n{_ADVICE.get(number, _DEFAULT_ADVICE)}"
    return ScsiError(reason, errno=number, sense=result.sense, status=result.status)


def short_transfer(result: ScsiResult, cdb: bytes) -> ScsiError:
    """The error for a READ or WRITE that ended GOOD but moved another number of bytes than was asked for."""
    row = lookup(cdb)
    words = "bytes too few" if result.residual > 0 else "bytes more than it was asked for"
    moved = f"{abs(result.residual)} {words}"
    reason = f"{_command_words(row, cdb)} ended GOOD but moved {moved}: nothing of it can be trusted\n{_DEFAULT_ADVICE}"
    return ScsiError(reason, errno=errno.EIO, status=result.status)


def errno_for(result: ScsiResult, direction: Direction = Direction.NONE) -> int:
    """The errno of a result that is a failure."""
    if result.response:
        return errno.EIO  # RFC 7143 11.4.3: the target failed before SCSI could say anything
    if result.status != CHECK_CONDITION:
        return _STATUS_ERRNOS.get(result.status, errno.EIO)
    if result.sense is None:
        return errno.EIO
    row = next(row for row in _SENSE_ERRNOS if _matches(row, result.sense))
    return row.on_write if row.on_write is not None and direction is Direction.WRITE else row.errno


def _rule(result: ScsiResult) -> tuple[Action, Cause | None]:
    if result.response:
        return Action.FAIL, None
    if result.status != CHECK_CONDITION:
        return _STATUS_ACTIONS.get(result.status, (Action.FAIL, None))
    sense = result.sense
    if sense is None:  # legal, and says nothing (SPC-4 4.5.1)
        return Action.FAIL, None
    if is_deferred(sense) and sense.key in (SenseKey.NO_SENSE, SenseKey.RECOVERED_ERROR):
        return Action.RETRY, Cause.ATTENTION  # about an earlier command; this one was not carried out (SPC-4 4.5.5)
    rule = next(rule for rule in _SENSE_ACTIONS if _matches(rule, sense))
    return rule.action, rule.cause


def _matches(row: _Rule | _Errno, sense: Sense) -> bool:
    return row.key in (ANY, sense.key) and row.asc in (ANY, sense.asc) and _matches_ascq(row.ascq, sense.ascq)


def _matches_ascq(wanted: int | range, ascq: int) -> bool:
    return ascq in wanted if isinstance(wanted, range) else wanted in (ANY, ascq)


def _command_words(row: Opcode, cdb: bytes) -> str:
    """ "READ(10) of 8 blocks at 4711": where, for the commands that have a place."""
    if row.length == 10 and row.name.startswith(("READ(", "WRITE(")):
        lba, blocks = int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")
    elif row.length == 16 and row.name.startswith(("READ(", "WRITE(", "WRITE SAME(")):
        lba, blocks = int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")
    else:
        return row.name
    return f"{row.name} of {blocks} blocks at {lba}"


def _end_words(result: ScsiResult) -> str:
    if result.response:
        return f"a target failure (iSCSI response {result.response:02X}h)"
    if result.status == CHECK_CONDITION:
        return describe(result.sense)
    return STATUS_WORDS.get(result.status, f"status {result.status:02X}h")
