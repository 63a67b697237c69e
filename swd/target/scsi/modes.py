# SPDX-License-Identifier: Apache-2.0
"""MODE SENSE and MODE SELECT (SPC-4 6.11 to 6.14, 7.5; SBC-3 6.5). Two bits can be changed: WCE of the caching page and
SWP of the control page. They hold for all nexuses, until a reset; nothing is saved."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from swd.target.scsi.cdb import allocation
from swd.target.scsi.nexus import MODE_PARAMETERS_CHANGED
from swd.target.scsi.reply import (
    ILLEGAL_REQUEST,
    CheckCondition,
    Outcome,
    Reply,
    Request,
    WantData,
    invalid_field,
    invalid_parameter,
    parameter_list_length,
)

if TYPE_CHECKING:
    from swd.target.scsi.state import UnitState
    from swd.target.scsi.unit import LogicalUnit

_CHANGEABLE, _DEFAULT, _SAVED = 1, 2, 3  # PC field
_WRITE_PROTECT, _DPOFUA = 0x80, 0x10
_SP, _PF = 0x01, 0x10
_WCE, _SWP = 0x04, 0x08
_ALL_PAGES, _ALL_SUBPAGES = 0x3F, 0xFF
_MAX_LIST = 4096


class Page(NamedTuple):
    """Default values, the bits that can be changed, and how those stand."""

    default: bytes
    changeable: bytes
    current: Callable[[UnitState], bytes]


def _fixed(data: bytes) -> Page:
    return Page(data, data[:2] + bytes(len(data) - 2), lambda _state: data)


def _caching(*, cache: bool) -> bytes:
    return bytes([0x08, 0x12, _WCE if cache else 0]) + bytes(17)  # WCE: writes are durable after SYNCHRONIZE CACHE


def _control(*, protected: bool) -> bytes:
    """D_SENSE=0; QUEUE ALGORITHM MODIFIER 1: unrestricted reordering."""
    return bytes([0x0A, 0x0A, 0x00, 0x10, _SWP if protected else 0]) + bytes(7)


PAGES: dict[int, Page] = {
    0x01: _fixed(bytes([0x01, 0x0A, 0xC0]) + bytes(9)),  # read-write error recovery: AWRE, ARRE
    0x08: Page(_caching(cache=True), bytes([0x08, 0x12, _WCE]) + bytes(17), lambda s: _caching(cache=s.write_cache)),
    0x0A: Page(
        _control(protected=False),
        bytes([0x0A, 0x0A, 0, 0, _SWP]) + bytes(7),
        lambda state: _control(protected=state.write_protected),
    ),
    0x1C: _fixed(bytes([0x1C, 0x0A, 0x08]) + bytes(9)),  # informational exceptions: DEXCPT
}


def mode_sense_6(unit: LogicalUnit, request: Request) -> Reply:
    pages = _pages(unit, request.cdb)
    block = b"" if request.cdb[1] & 0x08 else _short_block_descriptor(unit)
    header = bytes([3 + len(block) + len(pages), 0, _device_specific(unit), len(block)])
    return Reply(data=allocation(request.cdb, slice(4, 5), header + block + pages))


def mode_sense_10(unit: LogicalUnit, request: Request) -> Reply:
    pages = _pages(unit, request.cdb)
    long_lba = bool(request.cdb[1] & 0x10)  # LLBAA
    describe = _long_block_descriptor if long_lba else _short_block_descriptor
    block = b"" if request.cdb[1] & 0x08 else describe(unit)
    length = 6 + len(block) + len(pages)
    header = length.to_bytes(2, "big") + bytes([0, _device_specific(unit), long_lba, 0]) + len(block).to_bytes(2, "big")
    return Reply(data=allocation(request.cdb, slice(7, 9), header + block + pages))


def _pages(unit: LogicalUnit, cdb: bytes) -> bytes:
    control, code, subpage = cdb[2] >> 6, cdb[2] & 0x3F, cdb[3]
    if control == _SAVED:
        raise CheckCondition(ILLEGAL_REQUEST, 0x39)  # SAVING PARAMETERS NOT SUPPORTED
    chosen = PAGES if code == _ALL_PAGES else {code: PAGES[code]} if code in PAGES else {}
    if not chosen or subpage not in (0, _ALL_SUBPAGES):
        raise invalid_field()
    return b"".join(_values(page, control, unit.state) for page in chosen.values())


def _values(page: Page, control: int, state: UnitState) -> bytes:
    if control == _CHANGEABLE:
        return page.changeable
    return page.default if control == _DEFAULT else page.current(state)


def mode_select_6(unit: LogicalUnit, request: Request) -> Outcome:
    return _select(unit, request, request.cdb[4], header=4)


def mode_select_10(unit: LogicalUnit, request: Request) -> Outcome:
    return _select(unit, request, int.from_bytes(request.cdb[7:9], "big"), header=8)


def _select(unit: LogicalUnit, request: Request, length: int, *, header: int) -> Outcome:
    if request.cdb[1] & _SP or not request.cdb[1] & _PF:
        raise invalid_field()
    if not length:
        return Reply()
    if not header <= length <= _MAX_LIST:
        raise parameter_list_length()
    return WantData(length, partial(_selected, unit, request, length, header))


def _selected(unit: LogicalUnit, request: Request, length: int, header: int, data: memoryview) -> Reply:
    """All pages are judged before any is taken; the other nexuses are told of a change (SPC-4 6.11)."""
    if len(data) < length:
        raise parameter_list_length()
    given = bytes(data)
    blocks = given[3] if header == 4 else int.from_bytes(given[6:8], "big")
    rest = given[header + blocks :]
    if blocks not in (0, 8, 16) or len(given) < header + blocks:
        raise parameter_list_length()
    chosen: dict[int, bytes] = {}
    while rest:
        code, size = rest[0] & 0x3F, 2 + (rest[1] if len(rest) > 1 else 0)
        page, mine, rest = PAGES.get(code), rest[:size], rest[size:]
        if page is None or len(mine) != len(page.default):
            raise invalid_parameter()
        _check(page, mine, page.current(unit.state))
        chosen[code] = mine
    _take(unit, request, chosen)
    return Reply()


def _check(page: Page, given: bytes, current: bytes) -> None:
    """A bit that cannot be changed must be given as it is; PS of the first byte is reserved here."""
    for at in range(2, len(given)):
        if (given[at] ^ current[at]) & ~page.changeable[at]:
            raise invalid_parameter()


def _take(unit: LogicalUnit, request: Request, chosen: dict[int, bytes]) -> None:
    state = unit.state
    with state.lock:
        before = (state.write_cache, state.write_protected)
        if 0x08 in chosen:
            state.write_cache = bool(chosen[0x08][2] & _WCE)
        if 0x0A in chosen:
            state.write_protected = bool(chosen[0x0A][4] & _SWP)
        changed = (state.write_cache, state.write_protected) != before
    if not state.write_cache and before[0] and not unit.read_only:
        unit.medium.flush()
    if changed:
        me = request.nexus.identity
        state.tell(MODE_PARAMETERS_CHANGED, lambda nexus: nexus != me)


def _device_specific(unit: LogicalUnit) -> int:
    return _DPOFUA | (_WRITE_PROTECT if unit.write_protected else 0)


def _short_block_descriptor(unit: LogicalUnit) -> bytes:
    return min(unit.blocks, 0xFFFFFFFF).to_bytes(4, "big") + unit.block_size.to_bytes(4, "big")


def _long_block_descriptor(unit: LogicalUnit) -> bytes:
    return unit.blocks.to_bytes(8, "big") + bytes(4) + unit.block_size.to_bytes(4, "big")
