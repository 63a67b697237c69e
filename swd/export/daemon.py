# SPDX-License-Identifier: Apache-2.0
"""The process behind a mount: it opens the DEV, shows it as a FUSE file, and stays until that is unmounted.

`swd.export.mounting` starts it as `python -m swd.export.daemon`, with its orders as JSON on standard input, and hears
one JSON line on standard output: ready, or why not. Standard error is the log in the mount's folder. It holds a lock on
`alive` there for as long as it lives, and says in `ended` how the last flush went.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

ALIVE: Final = "alive"
ENDED: Final = "ended"
FUSE: Final = "fuse"


@dataclass(frozen=True, slots=True)
class Orders:
    """What to serve, and from which folder. `targets`: whom `logout` asks about; `what`: what it then says."""

    dev: str
    folder: str
    writable: bool
    what: str
    targets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """How it went: the errno of the last flush (0: all is safe), and how many writes and flushes had failed before."""

    flush: int
    failed_writes: int


def main() -> int:
    """Runs until the file system is unmounted. 0, or 1 after having said why not."""
    from swd.export import steady

    steady.unstoppable()
    for refusal in steady.spared():
        print(f"swd: {refusal}; give it CAP_SYS_RESOURCE", file=sys.stderr)
    orders = Orders(**json.load(sys.stdin))
    os.chdir("/")
    try:
        _run(orders)
    except OSError as error:
        _say({"error": getattr(error, "reason", None) or str(error), "errno": error.errno or errno.EIO})
        return 1
    return 0


def _run(orders: Orders) -> None:
    import swd
    from swd.driver import holders
    from swd.export import fuse, steady

    folder = Path(orders.folder)
    fuse.library()  # before there is a session: what is not installed is found out at once
    with contextlib.ExitStack() as stack:
        _hold(folder / ALIVE)
        disk = stack.enter_context(swd.open(orders.dev, "r+b" if orders.writable else "rb", **orders.options))
        stack.enter_context(holders.holding(orders.what, orders.targets))
        # Each thread has the library's buffer, a copy of what is written, and what is made of it on the way.
        steady.locked(fuse.THREADS * 3 * fuse.REQUEST_BYTES)
        facts = {"size": disk.size, "block_size": disk.block_size, "identity": disk.identity}
        file = fuse.DiskFile(disk, on_ready=lambda: _say({"ready": True, **facts}))
        try:
            fuse.serve(file, str(folder / FUSE), orders.dev)
        finally:
            _write(folder / ENDED, Ended(_last_flush(disk), file.failed_writes))


def _last_flush(disk: Any) -> int:
    if not disk.writable:
        return 0
    try:
        disk.flush()
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _hold(path: Path) -> None:
    """Lock a file until this process is gone: nobody closes it before."""
    fcntl.flock(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(path: Path, record: Ended) -> None:
    with contextlib.suppress(OSError):  # the folder's space is gone: whoever unmounts sees no record, and says so
        path.write_text(json.dumps(asdict(record)))


def _say(record: Mapping[str, object]) -> None:
    """The one line to the parent; afterwards standard output leads nowhere, as the parent has long gone on."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(record).encode() + b"\n")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
