# SPDX-License-Identifier: Apache-2.0
"""Everything that swd raises, split by whose fault it is. Each class knows its errno; `reason` says what happened.

    SwdError(OSError)
    |- NetworkNotInitialized   ENETUNREACH (11iv3: ENXIO)  before the first attempt at network initialisation is over
    |- InvalidArgument         EINVAL      the caller: keys, DEVs, alignment
    |- BadDescriptor           EBADF       the caller: a descriptor closed, of the wrong mode, or from before a fork
    |- Unsupported             EOPNOTSUPP  not built, or the device cannot
    |- NoSuchDevice            ENXIO       no such target, unit or portal, or it cannot be reached
    |- DeviceBusy              EBUSY       reserved, in use, not ready, or it holds something worth keeping
    |- LoginRefused            ENXIO       the target said no; errno by status (RFC 7143 11.13.5)
    |  `- AuthenticationFailed EACCES      credentials, ours or the target's
    |- ScsiError               EIO         a status other than GOOD; errno by sense (`swd.scsi.policy`)
    |- ProtocolViolation       EPROTO      the target broke RFC 7143; `clause` says which part
    |- DigestMismatch          EBADMSG     a CRC32C digest that recovery could not mend
    |- ConnectionLost          EIO         the link died and did not come back
    |- DeadlineExceeded        ETIMEDOUT   a command was not answered in time
    |- StaleIdentity           ESTALE      another disk answers under the old name
    |- CacheLost               EIO         the unit was reset before a flush: what was not flushed may be gone
    |- FileSystemError         EIO         a file system on a device: damaged, or its reader died; errno by cause
    |  `- NoSuchFile           ENOENT      also a FileNotFoundError
    |- MediumError             EIO         the local medium behind `mem` or `file`, or out of bounds
    `- BatchError              errno of the first failure; `results` has one errno an I/O

Wrong *types* raise TypeError, not these.
"""

from __future__ import annotations

import errno as _errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swd.values import Sense


class SwdError(OSError):
    """Base of all errors of swd. `reason` is one or two lines: what happened, why, and what to do next."""

    default_errno = _errno.EIO

    def __init__(self, reason: str, *, errno: int | None = None, sense: Sense | None = None) -> None:
        super().__init__(self.default_errno if errno is None else errno, reason)
        self.reason = reason
        self.sense = sense

    def __str__(self) -> str:
        return self.reason

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[SwdError], args: tuple[object, ...], state: dict[str, object]) -> SwdError:
    error = cls.__new__(cls, *args)
    OSError.__init__(error, *args)
    error.__dict__.update(state)
    return error


class NetworkNotInitialized(SwdError):
    """The first attempt at network initialisation is not complete yet. Quiet and retryable: test this class, never
    the number.
    """

    default_errno = _errno.ENETUNREACH


class InvalidArgument(SwdError):
    default_errno = _errno.EINVAL


class BadDescriptor(SwdError):
    default_errno = _errno.EBADF


class Unsupported(SwdError):
    default_errno = _errno.EOPNOTSUPP


class NoSuchDevice(SwdError):
    default_errno = _errno.ENXIO


class DeviceBusy(SwdError):
    default_errno = _errno.EBUSY


class LoginRefused(SwdError):
    """The target answered the login with a status other than success (RFC 7143 11.13.5)."""

    default_errno = _errno.ENXIO

    def __init__(self, reason: str, *, errno: int | None = None, status_class: int = 0, status_detail: int = 0) -> None:
        super().__init__(reason, errno=errno)
        self.status_class = status_class
        self.status_detail = status_detail


class AuthenticationFailed(LoginRefused):
    """CHAP failed, in either direction, or was not done although it is required."""

    default_errno = _errno.EACCES


class ScsiError(SwdError):
    """A command ended with a status other than GOOD; `status` is the SAM status, `sense` its explanation or None."""

    def __init__(self, reason: str, *, errno: int | None = None, sense: Sense | None = None, status: int = 0) -> None:
        super().__init__(reason, errno=errno, sense=sense)
        self.status = status


class ProtocolViolation(SwdError):
    """The peer broke the protocol; the connection is dead. `clause` is the section of RFC 7143."""

    default_errno = _errno.EPROTO

    def __init__(self, reason: str, *, errno: int | None = None, clause: str = "") -> None:
        super().__init__(reason, errno=errno)
        self.clause = clause


class DigestMismatch(SwdError):
    default_errno = _errno.EBADMSG


class ConnectionLost(SwdError):
    default_errno = _errno.EIO


class DeadlineExceeded(SwdError):
    """No answer in time. `tags` are the ITTs of the commands that were given up, for whoever aborts them, and `epoch`
    says on which of the session's connections they were sent.
    """

    default_errno = _errno.ETIMEDOUT
    tags: tuple[int, ...] = ()
    epoch: int = 0


class StaleIdentity(SwdError):
    default_errno = _errno.ESTALE


class CacheLost(SwdError):
    """What was written since the last flush may be gone; told once a descriptor, by its next flush."""

    default_errno = _errno.EIO


class MediumError(SwdError):
    default_errno = _errno.EIO


class FileSystemError(SwdError):
    """A file system on a device: damaged, or its reader died, or what was asked for is not that kind of file."""

    default_errno = _errno.EIO


class NoSuchFile(FileSystemError, FileNotFoundError):
    """No file of this name in the file system on a device."""

    default_errno = _errno.ENOENT


class BatchError(SwdError):
    """Some I/Os of a batch failed; all have ended. `results[i]` is 0 or the errno of I/O number i."""

    def __init__(self, reason: str, *, errno: int, results: Sequence[int] = ()) -> None:
        super().__init__(reason, errno=errno)
        self.results = results
