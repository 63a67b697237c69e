# SPDX-License-Identifier: Apache-2.0
"""The name that this host logs in with. The first that is set wins, and one made here is made once and kept.

Initiators that share a name disturb each other (RFC 7143 4.2.7.1: a name is worldwide unique), so there is no default:
where nobody gave a name, it ends in random digits. A state folder that cannot be written does not stop a login: then
the name lives as long as the process, and one warning says so.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from pathlib import Path

from swd.driver import places
from swd.errors import SwdError
from swd.proto import names
from swd.proto.options import Options

KERNEL_FILE = Path("/etc/iscsi/initiatorname.iscsi")  # open-iscsi's: InitiatorName=...
FILE = "initiatorname.iscsi"
PREFIX = "iqn.2026-01.org.iscsi-swd:"

_log = logging.getLogger("swd.driver")
_lock = threading.Lock()  # guards _made
_made: dict[Path, str] = {}  # by state folder: names that could not be kept


def name(options: Options) -> str:
    """The options' `initiator_name`, SWD_INITIATOR_NAME, the kernel initiator's if readable, else this host's own.

    Raises `InvalidArgument` if the one found is no iSCSI name.
    """
    found = options.initiator_name or os.environ.get("SWD_INITIATOR_NAME") or _in_file(KERNEL_FILE) or _own()
    names.validate(found)
    return found


def _in_file(path: Path) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and key.strip() == "InitiatorName" and value.strip():
            return value.strip()
    return None


def _own() -> str:
    folder = places.state_folder()
    kept = _in_file(folder / FILE)
    if kept is not None:
        return kept
    with _lock:
        if folder not in _made:
            fresh = PREFIX + os.urandom(6).hex()
            try:
                return _keep(folder, fresh)
            except OSError as error:
                _log.warning("cannot keep the initiator name %s in %s (%s): set initiator_name", fresh, folder, error)
                _made[folder] = fresh
        return _made[folder]


def _keep(folder: Path, fresh: str) -> str:
    """Write the name, whole, unless another process was first; the name that then stands there."""
    places.private_folder(folder, 0o755 if os.geteuid() == 0 else 0o700)
    path = folder / FILE
    fd, temporary = tempfile.mkstemp(prefix=f".{FILE}.", dir=folder)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(f"# made by swd; every host must have a name of its own\nInitiatorName={fresh}\n")
            file.flush()
            os.fchmod(fd, 0o644)
            os.fsync(fd)
        os.link(temporary, path)  # unlike a rename, fails where the name is already
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
    kept = _in_file(path)
    if kept is None:
        raise SwdError(f"{path} holds no InitiatorName= line: remove it")
    return kept
