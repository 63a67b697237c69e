# SPDX-License-Identifier: Apache-2.0
"""Login status in words and errnos (RFC 7143 11.13.5): one row a status, one row a class for those unknown."""

from __future__ import annotations

import errno
from typing import NamedTuple

from swd.errors import AuthenticationFailed, LoginRefused


class Status(NamedTuple):
    words: str
    errno: int
    error: type[LoginRefused] = LoginRefused


SUCCESS = 0
REDIRECTION = 1
MOVED_TEMPORARILY = 1
MOVED_PERMANENTLY = 2

TABLE: dict[tuple[int, int], Status] = {
    (2, 0x00): Status("the target calls the login faulty", errno.EPROTO),
    (2, 0x01): Status("authentication failed: check user and secret on both sides", errno.EACCES, AuthenticationFailed),
    (2, 0x02): Status("the target's access list lacks this initiator name", errno.EACCES, AuthenticationFailed),
    (2, 0x03): Status("there is no such target: swdctl discover lists those that are there", errno.ENXIO),
    (2, 0x04): Status("the target was removed for good", errno.ENODEV),
    (2, 0x05): Status("the target speaks another version of iSCSI", errno.EOPNOTSUPP),
    (2, 0x06): Status("too many connections on this session", errno.EBUSY),
    (2, 0x07): Status("the target misses a text key", errno.EPROTO),
    (2, 0x08): Status("the target cannot put the connection into this session", errno.EOPNOTSUPP),
    (2, 0x09): Status("the target does not know this type of session", errno.EOPNOTSUPP),
    (2, 0x0A): Status("the session does not exist (any more)", errno.ENXIO),
    (2, 0x0B): Status("the target found a request out of place during login", errno.EPROTO),
    (3, 0x00): Status("the target has an error of its own; try again later", errno.EBUSY),
    (3, 0x01): Status("the target is not in service; try again later", errno.EBUSY),
    (3, 0x02): Status("the target is out of resources; try again later", errno.EBUSY),
}
_BY_CLASS: dict[int, Status] = {
    1: Status("the target redirects in a way that RFC 7143 does not know", errno.ENXIO),
    2: Status("the target refuses the login", errno.ENXIO),
    3: Status("the target cannot serve the login now; try again later", errno.EBUSY),
}
_UNKNOWN = Status("the target answers with a status that RFC 7143 does not know", errno.ENXIO)


def refusal(status_class: int, status_detail: int) -> LoginRefused:
    """The error for a status other than success; made, not raised."""
    status = TABLE.get((status_class, status_detail)) or _BY_CLASS.get(status_class, _UNKNOWN)
    return status.error(
        f"login refused: {status.words} (status 0x{status_class:02x}{status_detail:02x})",
        errno=status.errno,
        status_class=status_class,
        status_detail=status_detail,
    )
