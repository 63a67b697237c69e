# SPDX-License-Identifier: Apache-2.0
"""`info`: what a device is, and for iSCSI what was negotiated; or what this build of swd is made of."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import swd
from swd.cli import render
from swd.cli.call import Call, UsageProblem
from swd.driver import partition
from swd.proto.lun import text as lun_text
from swd.proto.url import IscsiDev, parse_dev
from swd.scsi import opcodes

if TYPE_CHECKING:
    from swd.disk import Disk


TIMERS: Final = ("timeout", "login_timeout", "replacement_timeout", "default_time2wait", "path_settle")
STATES: Final = {"session_state": "session", "connection_state": "connection", "labels": "labels"}  # of docs/states.md


@dataclass(frozen=True, slots=True)
class Device:
    """A unit of any driver. Sizes in bytes, times in seconds."""

    device: str
    size_bytes: int
    block_size: int
    physical_block_size: int
    read_only: bool
    identity: str
    session: dict[str, object] | None = None
    timers: dict[str, float] | None = None
    long_commands: dict[str, float] | None = None  # the deadlines of those that may take longer


@dataclass(frozen=True, slots=True)
class Build:
    """This swd: enough to know, from a report, which code it was that ran."""

    version: str
    imported_from: str
    python: str
    python_compiler: str
    platform: str
    crc_kernel: str
    crc_kernels: tuple[str, ...]


def info(call: Call, *, dev: str | None, build: bool) -> Device | Build:
    """Exactly one of DEV and --build."""
    if build == (dev is not None):
        raise UsageProblem("info takes a DEV, or --build")
    if dev is None:
        return _build()
    parsed = parse_dev(dev)
    if isinstance(parsed, IscsiDev):
        return _remote(call, dev, parsed)
    with swd.open(dev, "rb", **call.options) as disk:
        return _device(dev, disk)


def connect(call: Call, parsed: IscsiDev) -> swd.Session:
    """A session by the DEV's own settings, and `-O` over them. Raises what the login raises."""
    settings: dict[str, Any] = {**parsed.settings, **call.options}
    return swd.connect(str(parsed.portal), parsed.target, **settings)


def _remote(call: Call, dev: str, parsed: IscsiDev) -> Device:
    """A unit with the session that leads to it: what was agreed on, and how long swd waits."""
    with connect(call, parsed) as session:
        facts: dict[str, object] = {"portal": str(parsed.portal), "lun": lun_text(parsed.lun)}
        facts |= render.plain(session.parameters)
        states = session.states
        facts |= {name: states[key] for name, key in STATES.items()}
        timers = {name: getattr(session.options, name) for name in TIMERS}
        longer = {name: session.options.timeout * times for name, times in opcodes.LONG.items()}
        whole = session.unit(parsed.lun, writable=False)
        with partition.of(whole, session.options.partition, dev) as disk:
            return replace(_device(dev, disk), session=facts, timers=timers, long_commands=longer)


def _device(dev: str, disk: Disk) -> Device:
    return Device(
        dev,
        disk.size,
        disk.block_size,
        disk.physical_block_size,
        disk.read_only,
        disk.identity,
    )


def _build() -> Build:
    from swd import _crc32c

    return Build(
        version=swd.__version__,
        imported_from=os.path.abspath(swd.__file__ or ""),
        python=f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        python_compiler=platform.python_compiler(),
        platform=f"{platform.system()} {platform.machine()}",
        crc_kernel=_crc32c.kernel(),
        crc_kernels=tuple(_crc32c.kernels()),
    )
