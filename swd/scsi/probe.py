# SPDX-License-Identifier: Apache-2.0
"""Reads what a logical unit says of itself when it is opened: one frozen record of facts, in some eight small commands.

Only the VPD pages that page 00 lists are asked for (some devices hang on others), and a unit that lacks VPD, READ
CAPACITY(16) or MODE SENSE is a unit all the same. `reread` reads again what must not change under an open disk.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from swd.errors import NoSuchDevice, ProtocolViolation, ScsiError, Unsupported
from swd.proto import lun
from swd.scsi import capacity, cdb, inquiry
from swd.scsi.capacity import Capacity, ModeParameters
from swd.scsi.identity import Designator, Identity, identify, parse_designators
from swd.scsi.inquiry import BlockLimits, Inquiry, Provisioning
from swd.scsi.runner import Runner, ScsiSession

_T = TypeVar("_T")

_SHORT = 255  # allocation length that even devices with an eight-bit field understand
_ALL_PAGES = 0x3F
_NOT_THERE = (errno.EOPNOTSUPP, errno.EINVAL)  # invalid opcode, invalid field in CDB
_LUNS_FIRST = 8 + 8 * 256
_LUNS_MOST = 8 + 8 * 65536  # a target that claims more is read so far


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is read at open."""

    inquiry: Inquiry
    identity: Identity
    capacity: Capacity
    mode: ModeParameters
    limits: BlockLimits
    provisioning: Provisioning


def probe(run: Runner) -> Facts:
    """Identity, capacity and limits of a disk.

    Raises NoSuchDevice (no such LUN), Unsupported (something other than a disk), ScsiError (EBUSY: did not become
    ready, ENOMEDIUM, ...), ProtocolViolation (nonsense), and what the session raises.
    """
    standard = _inquire(run)
    _check_ready(run)
    pages = _supported_pages(run)
    identity = _identity(run, pages)
    size = read_capacity(run)
    limits = _page(run, pages, inquiry.PAGE_BLOCK_LIMITS, inquiry.parse_block_limits) or BlockLimits()
    provisioning = _page(run, pages, inquiry.PAGE_PROVISIONING, inquiry.parse_provisioning) or Provisioning()
    return Facts(standard, identity, size, read_mode(run), limits, provisioning)


def reread(run: Runner) -> tuple[Identity, Capacity]:
    """Identity and capacity as they are now."""
    return _identity(run, _supported_pages(run)), read_capacity(run)


def read_capacity(run: Runner) -> Capacity:
    """READ CAPACITY(16), or (10) where the unit does not have it."""
    try:
        return capacity.parse_capacity_16(run.check(cdb.read_capacity_16(), data_in=32))
    except ScsiError as error:
        if error.errno not in _NOT_THERE:
            raise
    size = capacity.parse_capacity_10(run.check(cdb.read_capacity_10(), data_in=8))
    if size is None:
        raise Unsupported("the unit has 2^32 blocks or more but no READ CAPACITY(16): its size cannot be known")
    return size


def read_mode(run: Runner) -> ModeParameters:
    """Write protection and write cache; where the unit tells nothing, nothing is protected and the cache is unknown."""
    for page in (capacity.CACHING_PAGE, _ALL_PAGES):
        for command, parse in ((cdb.mode_sense_6, capacity.parse_mode_6), (cdb.mode_sense_10, capacity.parse_mode_10)):
            try:
                return parse(run.check(command(page), data_in=192))
            except (ScsiError, ProtocolViolation):  # as unhelpful as each other: ask in the next way
                continue
    return ModeParameters()


def list_luns(session: ScsiSession, *, timeout: float | None = None) -> tuple[int, ...]:
    """REPORT LUNS through LUN 0: 64-bit SAM fields. Raises ScsiError, ProtocolViolation and what the session raises."""
    run = Runner(session, 0, timeout=timeout)
    data = run.check(cdb.report_luns(_LUNS_FIRST), data_in=_LUNS_FIRST)
    whole = min(capacity.luns_length(data), _LUNS_MOST)
    if whole > _LUNS_FIRST:
        data = run.check(cdb.report_luns(whole), data_in=whole)
    return capacity.parse_luns(data)


def _inquire(run: Runner) -> Inquiry:
    try:
        standard = inquiry.parse_standard(run.check(cdb.inquiry(96), data_in=96))
    except ScsiError as error:
        raise _no_unit(run, error) from error
    if not standard.present:
        raise _no_unit(run, None)
    if standard.device_type != inquiry.DISK:
        what = f"{standard.type_words} ({standard.vendor} {standard.product})"
        raise Unsupported(f"LUN {lun.text(lun.field(run.lun))} is a {what}, not a disk: name another LUN")
    return standard


def _check_ready(run: Runner) -> None:
    try:
        run.check(cdb.TEST_UNIT_READY)
    except ScsiError as error:
        if error.errno == errno.ENXIO:
            raise _no_unit(run, error) from error
        raise


def _no_unit(run: Runner, error: ScsiError | None) -> NoSuchDevice | ScsiError:
    """The error for a LUN behind which there is nothing; another refusal stays what it is."""
    if error is not None and error.errno != errno.ENXIO:
        return error
    words = lun.text(lun.field(run.lun))
    reason = f"the target has no logical unit {words}: list those that it has, or name another LUN"
    return NoSuchDevice(reason, sense=None if error is None else error.sense)


def _supported_pages(run: Runner) -> frozenset[int]:
    try:
        return inquiry.parse_supported(_read_page(run, inquiry.PAGE_SUPPORTED))
    except ScsiError as error:
        if error.errno not in _NOT_THERE:
            raise
        return frozenset()


def _identity(run: Runner, pages: frozenset[int]) -> Identity:
    serial = _page(run, pages, inquiry.PAGE_SERIAL, inquiry.parse_serial) or ""
    designators: tuple[Designator, ...] = _page(run, pages, inquiry.PAGE_IDENTIFICATION, parse_designators) or ()
    return identify(designators, serial)


def _page(run: Runner, pages: frozenset[int], page: int, parse: Callable[[bytes], _T]) -> _T | None:
    """The parsed page, None where the unit does not list it, or lists it and then does not have it."""
    if page not in pages:
        return None
    try:
        return parse(_read_page(run, page))
    except ScsiError as error:
        if error.errno not in _NOT_THERE:
            raise
        return None


def _read_page(run: Runner, page: int) -> bytes:
    """A VPD page; a second, longer INQUIRY where the first one was cut off."""
    data = run.check(cdb.inquiry_page(page, _SHORT), data_in=_SHORT)
    whole = inquiry.page_length(data)
    if whole > _SHORT and whole > len(data):
        data = run.check(cdb.inquiry_page(page, min(whole, 0xFFFF)), data_in=min(whole, 0xFFFF))
    return data
