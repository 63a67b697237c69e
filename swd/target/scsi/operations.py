# SPDX-License-Identifier: Apache-2.0
"""All that a unit can be told, as one table: a new command is a new row and a test.

What is not in it ends with INVALID COMMAND OPERATION CODE, which initiators read as "not supported"; an unknown service
action of a known operation code is an invalid field (SPC-4 4.3.3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from swd.target.scsi import (
    atomic,
    basics,
    blocks,
    copying,
    inquiry,
    modes,
    persistent,
    ports,
    provisioning,
    removal,
    sanitize,
    support,
)
from swd.target.scsi.ports import ACTIVE, ALWAYS, STANDBY
from swd.target.scsi.reply import Outcome, Request
from swd.target.scsi.reservations import FREE, NOTHING, READ, WRITE

if TYPE_CHECKING:
    from swd.target.scsi.unit import LogicalUnit


def _always(_unit: LogicalUnit) -> bool:
    return True


def _thin(unit: LogicalUnit) -> bool:
    return unit.thin


class Operation(NamedTuple):
    """One command. `usage`: CDB USAGE DATA, the bits that are looked at, with the codes in their places (SPC-4 6.35.3).

    changes: refused if write protected. attention_free: unit attentions wait, and SANITIZE does not hinder it (SAM-5
    5.14). need: what reservations of others have to allow. access: the least access state of the port (`ports`).
    medium: it needs one. timeout: seconds, recommended. offered: whether a unit has it.
    """

    name: str
    handler: Callable[[LogicalUnit, Request], Outcome]
    usage: bytes
    changes: bool = False
    attention_free: bool = False
    need: str = READ
    access: int = ACTIVE
    medium: bool = True
    timeout: int = 30
    offered: Callable[[LogicalUnit], bool] = _always


_LONG = 600  # what touches the whole medium

Key = int | tuple[int, int]  # operation code, or (operation code, service action)
_Usage = str


def _row(
    name: str,
    handler: Callable[[LogicalUnit, Request], Outcome],
    usage: _Usage,
    *,
    attention_free: bool = False,
    need: str = READ,
    access: int = ACTIVE,
    medium: bool = False,
    timeout: int = 30,
    offered: Callable[[LogicalUnit], bool] = _always,
) -> Operation:
    """A command that has nothing to do with blocks."""
    return Operation(
        name, handler, bytes.fromhex(usage), False, attention_free, need, access, medium, timeout, offered
    )  # fmt: skip


def _reads(name: str, handler: Callable[[LogicalUnit, Request], Outcome], usage: _Usage) -> Operation:
    return Operation(name, handler, bytes.fromhex(usage))


def _writes(
    name: str,
    handler: Callable[[LogicalUnit, Request], Outcome],
    usage: _Usage,
    *,
    timeout: int = 30,
    offered: Callable[[LogicalUnit], bool] = _always,
) -> Operation:
    usage_data = bytes.fromhex(usage)
    return Operation(name, handler, usage_data, changes=True, need=WRITE, timeout=timeout, offered=offered)


_L4, _L8 = "ff" * 4, "ff" * 8
TABLE: dict[Key, Operation] = {
    0x00: _row("TEST UNIT READY", basics.unit_ready, "00 00 00 00 00 04", need=FREE, medium=True),
    0x03: _row(
        "REQUEST SENSE", basics.request_sense, "03 01 00 00 ff 04", attention_free=True, need=NOTHING, access=ALWAYS,
    ),
    0x08: _reads("READ(6)", blocks.read, "08 1f ff ff ff 04"),
    0x0A: _writes("WRITE(6)", blocks.write, "0a 1f ff ff ff 04"),
    0x12: _row("INQUIRY", inquiry.inquiry, "12 01 ff ff ff 04", attention_free=True, need=NOTHING, access=ALWAYS),
    0x15: _row("MODE SELECT(6)", modes.mode_select_6, "15 11 00 00 ff 04", need=WRITE, access=STANDBY),
    0x16: _row("RESERVE(6)", persistent.reserve_6, "16 00 00 00 00 04"),
    0x17: _row("RELEASE(6)", persistent.release_6, "17 00 00 00 00 04", need=NOTHING),
    0x1A: _row("MODE SENSE(6)", modes.mode_sense_6, "1a 08 ff ff ff 04", access=STANDBY),
    0x1B: _row("START STOP UNIT", removal.start_stop_unit, "1b 01 00 0f f7 04", need=WRITE, timeout=60),
    0x1E: _row("PREVENT ALLOW MEDIUM REMOVAL", removal.prevent_allow, "1e 00 00 00 03 04", need=WRITE),
    0x25: _row("READ CAPACITY(10)", basics.read_capacity_10, "25 00 ff ff ff ff 00 00 01 04", need=FREE, medium=True),
    0x28: _reads("READ(10)", blocks.read, f"28 fa {_L4} 00 ff ff 04"),
    0x2A: _writes("WRITE(10)", blocks.write, f"2a fa {_L4} 00 ff ff 04"),
    0x2E: _writes("WRITE AND VERIFY(10)", blocks.write_and_verify, f"2e f6 {_L4} 00 ff ff 04"),
    0x2F: _reads("VERIFY(10)", blocks.verify, f"2f f6 {_L4} 00 ff ff 04"),
    0x34: _reads("PRE-FETCH(10)", blocks.pre_fetch, f"34 02 {_L4} 00 ff ff 04"),
    0x35: _row(
        "SYNCHRONIZE CACHE(10)", blocks.synchronize_cache, f"35 06 {_L4} 00 ff ff 04",
        need=WRITE, medium=True, timeout=60,
    ),
    0x37: _reads("READ DEFECT DATA(10)", blocks.read_defect_data, "37 00 1f 00 00 00 00 ff ff 04"),
    0x41: _writes("WRITE SAME(10)", provisioning.write_same, f"41 f8 {_L4} 00 ff ff 04", timeout=_LONG),
    0x42: _writes("UNMAP", provisioning.unmap, "42 01 00 00 00 00 00 ff ff 04", timeout=_LONG, offered=_thin),
    (0x48, 0x01): _writes("SANITIZE, OVERWRITE", sanitize.overwrite, "48 a1 00 00 00 00 00 ff ff 04", timeout=_LONG),
    (0x48, 0x02): _writes(
        "SANITIZE, BLOCK ERASE", sanitize.erase, "48 a2 00 00 00 00 00 ff ff 04", timeout=_LONG, offered=_thin,
    ),
    (0x48, 0x03): _writes(
        "SANITIZE, CRYPTOGRAPHIC ERASE", sanitize.erase, "48 a3 00 00 00 00 00 ff ff 04", timeout=_LONG, offered=_thin,
    ),
    (0x48, 0x1F): _writes("SANITIZE, EXIT FAILURE MODE", sanitize.exit_failure_mode, "48 3f 00 00 00 00 00 ff ff 04"),
    0x55: _row("MODE SELECT(10)", modes.mode_select_10, "55 11 00 00 00 00 00 ff ff 04", need=WRITE, access=STANDBY),
    0x5A: _row("MODE SENSE(10)", modes.mode_sense_10, "5a 18 ff ff 00 00 00 ff ff 04", access=STANDBY),
    **{
        (0x5E, action): _row(name, handler, f"5e {action:02x} 00 00 00 00 00 ff ff 04", need=FREE, access=STANDBY)
        for action, name, handler in (
            (0x00, "PERSISTENT RESERVE IN, READ KEYS", persistent.read_keys),
            (0x01, "PERSISTENT RESERVE IN, READ RESERVATION", persistent.read_reservation),
            (0x02, "PERSISTENT RESERVE IN, REPORT CAPABILITIES", persistent.report_capabilities),
            (0x03, "PERSISTENT RESERVE IN, READ FULL STATUS", persistent.read_full_status),
        )
    },
    **{
        (0x5F, action): _row(
            f"PERSISTENT RESERVE OUT, {name}", persistent.reserve_out, f"5f {action:02x} ff 00 00 {_L4} 04",
            need=FREE, access=STANDBY,
        )
        for action, name in enumerate(
            ("REGISTER", "RESERVE", "RELEASE", "CLEAR", "PREEMPT", "PREEMPT AND ABORT",
             "REGISTER AND IGNORE EXISTING KEY",
             "REGISTER AND MOVE")
        )
    },
    (0x83, 0x00): _row(
        "EXTENDED COPY(LID1)", copying.extended_copy, f"83 00 {'00' * 8} {_L4} 00 04",
        need=WRITE, medium=True, timeout=_LONG,
    ),
    (0x84, 0x00): _row(
        "RECEIVE COPY STATUS(LID1)", copying.copy_status, f"84 00 ff {'00' * 7} {_L4} 00 04", need=WRITE,
    ),
    (0x84, 0x03): _row(
        "RECEIVE COPY OPERATING PARAMETERS", copying.operating_parameters, f"84 03 {'00' * 8} {_L4} 00 04", need=WRITE,
    ),
    0x88: _reads("READ(16)", blocks.read, f"88 fa {_L8} {_L4} 00 04"),
    0x89: _writes("COMPARE AND WRITE", atomic.compare_and_write, f"89 fa {_L8} 00 00 00 ff 00 04"),
    0x8A: _writes("WRITE(16)", blocks.write, f"8a fa {_L8} {_L4} 00 04"),
    0x8B: _writes("ORWRITE(16)", atomic.or_write, f"8b fa {_L8} {_L4} 00 04"),
    0x8E: _writes("WRITE AND VERIFY(16)", blocks.write_and_verify, f"8e f6 {_L8} {_L4} 00 04"),
    0x8F: _reads("VERIFY(16)", blocks.verify, f"8f f6 {_L8} {_L4} 00 04"),
    0x90: _reads("PRE-FETCH(16)", blocks.pre_fetch, f"90 02 {_L8} {_L4} 00 04"),
    0x91: _row(
        "SYNCHRONIZE CACHE(16)", blocks.synchronize_cache, f"91 06 {_L8} {_L4} 00 04",
        need=WRITE, medium=True, timeout=60,
    ),
    0x93: _writes("WRITE SAME(16)", provisioning.write_same, f"93 f9 {_L8} {_L4} 00 04", timeout=_LONG),
    0x9C: _writes("WRITE ATOMIC(16)", atomic.write_atomic, f"9c f8 {_L8} ff ff ff ff 00 04"),
    (0x9E, 0x10): _row(
        "READ CAPACITY(16)", basics.read_capacity_16, f"9e 10 {_L8} {_L4} 01 04", need=FREE, medium=True,
    ),
    (0x9E, 0x12): _reads("GET LBA STATUS", provisioning.get_lba_status, f"9e 12 {_L8} {_L4} 00 04"),
    (0xA3, 0x0A): _row(
        "REPORT TARGET PORT GROUPS", ports.report, f"a3 ea 00 00 00 00 {_L4} 00 04",
        need=FREE, access=ALWAYS, offered=ports.offered,
    ),
    (0xA3, 0x0C): _row(
        "REPORT SUPPORTED OPERATION CODES", support.report, f"a3 0c 87 ff ff ff {_L4} 00 04", need=FREE, access=STANDBY,
    ),
    (0xA4, 0x0A): _row(
        "SET TARGET PORT GROUPS", ports.set_groups, f"a4 0a 00 00 00 00 {_L4} 00 04",
        need=WRITE, access=ALWAYS, offered=ports.settable,
    ),
    0xA8: _reads("READ(12)", blocks.read, f"a8 fa {_L4} {_L4} 00 04"),
    0xAA: _writes("WRITE(12)", blocks.write, f"aa fa {_L4} {_L4} 00 04"),
    0xAE: _writes("WRITE AND VERIFY(12)", blocks.write_and_verify, f"ae f6 {_L4} {_L4} 00 04"),
    0xAF: _reads("VERIFY(12)", blocks.verify, f"af f6 {_L4} {_L4} 00 04"),
    0xB7: _reads("READ DEFECT DATA(12)", blocks.read_defect_data, f"b7 1f 00 00 00 00 {_L4} 00 04"),
}  # fmt: skip
_WITH_ACTIONS = frozenset(key[0] for key in TABLE if isinstance(key, tuple))


def find(cdb: bytes) -> Operation | None:
    """The row of a CDB, by operation code, then by operation code and service action."""
    return TABLE.get(cdb[0]) or TABLE.get((cdb[0], cdb[1] & 0x1F))


def has_actions(opcode: int) -> bool:
    """Whether an operation code is known, but only with service actions."""
    return opcode in _WITH_ACTIONS
