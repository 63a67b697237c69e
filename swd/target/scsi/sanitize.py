# SPDX-License-Identifier: Apache-2.0
"""SANITIZE (SBC-3 5.30): overwrite, block erase, cryptographic erase, exit failure mode.

The whole medium goes in steps; with IMMED in a thread of its own. While it runs every command but INQUIRY, REPORT LUNS
and REQUEST SENSE ends with NOT READY and the progress. If the medium fails, the unit stays failed until another
SANITIZE succeeds, or EXIT FAILURE MODE where that was allowed (AUSE).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from swd.errors import MediumError
from swd.target.scsi.reply import (
    MEDIUM_ERROR,
    NOT_READY,
    CheckCondition,
    Later,
    Outcome,
    Reply,
    Request,
    WantData,
    invalid_field,
)

if TYPE_CHECKING:
    from swd.target.scsi.state import UnitState
    from swd.target.scsi.unit import LogicalUnit

_IMMED, _AUSE = 0x80, 0x20
_STEP = 4 << 20  # bytes between two looks at the progress

Fill = Callable[[int, int], None]  # offset, length


def progress(done: float) -> bytes:
    """SENSE KEY SPECIFIC with a progress indication (SPC-4 4.5.2.4.4)."""
    return b"\x80" + min(int(done * 65536), 65535).to_bytes(2, "big")


def check(state: UnitState, *, reads_medium: bool) -> None:
    """Refuse a command while SANITIZE runs, and one that needs the medium after it failed. Raises CheckCondition."""
    done = state.sanitizing
    if done is not None:
        raise CheckCondition(NOT_READY, 0x04, 0x1B, specific=progress(done))  # SANITIZE IN PROGRESS
    if state.sanitize_failed and reads_medium:
        raise CheckCondition(MEDIUM_ERROR, 0x31, 0x03)  # SANITIZE COMMAND FAILED


def erase(unit: LogicalUnit, request: Request) -> Outcome:
    """BLOCK ERASE, and CRYPTOGRAPHIC ERASE, whose key this unit has never had: all blocks read as zeros."""
    _reserved(request)
    if int.from_bytes(request.cdb[7:9], "big"):
        raise invalid_field()
    return _begin(unit, request, [unit.medium.zero])


def _reserved(request: Request) -> None:
    """What wipes a disk is to be said clearly: reserved bytes are looked at here."""
    if any(request.cdb[2:7]) or request.cdb[1] & 0x40:
        raise invalid_field()


def overwrite(unit: LogicalUnit, request: Request) -> Outcome:
    """A pattern over every block, as often as the parameter list says, inverted in between if it says so."""
    _reserved(request)
    length = int.from_bytes(request.cdb[7:9], "big")
    if not 4 < length < unit.block_size + 5:
        raise invalid_field()
    return WantData(length, partial(_overwrite, unit, request, length))


def _overwrite(unit: LogicalUnit, request: Request, length: int, data: memoryview) -> Reply | Later:
    given = bytes(data)
    size, count, invert = int.from_bytes(given[2:4], "big"), given[0] & 0x1F if given else 0, given[:1] >= b"\x80"
    if len(given) < length or not count or given[0] & 0x60 or not 0 < size <= length - 4:
        raise invalid_field()
    pattern = (given[4 : 4 + size] * (-(-unit.block_size // size)))[: unit.block_size]
    other = bytes(byte ^ 0xFF for byte in pattern) if invert else pattern
    passes = [pattern if (count - turn) % 2 else other for turn in range(count)]  # the last one leaves the pattern
    return _begin(unit, request, [partial(_fill, unit, block) for block in passes])


def _fill(unit: LogicalUnit, block: bytes, offset: int, length: int) -> None:
    unit.medium.write(offset, block * (length // unit.block_size))


def exit_failure_mode(unit: LogicalUnit, request: Request) -> Reply:
    """Nothing to leave is no error; a failure that was to stay stays (SBC-3 5.30.2.5)."""
    state = unit.state
    if int.from_bytes(request.cdb[7:9], "big") or (state.sanitize_failed and not state.exit_allowed):
        raise invalid_field()
    state.sanitize_failed = False
    return Reply()


def _begin(unit: LogicalUnit, request: Request, passes: list[Fill]) -> Reply | Later:
    state = unit.state
    with state.lock:
        check(state, reads_medium=False)
        state.sanitizing, state.exit_allowed = 0.0, bool(request.cdb[1] & _AUSE)
    state.touch()
    if not request.cdb[1] & _IMMED:
        return Later(partial(_to_the_end, unit, passes))
    seconds = unit.script.sanitize_seconds
    threading.Thread(target=_run, args=(unit, passes, seconds), name="swd-target-sanitize", daemon=True).start()
    return Reply()


def _to_the_end(unit: LogicalUnit, passes: list[Fill]) -> Reply:
    _run(unit, passes, unit.script.sanitize_seconds)
    return CheckCondition(MEDIUM_ERROR, 0x31, 0x03).reply if unit.state.sanitize_failed else Reply()


def _run(unit: LogicalUnit, passes: list[Fill], seconds: float = 0.0) -> None:
    """All passes; the state ends as failed or as whole, and never as running."""
    state, size = unit.state, unit.blocks * unit.block_size
    failed, pause = True, threading.Event()  # nobody sets it: `wait` lets time pass
    try:
        for number, fill in enumerate(passes):
            for offset in range(0, size, _STEP):
                fill(offset, min(_STEP, size - offset))
                state.sanitizing = (number + offset / size) / len(passes)
                pause.wait(seconds * _STEP / size / len(passes))
        unit.medium.flush()
        failed = False
    except (MediumError, TypeError, ValueError):  # the latter two: a RAM disk that was closed meanwhile
        pass  # REQUEST SENSE and the next command tell
    finally:
        state.sanitize_failed, state.sanitizing = failed, None
        state.touch()
