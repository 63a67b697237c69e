# SPDX-License-Identifier: Apache-2.0
"""REPORT SUPPORTED OPERATION CODES (SPC-4 6.35): the table of operations, told to whom it may concern."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swd.target.scsi import operations
from swd.target.scsi.cdb import allocation
from swd.target.scsi.reply import Reply, Request, invalid_field

if TYPE_CHECKING:
    from swd.target.scsi.operations import Operation
    from swd.target.scsi.unit import LogicalUnit

_LENGTH = slice(6, 10)
_ALL, _OPCODE, _ACTION, _EITHER = range(4)  # REPORTING OPTIONS
_SERVACTV, _CTDP = 0x01, 0x02
_UNSUPPORTED, _SUPPORTED = 0x01, 0x03


def report(unit: LogicalUnit, request: Request) -> Reply:
    options, timeouts = request.cdb[2] & 0x07, bool(request.cdb[2] & 0x80)
    opcode, action = request.cdb[3], int.from_bytes(request.cdb[4:6], "big")
    if options == _ALL:
        return Reply(data=allocation(request.cdb, _LENGTH, _all(unit, timeouts=timeouts)))
    with_actions = any(isinstance(key, tuple) and key[0] == opcode for key in operations.TABLE)
    if options > _EITHER or (options == _OPCODE and with_actions) or (options == _ACTION and not with_actions):
        raise invalid_field()
    row = operations.TABLE.get((opcode, action) if with_actions else opcode)
    if options == _EITHER and not with_actions and action:
        row = None
    found = row if row is not None and row.offered(unit) else None
    return Reply(data=allocation(request.cdb, _LENGTH, _one(found, timeouts=timeouts)))


def _all(unit: LogicalUnit, *, timeouts: bool) -> bytes:
    body = b""
    for key, row in operations.TABLE.items():
        if not row.offered(unit):
            continue
        opcode, action = key if isinstance(key, tuple) else (key, 0)
        flags = (_SERVACTV if isinstance(key, tuple) else 0) | (_CTDP if timeouts else 0)
        body += bytes([opcode, 0]) + action.to_bytes(2, "big") + bytes([0, flags])
        body += len(row.usage).to_bytes(2, "big") + (_timeouts(row) if timeouts else b"")
    return len(body).to_bytes(4, "big") + body


def _one(row: Operation | None, *, timeouts: bool) -> bytes:
    if row is None:
        return bytes([0, _UNSUPPORTED, 0, 0])
    flags = _SUPPORTED | (0x80 if timeouts else 0)
    return bytes([0, flags]) + len(row.usage).to_bytes(2, "big") + row.usage + (_timeouts(row) if timeouts else b"")


def _timeouts(row: Operation) -> bytes:
    """A command timeouts descriptor: nominal time not said, recommended timeout in seconds (SPC-4 6.35.4)."""
    return b"\0\x0a\0\0" + bytes(4) + row.timeout.to_bytes(4, "big")
