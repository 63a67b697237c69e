# SPDX-License-Identifier: Apache-2.0
"""The SCSI commands that swd knows, one row each, and the way from a CDB to its row.

A row says what the layers above have to know about a command without understanding it: its name in the standard's
spelling, the length of its CDB, which way data goes, how much longer than others it may take, and whether it may be
sent again when nobody knows if it was carried out. Codes: SPC-4 table 141 ff., SBC-3 table 32.
"""

from __future__ import annotations

from typing import NamedTuple

from swd.values import Direction

_IN, _OUT, _NO = Direction.READ, Direction.WRITE, Direction.NONE

_SERVICE_ACTION_CODES = frozenset({0x5E, 0x5F, 0x83, 0x84, 0x9E, 0x9F, 0xA3, 0xA4, 0x48})  # low five bits of byte 1
_GROUP_LENGTHS = (6, 10, 10, 0, 16, 12, 0, 0)  # SPC-4 4.2.5.1: the top three bits of the code; 0 = not fixed by it


class Opcode(NamedTuple):
    """One command. `action` is the service action or None; `length` is that of the CDB in bytes.

    `patience`: how many times the deadline of an ordinary command it has; more than 1 for what may take minutes, or
    hours. `replayable`: carrying it out twice is the same as once, so it may be sent again after an abort.
    """

    code: int
    action: int | None
    name: str
    length: int
    direction: Direction
    patience: int = 1
    replayable: bool = True


TABLE: tuple[Opcode, ...] = (
    # code action name                     CDB  data  patience replayable
    Opcode(0x00, None, "TEST UNIT READY", 6, _NO),
    Opcode(0x03, None, "REQUEST SENSE", 6, _IN),
    Opcode(0x04, None, "FORMAT UNIT", 6, _OUT, 480, False),
    Opcode(0x08, None, "READ(6)", 6, _IN),
    Opcode(0x0A, None, "WRITE(6)", 6, _OUT),
    Opcode(0x12, None, "INQUIRY", 6, _IN),
    Opcode(0x15, None, "MODE SELECT(6)", 6, _OUT, 1, False),
    Opcode(0x16, None, "RESERVE(6)", 6, _NO, 1, False),
    Opcode(0x17, None, "RELEASE(6)", 6, _NO, 1, False),
    Opcode(0x1A, None, "MODE SENSE(6)", 6, _IN),
    Opcode(0x1B, None, "START STOP UNIT", 6, _NO, 4, False),
    Opcode(0x1E, None, "PREVENT ALLOW MEDIUM REMOVAL", 6, _NO, 1, False),
    Opcode(0x25, None, "READ CAPACITY(10)", 10, _IN),
    Opcode(0x28, None, "READ(10)", 10, _IN),
    Opcode(0x2A, None, "WRITE(10)", 10, _OUT),
    Opcode(0x2E, None, "WRITE AND VERIFY(10)", 10, _OUT),
    Opcode(0x2F, None, "VERIFY(10)", 10, _NO),
    Opcode(0x34, None, "PRE-FETCH(10)", 10, _NO),
    Opcode(0x35, None, "SYNCHRONIZE CACHE(10)", 10, _NO),
    Opcode(0x3B, None, "WRITE BUFFER", 10, _OUT, 10, False),
    Opcode(0x3C, None, "READ BUFFER", 10, _IN),
    Opcode(0x41, None, "WRITE SAME(10)", 10, _OUT, 10),
    Opcode(0x42, None, "UNMAP", 10, _OUT, 10),
    Opcode(0x48, None, "SANITIZE", 10, _OUT, 2880, False),
    Opcode(0x4C, None, "LOG SELECT", 10, _OUT, 1, False),
    Opcode(0x4D, None, "LOG SENSE", 10, _IN),
    Opcode(0x55, None, "MODE SELECT(10)", 10, _OUT, 1, False),
    Opcode(0x5A, None, "MODE SENSE(10)", 10, _IN),
    Opcode(0x5E, None, "PERSISTENT RESERVE IN", 10, _IN),
    Opcode(0x5F, None, "PERSISTENT RESERVE OUT", 10, _OUT, 1, False),
    Opcode(0x83, None, "EXTENDED COPY", 16, _OUT, 20, False),
    Opcode(0x84, None, "RECEIVE COPY RESULTS", 16, _IN, 1, False),
    Opcode(0x88, None, "READ(16)", 16, _IN),
    Opcode(0x89, None, "COMPARE AND WRITE", 16, _OUT, 1, False),
    Opcode(0x8A, None, "WRITE(16)", 16, _OUT),
    Opcode(0x8B, None, "ORWRITE(16)", 16, _OUT),
    Opcode(0x8E, None, "WRITE AND VERIFY(16)", 16, _OUT),
    Opcode(0x8F, None, "VERIFY(16)", 16, _NO),
    Opcode(0x90, None, "PRE-FETCH(16)", 16, _NO),
    Opcode(0x91, None, "SYNCHRONIZE CACHE(16)", 16, _NO),
    Opcode(0x93, None, "WRITE SAME(16)", 16, _OUT, 10),
    Opcode(0x9C, None, "WRITE ATOMIC(16)", 16, _OUT),
    Opcode(0x9E, 0x10, "READ CAPACITY(16)", 16, _IN),
    Opcode(0x9E, 0x12, "GET LBA STATUS", 16, _IN),
    Opcode(0xA0, None, "REPORT LUNS", 12, _IN),
    Opcode(0xA3, 0x05, "REPORT IDENTIFYING INFORMATION", 12, _IN),
    Opcode(0xA3, 0x0A, "REPORT TARGET PORT GROUPS", 12, _IN),
    Opcode(0xA3, 0x0C, "REPORT SUPPORTED OPERATION CODES", 12, _IN),
    Opcode(0xA3, 0x0D, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 12, _IN),
    Opcode(0xA4, 0x0A, "SET TARGET PORT GROUPS", 12, _OUT, 4, False),
    Opcode(0xA8, None, "READ(12)", 12, _IN),
    Opcode(0xAA, None, "WRITE(12)", 12, _OUT),
    Opcode(0xAE, None, "WRITE AND VERIFY(12)", 12, _OUT),
    Opcode(0xAF, None, "VERIFY(12)", 12, _NO),
    Opcode(0xB7, None, "READ DEFECT DATA(12)", 12, _IN),
)

_ROWS = {(row.code, row.action): row for row in TABLE}
BY_NAME = {row.name: row for row in TABLE}
LONG = {row.name: row.patience for row in TABLE if row.patience > 1}


def lookup(cdb: bytes) -> Opcode:
    """The row of a CDB. For a command that is not in the table: a row with its code as its name, never replayable."""
    if not cdb:
        return Opcode(0, None, "an empty CDB", 0, _NO, 1, False)
    code = cdb[0]
    action = cdb[1] & 0x1F if code in _SERVICE_ACTION_CODES and len(cdb) > 1 else None
    row = _ROWS.get((code, action)) or _ROWS.get((code, None))
    if row is not None:
        return row
    words = f"opcode {code:02X}h" if action is None else f"opcode {code:02X}h/{action:02X}h"
    return Opcode(code, action, words, _GROUP_LENGTHS[code >> 5] or len(cdb), _NO, 1, False)
