# SPDX-License-Identifier: Apache-2.0
"""A target that plays a script: a real socket, whose other end is swd, and a function that says what happens there.

    def script(talk: Talk) -> None:
        talk.log_in()
        command, _ = talk.take(Opcode.SCSI_COMMAND)
        talk.send(Reject(reason=4), command.pack())

    with playing(script) as peer:
        swd.connect(str(peer.portal), NAME)

Every connection runs the script anew. An assertion that fails in it fails the test, when the peer is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from support.pace import SLOWER
from swd.proto import pdu
from swd.proto.pdu import Opcode, Pdu
from swd.values import RESERVED_TAG, Portal

NAME = "iqn.2026-01.org.example:scripted"
PATIENCE = 10.0 * SLOWER  # seconds that a script waits for what it expects
WINDOW = 31  # commands beyond the next one
Pairs = Iterable[tuple[str, str]]

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
_ONE_SIDED = {"InitiatorName", "InitiatorAlias", "TargetName", "SessionType", "AuthMethod", "SendTargets"}
_OURS = {"HeaderDigest": "None", "DataDigest": "None", "MaxRecvDataSegmentLength": "65536", "MaxConnections": "1"}


class Closed(Exception):
    """swd has closed the connection."""


def text(pairs: Pairs) -> bytes:
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs)


def pairs(data: bytes) -> dict[str, str]:
    return dict(item.decode().split("=", 1) for item in data.split(b"\0") if item)


class Talk:
    """One connection: reads and sends PDUs, and keeps StatSN and the command window right unless told otherwise."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.asked: dict[str, str] = {}  # all keys that the initiator sent during login
        self.stat_sn = 1
        self.exp_cmd_sn = 1

    # ---- PDUs -----------------------------------------------------------------------------------------------------

    def raw(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.sock.recv(length - len(data))
            if not piece:
                raise Closed
            data += piece
        return data

    def read(self) -> tuple[Pdu, bytes]:
        """The next PDU, and its data segment. Raises Closed."""
        header = pdu.unpack(self.raw(pdu.BHS_LENGTH))
        data = self.raw(header.data_segment_length + (-header.data_segment_length & 3))
        if not getattr(header, "immediate", True):
            self.exp_cmd_sn = cast(Any, header).cmd_sn + 1
        return header, data[: header.data_segment_length]

    def take(self, opcode: Opcode) -> tuple[Any, bytes]:
        """The next PDU, which must be one of these."""
        header, data = self.read()
        assert header.opcode == opcode, f"{header} came where the script expects {opcode.name}"
        return header, data

    def take_behind_pings(self, opcode: Opcode) -> tuple[Any, bytes]:
        """As `take`; pings before it are answered. On a slow machine the keeper's come where nobody thinks of them."""
        header, data = self.read()
        while header.opcode == Opcode.NOP_OUT:
            self.answer(header, data)
            header, data = self.read()
        assert header.opcode == opcode, f"{header} came where the script expects {opcode.name}"
        return header, data

    def send(self, header: Pdu, data: bytes = b"", *, numbered: bool = True) -> None:
        """A PDU with the right numbers; `numbered` False leaves StatSN where it is (R2T, Data-In without status)."""
        numbers: dict[str, int] = {}
        fields = {field.name for field in dataclasses.fields(header)}
        if "stat_sn" in fields:
            numbers = {"stat_sn": self.stat_sn}
            self.stat_sn += numbered
        if "max_cmd_sn" in fields:
            numbers |= {"exp_cmd_sn": self.exp_cmd_sn, "max_cmd_sn": self.exp_cmd_sn + WINDOW}
        header = dataclasses.replace(header, data_segment_length=len(data), **numbers)
        self.sock.sendall(header.pack() + pdu.padded(data))

    def overdue(self, *, answer: bool = True) -> None:
        """The ping by which swd finds out whether the link or the task is dead."""
        ping, data = self.take(Opcode.NOP_OUT)
        if answer:
            self.send(pdu.NopIn(itt=ping.itt), data)

    def until_closed(self) -> list[Opcode]:
        """What else swd sends before it closes; nothing of it is answered."""
        seen: list[Opcode] = []
        with contextlib.suppress(Closed):
            while True:
                seen.append(self.read()[0].opcode)
        return seen

    # ---- login ----------------------------------------------------------------------------------------------------

    def log_in(self, **keys: str) -> None:
        """To the full-feature phase without authentication; `keys` are declared or answered other than usual."""
        for stage, following, first in (
            (SECURITY, OPERATIONAL, {"AuthMethod": "None", "TargetPortalGroupTag": "1"}),
            (OPERATIONAL, FULL_FEATURE, keys),
        ):
            request, asked = self.login_request()
            assert (request.csg, request.nsg, request.transit) == (stage, following, True)
            answer = {key: value for key, value in asked.items() if key not in _ONE_SIDED} | _OURS
            answer = first if stage == SECURITY else {key: answer[key] for key in asked if key in answer} | first
            self.login_response(request, answer.items(), transit=True, nsg=following)

    def login_request(self) -> tuple[pdu.LoginRequest, dict[str, str]]:
        header, data = self.take(Opcode.LOGIN_REQUEST)
        asked = pairs(data)
        self.asked |= asked
        return header, asked

    def login_response(self, request: pdu.LoginRequest, answer: Pairs = (), **fields: Any) -> None:
        """An answer to a login request; `fields` of LoginResponse (transit, nsg, status_class...)."""
        tsih = 7 if fields.get("nsg") == FULL_FEATURE else 0
        usual: dict[str, Any] = {"csg": request.csg, "isid": request.isid, "itt": request.itt, "tsih": tsih}
        self.exp_cmd_sn = request.cmd_sn
        self.send(pdu.LoginResponse(**(usual | fields)), text(answer))

    # ---- the full-feature phase -----------------------------------------------------------------------------------

    def good(self, command: pdu.ScsiCommand, data: bytes = b"") -> None:
        """A command's end, all well, its data in one Data-In."""
        if data:
            self.send(pdu.DataIn(itt=command.itt, status_present=True, lun=command.lun), data)
        else:
            self.send(pdu.ScsiResponse(itt=command.itt))

    def serve(self) -> list[Opcode]:
        """Answers commands (with zeros), pings, task management and the logout, until the end; what came."""
        seen: list[Opcode] = []
        while True:
            try:
                header, data = self.read()
            except Closed:
                return seen
            seen.append(header.opcode)
            self.answer(cast(Any, header), data)

    def answer(self, header: Any, data: bytes) -> None:
        """The ordinary answer to one request."""
        if header.opcode == Opcode.SCSI_COMMAND:
            self.good(header, bytes(header.expected_data_transfer_length) if header.read else b"")
        elif header.opcode == Opcode.NOP_OUT and header.itt != RESERVED_TAG:
            self.send(pdu.NopIn(itt=header.itt), data)
        elif header.opcode == Opcode.TASK_MANAGEMENT_REQUEST:
            self.send(pdu.TaskManagementResponse(itt=header.itt))
        elif header.opcode == Opcode.LOGOUT_REQUEST:
            self.send(pdu.LogoutResponse(itt=header.itt))


Script = Callable[[Talk], object]


class Peer:
    """A listening socket. `accepts` counts connections; `results` has what the script returned for each."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.portal = Portal(*self._listener.getsockname())
        self.accepts = 0
        self.results: list[object] = []
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="scripted-peer")
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed: the end
            while True:
                sock, _ = self._listener.accept()
                self.accepts += 1
                with sock:
                    self._play(sock)

    def _play(self, sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        try:
            self.results.append(self._script(Talk(sock)))
        except (Closed, ConnectionError) as error:
            self.results.append(error)  # swd went away; the test knows whether it should have
        except BaseException as error:  # noqa: BLE001  # handed to the test
            self.failures.append(error)

    def finish(self) -> None:
        """Ends the thread, when the connection that it plays on has ended. Raises what failed in the script."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE + 1)
        self._listener.close()
        assert not self._thread.is_alive(), "the script did not end"
        if self.failures:
            raise self.failures[0]


@contextlib.contextmanager
def playing(script: Script) -> Iterator[Peer]:
    peer = Peer(script)
    try:
        yield peer
    finally:
        peer.finish()
