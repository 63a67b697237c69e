# SPDX-License-Identifier: Apache-2.0
"""`umount`: from the top to the bottom, whatever is there of a mount.

It writes and flushes, tells of every write that failed, and cleans up after a daemon, or a `mount`, that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from swd.driver import holders, pvs
from swd.errors import DeviceBusy, InvalidArgument, SwdError
from swd.export import child, kernel, mountpoints
from swd.export.mountpoints import Record
from swd.proto.url import parse_dev


@dataclass(frozen=True, slots=True)
class Unmounted:
    """What was unmounted. `daemon`: "ended", or "was dead" where only its remains were cleaned up."""

    dev: str
    directory: str
    daemon: str


def umount(name: str) -> Unmounted:
    """Unmount what `mount` mounted, by its directory or its DEV: write, flush, take down, end the daemon.

    Raises InvalidArgument if swd has mounted nothing there; DeviceBusy while files are open, and nothing has changed
    then; SwdError with EIO, when all has been taken down, if not everything that was written is safe.
    """
    record = _find(name)
    lived = record.alive()
    troubles: list[str] = []
    _take_down(record, troubles)
    if not child.wait(record):
        raise DeviceBusy(f"process {record.pid} behind {record.dev} does not end: the target may be gone; try again")
    ended = record.ended()
    record.remove()
    holders.sweep()
    if record.writable:
        _tell(record, troubles, ended.flush if ended else None, ended.failed_writes if ended else 0)
    return Unmounted(record.dev, record.directory, "ended" if lived else "was dead")


def umount_all() -> tuple[list[Unmounted], list[SwdError]]:
    """Everything that swd has mounted, the deepest directories first; and what was raised for the others."""
    done: list[Unmounted] = []
    failures: list[SwdError] = []
    for record in sorted(mountpoints.all_of_them(), key=lambda one: one.directory.count("/"), reverse=True):
        try:
            done.append(umount(record.directory))
        except SwdError as error:
            failures.append(error)
    return done, failures


def _find(name: str) -> Record:
    place = os.path.realpath(name)
    for record in mountpoints.all_of_them():
        if record.directory == place or record.dev == name:
            return record
    with contextlib.suppress(SwdError):
        dev = pvs.lasting(parse_dev(name))
        for record in mountpoints.all_of_them():
            if record.dev == dev:
                return record
    raise InvalidArgument(f"swd has mounted nothing at {name}: name the directory, or the DEV, of a `swdctl mount`")


def _take_down(record: Record, troubles: list[str]) -> None:
    """From the top to the bottom, what is there. Failures to write are collected; being in use ends it, unchanged."""
    # A loop device is ours by the file behind it: after a restart of the host its number may be somebody else's.
    ours = bool(record.device) and kernel.backing(record.device) == record.file
    on_top = [source for place, _, source in kernel.mounts() if place == record.directory][-1:]
    if ours and on_top == [record.device]:
        if record.writable:
            _noting(troubles, kernel.sync_file_system, record.directory)
        _unless_busy(record.directory)
    if ours:
        if record.writable:
            _noting(troubles, kernel.sync_device, record.device)
        kernel.detach(record.device)
    if kernel.is_mount(record.fuse):
        _unless_busy(record.fuse, patience=kernel.LETTING_GO)
    elif not record.device and record.alive():  # its `swdctl mount` was killed while it was still logging in
        child.stop(record)


def _noting(troubles: list[str], action: Callable[[str], None], what: str) -> None:
    try:
        action(what)
    except OSError as error:
        troubles.append(error.strerror or str(error))


def _unless_busy(folder: str, patience: float = 0.0) -> None:
    try:
        kernel.umount(folder, patience)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise DeviceBusy(f"{folder} is in use: `fuser -vm {folder}` says by whom; nothing was unmounted") from error
        raise SwdError(f"{folder} could not be unmounted: {error.strerror}", errno=error.errno) from error


def _tell(record: Record, troubles: list[str], flushed: int | None, failed: int) -> None:
    """Raise for what was written and may not be on the disk. All has been taken down by now."""
    if flushed is None:
        reason = "the process behind it had been killed: what was fsynced before is there, the rest may not be"
    elif failed or flushed or troubles:
        why = os.strerror(flushed) if flushed else (troubles or ["the disk refused them"])[0]
        reason = f"{failed or 'some'} writes or flushes failed ({why}): not all that was written is on the disk"
    else:
        return
    raise SwdError(
        f"{record.directory} is unmounted, but {reason}\ncheck the file system before its next use", errno=errno.EIO
    )
