# SPDX-License-Identifier: Apache-2.0
"""Where swd keeps things: run-time files, state, configuration. The first place that is set wins.

Names of places only: nothing is opened or created here, except by `private_folder` and `write_atomically`, which their
callers use on purpose. The network phase is read through this module before anything else, so no place of the run-time
kind lies below /var on Linux: that file system may not be mounted yet.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from swd.driver import host
from swd.errors import SwdError

HOST_RUNTIME = Path("/run/swd")
HOST_STATE = Path("/var/lib/swd")
HOST_CONFIG = Path("/etc/swd/swd.toml")
_TEMPORARY = "/tmp"  # noqa: S108  # what is made there is checked in private_folder, and read with suspicion


def runtime_folder() -> Path:
    """`SWD_RUNTIME_DIR`; root: /run/swd; `$XDG_RUNTIME_DIR/swd`; a folder of the user's own under the temporary
    directory.
    """
    if chosen := os.environ.get("SWD_RUNTIME_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return HOST_RUNTIME
    if session := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(session) / "swd"
    return _temporary() / f"swd-{os.geteuid()}"


def runtime_folders() -> tuple[Path, ...]:
    """Where to read, in order: a user without `SWD_RUNTIME_DIR` reads the host's folder before his own."""
    own = runtime_folder()
    if os.environ.get("SWD_RUNTIME_DIR") or own == HOST_RUNTIME:
        return (own,)
    return (HOST_RUNTIME, own)


def state_folder() -> Path:
    """`SWD_STATE_DIR`; root: /var/lib/swd; `$XDG_STATE_HOME/swd` (default ~/.local/state/swd)."""
    if chosen := os.environ.get("SWD_STATE_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return HOST_STATE
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "swd"


def config_files() -> tuple[Path, ...]:
    """`SWD_CONFIG`, one file; else /etc/swd/swd.toml, then `$XDG_CONFIG_HOME/swd/swd.toml`: the later one wins key
    by key.
    """
    if chosen := os.environ.get("SWD_CONFIG"):
        return (Path(chosen),)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return (HOST_CONFIG, home / "swd" / "swd.toml")


def _temporary() -> Path:
    # Not `tempfile.gettempdir()`, which creates files to find out where it can.
    folder = Path(os.environ.get("TMPDIR") or _TEMPORARY)
    below_var = host.LINUX and Path("/var") in folder.parents
    return Path(_TEMPORARY) if below_var else folder


def private_folder(folder: Path, mode: int) -> None:
    """Make a folder of ours if it is not there; `SwdError` with the system's errno if that fails.

    Where the parent is writable by all, another user could have made it first: then it must be a real folder, and ours.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        found, parent = folder.lstat(), folder.parent.stat()
    except OSError as error:
        raise SwdError(f"cannot make {folder}: {error.strerror}", errno=error.errno) from error
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if parent.st_mode & stat.S_IWOTH and not ours:
        raise SwdError(
            f"{folder} is a link or belongs to another user: remove it, or set SWD_RUNTIME_DIR", errno=errno.EACCES
        )


def write_atomically(path: Path, data: bytes, mode: int) -> None:
    """All of it or nothing: a temporary file beside `path`, `fsync`, rename. `OSError` as the system gives it."""
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(fd, mode)  # not the umask's: every user must be able to read the host's phase
            os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
