# SPDX-License-Identifier: Apache-2.0
"""The embedded target before an initiator that sends anything: its PDU parser, and a session behind it."""

from __future__ import annotations

import struct
from collections import Counter

from harness.choices import Choices
from harness.logins import INITIATOR, ISID, TARGET
from swd._crc32c import crc32c
from swd.errors import DigestMismatch, ProtocolViolation
from swd.target.config import Lun, TargetConfig
from swd.target.framing import Inbox, Outbox
from swd.target.media import RamMedium
from swd.target.node import TargetNode
from swd.target.normal import NormalSession
from swd.values import RESERVED_TAG, Negotiated

SEGMENT = 2048
OPCODES = (0x01, 0x01, 0x01, 0x05, 0x05, 0x00, 0x02, 0x04, 0x06, 0x10, 0x03, 0x3A)
CDBS = bytes.fromhex("000312151a1b25282a2e2f343541424d555a5e5f8388898a8e8f91939a9b9c9ea0a3a4a8aa")  # of disks
MOST_SENT = 64 << 20


def framed(header: bytes, data: bytes, header_digest: bool, data_digest: bool, wrong: bool = False) -> bytes:
    if header_digest:
        header += (crc32c(header) ^ wrong).to_bytes(4, "little")
    if data:
        data += bytes(-len(data) & 3)
        if data_digest:
            data += (crc32c(data) ^ wrong).to_bytes(4, "little")
    return header + data


def compose(choices: Choices, cmd_sn: int) -> tuple[bytes, bytes]:
    """A PDU of an initiator: header and data segment, right but for a few bytes."""
    opcode, data = choices.pick(OPCODES), b""
    if choices.byte() < 128:
        data = choices.some(choices.byte() % 80) if choices.bit() else bytes(choices.pick((512, 1024, 2048, 4)))
    ahs = choices.byte() > 250
    made = bytearray(
        struct.pack(
            ">BBBBB3s8sIIII16s",
            opcode | 0x40 * (choices.byte() > 200),
            choices.pick((0x81, 0xC1, 0xA1, 0x21, 0x80, 0x00, choices.byte())),
            choices.byte() % 10,
            0,
            ahs,
            len(data).to_bytes(3, "big"),
            bytes([0, choices.byte() % 4]) + bytes(6),
            choices.pick((1, 2, 3, RESERVED_TAG)),
            choices.byte() % 6 if opcode == 0x05 else choices.pick((0, 512, 1024, 4096, choices.number(4))),
            cmd_sn,
            1,
            cdb(choices) if opcode == 0x01 else numbers(choices),
        )
    )
    for _ in range(max(0, choices.byte() - 224) % 3):
        made[choices.byte() % 48] ^= choices.byte()
    return bytes(made) + bytes(4 * ahs), data


def numbers(choices: Choices) -> bytes:
    """DataSN and Buffer Offset of a Data-Out, more or less."""
    return struct.pack(">IIII", 0, choices.byte() % 4, choices.byte() % 4 * 512, 0)


def cdb(choices: Choices) -> bytes:
    """An opcode that disks have, and a block address and length where most of them have it."""
    opcode = choices.pick(CDBS)
    made = bytearray([opcode]) + choices.some(choices.byte() % 16)
    made = made.ljust(16, b"\0")
    if choices.byte() < 128:  # few blocks at a low address
        at = 2 if opcode < 0x60 or opcode >= 0xA0 else 6
        made[at : at + 4] = bytes([0, 0, 0, choices.byte()])
        made[at + 4 : at + 8] = bytes([0, 0, choices.byte() % 5, choices.byte() % 9]) if at == 6 else bytes(4)
        if at == 2:
            made[6:9] = bytes([0, 0, choices.byte() % 9])
    return bytes(made[:16])


def framing(data: bytes) -> None:
    """The parser of PDUs: however the bytes are cut, the same PDUs come out, or the same error."""
    choices = Choices(data)
    flags = choices.byte()
    digests = bool(flags & 1), bool(flags & 2)
    sent = []
    stream = b""
    while choices.left and len(sent) < 12:
        if choices.byte() < 230:
            header, body = compose(choices, 1)
            made = framed(header, body, *digests, wrong=choices.byte() > 250)
        else:
            made = choices.some(choices.byte())
        sent.append(made)
        stream += made
    whole = parsed(stream, [len(stream)], digests)
    assert parsed(stream, choices.sizes(len(stream)), digests) == whole
    if len(stream) <= 600:
        assert parsed(stream, [1] * len(stream), digests) == whole


def parsed(stream: bytes, sizes: list[int], digests: tuple[bool, bool]) -> tuple[list[tuple[bytes, bytes]], str]:
    counts: Counter[str] = Counter()
    inbox = Inbox(SEGMENT, counts)
    inbox.header_digest, inbox.data_digest = digests
    found: list[tuple[bytes, bytes]] = []
    at = 0
    try:
        for size in sizes:
            while size:
                space = inbox.space()
                taken = min(size, len(space))
                assert taken, "no room for more, and no PDU out of what is there"
                space[:taken] = stream[at : at + taken]
                inbox.filled(taken)
                at, size = at + taken, size - taken
                for frame in inbox.frames():  # those before an error count
                    found.append((frame.bhs, bytes(frame.data)))  # noqa: PERF401
    except (DigestMismatch, ProtocolViolation) as error:
        return found, type(error).__name__
    assert all(len(data) <= SEGMENT for _, data in found)
    assert counts["bytes_in"] == len(stream)
    return found, ""


class Directory:
    def addresses(self, target_name: str | None) -> list[tuple[str, list[str]]]:
        return [(name, ["192.0.2.1:3260,1"]) for name in (TARGET, TARGET + "2") if target_name in (None, name)]


def session(data: bytes) -> None:
    """Requests of a session with three units, right but for a few bytes: nothing but ProtocolViolation comes out."""
    choices = Choices(data)
    flags = choices.byte()
    agreed = Negotiated(
        initiator_name=INITIATOR,
        target_name=TARGET,
        isid=ISID,
        initial_r2t=bool(flags & 4),
        immediate_data=bool(flags & 8),
        max_recv_data_segment_length=512,
        first_burst_length=1024,
        max_burst_length=2048,
        max_outstanding_r2t=2,
    )
    units = {0: Lun(RamMedium(64 << 10)), 1: Lun(RamMedium(64 << 10), block_size=4096), 2: Lun(RamMedium(4096))}
    node = TargetNode(TargetConfig(TARGET, units, queue_depth=4))
    counts: Counter[str] = Counter()
    inbox, outbox, dropped = Inbox(SEGMENT, counts), Outbox(counts), []
    talking = NormalSession(agreed, outbox, Directory(), lambda: dropped.append(1), node)
    node.enter(talking)
    cmd_sn = sent = 0
    try:
        for _ in range(40):
            if not choices.left or talking.closing:
                break
            header, body = compose(choices, 1 + cmd_sn + choices.pick((0, 0, 0, 0, 0, 0, 1, 255)))
            cmd_sn = talking.window.exp_cmd_sn - 1
            stream = framed(header, body, False, False)
            inbox.space()[: len(stream)] = stream
            inbox.filled(len(stream))
            for frame in inbox.frames():
                talking.receive(frame)
            cmd_sn = talking.window.exp_cmd_sn - 1
            for buffer in list(outbox.pending()):
                sent += len(buffer)
            outbox.sent(outbox.size if len(outbox.pending()) < 1024 else sum(map(len, outbox.pending())))
    except ProtocolViolation:
        pass
    finally:
        talking.end()
    assert sent <= MOST_SENT
    assert not node.sessions()
