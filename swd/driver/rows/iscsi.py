# SPDX-License-Identifier: Apache-2.0
"""`iscsi://...`, hardware paths and `wwid:`: the wiring.

Configuration, then secrets, then a session, then the logical unit, then its Disk. The phase gate has been passed before
anything here runs. Within one Driver, opens of the same target with the same options and user share a session.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Final

from swd.disk import Disk
from swd.driver import initiator, known, partition, secrets, statistics
from swd.driver.errnos import During, translated
from swd.driver.ioctl import Request
from swd.driver.row import Unit, Wanted
from swd.driver.rows import _block
from swd.driver.session import Session
from swd.driver.sessions import Lease
from swd.errors import (
    BadDescriptor,
    DeviceBusy,
    InvalidArgument,
    NetworkNotInitialized,
    StaleIdentity,
    SwdError,
    Unsupported,
)
from swd.proto import options as option_rules
from swd.proto.options import Options
from swd.proto.url import HardwarePath, IscsiDev, Wwid
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


def attach(dev: IscsiDev | HardwarePath | Wwid, wanted: Wanted) -> Unit:
    """Raises what the configuration, the secrets, the login and the probing of the unit raise: all `SwdError`s.

    A hardware path leads to the unit that the registry has there; an identity to the first of its known paths that
    answers with it.
    """
    if isinstance(dev, IscsiDev):
        part = effective(dev, wanted).partition  # before there is a session that an error here would leave behind
        return partition.chosen(_attach(dev, wanted), part)
    failures: list[tuple[IscsiDev, SwdError]] = []
    for path in known.paths(dev, wanted.registry()):
        part = effective(path, wanted).partition
        try:
            unit = replace(_attach_as(dev, path, wanted), name=str(dev))
        except NetworkNotInitialized:
            raise
        except SwdError as error:
            failures.append((path, error))
        else:
            return partition.chosen(unit, part)
    raise known.none_answers(dev, failures)


def _attach_as(dev: HardwarePath | Wwid, path: IscsiDev, wanted: Wanted) -> Unit:
    unit = _attach(path, wanted)
    found = unit.disk.unit
    assert isinstance(found, LogicalUnit)
    if isinstance(dev, Wwid) and not (found.identity_strong and found.identity == dev.designator):
        unit.disk.close()
        raise StaleIdentity(f"{path} is {found.identity} now, not {dev.designator}: run `swdctl scan`")
    return unit


def _attach(dev: IscsiDev, wanted: Wanted) -> Unit:
    from swd.driver.devsw import find

    held = contextlib.ExitStack()
    try:
        sessions = [_leased(dev, wanted, number, held) for number in range(effective(dev, wanted).sessions)]
        others = [held.enter_context(session.unit(dev.lun, writable=wanted.writable)) for session in sessions[1:]]
        disk = sessions[0].unit(dev.lun, writable=wanted.writable, on_close=held.close)
    except BaseException:
        held.close()
        raise
    if others:
        _spread(disk, others)
    return Unit(find(dev), str(dev), wanted.writable, disk, kept=sessions[0])


def _leased(dev: IscsiDev, wanted: Wanted, number: int, held: contextlib.ExitStack) -> Session:
    lease = hold(dev, wanted, number)
    held.callback(wanted.sessions.release, lease)
    return lease.session


def _spread(disk: Disk, others: list[Disk]) -> None:
    """The I/O of `disk` takes turns on the sessions of all. Raises StaleIdentity where they are not one disk."""
    for other in others:
        if other.identity != disk.identity:
            disk.close()
            raise StaleIdentity(f"the sessions lead to different disks: {disk.identity} and {other.identity}")
    units = [other.unit for other in others]
    assert isinstance(disk.unit, LogicalUnit)
    disk.unit.spread_over(tuple(unit for unit in units if isinstance(unit, LogicalUnit)))
    disk._go_straight(None)


def hold(dev: IscsiDev, wanted: Wanted, number: int = 0) -> Lease:
    """A lease on the session that leads to a unit, the `number`th of `sessions=`: the one there is, or a new one."""
    options = replace(effective(dev, wanted), partition=None)  # a session is the same whatever part is read
    key = (dev.portal, dev.target, options, number)
    return wanted.sessions.acquire(key, lambda: _login(dev, options, wanted))


def session_to(dev: IscsiDev, wanted: Wanted) -> Session | None:
    """A session that was made for that portal, or is there now, after a redirect or on another path."""
    for key, session in wanted.sessions.living():
        assert isinstance(key, tuple)
        if (dev.portal, dev.target) in (key[:2], (session.portal, session.parameters.target_name)):
            return session
    return None


def effective(dev: IscsiDev, wanted: Wanted) -> Options:
    """The configuration of that target and address, over it what SWD_PARAMS_SET gave, the keys of the DEV (its user
    included), the keywords of the call.
    """
    configured = wanted.config().for_target(dev.target, dev.portal)
    base = option_rules.read(wanted.parameters, configured, source="SWD_PARAMS_SET")
    named = option_rules.read(dev.settings, base, source="iscsi:// name")
    return option_rules.read(wanted.options, named)


def _login(dev: IscsiDev, options: Options, wanted: Wanted) -> Session:
    chap = secrets.resolve(options, peer=dev.target)
    name = initiator.name(options)
    with translated(During.LOGIN, f"{dev.target} at {dev.portal}"):
        return Session(
            dev.portal, dev.target, chap=chap, options=options, initiator_name=name, registry=wanted.registry
        )


def ioctl(unit: Unit, request: Request, arg: Any) -> object:
    """A disk's requests; SG_IO besides, and the counters of the session."""
    if request is Request.SG_IO:
        return _sg_io(unit, arg)
    if request is Request.SWD_STATS_GET:
        session: Session = unit.kept
        found = statistics.report(statistics.of_session(session), levels=(statistics.SESSION, statistics.CONNECTION))
        return {**_block.statistics(unit), "session": dict(session.statistics), **found}
    if request is Request.SWD_STATS_CLEAR:
        unit.counters.clear()
        statistics.clear(unit.kept)
        return None
    if request in _OURS:
        return _OURS[request](unit, dict(arg or {}))
    return _block.ioctl(unit, request, arg)


def _sg_io(unit: Unit, io: SgIo) -> ScsiResult:
    if not unit.writable and (io.data_out or not io.cdb or io.cdb[0] not in _HARMLESS):
        raise BadDescriptor(f"{unit.name} is open for reading only: this command may change it, open it with O_RDWR")
    logical = _logical(unit, "SG_IO")
    before = logical.cache_losses
    try:
        return logical.execute(io.cdb, data_out=io.data_out, data_in=io.data_in, timeout=io.timeout)
    finally:
        if io.data_out:
            unit.disk._wrote(before)


def _logical(unit: Unit, request: str) -> LogicalUnit:
    """What takes commands. They go to whole units: a partition has none, as on Linux."""
    logical = unit.disk.unit
    if not isinstance(logical, LogicalUnit):
        raise Unsupported(f"{unit.name} is a partition, and {request} goes to the whole unit: leave partition= out")
    return logical


def _parameters(unit: Unit, arg: dict[str, Any]) -> dict[str, object]:
    _nothing_but(arg)
    session: Session = unit.kept
    return {"negotiated": asdict(session.parameters), "options": asdict(session.options)}


def _already(unit: Unit, arg: dict[str, Any]) -> dict[str, object]:
    """An open disk has its session, and a lost one comes back by itself."""
    _nothing_but(arg)
    session: Session = unit.kept
    return asdict(session.parameters)


def _in_use(unit: Unit, arg: dict[str, Any]) -> dict[str, object]:
    _nothing_but(arg)
    raise DeviceBusy(f"{unit.name}: this descriptor uses the session: close it, the last close logs out")


def _frozen(unit: Unit, _arg: dict[str, Any]) -> dict[str, object]:
    raise Unsupported(f"{unit.name}: a session keeps its options for life: set them on isw:, and open anew")


def _reset(unit: Unit, arg: dict[str, Any]) -> dict[str, object]:
    level = arg.pop("level", "lun")
    _nothing_but(arg)
    return reset(unit.kept, _logical(unit, "SWD_RESET").lun, level)


def reset(session: Session, lun: int, level: object) -> dict[str, object]:
    """SWD_RESET, at one of its levels. Raises Unsupported where the target refuses it."""
    levels: dict[object, Callable[[], None]] = {
        "lun": lambda: session.lun_reset(lun),
        "target_warm": session.target_warm_reset,
        "target_cold": session.target_cold_reset,
    }
    if not isinstance(level, str) or level not in levels:
        raise InvalidArgument(f"SWD_RESET: level is one of {', '.join(map(str, levels))}, not {level!r}")
    levels[level]()
    return {"level": level}


def _nothing_but(rest: dict[str, Any]) -> None:
    if rest:
        raise InvalidArgument(f"unknown key {next(iter(rest))!r}: `swdctl ioctl --list` says what a request takes")


_OURS: Final[dict[Request, Callable[[Unit, dict[str, Any]], dict[str, object]]]] = {
    Request.SWD_PARAMS_GET: _parameters,
    Request.SWD_PARAMS_SET: _frozen,
    Request.SWD_LOGIN: _already,
    Request.SWD_LOGOUT: _in_use,
    Request.SWD_RESET: _reset,
}
