# SPDX-License-Identifier: Apache-2.0
"""From an exception to an exit status and one or two lines: what happened, why, and what to do next.

The exit status of a failure is the platform's errno, so that a script may test it as a C program tests `errno`. The
phase error is silent: before the network has been tried, storage that is not there is no error. Anything that is
neither swd's nor the system's is a bug: 255, and one line that names the file with the trace.
"""

from __future__ import annotations

import enum
import errno
import json
import os
import tempfile
import traceback
from dataclasses import dataclass
from typing import Final

from swd import errors
from swd.cli.call import HungUp, Terminated, UsageProblem
from swd.cli.render import printable


class Exit(enum.IntEnum):
    """Exit statuses that are not an errno."""

    OK = 0
    USAGE = 2
    INTERRUPTED = 128 + 2
    HUNG_UP = 128 + 1
    PIPE_CLOSED = 128 + 13
    TERMINATED = 128 + 15
    BUG = 255


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a failed call ends: the exit status, and the lines for stderr (none: not a word)."""

    status: int
    lines: tuple[str, ...] = ()
    name: str = ""

    def as_text(self) -> str:
        return "".join(f"{'  ' if i else 'swdctl: '}{line}\n" for i, line in enumerate(self.lines))

    def as_json(self) -> str:
        """The lines as one JSON object, for stderr; "" when there is nothing to say."""
        if not self.lines:
            return ""
        return json.dumps({"error": {"errno": self.status, "name": self.name, "message": " ".join(self.lines)}}) + "\n"


SILENT: Final[dict[type[BaseException], int]] = {
    KeyboardInterrupt: Exit.INTERRUPTED,
    Terminated: Exit.TERMINATED,
    HungUp: Exit.HUNG_UP,
    BrokenPipeError: Exit.PIPE_CLOSED,  # of our own output: what sockets raise, the driver has translated
}

# The next step for classes whose messages often have none; the others name it themselves. The first that fits wins.
NEXT: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (errors.AuthenticationFailed, "Check `user`, and the secret in SWD_CHAP_SECRET or in a secret_file of mode 0600."),
    (errors.DeadlineExceeded, "The target is slow or gone; `-O timeout=SECONDS` waits longer."),
    (errors.DigestMismatch, "Bytes were damaged on the way; both digests are on, look at the network path."),
)


def verdict(error: BaseException, *, verbose: bool = False) -> Verdict:
    """Judge an exception. Writes the trace file when it is a bug, and nothing else."""
    if type(error) in SILENT:
        return Verdict(SILENT[type(error)])
    if isinstance(error, errors.NetworkNotInitialized):
        number = error.errno or errno.ENETUNREACH
        return Verdict(number, (_one_line(error),) if verbose else (), _name(number))
    if isinstance(error, UsageProblem):
        return Verdict(Exit.USAGE, (_one_line(error),), "EUSAGE")
    if isinstance(error, MemoryError):
        return Verdict(errno.ENOMEM, ("not enough memory",), "ENOMEM")
    if isinstance(error, OSError):
        number = error.errno or errno.EIO
        return Verdict(number, explain(error), _name(number))
    return _bug(error)


def explain(error: OSError) -> tuple[str, ...]:
    """One or two lines: the error's own; then its deepest cause if that says more, else the next step if known."""
    lines = [printable(part) for part in _message(error).splitlines() if part.strip()][:2] or [type(error).__name__]
    if len(lines) == 1:
        second = _because(error, lines[0]) or _next_step(error, lines[0])
        lines += [second] if second else []
    return tuple(lines)


def _message(error: OSError) -> str:
    if isinstance(error, errors.SwdError):
        return error.reason
    text = error.strerror or str(error)
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    return f"{name}: {text}" if name is not None else text


def _because(error: BaseException, said: str) -> str:
    root = _root(error)
    text = printable(_one_line(root)) if root is not error else ""
    return f"Because: {text}" if text and text.lower() not in said.lower() else ""


def _root(error: BaseException) -> BaseException:
    """The deepest cause. `raise ... from None` ends the chain, and so does a circle."""
    seen = {id(error)}
    while True:
        below = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if below is None or id(below) in seen:
            return error
        seen.add(id(below))
        error = below


def _next_step(error: OSError, said: str) -> str:
    return next((step for kind, step in NEXT if isinstance(error, kind) and step not in said), "")


def _one_line(error: BaseException) -> str:
    text = _message(error) if isinstance(error, OSError) else str(error)
    return " ".join(text.split()) or type(error).__name__


def _name(number: int) -> str:
    return errno.errorcode.get(number, f"E{number}")


def _bug(error: BaseException) -> Verdict:
    where = _write_trace(error)
    said = f"{type(error).__name__}: this is a bug in swd, not in what you asked for."
    trace = f"The trace is in {where}" if where else "Its trace could not be written."
    return Verdict(Exit.BUG, (f"{said} {trace}",), "EBUG")


def _write_trace(error: BaseException) -> str | None:
    """The trace in a new file that only its owner may read (mkstemp makes it 0600); None when no file can be made."""
    try:
        fd, path = tempfile.mkstemp(prefix="swdctl-bug-", suffix=".txt")
        with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(type(error), error, error.__traceback__))
    except OSError:
        return None
    return path
