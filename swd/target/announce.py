# SPDX-License-Identifier: Apache-2.0
"""What a target says without being asked: Asynchronous Messages (RFC 7143 11.9), to all sessions or to some.

    with TargetServer([TargetConfig(name, luns, attended=True)]) as server:
        server.announce.logout(within=3, initiator="iqn.2026-01.org.example:host1")

Each method gives back how many sessions it was said to, and returns before it has gone out. Only sessions of targets
with `attended` in their configuration hear it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from swd.errors import InvalidArgument
from swd.proto import lun as lun_field
from swd.proto.pdu import AsyncMessage
from swd.target.attended import AttendedConnection
from swd.target.connection import Connection
from swd.target.normal import NormalSession
from swd.target.scsi.reply import fixed_sense

SCSI, LOGOUT, DROP_CONNECTION, DROP_SESSION, NEGOTIATE, VENDOR = 0, 1, 2, 3, 4, 255  # 11.9.1


class Announcer:
    """`connections` gives the live ones; `attended`: whether there is a target whose sessions can be spoken to."""

    def __init__(self, connections: Callable[[], Iterable[Connection]], *, attended: bool) -> None:
        self._connections = connections
        self._attended = attended

    def logout(self, within: int = 3, *, initiator: str | None = None, target: str | None = None) -> int:
        """Ask initiators to log out within so many seconds."""
        return self._say(initiator, target, AsyncMessage(async_event=LOGOUT, parameter3=_seconds(within)))

    def drop(
        self,
        time2wait: int = 2,
        time2retain: int = 0,
        *,
        session: bool = False,
        initiator: str | None = None,
        target: str | None = None,
    ) -> int:
        """Say that the connection (or all of the session) is about to be dropped, and drop it."""
        message = AsyncMessage(
            async_event=DROP_SESSION if session else DROP_CONNECTION,
            parameter2=_seconds(time2wait),
            parameter3=_seconds(time2retain),
        )
        return self._say(initiator, target, message, then_close=True)

    def negotiate(self, within: int = 3, *, initiator: str | None = None, target: str | None = None) -> int:
        """Ask initiators to negotiate parameters anew within so many seconds."""
        return self._say(initiator, target, AsyncMessage(async_event=NEGOTIATE, parameter3=_seconds(within)))

    def sense(
        self, lun: int, key: int, asc: int, ascq: int = 0, *, initiator: str | None = None, target: str | None = None
    ) -> int:
        """Report a SCSI event of a unit (AEN), as sense data."""
        sense = fixed_sense(key, asc, ascq)
        message = AsyncMessage(async_event=SCSI, lun=lun_field.field(lun))
        return self._say(initiator, target, message, len(sense).to_bytes(2, "big") + sense)

    def vendor(
        self, code: int, data: bytes = b"", *, initiator: str | None = None, target: str | None = None
    ) -> int:
        """A vendor's own event, with a code of 0 to 255."""
        if not 0 <= code <= 255:
            raise InvalidArgument(f"{code} is no code of a vendor's event: it has one byte")
        return self._say(initiator, target, AsyncMessage(async_event=VENDOR, async_vcode=code), data)

    def _say(
        self, initiator: str | None, target: str | None, message: AsyncMessage, data: bytes = b"", *,
        then_close: bool = False,
    ) -> int:  # fmt: skip
        if not self._attended:
            raise InvalidArgument("no session of this server can be spoken to: give a target attended=True")
        told = 0
        for connection in self._connections():
            session = connection.session
            if not isinstance(connection, AttendedConnection) or not isinstance(session, NormalSession):
                continue
            agreed = session.agreed
            if initiator in (None, agreed.initiator_name) and target in (None, agreed.target_name):
                told += connection.post(partial(session.announce, message, data, then_close=then_close))
        return told


def _seconds(seconds: int) -> int:
    if not 0 <= seconds <= 65535:
        raise InvalidArgument(f"{seconds} seconds do not fit: from 0 to 65535")
    return seconds
