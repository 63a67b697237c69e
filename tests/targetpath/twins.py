# SPDX-License-Identifier: Apache-2.0
"""Two servers of the same disks, one with the compiled data path and one without, that are told the same bytes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

from streams import BLOCKS, Stream
from target_server.raw_initiator import OPERATIONAL, RawInitiator

from swd.proto import pdu
from swd.target import Limits, Lun, RamMedium, TargetConfig, TargetServer

USUAL = Limits()
NAME = "iqn.2026-01.org.example:twin"


class Side:
    """One server, and one connection to it that is past its login."""

    def __init__(self, server: TargetServer, media: Sequence[RamMedium], keys: dict[str, str]) -> None:
        self.server = server
        self.media = media
        self.raw = RawInitiator(server.portal)
        response = self.raw.login(NAME, operational=tuple({**dict(OPERATIONAL), **keys}.items()))
        assert response.status_class == 0
        self.agreed = server.sessions[0]
        self.out = b""

    def until(self, itt: int) -> list[bytes]:
        """The PDUs that come up to the answer to the ping of that tag, which is the last."""
        came = []
        while True:
            answer, raw = self._pdu()
            came.append(raw)
            if isinstance(answer, pdu.NopIn) and answer.itt == itt:
                return came

    def rest(self) -> bytes:
        """What comes up to the end of the connection."""
        came = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.raw.sock.recv(1 << 16):
                came += piece
        return came

    def _pdu(self) -> tuple[pdu.Pdu, bytes]:
        taken: list[bytes] = []
        exactly = type(self.raw)._exactly

        def note(count: int) -> bytes:
            taken.append(exactly(self.raw, count))
            return taken[-1]

        self.raw._exactly = note  # type: ignore[method-assign]  # the bytes as they came, beside what they say
        return self.raw.receive().header, b"".join(taken)


class Twins:
    """`compiled` and `plain`. `tell` sends both the same bytes; `compare` asks whether both said the same."""

    def __init__(self, compiled: Side, plain: Side) -> None:
        self.compiled, self.plain = compiled, plain
        assert compiled.agreed == plain.agreed

    def stream(self, seed: int) -> Stream:
        return Stream(seed, self.plain.agreed, BLOCKS)

    def tell(self, data: bytes, cuts: Sequence[int] = ()) -> None:
        for side in (self.compiled, self.plain):
            at = 0
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have had enough
                for cut in (*sorted(cuts), len(data)):
                    side.raw.sock.sendall(data[at:cut])
                    at = cut

    def answers(self, itt: int) -> bytes:
        """What both said up to the answer to a ping; asserts that it is the same."""
        came, same = self.plain.until(itt), self.compiled.until(itt)
        for number, (one, other) in enumerate(zip(same, came, strict=False)):
            assert one == other, f"answer {number}: {pdu.unpack(one[:48])}\nrather than {pdu.unpack(other[:48])}"
        assert len(same) == len(came)
        return b"".join(came)

    def end(self) -> tuple[bytes, bytes]:
        """Half-close both; what each still says."""
        for side in (self.compiled, self.plain):
            with contextlib.suppress(OSError):
                side.raw.sock.shutdown(socket.SHUT_WR)
        return self.compiled.rest(), self.plain.rest()

    def assert_same_media(self) -> None:
        """Bytes, and which of them have storage."""
        for one, other in zip(self.compiled.media, self.plain.media, strict=True):
            assert bytes(one.read(0, one.size)) == bytes(other.read(0, other.size))
            assert one._used == other._used


@contextlib.contextmanager
def twins(limits: Limits = USUAL, depth: int = 128, **keys: str) -> Iterator[Twins]:
    """Both, logged in with these text keys on top of the usual ones."""
    with contextlib.ExitStack() as stack:
        sides = []
        for compiled in (True, False):
            media = [RamMedium(BLOCKS * 512), RamMedium(BLOCKS * 512)]
            luns = {0: Lun(media[0], serial="0"), 1: Lun(media[1], block_size=4096, serial="1")}
            config = replace(TargetConfig(NAME, luns, queue_depth=depth), limits=limits)
            server = stack.enter_context(TargetServer([config], compiled=compiled))
            side = Side(server, media, keys)
            stack.enter_context(side.raw)
            sides.append(side)
        yield Twins(*sides)
