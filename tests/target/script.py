# SPDX-License-Identifier: Apache-2.0
"""A target that plays a part: `with Peer(script) as peer:`; the script is a function that gets each connection in turn.

    def script(target):
        target.login(InitialR2T="Yes")                         # a correct login, with these answers
        command = target.expect(Op.COMMAND)
        target.send(target.data_in(command, b"x" * 512), target.response(command))

What a script sends may be as wrong as it likes: every builder takes the fields of its PDU by name. When a script
returns, the connection is read to its end (logouts are answered), so that a test sees whether the initiator closes it.
A script that asserts wrongly fails its test at the end of the `with`. Nothing here sleeps; all sockets have deadlines.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import NamedTuple

from support.pace import SLOWER

from target import wire
from target.wire import RESERVED, Op, Pdu

SECURITY, OPERATIONAL, FULL_FEATURE = 0, 1, 3
PATIENCE = 10.0 * SLOWER  # seconds that a script waits for the initiator; then it fails
TARGET = "iqn.2026-01.org.example:scripted"

# What a target answers that takes nothing unasked; `login` adds and replaces.
ANSWERS = {
    "TargetPortalGroupTag": "1",
    "HeaderDigest": "None",
    "DataDigest": "None",
    "MaxRecvDataSegmentLength": "65536",
    "InitialR2T": "Yes",
    "ImmediateData": "No",
    "MaxBurstLength": "65536",
    "FirstBurstLength": "65536",
    "MaxOutstandingR2T": "1",
    "DefaultTime2Wait": "0",
    "DefaultTime2Retain": "0",
    "ErrorRecoveryLevel": "0",
}


class Gone(Exception):
    """The initiator closed the connection."""


class ChapPart(NamedTuple):
    """What the target knows of CHAP; `name` and `own` are for its own proof, where it is asked for one."""

    secret: bytes = b"initiator-secret"
    name: str = "target"
    own: bytes = b"the-target-secret"
    algorithm: str = "5"
    identifier: int = 7
    challenge: bytes = bytes(range(16))


HASHES = {"5": "md5", "6": "sha1", "7": "sha256", "8": "sha3_256"}


def chap_response(algorithm: str, identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """RFC 1994 4.1."""
    return hashlib.new(HASHES[algorithm], bytes([identifier]) + secret + challenge).digest()


class Connection:
    """The target's end of one connection. Builders give bytes for `send`; each takes a StatSN of its own."""

    def __init__(self, sock: socket.socket, number: int, received: list[Pdu]) -> None:
        self._sock = sock
        self.number = number  # 0 for the first that this peer accepted
        self.received = received
        self.stat_sn = 0x7FFFFFFE  # soon beyond 2^31: serial arithmetic is not plain comparison
        self.exp_cmd_sn = 1
        self.window = 32
        self.header_digest = self.data_digest = False
        self.silent = False  # answer nothing at all from now on, logouts included

    # ---- bytes ------------------------------------------------------------------------------------------------------

    def send(self, *pdus: bytes) -> None:
        try:
            self._sock.sendall(b"".join(pdus))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Gone from error

    def send_slowly(self, data: bytes, step: int = 1) -> None:
        """In pieces, each in a segment of its own (TCP_NODELAY is set)."""
        for at in range(0, len(data), step):
            self.send(data[at : at + step])

    def receive(self) -> Pdu:
        bhs = self._read(48 + 4 * self.header_digest)[:48]
        ahs, length = wire.lengths(bhs)
        self._read(ahs)
        body = self._read(length + -length % 4)
        if length and self.data_digest:
            assert self._read(4) == wire.crc32c(body)
        pdu = wire.parse(bhs, body[:length])
        self.received.append(pdu)
        if pdu.opcode != Op.DATA_OUT:
            self.exp_cmd_sn = pdu.cmd_sn + (not pdu.immediate)
        return pdu

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                piece = self._sock.recv(length - len(data))
            except ConnectionResetError as error:
                raise Gone from error
            if not piece:
                raise Gone
            data += piece
        return data

    def expect(self, opcode: Op) -> Pdu:
        pdu = self.receive()
        assert pdu.opcode == opcode, f"{Op(pdu.opcode).name} came, {opcode.name} was expected"
        return pdu

    def close(self) -> None:
        """Closes at once. The script may return then, but not go on."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def until_closed(self) -> None:
        """Reads on; answers logouts. Ends with Gone."""
        while True:
            pdu = self.receive()
            if pdu.opcode == Op.LOGOUT and not self.silent:
                self.send(self.logout_response(pdu))

    def pause(self, seconds: float) -> None:
        """Lets time pass; ends at once with Gone if the initiator closes. What it sends waits."""
        ready, _, _ = select.select([self._sock], [], [], seconds)
        if ready and self._peek() == b"":
            raise Gone

    def hold(self) -> None:
        """Reads nothing any more, until the initiator closes or the test ends."""
        poller = select.poll()
        poller.register(self._sock, select.POLLRDHUP)
        poller.poll(int(PATIENCE * 1000))
        raise Gone

    def _peek(self) -> bytes:
        try:
            return self._sock.recv(1, socket.MSG_PEEK)
        except ConnectionResetError:
            return b""

    # ---- login ------------------------------------------------------------------------------------------------------

    def login(self, chap: ChapPart | None = None, **answers: str | None) -> Pdu:
        """A whole correct login with these answers (None: leave the key out); returns its first request."""
        first = self.security(chap)
        self.operational(**answers)
        return first

    def security(self, chap: ChapPart | None = None) -> Pdu:
        """The security stage, passed correctly; returns the first request."""
        first = request = self.expect(Op.LOGIN)
        if chap is None:
            self.send(self.login_response(request, {"AuthMethod": "None"}))
            if not request.final:  # it waited for the answer before it asks to go on
                self.send(self.login_response(self.expect(Op.LOGIN)))
            return first
        self.send(self.login_response(request, {"AuthMethod": "CHAP"}))
        request = self.challenge(chap)
        self.send(self.login_response(request, self.proof(request, chap)))
        return first

    def challenge(self, chap: ChapPart) -> Pdu:
        """Sends the challenge, checks the response, and returns the request that bore it."""
        request = self.expect(Op.LOGIN)
        self.send(
            self.login_response(
                request,
                {
                    "CHAP_A": chap.algorithm,
                    "CHAP_I": str(chap.identifier),
                    "CHAP_C": "0x" + chap.challenge.hex(),
                },
            )
        )
        request = self.expect(Op.LOGIN)
        proof = chap_response(chap.algorithm, chap.identifier, chap.secret, chap.challenge)
        assert bytes.fromhex(request.keys["CHAP_R"][2:]) == proof
        return request

    def proof(self, request: Pdu, chap: ChapPart) -> dict[str, str]:
        """Our own response, if the initiator asked for one."""
        if "CHAP_C" not in request.keys:
            return {}
        challenge = bytes.fromhex(request.keys["CHAP_C"][2:])
        proof = chap_response(chap.algorithm, int(request.keys["CHAP_I"]), chap.own, challenge)
        return {"CHAP_N": chap.name, "CHAP_R": "0x" + proof.hex()}

    def operational(self, **answers: str | None) -> Pdu:
        request = self.expect(Op.LOGIN)
        keys = self.answers(request, **answers)
        self.send(self.login_response(request, keys, tsih=1))
        self.header_digest = keys.get("HeaderDigest") == "CRC32C"
        self.data_digest = keys.get("DataDigest") == "CRC32C"
        return request

    def answers(self, request: Pdu, **answers: str | None) -> dict[str, str]:
        """The answers to what was offered, and whatever a script adds."""
        offered = {**request.keys, "TargetPortalGroupTag": ""}
        sound = {key: value for key, value in ANSWERS.items() if key in offered}
        return {key: value for key, value in {**sound, **answers}.items() if value is not None}

    def login_response(
        self,
        request: Pdu,
        keys: Mapping[str, str] | bytes = b"",
        *,
        transit: bool | None = None,
        continued: bool = False,
        csg: int | None = None,
        nsg: int | None = None,
        isid: int | None = None,
        tsih: int = 0,
        itt: int | None = None,
        stat_sn: int | None = None,
        version: int = 0,
        status: int = 0,
        ahs: int = 0,
        opcode: int = Op.LOGIN_RESPONSE,
        window: tuple[int, int] | None = None,
        length: int | None = None,
    ) -> bytes:
        """RFC 7143 11.13. By default it agrees to whatever transition the request asked for."""
        data = keys if isinstance(keys, bytes) else wire.text(dict(keys))
        transit = request.final if transit is None else transit
        csg = request.stages[0] if csg is None else csg
        nsg = (request.stages[1] if transit else 0) if nsg is None else nsg
        flags = transit << 7 | continued << 6 | csg << 2 | nsg
        lun = (request.lun >> 16 if isid is None else isid) << 16 | tsih
        exp, last = window or (request.cmd_sn, request.cmd_sn + self.window - 1)
        words = (0, self._next(stat_sn), exp, last, status << 16, 0, 0)
        bhs = wire.header(
            opcode, flags, len(data) if length is None else length, b3=version, ahs=ahs, lun=lun,
            itt=request.itt if itt is None else itt, words=words,
        )  # fmt: skip
        return bhs + wire.padded(data)

    # ---- full-feature phase ---------------------------------------------------------------------------------------

    def response(
        self, command: Pdu, status: int = 0, *, sense: bytes = b"", data: bytes | None = None, response: int = 0,
        residual: int = 0, flags: int | None = None, itt: int | None = None, stat_sn: int | None = None,
    ) -> bytes:  # fmt: skip
        """RFC 7143 11.4. `residual` > 0 sets U, < 0 sets O; `data` replaces SenseLength and sense."""
        if data is None:
            data = len(sense).to_bytes(2, "big") + sense if sense else b""
        if flags is None:
            flags = 0x80 | (0x02 if residual > 0 else 0x04 if residual < 0 else 0)
        words = (0, self._next(stat_sn), *self._window(), 0, 0, abs(residual))
        return self._pdu(Op.RESPONSE, flags, data, b2=response, b3=status, itt=_or(itt, command.itt), words=words)

    def data_in(
        self, command: Pdu, data: bytes, *, offset: int = 0, sn: int = 0, final: bool = True, status: int | None = None,
        residual: int = 0, flags: int = 0, itt: int | None = None, stat_sn: int | None = None,
    ) -> bytes:  # fmt: skip
        """RFC 7143 11.7. `status` not None sets S. `flags` are added."""
        flags |= final << 7 | (status is not None) | (0x02 if residual > 0 else 0)
        mine = self._next(stat_sn) if status is not None else 0
        words = (RESERVED, mine, *self._window(), sn, offset, residual)
        return self._pdu(Op.DATA_IN, flags, data, b3=status or 0, itt=_or(itt, command.itt), words=words)

    def r2t(
        self, command: Pdu, offset: int, length: int, *, sn: int = 0, ttt: int = 1, itt: int | None = None,
        data: bytes = b"",
    ) -> bytes:  # fmt: skip
        words = (ttt, self.stat_sn, *self._window(), sn, offset, length)
        return self._pdu(Op.R2T, 0x80, data, lun=command.lun, itt=_or(itt, command.itt), words=words)

    def nop_in(
        self, *, itt: int = RESERVED, ttt: int = RESERVED, data: bytes = b"", stat_sn: int | None = None
    ) -> bytes:
        """An answer to a ping has an ITT and takes a StatSN; a ping of the target's has a TTT and takes none."""
        mine = self._next(stat_sn) if itt != RESERVED else self.stat_sn
        return self._pdu(Op.NOP_IN, 0x80, data, itt=itt, words=(ttt, mine, *self._window(), 0, 0, 0))

    def text_response(
        self, request: Pdu, keys: bytes, *, final: bool = True, continued: bool = False, ttt: int | None = None,
        itt: int | None = None, stat_sn: int | None = None,
    ) -> bytes:  # fmt: skip
        tag = _or(ttt, RESERVED if final else 0x55)
        words = (tag, self._next(stat_sn), *self._window(), 0, 0, 0)
        return self._pdu(Op.TEXT_RESPONSE, final << 7 | continued << 6, keys, itt=_or(itt, request.itt), words=words)

    def logout_response(self, request: Pdu) -> bytes:
        return self._pdu(
            Op.LOGOUT_RESPONSE, 0x80, itt=request.itt, words=(0, self._next(None), *self._window(), 0, 0, 0)
        )

    def task_management_response(self, request: Pdu, response: int = 0) -> bytes:
        words = (0, self._next(None), *self._window(), 0, 0, 0)
        return self._pdu(Op.TASK_MANAGEMENT_RESPONSE, 0x80, b2=response, itt=request.itt, words=words)

    def async_message(self, event: int, *, data: bytes = b"", stat_sn: int | None = None) -> bytes:
        words = (0, self._next(stat_sn), *self._window(), event << 24, 0, 0)
        return self._pdu(Op.ASYNC, 0x80, data, words=words)

    def reject(self, reason: int, about: bytes = bytes(48)) -> bytes:
        return self._pdu(Op.REJECT, 0x80, about, b2=reason, words=(0, self._next(None), *self._window(), 0, 0, 0))

    def raw(self, opcode: int, **fields: int) -> bytes:
        """A header of any opcode, with no data behind it."""
        return wire.header(opcode, 0x80, fields.pop("length", 0), words=(0, self.stat_sn, *self._window(), 0, 0, 0),
                           **fields)  # type: ignore[arg-type]  # fmt: skip

    def _pdu(
        self, opcode: Op, flags: int, data: bytes = b"", *, b2: int = 0, b3: int = 0, lun: int = 0,
        itt: int = RESERVED, words: tuple[int, ...],
    ) -> bytes:  # fmt: skip
        bhs = wire.header(opcode, flags, len(data), b2=b2, b3=b3, lun=lun, itt=itt, words=words)
        return wire.framed(bhs, data, header_digest=self.header_digest, data_digest=self.data_digest)

    def _window(self) -> tuple[int, int]:
        return self.exp_cmd_sn, self.exp_cmd_sn + self.window - 1

    def _next(self, stat_sn: int | None) -> int:
        """The StatSN for a PDU: the next one, or a wrong one in its place."""
        mine = self.stat_sn
        self.stat_sn = mine + 1 & RESERVED
        return mine if stat_sn is None else stat_sn


Script = Callable[[Connection], object]


class Peer:
    """Listens on the loopback; runs `script` on one connection after the other, in a thread, until the `with` ends."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._failure: BaseException | None = None
        self._closing = False
        self._lock = threading.Lock()  # guards _sock and _closing
        self._sock: socket.socket | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, name="scripted target")
        self.portal = "{}:{}".format(*self._listener.getsockname())
        self.received: list[Pdu] = []
        self.connections = 0

    def of(self, opcode: Op) -> list[Pdu]:
        """What came of this opcode, over all connections."""
        return [pdu for pdu in self.received if pdu.opcode == opcode]

    def __enter__(self) -> Peer:  # noqa: PYI034  # typing.Self is of 3.11
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closing = True
            for sock in (self._sock, self._listener):
                if sock is not None:
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE + 5)
        self._listener.close()
        assert not self._thread.is_alive(), "the scripted target did not end"
        if self._failure is not None and error is None:
            raise self._failure

    def _run(self) -> None:
        while self._accept():
            assert self._sock is not None
            with self._sock:
                try:
                    self._play(Connection(self._sock, self.connections - 1, self.received))
                except Gone:
                    pass
                except BaseException as failure:  # noqa: BLE001  # it is raised where the `with` ends
                    self._failure = self._failure or (None if self._closing else failure)

    def _play(self, target: Connection) -> None:
        self._script(target)
        target.until_closed()

    def _accept(self) -> bool:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return False
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sock = sock
            self.connections += 1
            if self._closing:
                sock.close()
            return not self._closing


def _or(given: int | None, otherwise: int) -> int:
    return otherwise if given is None else given
