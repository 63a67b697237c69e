# SPDX-License-Identifier: Apache-2.0
"""The process behind a mount, seen from outside: start it and hear its word, end it, wait for its end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from swd.errors import NoSuchDevice, SwdError
from swd.export import kernel, steady
from swd.export.daemon import Orders
from swd.export.mountpoints import Record

START_SECONDS: Final = 150  # a login with its retries ends well before
GOING_SECONDS: Final = 1
END_SECONDS: Final = 150  # a last flush, which a session being reinstated may hold up for replacement_timeout


def start(orders: Orders, record: Record, undo: contextlib.ExitStack) -> dict[str, Any]:
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
        undo.callback(stop, record)
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


def stop(record: Record) -> None:
    """Undo `start`: unmount the FUSE file system, which ends the daemon; one that shows nothing yet is killed."""
    shows = kernel.is_mount(record.fuse)
    if shows:
        kernel.umount(record.fuse, kernel.LETTING_GO)
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGKILL)
    wait(record)


def wait(record: Record, seconds: float = END_SECONDS) -> bool:
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
