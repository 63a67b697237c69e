# SPDX-License-Identifier: Apache-2.0
"""The network phase of this host, and the gate that remote storage passes before anything else is touched.

Boot integration calls `begin` before the network and `complete` after the *first attempt* at it, successful or not. In
between, whatever leads to iSCSI fails at once with `NetworkNotInitialized`: a quiet, retryable state. Where nobody
calls `begin`, the attempt counts as over, so a casual program on a running host never meets the gate.

The phase is one small file. It names the boot, the start of process 1 (which tells containers apart), and the network
namespace; a reader for whom one of them differs ignores it, as he does when it is malformed, belongs to a stranger,
or has expired. Reading takes no lock: the file is replaced whole. The gate runs before registry and configuration,
and may not open a socket, resolve a name, wait, create a file, or open anything below /var: that file system may not
be there yet.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from swd.driver import host, places
from swd.errors import InvalidArgument, NetworkNotInitialized, SwdError
from swd.proto import fsm
from swd.proto.url import Dev, FaultDev, HardwarePath, IscsiDev, LvmDev, Wwid
from swd.values import Phase

FILE = "phase.json"
DEFAULT_PROFILE: Final = "11iv1"
DEFAULT_TIMEOUT: Final = 300.0  # seconds after which PRE_NETWORK is over by itself
ERRNO_BY_PROFILE: Final = {"11iv1": errno.ENETUNREACH, "11iv3": errno.ENXIO}

GATED_DEVS: Final = (IscsiDev, HardwarePath, Wwid, LvmDev)
GATED_CALLS: Final = frozenset({"connect", "discover", "scan", "login", "logout", "startup"})

_FORMAT = 1
_LARGEST = 65536  # bytes; a longer file is not ours
_TEXTS = ("boot_id", "pid1_start", "net_namespace", "errno_profile", "who", "evidence")
_NUMBERS = ("since", "uptime", "phase_timeout")


@dataclass(frozen=True)
class State:
    """The phase with its story: since when (seconds of the epoch), who set it, by what evidence, and in which file."""

    phase: Phase
    since: float | None = None
    who: str = ""
    evidence: str = ""
    file: str | None = None
    errno_profile: str = DEFAULT_PROFILE
    phase_timeout: float = DEFAULT_TIMEOUT
    expires_in: float | None = None  # seconds; None where nothing expires

    def record(self) -> dict[str, object]:
        """As plain values, for JSON and for SWD_PHASE_GET."""
        return {**asdict(self), "phase": self.phase.value}


def show() -> State:
    """The phase that the gate goes by, with its story. Raises nothing: a file that cannot be used is named in
    `evidence`.
    """
    identity, ignored = host.identity(), []
    for folder in places.runtime_folders():
        found = _read(folder / FILE, identity)
        if isinstance(found, State):
            return found
        if found:
            ignored.append(found)
    story = "; ".join(ignored) or "no phase file for this boot"
    return State(Phase.NETWORK_ATTEMPTED, evidence=f"{story}: without boot integration the attempt counts as complete")


def current(phase: Phase | None = None) -> Phase:
    """The host's phase, or the one given."""
    return show().phase if phase is None else phase


def is_gated(what: Dev | str) -> bool:
    """Whether a DEV leads over the network, or a function or verb always does (its name, e.g. "discover")."""
    if isinstance(what, str):
        if what not in GATED_CALLS:
            raise InvalidArgument(
                f"{what!r} is no gated call ({', '.join(sorted(GATED_CALLS))}): parse a DEV before the gate"
            )
        return True
    if isinstance(what, FaultDev):
        return is_gated(what.on)
    return isinstance(what, GATED_DEVS)


def gate(what: Dev | str, *, phase: Phase | None = None, errno_profile: str = DEFAULT_PROFILE) -> None:
    """Let `what` pass, or raise `NetworkNotInitialized` at once.

    `phase` overrides the host's for this call; `errno_profile` then says with which errno (the phase file knows its
    own).
    """
    if not is_gated(what):
        return
    state = show() if phase is None else State(phase, evidence="given by the program", errno_profile=errno_profile)
    if state.phase is Phase.PRE_NETWORK:
        raise NetworkNotInitialized(
            f"network initialisation has not been attempted yet ({state.file or state.evidence}): try again later;\n"
            "`swdctl phase show` says who set this phase, `swdctl phase complete` ends it",
            errno=ERRNO_BY_PROFILE[state.errno_profile],
        )


# --- writing -----------------------------------------------------------------------------------------------------


def begin(force: bool = False, *, evidence: str = "phase begin was called") -> State:
    """Enter PRE_NETWORK, with `errno_profile` and `phase_timeout` as the configuration has them now.

    Raises `SwdError` with EALREADY after `complete` in this boot unless `force`; with EACCES where the host's own file
    already decides and this user may not change it; with the system's errno if the file cannot be written; and what
    reading the configuration raises.
    """
    from swd.driver import config

    settings = config.load()
    with _writing() as file:
        before = show()
        if fsm.PHASE.row(_place(before), "begin --force" if force else "begin") is None:
            raise SwdError(
                f"the first attempt at network initialisation is already complete in this boot ({before.file}):\n"
                "a second `phase begin` needs --force",
                errno=errno.EALREADY,
            )
        _refuse_to_shadow(before, file)
        return _write(file, Phase.PRE_NETWORK, settings.errno_profile, settings.phase_timeout, evidence)


def complete(*, evidence: str = "phase complete was called") -> State:
    """The first attempt at network initialisation is over. Calling it again changes nothing. Errors: as `begin`,
    but EALREADY.
    """
    with _writing() as file:
        before = show()
        if before.file is not None and before.phase is Phase.NETWORK_ATTEMPTED:
            return before
        _refuse_to_shadow(before, file)
        return _write(file, Phase.NETWORK_ATTEMPTED, before.errno_profile, before.phase_timeout, evidence)


def _place(state: State) -> str:
    """The state of `fsm.PHASE`."""
    return fsm.UNSET if state.file is None else state.phase.name


def _refuse_to_shadow(before: State, file: Path) -> None:
    """A user's file is read after the host's: writing it under a valid host's file would silently change nothing."""
    if before.file is not None and before.file != str(file):
        raise SwdError(f"the host's phase is set in {before.file}, which only root changes", errno=errno.EACCES)


@contextlib.contextmanager
def _writing() -> Iterator[Path]:
    """The file to write, with all other writers kept out, so that a `begin` cannot undo a `complete` of the same
    moment.

    The lock file is for its owner only: whoever may open it could hold up the boot.
    """
    folder = places.runtime_folder()
    places.private_folder(folder, 0o755 if os.geteuid() == 0 else 0o700)
    try:
        lock = os.open(folder / ".phase.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _not_written(folder / FILE, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / FILE
    finally:
        os.close(lock)


def _write(file: Path, phase: Phase, profile: str, timeout: float, evidence: str) -> State:
    content = {
        "format": _FORMAT,
        "phase": phase.value,
        "since": time.time(),
        "uptime": host.uptime(),
        **asdict(host.identity()),
        "errno_profile": profile,
        "phase_timeout": timeout,
        "who": f"uid {os.geteuid()}, pid {os.getpid()}, {Path(sys.argv[0] or 'python').name}",
        "evidence": evidence,
    }
    try:
        places.write_atomically(file, json.dumps(content, indent=1).encode() + b"\n", 0o644)
    except OSError as error:
        raise _not_written(file, error) from error
    return show()


def _not_written(file: Path, error: OSError) -> SwdError:
    return SwdError(f"cannot write the phase file {file}: {error.strerror}", errno=error.errno)


# --- reading -----------------------------------------------------------------------------------------------------


def _read(path: Path, identity: host.Identity) -> State | str:
    """The state in one file; else why it is ignored ("" where there is none)."""
    try:
        content = json.loads(_bytes_of(path))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError) as error:
        return f"{path} ignored ({error})"
    problem = _problem(content, identity)
    return f"{path} ignored ({problem})" if problem else _state(path, content)


def _bytes_of(path: Path) -> bytes:
    # O_NONBLOCK: a FIFO left in place of the file must not make the gate wait.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            raise ValueError("not a regular file of root's or of this user's")
        return os.read(fd, _LARGEST)
    finally:
        os.close(fd)


def _problem(content: object, identity: host.Identity) -> str:
    """Why the reader must ignore this content; "" when he must not."""
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return "malformed: not a phase file of this version"
    if not all(isinstance(content.get(key), str) for key in _TEXTS) or not all(
        _is_time(content.get(key)) for key in _NUMBERS
    ):
        return "malformed: a key is missing or of the wrong type"
    if content.get("phase") not in {phase.value for phase in Phase} or content["errno_profile"] not in ERRNO_BY_PROFILE:
        return "malformed: an unknown phase or errno_profile"
    for key, ours in asdict(identity).items():
        if content[key] != ours:
            return f"of another {key}"
    age = host.uptime() - content["uptime"]
    if age < 0:
        return "malformed: written in the future of this boot"
    if content["phase"] == Phase.PRE_NETWORK.value and age >= content["phase_timeout"]:
        return f"expired after {content['phase_timeout']:g} s"
    return ""


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _state(path: Path, content: dict[str, str | float]) -> State:
    phase, timeout = Phase(content["phase"]), float(content["phase_timeout"])
    left = timeout - (host.uptime() - float(content["uptime"]))
    return State(
        phase,
        since=float(content["since"]),
        who=str(content["who"]),
        evidence=str(content["evidence"]),
        file=str(path),
        errno_profile=str(content["errno_profile"]),
        phase_timeout=timeout,
        expires_in=max(0.0, left) if phase is Phase.PRE_NETWORK else None,
    )
