# SPDX-License-Identifier: Apache-2.0
"""A small initiator for tests of the target: it says exactly what it is told, right or wrong, and hands out what comes.

It shares the header records with the target and nothing else: text, digests (crcmod) and numbering are its own.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import NamedTuple

import crcmod.predefined

from swd.proto import pdu
from swd.values import Chap, Portal

CRC = crcmod.predefined.mkPredefinedCrcFun("crc-32c")
INITIATOR = "iqn.2026-01.org.example:raw"
OPERATIONAL = (
    ("HeaderDigest", "None"),
    ("DataDigest", "None"),
    ("InitialR2T", "No"),
    ("ImmediateData", "Yes"),
    ("MaxRecvDataSegmentLength", "65536"),
    ("MaxBurstLength", "262144"),
    ("FirstBurstLength", "65536"),
)


class Answer(NamedTuple):
    header: pdu.Pdu
    data: bytes


class Ended(NamedTuple):
    """How a command ended, with all that came before."""

    status: int
    data: bytes
    sense: tuple[int, int, int] | None
    overflow: bool
    underflow: bool
    residual: int
    pdus: list[Answer]


def text(pairs: Sequence[tuple[str, str]]) -> bytes:
    return b"".join(f"{key}={value}\0".encode() for key, value in pairs)


def pairs_of(data: bytes) -> list[tuple[str, str]]:
    return [tuple(item.decode().split("=", 1)) for item in data.split(b"\0") if item]  # type: ignore[misc]


class RawInitiator:
    """One connection. `login` gets to the full-feature phase; everything else is for after it."""

    def __init__(self, portal: Portal, *, isid: bytes = b"\x80\0\0\0\0\1") -> None:
        self.sock = socket.create_connection((portal.host, portal.port), timeout=10)
        self.isid = isid
        self.header_digest = self.data_digest = False
        self.cmd_sn, self.itt = 1, 0x100
        self.tsih = 0

    def __enter__(self) -> RawInitiator:  # noqa: PYI034  (typing.Self is of 3.11)
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, header: pdu.Pdu, data: bytes = b"", *, spoil: str = "") -> None:
        """Send one PDU with digests as agreed; `spoil` ("header" or "data") makes that digest wrong."""
        packed = bytearray(header.pack())
        packed[5:8] = len(data).to_bytes(3, "big")
        out = bytes(packed)
        if self.header_digest:
            out += (CRC(out) ^ (spoil == "header")).to_bytes(4, "little")
        body = data + bytes(-len(data) & 3)
        if self.data_digest and body:
            body += (CRC(body) ^ (spoil == "data")).to_bytes(4, "little")
        self.sock.sendall(out + body)

    def receive(self) -> Answer:
        """The next PDU, its digests checked. EOFError when the target has closed."""
        bhs = self._exactly(48)
        if self.header_digest:
            assert int.from_bytes(self._exactly(4), "little") == CRC(bhs)
        length = int.from_bytes(bhs[5:8], "big")
        data = self._exactly(length + (-length & 3))
        if self.data_digest and data:
            assert int.from_bytes(self._exactly(4), "little") == CRC(data)
        return Answer(pdu.unpack(bhs), data[:length])

    def closed(self) -> bool:
        """Whether the target closes the connection without another word."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def request(self, pairs: Sequence[tuple[str, str]], *, csg: int, nsg: int | None) -> pdu.LoginResponse:
        """One login request; the answer's text is in `self.answers`."""
        header = pdu.LoginRequest(
            isid=self.isid, tsih=self.tsih, csg=csg, nsg=nsg or 0, transit=nsg is not None, cmd_sn=self.cmd_sn, itt=1
        )
        self.send(header, text(pairs))
        answer = self.receive()
        assert isinstance(answer.header, pdu.LoginResponse)
        self.answers = dict(pairs_of(answer.data))
        return answer.header

    def login(
        self, target: str | None, *, operational: Sequence[tuple[str, str]] = OPERATIONAL, chap: Chap | None = None
    ) -> pdu.LoginResponse:
        """All of a login; the last response, whatever its status."""
        who = [("InitiatorName", INITIATOR), ("SessionType", "Normal" if target else "Discovery")]
        who += [("TargetName", target)] if target else []
        if chap is None:
            response = self.request([*who, ("AuthMethod", "None")], csg=0, nsg=1)
        else:
            response = self._authenticate(who, chap)
        if response.status_class == 0 and response.transit:
            response = self.request(operational, csg=1, nsg=3)
        if response.status_class == 0 and response.transit and response.nsg == 3:
            self.header_digest = self.answers.get("HeaderDigest") == "CRC32C"
            self.data_digest = self.answers.get("DataDigest") == "CRC32C"
        return response

    def _authenticate(self, who: list[tuple[str, str]], chap: Chap) -> pdu.LoginResponse:
        import hashlib

        response = self.request([*who, ("AuthMethod", "CHAP,None")], csg=0, nsg=None)
        if response.status_class:
            return response
        self.request([("CHAP_A", "5")], csg=0, nsg=None)
        challenge = bytes.fromhex(self.answers["CHAP_C"][2:])
        proof = hashlib.md5(bytes([int(self.answers["CHAP_I"])]) + chap.secret + challenge).hexdigest()
        return self.request([("CHAP_N", chap.user), ("CHAP_R", "0x" + proof)], csg=0, nsg=1)

    def tag(self) -> int:
        self.itt += 1
        return self.itt

    def command(
        self,
        cdb: bytes,
        *,
        lun: int = 0,
        expect: int = 0,
        data: bytes = b"",
        immediate_data: bytes = b"",
        final: bool = True,
        write: bool | None = None,
    ) -> int:
        """Send a SCSI command without waiting; its task tag. `data` is what R2Ts will be answered from."""
        tag = self.tag()
        writing = bool(data or immediate_data) if write is None else write
        header = pdu.ScsiCommand(
            lun=lun << 48,
            itt=tag,
            cdb=cdb.ljust(16, b"\0"),
            cmd_sn=self.cmd_sn,
            read=bool(expect) and not writing,
            write=writing,
            final=final,
            expected_data_transfer_length=expect or len(data),
        )
        self.cmd_sn += 1
        self.send(header, immediate_data)
        return tag

    def finish(self, tag: int, data: bytes = b"") -> Ended:
        """Collect all answers of a task; R2Ts are answered from `data`, one PDU each."""
        seen: list[Answer] = []
        received = bytearray()
        while True:
            answer = self.receive()
            seen.append(answer)
            header = answer.header
            assert getattr(header, "itt", tag) == tag, header
            if isinstance(header, pdu.R2T):
                start, end = header.buffer_offset, header.buffer_offset + header.desired_data_transfer_length
                self.send(pdu.DataOut(itt=tag, ttt=header.ttt, buffer_offset=start), data[start:end])
            elif isinstance(header, pdu.DataIn):
                assert header.buffer_offset == len(received)
                received += answer.data
                if header.status_present:
                    return self._ended(header, bytes(received), None, seen)
            else:
                assert isinstance(header, pdu.ScsiResponse), header
                sense = answer.data[2:]
                codes = (sense[2] & 15, sense[12], sense[13]) if sense else None
                return self._ended(header, bytes(received), codes, seen)

    def run(self, cdb: bytes, *, lun: int = 0, expect: int = 0, data: bytes = b"") -> Ended:
        """A command from start to end; data goes by R2T."""
        return self.finish(self.command(cdb, lun=lun, expect=expect, data=data), data)

    def ready(self, lun: int = 0) -> None:
        """Take the power-on unit attention of a new nexus."""
        assert self.run(bytes(6), lun=lun).sense == (6, 0x29, 0)

    def _ended(
        self, header: pdu.DataIn | pdu.ScsiResponse, data: bytes, sense: tuple[int, int, int] | None, seen: list[Answer]
    ) -> Ended:
        return Ended(header.status, data, sense, header.overflow, header.underflow, header.residual_count, seen)

    def _exactly(self, count: int) -> bytes:
        data = bytearray(count)
        done = 0
        while done < count:
            taken = self.sock.recv_into(memoryview(data)[done:])
            if not taken:
                raise EOFError("the target closed the connection")
            done += taken
        return bytes(data)


def read_10(lba: int, blocks: int) -> bytes:
    return bytes([0x28, 0]) + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"


def write_10(lba: int, blocks: int, *, flags: int = 0) -> bytes:
    return bytes([0x2A, flags]) + lba.to_bytes(4, "big") + b"\0" + blocks.to_bytes(2, "big") + b"\0"


def sixteen(opcode: int, lba: int, blocks: int, *, flags: int = 0) -> bytes:
    return bytes([opcode, flags]) + lba.to_bytes(8, "big") + blocks.to_bytes(4, "big") + b"\0\0"


def open_write(raw: RawInitiator, lun: int = 0, *, size: int | None = None) -> tuple[int, int]:
    """A write of one block that waits for its data: ITT and TTT."""
    tag = raw.command(write_10(0, 1), lun=lun, data=b"w" * (size or (4096 if lun else 512)))
    header = raw.receive().header
    assert isinstance(header, pdu.R2T)
    return tag, header.ttt


def send_text(raw: RawInitiator, pairs: list[tuple[str, str]], **fields: int) -> None:
    raw.send(pdu.TextRequest(itt=raw.tag(), immediate=True, cmd_sn=raw.cmd_sn, **fields), text(pairs))
