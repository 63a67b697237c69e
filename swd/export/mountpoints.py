# SPDX-License-Identifier: Apache-2.0
"""Records of the mounts of this host: a folder for each below the run-time folder, made before anything else is.

In it are the FUSE mount point, the daemon's orders, log, lock and last words, and `record`, by which `umount` takes
down what is there, however far the mount had come, and whether or not the daemon still lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from swd.driver import places
from swd.errors import DeviceBusy, SwdError
from swd.export.daemon import ALIVE, ENDED, FUSE, Ended
from swd.export.fuse import NAME

_FOLDER: Final = "mounts"
_RECORD: Final = "record"


@dataclass(slots=True)
class Record:
    """One mount; empty or 0 is what it has not come to yet."""

    folder: str
    dev: str
    directory: str
    writable: bool
    pid: int = 0
    device: str = ""
    fstype: str = ""
    identity: str = ""

    @property
    def fuse(self) -> str:
        return os.path.join(self.folder, FUSE)

    @property
    def file(self) -> str:
        """What the loop device stands on."""
        return os.path.join(self.fuse, NAME)

    def save(self) -> None:
        places.write_atomically(Path(self.folder, _RECORD), json.dumps(asdict(self)).encode(), 0o600)

    def alive(self) -> bool:
        """Whether the daemon lives: it holds a lock, so a pid that was given away again deceives nobody."""
        try:
            fd = os.open(os.path.join(self.folder, ALIVE), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def ended(self) -> Ended | None:
        """How the daemon ended; None if it could not say."""
        try:
            return Ended(**json.loads(Path(self.folder, ENDED).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def log(self) -> str:
        """The last line of the daemon's log, or ""."""
        try:
            lines = Path(self.folder, "log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:200] if lines else ""

    def remove(self) -> None:
        """Forget the mount. Never reaches into a FUSE file system that is still mounted."""
        with contextlib.suppress(OSError):
            os.rmdir(self.fuse)
        if not os.path.lexists(self.fuse):
            shutil.rmtree(self.folder, ignore_errors=True)


def claim(dev: str, directory: str, *, writable: bool) -> Record:
    """A new record. DeviceBusy while another mount has the directory; SwdError if the folder cannot be made."""
    base = _base()
    with _locked(base):
        for other in all_of_them():
            if other.directory == directory:
                raise DeviceBusy(f"{directory} has {other.dev} on it: `swdctl umount {directory}` first")
        number = next(n for n in range(1 << 16) if not (base / str(n)).exists())
        folder = base / str(number)
        try:
            folder.mkdir(mode=0o700)
            (folder / FUSE).mkdir(mode=0o700)
            record = Record(str(folder), dev, directory, writable)
            record.save()
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise SwdError(f"cannot make {folder}: {error.strerror}", errno=error.errno) from error
    return record


def all_of_them() -> list[Record]:
    """The mounts that there are records of."""
    found = []
    for path in sorted(_base().glob(f"[0-9]*/{_RECORD}")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            values: dict[str, Any] = json.loads(path.read_text())
            found.append(Record(**{**values, "folder": str(path.parent)}))
    return found


def _base() -> Path:
    runtime = places.runtime_folder()
    places.private_folder(runtime, 0o755)
    places.private_folder(runtime / _FOLDER, 0o700)
    return runtime / _FOLDER


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[None]:
    fd = os.open(base / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)  # held for a few file operations
        yield
    finally:
        os.close(fd)
