# SPDX-License-Identifier: Apache-2.0
"""Where CHAP secrets come from. The first place that has one wins; none of them is a URL, an argument or a log.

A `Chap` of the program, the file that `secret_file` names (`-`: standard input), SWD_CHAP_SECRET, the system's key
ring (with the `keyring` extra), a prompt on a terminal; for the target's own secret (mutual CHAP) the same with
`target_`. A secret is bytes and never part of a message.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from swd.errors import AuthenticationFailed, InvalidArgument, SwdError
from swd.proto.options import Options
from swd.values import Chap

_LARGEST = 4096  # bytes: no CHAP secret is that long, a wrong file may be
_PATIENCE = "give the user's secret by secret_file, SWD_CHAP_SECRET, the key ring or a Chap object"


@dataclass(frozen=True)
class Wanted:
    """One secret that is looked for: whose, with which file and variable, and in which words."""

    user: str
    file: str | None
    variable: str
    words: str
    peer: str


def resolve(options: Options, *, chap: Chap | None = None, user: str | None = None, peer: str = "") -> Chap | None:
    """The credentials for a login at `peer` (a target's name or a portal), or None where no user is configured.

    `user` (of a URL) goes before the options'. Raises `SwdError` with EACCES for a secret file that others can read,
    `AuthenticationFailed` if no place has the secret, `InvalidArgument` for an empty one or for secrets without a user.
    """
    if chap is not None:
        if not isinstance(chap, Chap):
            raise TypeError(f"chap is a swd.Chap, not {type(chap).__name__}")
        return chap
    name = user or options.user
    if not name:
        if options.secret_file or options.auth == "require":
            raise InvalidArgument("CHAP is asked for but no user is set: give `user`, or user@ in the URL")
        return None
    if options.auth == "none":
        return None
    mine = _first(Wanted(name, options.secret_file, "SWD_CHAP_SECRET", "secret", peer))
    if mine is None:
        raise AuthenticationFailed(f"no secret for the CHAP user {name!r}: {_PATIENCE}")
    return Chap(name, mine, target_user=options.target_user, target_secret=_of_target(options, peer))


def _of_target(options: Options, peer: str) -> bytes | None:
    """The secret that the target must prove to know; None where one-way CHAP is configured."""
    wanted = Wanted(
        options.target_user or "", options.target_secret_file, "SWD_CHAP_TARGET_SECRET", "target secret", peer
    )
    found = _first(wanted) if wanted.user or wanted.file else _from_environment(wanted)
    if found is None and (wanted.user or wanted.file):
        raise AuthenticationFailed(
            f"no secret for the target's CHAP user {wanted.user!r}: "
            "give it by target_secret_file, SWD_CHAP_TARGET_SECRET, the key ring or a Chap object"
        )
    return found


def _first(wanted: Wanted) -> bytes | None:
    for place in PLACES:
        found = place(wanted)
        if found is not None:
            if not found:
                raise InvalidArgument(f"the CHAP {wanted.words} of {wanted.user!r} is empty")
            return found
    return None


def _from_file(wanted: Wanted) -> bytes | None:
    if not wanted.file:
        return None
    return _from_stdin() if wanted.file == "-" else read_file(wanted.file)


def _from_stdin() -> bytes:
    """One line a secret: ours first, then the target's."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise InvalidArgument("secret_file is `-`, but there is no standard input")
    return bytes(stream.readline(_LARGEST)).rstrip(b"\r\n")


def read_file(path: str) -> bytes:
    """The first line of a file that only its owner, who is us or root, may read; else `SwdError` with EACCES and
    the remedy.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SwdError(f"cannot read the secret file {path}: {error.strerror}", errno=error.errno) from error
    try:
        _check_private(path, os.fstat(fd))
        return os.read(fd, _LARGEST).partition(b"\n")[0].rstrip(b"\r")
    finally:
        os.close(fd)


def _check_private(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InvalidArgument(f"the secret file {path} is not a regular file")
    if found.st_uid not in (0, os.geteuid()):
        raise _exposed(path, f"belongs to uid {found.st_uid}", f"chown {os.geteuid()} {path}")
    if stat.S_IMODE(found.st_mode) & 0o177:
        raise _exposed(path, f"has mode {stat.S_IMODE(found.st_mode):04o}", f"chmod 0600 {path}")


def _exposed(path: str, why: str, remedy: str) -> SwdError:
    return AuthenticationFailed(f"the secret file {path} {why}, so others may know the secret:\n{remedy}")


def _from_environment(wanted: Wanted) -> bytes | None:
    value = os.environb.get(wanted.variable.encode())
    return value or None


def _from_keyring(wanted: Wanted) -> bytes | None:
    if find_spec("keyring") is None:
        return None
    keyring, errors = import_module("keyring"), import_module("keyring.errors")
    try:
        value: str | None = keyring.get_password(f"swd:{wanted.peer}", wanted.user)
    except errors.KeyringError:
        return None  # locked, or no back-end: the next place is asked
    return None if value is None else value.encode()


def _from_prompt(wanted: Wanted) -> bytes | None:
    if sys.stdin is None or sys.stderr is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return getpass.getpass(f"CHAP {wanted.words} of {wanted.user!r} for {wanted.peer}: ").encode()


PLACES: Final[tuple[Callable[[Wanted], bytes | None], ...]] = (
    _from_file,
    _from_environment,
    _from_keyring,
    _from_prompt,
)
