# SPDX-License-Identifier: Apache-2.0
"""The embedded target's compiled data path beside its session in Python: both get the same bytes, and must say the same
and leave the same on their disks, whatever the bytes are and however they are cut.

The initiator is the one of `harness.target`; it goes by the numbers of the session in Python, whose whole conversation
is then told to the compiled one, in pieces, over a socket that keeps the borders of what was sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections import Counter

from harness.choices import Choices
from harness.logins import INITIATOR, ISID, TARGET
from harness.target import SEGMENT, Directory, compose, framed
from swd.errors import DigestMismatch, ProtocolViolation
from swd.target.compiled import CompiledPath
from swd.target.config import Lun, TargetConfig
from swd.target.framing import Inbox, Outbox
from swd.target.media import RamMedium
from swd.target.node import TargetNode
from swd.target.normal import NormalSession
from swd.values import Negotiated

SIZES = (64 << 10, 64 << 10, 4096)
MOST_REQUESTS = 40
MOST_BYTES = 60_000  # of a conversation; it has to fit into a socket
READY = bytes(16)


def agreement(choices: Choices) -> Negotiated:
    flags = choices.byte()
    burst = choices.pick((2048, 512, 65536))
    return Negotiated(
        initiator_name=INITIATOR,
        target_name=TARGET,
        isid=ISID,
        header_digest=bool(flags & 1),
        data_digest=bool(flags & 2),
        initial_r2t=bool(flags & 4),
        immediate_data=bool(flags & 8),
        max_recv_data_segment_length=choices.pick((512, 1001, 65536)),
        target_max_recv_data_segment_length=SEGMENT,
        max_burst_length=burst,
        first_burst_length=min(burst, choices.pick((512, 1024))),
        max_outstanding_r2t=choices.pick((1, 2, 20)),
    )


class Side:
    """A session with three units of memory of its own."""

    def __init__(self, agreed: Negotiated) -> None:
        self.media = [RamMedium(size) for size in SIZES]
        units = {0: Lun(self.media[0]), 1: Lun(self.media[1], block_size=4096), 2: Lun(self.media[2])}
        self.node = TargetNode(TargetConfig(TARGET, units, queue_depth=4))
        counts: Counter[str] = Counter()
        self.inbox, self.outbox = Inbox(SEGMENT, counts), Outbox(counts)
        for box in (self.inbox, self.outbox):
            box.header_digest, box.data_digest = agreed.header_digest, agreed.data_digest
        self.session = NormalSession(agreed, self.outbox, Directory(), lambda: None, self.node)
        self.node.enter(self.session)

    def content(self) -> list[bytes]:
        return [bytes(medium.read(0, medium.size)) for medium in self.media]


class Reference(Side):
    """The session in Python; `said` is what it sent, `end` how it ended."""

    def __init__(self, agreed: Negotiated) -> None:
        super().__init__(agreed)
        self.said, self.end = b"", ""

    def hear(self, data: bytes) -> None:
        self.inbox.space()[: len(data)] = data
        self.inbox.filled(len(data))
        try:
            for frame in self.inbox.frames():
                self.session.receive(frame)
                if self.session.closing:
                    break
        except (ProtocolViolation, DigestMismatch) as error:
            self.end = type(error).__name__
        while pending := self.outbox.pending():
            said = b"".join(pending)
            self.said += said
            self.outbox.sent(len(said))


def ready(lun: int, cmd_sn: int) -> tuple[bytes, bytes]:
    """TEST UNIT READY, which takes the unit attention away that hinders plain commands."""
    numbers = (0, 0, 0x1000 + lun, 0, cmd_sn, 1)
    header = b"\x01\x81" + bytes(6) + bytes([0, lun]) + bytes(6)
    return header + b"".join(number.to_bytes(4, "big") for number in numbers[2:]) + READY, b""


def conversation(choices: Choices, agreed: Negotiated, side: Reference) -> bytes:
    """What the initiator says up to the end, which the reference has heard."""
    digests = agreed.header_digest, agreed.data_digest
    stream = b""
    for number in range(MOST_REQUESTS):
        if side.end or side.session.closing or (not choices.left and number > len(SIZES)) or len(stream) > MOST_BYTES:
            break
        cmd_sn = side.session.window.exp_cmd_sn
        if number < len(SIZES):
            header, body = ready(number, cmd_sn)
        else:
            header, body = compose(choices, cmd_sn + choices.pick((0, 0, 0, 0, 0, 0, 1, 255)))
        made = framed(header, body, *digests, wrong=choices.byte() > 252)
        if choices.byte() > 250:
            made += choices.some(choices.byte())
        side.hear(made)
        stream += made
    return stream


def path(data: bytes) -> None:
    choices = Choices(data)
    agreed = agreement(choices)
    reference, side = Reference(agreed), Side(agreed)
    stream = conversation(choices, agreed, reference)
    assert CompiledPath.suits(side.session)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        at = 0
        # Decisions for the cuts would stand before all others and make most short inputs alike.
        for size in Choices(hashlib.blake2b(data).digest()).sizes(len(stream)):
            theirs.send(stream[at : at + size])
            at += size
        theirs.shutdown(socket.SHUT_WR)
        compiled, end = CompiledPath(side.session, ours, side.inbox, side.outbox), ""
        try:
            compiled.serve()
        except ConnectionResetError:
            pass
        except (ProtocolViolation, DigestMismatch) as error:
            end = type(error).__name__
        with contextlib.suppress(OSError):
            compiled.flush()
        side.session.end()
        theirs.setblocking(False)
        said = b""
        with contextlib.suppress(BlockingIOError):
            while piece := theirs.recv(1 << 20):
                said += piece
    reference.session.end()
    assert end == reference.end, f"{end or 'it goes on'} rather than {reference.end or 'to go on'}"
    assert reference.said.startswith(said), "it says something else"
    assert len(said) == len(reference.said) or len(reference.said) > 100_000, "it says less"
    assert side.content() == reference.content(), "the disks differ"
