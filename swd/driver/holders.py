# SPDX-License-Identifier: Apache-2.0
"""Who holds sessions: a record with a pid for each such process, in the runtime folder.

A holder keeps its record locked as long as it lives, so that a record left by a killed process, or a pid that was
given away again, deceives nobody.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from swd.driver import places
from swd.errors import SwdError

_FOLDER = "holders"
_LARGEST = 65536


@dataclass(frozen=True)
class Holder:
    """A living process with sessions: `what` says in a few words what it does."""

    pid: int
    what: str
    targets: tuple[str, ...]


@contextlib.contextmanager
def holding(what: str, targets: Iterable[str]) -> Iterator[None]:
    """This process holds sessions with these targets inside the block. `SwdError` if that cannot be recorded."""
    record = {"pid": os.getpid(), "what": what, "targets": list(targets)}
    fd, path = _record(json.dumps(record).encode())
    try:
        yield
    finally:
        if os.getpid() == record["pid"]:  # a forked child leaves its parent's record alone
            os.unlink(path)
        os.close(fd)


def _record(content: bytes) -> tuple[int, Path]:
    runtime = places.runtime_folder()
    mode = 0o755 if os.geteuid() == 0 else 0o700
    places.private_folder(runtime, mode)
    places.private_folder(runtime / _FOLDER, mode)
    try:
        fd, temporary = tempfile.mkstemp(prefix=".", dir=runtime / _FOLDER)
        os.write(fd, content)
        fcntl.flock(fd, fcntl.LOCK_EX)  # before the record has its name: no reader sees it free
        path = Path(f"{temporary}.json")
        path = path.with_name(path.name.lstrip("."))
        os.replace(temporary, path)
    except OSError as error:
        raise SwdError(f"cannot record this process in {runtime}: {error.strerror}", errno=error.errno) from error
    return fd, path


def living(target: str | None = None) -> list[Holder]:
    """The processes that hold sessions, with `target` or with any; records of dead ones are skipped."""
    found = []
    for folder in places.runtime_folders():
        for path in sorted((folder / _FOLDER).glob("*.json")):
            holder = _read(path)
            if holder is not None and (target is None or target in holder.targets):
                found.append(holder)
    return found


def sweep() -> None:
    """Remove the records that dead processes of ours left."""
    for path in (places.runtime_folder() / _FOLDER).glob("*.json"):
        with contextlib.suppress(OSError):
            if _is_free(path):
                path.unlink()


def _is_free(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _read(path: Path) -> Holder | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parsed(os.read(fd, _LARGEST))
    finally:
        os.close(fd)
    return None


def _parsed(content: bytes) -> Holder | None:
    try:
        record = json.loads(content)
        return Holder(int(record["pid"]), str(record["what"]), tuple(map(str, record["targets"])))
    except (ValueError, TypeError, KeyError):
        return None
