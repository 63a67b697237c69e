# SPDX-License-Identifier: Apache-2.0
"""The device switch: one row a driver. A new driver is a module in `rows/`, a row here, and tests.

A DEV finds its driver by its form, never by trying. A form that no row takes is ENODEV.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final

from swd.driver.row import Row, at
from swd.errors import NoSuchDevice
from swd.proto import options
from swd.proto.url import Dev, FaultDev, FileDev, HardwarePath, IscsiDev, IswDev, LvmDev, MemDev, Wwid


def _form(*kinds: type[Any]) -> Callable[[Dev], bool]:
    return lambda dev: isinstance(dev, kinds)


# The slots that every driver with a Disk has, over `swd.disk`.
_BLOCK: Final[dict[str, Callable[..., Any]]] = {
    "detach": at("_block:detach"),
    "open": at("_block:open_"),
    "close": at("_block:close"),
    "read": at("_block:read"),
    "write": at("_block:write"),
    "strategy": at("_block:strategy"),
    "psize": at("_block:psize"),
    "flush": at("_block:flush"),
    "discard": at("_block:discard"),
    "zero": at("_block:zero"),
}

DEVSW: Final[tuple[Row, ...]] = (
    Row(
        "iscsi",
        ("iscsi",),
        "one logical unit of an iSCSI target",
        tuple(row.name for row in options.TABLE),
        match=_form(IscsiDev, HardwarePath, Wwid),
        attach=at("iscsi:attach"),
        ioctl=at("iscsi:ioctl"),
        **_BLOCK,
    ),
    Row(
        "isw",
        ("isw",),
        "the driver itself; ioctl only",
        match=_form(IswDev),
        attach=at("isw:attach"),
        detach=at("isw:detach"),
        open=at("isw:open_"),
        close=at("isw:close"),
        ioctl=at("isw:ioctl"),
    ),
    Row(
        "mem",
        ("mem",),
        "a RAM disk; with a name, the same one for the whole process",
        ("block_size", "name", "partition"),
        match=_form(MemDev),
        attach=at("mem:attach"),
        ioctl=at("_block:ioctl"),
        **_BLOCK,
    ),
    Row(
        "file",
        ("file",),
        "an image file or a raw device",
        ("block_size", "partition"),
        match=_form(FileDev),
        attach=at("file:attach"),
        ioctl=at("_block:ioctl"),
        **_BLOCK,
    ),
    Row(
        "lvm",
        ("lvm",),
        "a logical volume of a volume group that `swdctl vg activate` made known",
        tuple(row.name for row in options.TABLE),
        match=_form(LvmDev),
        attach=at("lvm:attach"),
        ioctl=at("_block:ioctl"),
        **_BLOCK,
    ),
    Row(
        "fault",
        ("fault",),
        "another DEV behind a fault plan, for tests",
        ("plan", "on"),
        match=_form(FaultDev),
        attach=at("fault:attach"),
        ioctl=at("fault:ioctl"),
        **_BLOCK,
    ),
)


def find(dev: Dev) -> Row:
    """The row of a DEV; `NoSuchDevice` with ENODEV where this version has none for its form."""
    for row in DEVSW:
        if row.match(dev):
            return row
    raise NoSuchDevice(f"{dev}: this version of swd has no driver for this form of DEV", errno=errno.ENODEV)
