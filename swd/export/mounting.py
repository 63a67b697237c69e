# SPDX-License-Identifier: Apache-2.0
"""`mount` and `umount`: the kernel's own file system on a DEV, by a daemon with a FUSE file and a loop device over it.

Each step of a mount has its undoing, and any failure, Ctrl-C included, undoes what was done. `umount` goes the same way
back, whatever of it is there: it writes and flushes, tells of every write that failed, and cleans up after a daemon
that was killed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from swd.driver import holders, known, phase, registry
from swd.errors import DeviceBusy, InvalidArgument, NoSuchDevice, SwdError
from swd.export import fuse, kernel, mountpoints, steady
from swd.export.daemon import Orders
from swd.export.mountpoints import Record
from swd.proto.dev import HardwarePath, IscsiDev, LvmDev, Wwid
from swd.proto.url import parse_dev

START_SECONDS: Final = 150  # a login with its retries ends well before
GOING_SECONDS: Final = 1
END_SECONDS: Final = 150  # a last flush, which a session being reinstated may hold up for replacement_timeout
SAFE: Final = ("nosuid", "nodev")  # what a foreign disk holds is not this host's: `-o suid,dev` says otherwise
AS_IT_IS: Final[dict[str, str]] = {  # how to look at a file system without its journal
    "ext3": "noload",
    "ext4": "noload",
    "xfs": "norecovery",
    "btrfs": "rescue=nologreplay",
}


@dataclass(frozen=True, slots=True)
class Mounted:
    """What was mounted: by which loop device, and which process stands behind it."""

    dev: str
    directory: str
    fstype: str
    read_only: bool
    experimental: bool
    device: str
    pid: int
    identity: str


@dataclass(frozen=True, slots=True)
class Unmounted:
    """What was unmounted. `daemon`: "ended", or "was dead" where only its remains were cleaned up."""

    dev: str
    directory: str
    daemon: str


def mount(
    dev: str,
    directory: str,
    *,
    fstype: str | None = None,
    words: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Mounted:
    """Mount the file system on `dev` at `directory`; `words` are options as of mount(8), `options` keys of the DEV.

    Read-only unless `words` says `rw`. Raises SwdError: EPERM without root; EOPNOTSUPP or ENODEV where the host lacks
    something; EBUSY for a directory or a disk in use, or a journal that must be replayed first; EINVAL for a disk
    without a file system; and what opening the DEV raises. Nothing is left behind then.
    """
    parsed = parse_dev(dev)
    phase.gate(parsed)
    kernel.require()
    fuse.library()
    writable = [word for word in words if word in {"ro", "rw"}][-1:] == ["rw"]
    place = _directory(directory)
    record = mountpoints.claim(str(parsed), place, writable=writable)
    with contextlib.ExitStack() as undo:
        undo.callback(record.remove)
        what = f"mounts {record.dev} on {place}"
        orders = Orders(record.dev, record.folder, writable, what, _targets(parsed), dict(options or {}))
        facts = _start(orders, record, undo)
        record.identity = str(facts["identity"])
        _refuse_second_writer(record)
        record.device = kernel.attach(record.file, block_size=int(facts["block_size"]), writable=writable)
        undo.callback(kernel.detach, record.device)
        record.fstype = fstype or _fstype(record)
        record.save()
        _mount(record, words)
        undo.callback(kernel.umount, place)
        record.save()
        undo.pop_all()
    return Mounted(record.dev, place, record.fstype, not writable, writable, record.device, record.pid, record.identity)


def _directory(directory: str) -> str:
    place = os.path.realpath(directory)
    if not os.path.exists(place):
        raise SwdError(f"{directory} is not there: make it first", errno=errno.ENOENT)
    if not os.path.isdir(place):
        raise SwdError(f"{directory} is no folder", errno=errno.ENOTDIR)
    if kernel.is_mount(place):
        raise DeviceBusy(f"{directory} is a mount point already: unmount that first, or name another folder")
    return place


def _targets(dev: object) -> tuple[str, ...]:
    """Whom the daemon will hold sessions with, as far as the name tells: `logout` then refuses."""
    if isinstance(dev, IscsiDev):
        return (dev.target,)
    if isinstance(dev, (HardwarePath, Wwid)):
        return tuple(dict.fromkeys(path.target for path in known.paths(dev, registry.host())))
    if isinstance(dev, LvmDev):
        return (f"lvm://{dev.vg}",)
    return ()


def _start(orders: Orders, record: Record, undo: contextlib.ExitStack) -> dict[str, Any]:
    """Start the daemon and wait for its word: the size, block size and identity of the disk that it shows."""
    folder = Path(record.folder)
    (folder / "orders").write_text(json.dumps(asdict(orders)))
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as said:
        try:
            record.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "swd.export.daemon"],
                {**os.environ, **steady.environment(), "PYTHONSAFEPATH": "1"},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, str(folder / "orders"), os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, theirs, 1),
                    (os.POSIX_SPAWN_OPEN, 2, str(folder / "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                ],
                setsid=True,  # no Ctrl-C from our terminal reaches it
            )
        finally:
            os.close(theirs)
        undo.callback(_stop, record)
        record.save()
        answer = _line(said.fileno(), time.monotonic() + START_SECONDS)
    if "error" in answer:
        raise _its_error(answer)
    if not answer:
        raise SwdError(
            f"the daemon behind the mount ended at once: {record.log() or 'it said nothing'}", errno=errno.EIO
        )
    return answer


def _line(fd: int, deadline: float) -> dict[str, Any]:
    """The daemon's one line; {} if it ends without one. SwdError with ETIMEDOUT."""
    poll, text = select.poll(), b""
    poll.register(fd, select.POLLIN)
    while not text.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise SwdError(f"the daemon was not ready within {START_SECONDS} s", errno=errno.ETIMEDOUT)
        part = os.read(fd, 65536)
        if not part:
            return {}
        text += part
    answer: dict[str, Any] = json.loads(text)
    return answer


def _its_error(answer: Mapping[str, Any]) -> SwdError:
    number = int(answer["errno"])
    kind = NoSuchDevice if number == errno.ENXIO else SwdError
    return kind(str(answer["error"]), errno=number)


def _stop(record: Record) -> None:
    """Undo `_start`: unmount the FUSE file system, which ends the daemon; one that shows nothing yet is killed."""
    shows = kernel.is_mount(record.fuse)
    if shows:
        kernel.umount(record.fuse)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGKILL)
    _wait(record, END_SECONDS)


def _wait(record: Record, seconds: float) -> bool:
    """Whether the daemon ends within `seconds`."""
    if record.pid <= 0:
        return not record.alive()
    try:
        fd = os.pidfd_open(record.pid)
    except OSError:
        return not record.alive()
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        # Without the lock it is going, or long gone: then its number may be somebody else's.
        poll.poll(1000 * (seconds if record.alive() else GOING_SECONDS))
    finally:
        os.close(fd)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)
    return not record.alive()


def _refuse_second_writer(record: Record) -> None:
    for other in mountpoints.all_of_them():
        same = other.identity and other.identity == record.identity and other.folder != record.folder
        if same and (other.writable or record.writable) and other.alive():
            raise DeviceBusy(
                f"{record.identity} is mounted on {other.directory} already{' for writing' if other.writable else ''}: "
                f"two file systems on one disk destroy it\n`swdctl umount {other.directory}` first"
            )


def _fstype(record: Record) -> str:
    """The type of the file system by blkid, or InvalidArgument saying what is there instead."""
    found = kernel.content(record.device)
    kind = found.get("TYPE", "")
    if found.get("USAGE", "filesystem") == "filesystem" and kind:
        return kind
    if "PTTYPE" in found and not kind:
        raise InvalidArgument(f"{record.dev} holds a {found['PTTYPE']} partition table: mount one of its partitions")
    if kind == "LVM2_member":
        raise InvalidArgument(f"{record.dev} holds an LVM2 physical volume: mount its volumes (`swdctl lv list`)")
    what = kind or "no file system that blkid knows"
    raise InvalidArgument(f"{record.dev} holds {what}: there is nothing to mount; -t TYPE insists on a type")


def _mount(record: Record, words: Sequence[str]) -> None:
    given = [word for word in words if word not in {"ro", "rw"}]
    extra = [] if record.writable else ["ro"]
    if (
        record.writable
        and record.fstype in {"ext2", "ext3", "ext4"}
        and not any(w.startswith("errors=") for w in given)
    ):
        extra.append("errors=remount-ro")  # not "continue": after a failed write nothing more is to be believed
    flags, data = kernel.split([*SAFE, *extra, *given])
    try:
        kernel.mount(record.device, record.directory, record.fstype, flags, data)
    except OSError as error:
        raise _refusal(record, words, error) from error


def _refusal(record: Record, words: Sequence[str], error: OSError) -> SwdError:
    what = f"the kernel could not mount {record.fstype} from {record.dev}"
    look = AS_IT_IS.get(record.fstype)
    if not record.writable and error.errno in {errno.EROFS, errno.EACCES} and look and look not in words:
        return DeviceBusy(
            f"{what}: it was not unmounted cleanly, and its journal cannot be replayed read-only\n"
            f"`-o ro,{look}` shows it without that, perhaps torn; `-o rw` replays it"
        )
    if error.errno == errno.ENODEV:
        return SwdError(f"{what}: this kernel has no such file system\n`swdctl fs` may read it", errno=errno.ENODEV)
    return SwdError(f"{what}: {error.strerror}\nthe kernel's log (dmesg) may say more", errno=error.errno)


def umount(name: str) -> Unmounted:
    """Unmount what `mount` mounted, by its directory or its DEV: write, flush, take down, end the daemon.

    Raises InvalidArgument if swd has mounted nothing there; DeviceBusy while files are open, and nothing has changed
    then; SwdError with EIO, when all has been taken down, if not everything that was written is safe.
    """
    record = _find(name)
    lived = record.alive()
    troubles: list[str] = []
    _take_down(record, troubles)
    if not _wait(record, END_SECONDS):
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
        dev = str(parse_dev(name))
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
        _unless_busy(record.fuse)


def _noting(troubles: list[str], action: Callable[[str], None], what: str) -> None:
    try:
        action(what)
    except OSError as error:
        troubles.append(error.strerror or str(error))


def _unless_busy(folder: str) -> None:
    try:
        kernel.umount(folder)
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
