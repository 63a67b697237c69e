# SPDX-License-Identifier: Apache-2.0
"""`mount` and `umount`: the kernel's own file system on a DEV."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import swd
from swd.cli import guard
from swd.cli.call import Call, Reported, UsageProblem
from swd.startup import placement

if TYPE_CHECKING:
    from swd.export.mounting import Mounted
    from swd.export.unmounting import Unmounted

EXPERIMENTAL = "writing through the kernel is experimental: keep a copy of what matters"


def mount(
    call: Call, *, dev: str, directory: str, type: str | None, options: tuple[str, ...], force: bool
) -> Mounted | list[str]:
    """Placement first, then, for writing, whether this host's kernel has the disk by another way."""
    from swd.export import mounting

    words = [word.strip() for group in options for word in group.split(",")]
    _placed(dev, directory)
    if "rw" in words and not force:
        with swd.open(dev, **call.options) as disk:
            guard.check_attached(dev, disk.identity)
    mounted = mounting.mount(dev, directory, fstype=type, words=words, options=call.options)
    return mounted if call.json else list(_lines(mounted))


def _placed(dev: str, directory: str) -> None:
    """InvalidArgument if the boot needs what is at this directory. Other faults of the host are `placement check`'s."""
    report = placement.check(adding=[(os.path.realpath(directory), dev)])
    ours = tuple(one for one in report.refused if placement.PLANNED in one.evidence)
    replace(report, ok=not ours, findings=ours).require()


def _lines(mounted: Mounted) -> list[str]:
    how = "read-only" if mounted.read_only else "for reading and writing"
    behind = f"{mounted.device} and process {mounted.pid}"
    lines = [f"{mounted.dev} is on {mounted.directory}: {mounted.fstype}, {how}, by {behind}"]
    return lines + ([EXPERIMENTAL] if mounted.experimental else [])


def umount(call: Call, *, name: str | None, all: bool) -> Unmounted | list[Unmounted] | list[str]:
    """Raises after cleaning up if not all that was written is safe; of several, the first that failed."""
    from swd.export import unmounting

    if all == (name is not None):
        raise UsageProblem("umount takes the directory or the DEV of a mount, or --all")
    if name is not None:
        one = unmounting.umount(name)
        return one if call.json else [_off(one)]
    done, failures = unmounting.umount_all()
    record = done if call.json else [_off(one) for one in done]
    if failures:
        raise Reported(record, failures[0])
    return record


def _off(done: Unmounted) -> str:
    dead = " (the process behind it was dead)" if done.daemon != "ended" else ""
    return f"{done.dev} is off {done.directory}{dead}"
