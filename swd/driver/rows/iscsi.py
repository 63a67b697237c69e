# SPDX-License-Identifier: Apache-2.0
"""`iscsi://...`: the wiring. Configuration, then secrets, then a session, then the logical unit, then its Disk.

The phase gate has been passed before anything here runs. Within one Driver, opens of the same target with the same
options and user share a session.
"""

from __future__ import annotations

from typing import Any, Final

from swd.driver import initiator, secrets
from swd.driver.errnos import During, translated
from swd.driver.ioctl import Request
from swd.driver.row import Unit, Wanted
from swd.driver.rows import _block
from swd.driver.session import Session
from swd.errors import BadDescriptor
from swd.proto import options as option_rules
from swd.proto.options import Options
from swd.proto.url import IscsiDev
from swd.scsi.unit import LogicalUnit
from swd.values import ScsiResult, SgIo

# Opcodes that change nothing on the medium (SPC-4 table 64, SBC-3 table 20): what SG_IO may send through a descriptor
# that was not opened for writing, provided that no data goes out. Linux filters in the same way.
_HARMLESS: Final = frozenset(
    {
        0x00,  # TEST UNIT READY
        0x03,  # REQUEST SENSE
        0x08,  # READ(6)
        0x12,  # INQUIRY
        0x1A,  # MODE SENSE(6)
        0x1C,  # RECEIVE DIAGNOSTIC RESULTS
        0x25,  # READ CAPACITY(10)
        0x28,  # READ(10)
        0x2F,  # VERIFY(10)
        0x34,  # PRE-FETCH(10)
        0x35,  # SYNCHRONIZE CACHE(10)
        0x37,  # READ DEFECT DATA(10)
        0x3C,  # READ BUFFER
        0x4D,  # LOG SENSE
        0x5A,  # MODE SENSE(10)
        0x5E,  # PERSISTENT RESERVE IN
        0x88,  # READ(16)
        0x8F,  # VERIFY(16)
        0x90,  # PRE-FETCH(16)
        0x91,  # SYNCHRONIZE CACHE(16)
        0x9E,  # SERVICE ACTION IN(16): READ CAPACITY(16), GET LBA STATUS
        0xA0,  # REPORT LUNS
        0xA3,  # MAINTENANCE IN
        0xA8,  # READ(12)
        0xAF,  # VERIFY(12)
        0xB7,  # READ DEFECT DATA(12)
    }
)


def attach(dev: IscsiDev, wanted: Wanted) -> Unit:
    """Raises what the configuration, the secrets, the login and the probing of the unit raise: all `SwdError`s."""
    from swd.driver.devsw import find

    options = effective(dev, wanted)
    key = (dev.portal, dev.target, options)
    lease = wanted.sessions.acquire(key, lambda: _login(dev, options))
    try:
        disk = lease.session.unit(dev.lun, writable=wanted.writable, on_close=lambda: wanted.sessions.release(lease))
    except BaseException:
        wanted.sessions.release(lease)
        raise
    return Unit(find(dev), str(dev), wanted.writable, disk, kept=lease.session)


def effective(dev: IscsiDev, wanted: Wanted) -> Options:
    """The configuration, over it the keys of the DEV (its user included), over these the keywords of the call."""
    configured = wanted.config().for_target(dev.target, dev.portal)
    named = option_rules.read(dev.settings, configured, source="iscsi:// name")
    return option_rules.read(wanted.options, named)


def _login(dev: IscsiDev, options: Options) -> Session:
    chap = secrets.resolve(options, peer=dev.target)
    name = initiator.name(options)
    with translated(During.LOGIN, f"{dev.target} at {dev.portal}"):
        return Session(dev.portal, dev.target, chap=chap, options=options, initiator_name=name)


def ioctl(unit: Unit, request: Request, arg: Any) -> object:
    """A disk's requests; SG_IO besides, and the counters of the session."""
    if request is Request.SG_IO:
        return _sg_io(unit, arg)
    if request is Request.SWD_STATS_GET:
        session: Session = unit.kept
        return {**_block.statistics(unit), "session": dict(session.statistics)}
    return _block.ioctl(unit, request, arg)


def _sg_io(unit: Unit, io: SgIo) -> ScsiResult:
    if not unit.writable and (io.data_out or not io.cdb or io.cdb[0] not in _HARMLESS):
        raise BadDescriptor(f"{unit.name} is open for reading only: this command may change it, open it with O_RDWR")
    logical = unit.disk.unit
    assert isinstance(logical, LogicalUnit)
    return logical.execute(io.cdb, data_out=io.data_out, data_in=io.data_in, timeout=io.timeout)
