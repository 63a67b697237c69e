# SPDX-License-Identifier: Apache-2.0
"""swd: an iSCSI initiator in user space.

    import swd
    with swd.open("iscsi://192.0.2.10/iqn.2026-01.org.example:db/0") as disk:
        first = disk.pread(4096, 0)

The names below come from where they are made, when they are first used (PEP 562): `import swd` itself does no I/O,
starts no thread, installs no handler, configures no logging, and imports next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "swd._crc32c": ("crc32c",),
    "swd.disk": ("Disk",),
    "swd.driver.filesystems": ("filesystem",),
    "swd.driver.plain": ("connect", "discover", "open"),
    "swd.driver.scan": ("scan",),
    "swd.driver.session": ("Session",),
    "swd.errors": (
        "AuthenticationFailed",
        "BadDescriptor",
        "BatchError",
        "CacheLost",
        "ConnectionLost",
        "DeadlineExceeded",
        "DeviceBusy",
        "DigestMismatch",
        "FileSystemError",
        "InvalidArgument",
        "LoginRefused",
        "MediumError",
        "NetworkNotInitialized",
        "NoSuchDevice",
        "NoSuchFile",
        "ProtocolViolation",
        "ScsiError",
        "StaleIdentity",
        "SwdError",
        "Unsupported",
    ),
    "swd.values": ("Chap", "LogicalUnit", "Phase", "Portal", "ScsiResult", "Sense", "SgIo", "Target"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME_OF, "aio"])  # noqa: PLE0605  (one list, not two)

if TYPE_CHECKING:  # type checkers cannot follow `__getattr__`; tests/driver holds this to the list above
    from swd import aio as aio
    from swd._crc32c import crc32c as crc32c
    from swd.disk import Disk as Disk
    from swd.driver.filesystems import filesystem as filesystem
    from swd.driver.plain import connect as connect
    from swd.driver.plain import discover as discover
    from swd.driver.plain import open as open
    from swd.driver.scan import scan as scan
    from swd.driver.session import Session as Session
    from swd.errors import AuthenticationFailed as AuthenticationFailed
    from swd.errors import BadDescriptor as BadDescriptor
    from swd.errors import BatchError as BatchError
    from swd.errors import CacheLost as CacheLost
    from swd.errors import ConnectionLost as ConnectionLost
    from swd.errors import DeadlineExceeded as DeadlineExceeded
    from swd.errors import DeviceBusy as DeviceBusy
    from swd.errors import DigestMismatch as DigestMismatch
    from swd.errors import FileSystemError as FileSystemError
    from swd.errors import InvalidArgument as InvalidArgument
    from swd.errors import LoginRefused as LoginRefused
    from swd.errors import MediumError as MediumError
    from swd.errors import NetworkNotInitialized as NetworkNotInitialized
    from swd.errors import NoSuchDevice as NoSuchDevice
    from swd.errors import NoSuchFile as NoSuchFile
    from swd.errors import ProtocolViolation as ProtocolViolation
    from swd.errors import ScsiError as ScsiError
    from swd.errors import StaleIdentity as StaleIdentity
    from swd.errors import SwdError as SwdError
    from swd.errors import Unsupported as Unsupported
    from swd.values import Chap as Chap
    from swd.values import LogicalUnit as LogicalUnit
    from swd.values import Phase as Phase
    from swd.values import Portal as Portal
    from swd.values import ScsiResult as ScsiResult
    from swd.values import Sense as Sense
    from swd.values import SgIo as SgIo
    from swd.values import Target as Target


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if name == "aio":
        return import_module("swd.aio")
    if home is None:
        raise AttributeError(f"module 'swd' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
