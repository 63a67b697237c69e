# SPDX-License-Identifier: Apache-2.0
"""The errno layer: whatever leaks from below becomes one `SwdError`, by the table in this file and nothing else.

The first attempt at network initialisation is over when code runs inside `translated`: from then on the errno is the
one that the system would give if iSCSI were not installed. `ENETUNREACH` would say "before the network", so neither
it nor its relatives may come out; opening what cannot be reached is `ENXIO`, as for a device file with no driver
behind it. `EAGAIN` never comes out of a blocking call: Python would make `BlockingIOError` of it. The cause stays on
`__cause__`.

What is no OSError passes: wrong types are TypeErrors, Ctrl-C is Ctrl-C, and a bug shall be seen as one.
"""

from __future__ import annotations

import enum
import errno
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from swd.errors import (
    ConnectionLost,
    DeadlineExceeded,
    MediumError,
    NetworkNotInitialized,
    NoSuchDevice,
    SwdError,
)


class During(enum.Enum):
    """What was going on: reaching the target and logging in, the rest of an open, or I/O on an open descriptor."""

    LOGIN = "login"
    OPEN = "open"
    IO = "I/O"


UNREACHABLE: Final = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
        errno.ENETDOWN,
        errno.EHOSTDOWN,
        errno.EADDRNOTAVAIL,
        errno.ENOTCONN,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.ENETRESET,
        errno.ESHUTDOWN,
    }
)
WOULD_BLOCK: Final = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINPROGRESS, errno.EALREADY})
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})  # limits of this host
ANY: Final[frozenset[int]] = frozenset()


@dataclass(frozen=True)
class Rule:
    """`error` of class `found` with one of `errnos` (ANY: all) becomes `to`; None: it passes as it is.

    `number` None takes the class's errno, KEEP the found one. `hint` is what to do next.
    """

    found: type[OSError]
    errnos: frozenset[int]
    to: type[SwdError] | None
    number: int | None = None
    hint: str = ""


KEEP: Final = -1
_REACH = "check the portal's address and that the target is running"
_FREE = "close what is not needed, or raise the limit (ulimit -n)"
_BLOCKED = "the device did not answer in time: try again, or raise `timeout`"

# First match wins.
TABLE: Final[dict[During, tuple[Rule, ...]]] = {
    During.LOGIN: (
        Rule(NetworkNotInitialized, ANY, None),
        Rule(ConnectionLost, ANY, NoSuchDevice),
        Rule(DeadlineExceeded, ANY, NoSuchDevice),
        Rule(SwdError, UNREACHABLE | WOULD_BLOCK, NoSuchDevice),
        Rule(SwdError, ANY, None),
        Rule(OSError, EXHAUSTED, SwdError, KEEP, hint=_FREE),
        Rule(OSError, ANY, NoSuchDevice, hint=_REACH),
    ),
    During.OPEN: (
        Rule(NetworkNotInitialized, ANY, None),
        Rule(SwdError, UNREACHABLE | WOULD_BLOCK, NoSuchDevice),
        Rule(SwdError, ANY, None),
        Rule(OSError, EXHAUSTED, SwdError, KEEP, hint=_FREE),
        Rule(OSError, ANY, NoSuchDevice, hint=_REACH),
    ),
    During.IO: (
        Rule(NetworkNotInitialized, ANY, None),
        Rule(SwdError, UNREACHABLE, ConnectionLost),
        Rule(SwdError, WOULD_BLOCK, DeadlineExceeded),
        Rule(SwdError, ANY, None),
        Rule(socket.gaierror, ANY, ConnectionLost, hint=_REACH),
        Rule(TimeoutError, ANY, DeadlineExceeded, hint=_BLOCKED),
        Rule(OSError, UNREACHABLE, ConnectionLost, hint=_REACH),
        Rule(OSError, WOULD_BLOCK, DeadlineExceeded, hint=_BLOCKED),
        Rule(OSError, frozenset(errno.errorcode), MediumError, KEEP),
        Rule(OSError, ANY, MediumError),
    ),
}


def translate(error: OSError, during: During, what: str = "") -> SwdError:
    """The error to raise for `error`: itself if it may pass, else a new one whose words name `what` (a DEV) and the
    cause.
    """
    rule = next(
        rule
        for rule in TABLE[during]
        if isinstance(error, rule.found) and (not rule.errnos or error.errno in rule.errnos)
    )
    if rule.to is None:
        assert isinstance(error, SwdError)
        return error
    why = error.reason if isinstance(error, SwdError) else _words(error)
    subject = f"{what}: " if what and what not in why else ""
    advice = f": {rule.hint}" if rule.hint else ""
    return rule.to(f"{subject}{why}{advice}", errno=error.errno if rule.number == KEEP else rule.number)


def _words(error: OSError) -> str:
    # Only the words of the number and the file: an exception's other arguments are not ours to show.
    text = error.strerror or str(error) or type(error).__name__
    return f"{text} ({error.filename})" if error.filename else text


class translated:  # noqa: N801  # used as a statement, as contextlib.suppress is
    """`with translated(During.OPEN, dev): ...`: an OSError from inside comes out as `translate` has it, its cause
    kept.
    """

    __slots__ = ("_during", "_what")

    def __init__(self, during: During, what: str = "") -> None:
        self._during = during
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            becomes = translate(error, self._during, self._what)
            if becomes is not error:
                raise becomes from error
