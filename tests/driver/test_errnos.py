# SPDX-License-Identifier: Apache-2.0
"""The errno layer: what may come out after the first attempt at the network, whatever leaks from below."""

from __future__ import annotations

import errno
import socket

import pytest

from swd.driver.errnos import During, translate, translated
from swd.errors import (
    AuthenticationFailed,
    ConnectionLost,
    DeadlineExceeded,
    MediumError,
    NetworkNotInitialized,
    NoSuchDevice,
    ProtocolViolation,
    ScsiError,
    SwdError,
)

FORBIDDEN = {
    *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ENETDOWN, errno.EHOSTDOWN),
    *(errno.EAGAIN, errno.EWOULDBLOCK, errno.EINPROGRESS),
}
NEVER = sorted(FORBIDDEN)


def out_of(error: BaseException, during: During, what: str = "DEV") -> BaseException:
    with pytest.raises(type(error) if not isinstance(error, OSError) else OSError) as caught, translated(during, what):
        raise error
    return caught.value


@pytest.mark.parametrize("during", list(During))
@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_errno_of_the_system_comes_out_as_one_of_ours(during: During, number: int) -> None:
    below = OSError(number, "words of the system")
    out = out_of(below, during)
    assert isinstance(out, SwdError)
    assert out.errno not in FORBIDDEN
    assert out.__cause__ is below
    assert "words of the system" in str(out)
    assert "DEV" in out.reason


@pytest.mark.parametrize("during", list(During))
@pytest.mark.parametrize("number", NEVER)
def test_our_own_errors_do_not_leak_one_either(during: During, number: int) -> None:
    out = out_of(ScsiError("said so", errno=number), during)
    assert isinstance(out, SwdError)
    assert out.errno not in FORBIDDEN


@pytest.mark.parametrize(
    ("during", "below", "becomes", "number"),
    [
        (During.LOGIN, OSError(errno.ENETUNREACH, "x"), NoSuchDevice, errno.ENXIO),
        (During.LOGIN, ConnectionRefusedError(errno.ECONNREFUSED, "x"), NoSuchDevice, errno.ENXIO),
        (During.LOGIN, socket.gaierror(socket.EAI_NONAME, "x"), NoSuchDevice, errno.ENXIO),
        (During.LOGIN, TimeoutError("timed out"), NoSuchDevice, errno.ENXIO),
        (During.LOGIN, ConnectionLost("x"), NoSuchDevice, errno.ENXIO),
        (During.LOGIN, OSError(errno.EMFILE, "x"), SwdError, errno.EMFILE),
        (During.OPEN, OSError(errno.ENFILE, "x"), SwdError, errno.ENFILE),
        (During.OPEN, OSError(errno.ENOMEM, "x"), SwdError, errno.ENOMEM),
        (During.OPEN, SwdError("x", errno=errno.EMFILE), SwdError, errno.EMFILE),
        (During.LOGIN, DeadlineExceeded("x"), NoSuchDevice, errno.ENXIO),
        (During.LOGIN, AuthenticationFailed("x"), AuthenticationFailed, errno.EACCES),
        (During.LOGIN, ProtocolViolation("x"), ProtocolViolation, errno.EPROTO),
        (During.OPEN, OSError(errno.EHOSTUNREACH, "x"), NoSuchDevice, errno.ENXIO),
        (During.OPEN, DeadlineExceeded("x"), DeadlineExceeded, errno.ETIMEDOUT),
        (During.OPEN, NoSuchDevice("x", errno=errno.ENODEV), NoSuchDevice, errno.ENODEV),
        (During.IO, BrokenPipeError(errno.EPIPE, "x"), ConnectionLost, errno.EIO),
        (During.IO, ConnectionResetError(errno.ECONNRESET, "x"), ConnectionLost, errno.EIO),
        (During.IO, BlockingIOError(errno.EAGAIN, "x"), DeadlineExceeded, errno.ETIMEDOUT),
        (During.IO, TimeoutError(), DeadlineExceeded, errno.ETIMEDOUT),
        (During.IO, OSError(errno.ENOSPC, "x"), MediumError, errno.ENOSPC),
        (During.IO, OSError("no number"), MediumError, errno.EIO),
        (During.IO, ScsiError("x", errno=errno.EROFS), ScsiError, errno.EROFS),
    ],
)
def test_the_table(during: During, below: OSError, becomes: type[SwdError], number: int) -> None:
    out = translate(below, during)
    assert (type(out), out.errno) == (becomes, number)


@pytest.mark.parametrize("during", list(During))
def test_the_phase_error_passes_whatever_its_number(during: During) -> None:
    for number in (errno.ENETUNREACH, errno.ENXIO):
        below = NetworkNotInitialized("not yet", errno=number)
        assert out_of(below, during) is below
        assert below.errno == number


@pytest.mark.parametrize("error", [TypeError("x"), ValueError("x"), MemoryError(), KeyboardInterrupt(), SystemExit(3)])
def test_what_is_no_oserror_passes(error: BaseException) -> None:
    assert out_of(error, During.IO) is error


def test_no_error_no_change() -> None:
    with translated(During.IO, "DEV"):
        done = True
    assert done
