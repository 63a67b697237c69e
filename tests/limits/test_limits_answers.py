# SPDX-License-Identifier: Apache-2.0
"""Answers as long as a hostile or very large target makes them: bounded time and memory; other sessions live on."""

from __future__ import annotations

import errno
import json
import struct
from collections.abc import Callable, Iterator

import pytest
from limits_rig import MIB, bounded
from support.served import Served, serving
from target import wire
from target.disk import Disk, reply
from target.script import TARGET, Connection, Peer
from target.wire import RESERVED, Op, Pdu

import swd
from swd.cli import main
from swd.errors import ProtocolViolation
from swd.proto import keys

PATIENCE = {"login_timeout": 10.0, "timeout": 10.0, "replacement_timeout": 0.0}
KEYS = (*keys.BY_NAME, "X-com.example.x")  # each that there is, and one that there is not
GARBAGE = b"\xa7g" * (MIB // 2)
DIGITS = b"7" * MIB
NUMBERS = {key.name for key in keys.TABLE if key.kind in ("number", "min", "max")}
SEGMENT = 60_000


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A sound target, whose sessions must not suffer."""
    with serving("--lun", "mem://1M") as target:
        yield target


@pytest.fixture
def neighbour(served: Served) -> Iterator[None]:
    with swd.open(served.url()) as disk:
        yield
        assert disk.pread(512, 0) == bytes(512)


def pieces(data: bytes, most: int = SEGMENT) -> list[bytes]:
    return [data[at : at + most] for at in range(0, len(data), most)]


def in_login(target: Connection, data: bytes) -> None:
    """A stage's answer in pieces (C=1), each after the empty request that asks for it."""
    request = target.expect(Op.LOGIN)
    for piece in pieces(data):
        target.send(target.login_response(request, piece, transit=False, continued=True))
        request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, b"\0"))


def in_text(target: Connection, data: bytes, request: Pdu) -> None:
    cut = pieces(data)
    for number, piece in enumerate(cut, 1):
        last = number == len(cut)
        ttt = RESERVED if last else number
        target.send(target.text_response(request, piece, final=last, continued=not last, ttt=ttt))
        if not last:
            request = target.expect(Op.TEXT)


@pytest.mark.parametrize("key", KEYS)
def test_a_mebibyte_of_garbage_for_one_key_in_login(neighbour: None, key: str) -> None:
    def script(target: Connection) -> None:
        in_login(target, key.encode() + b"=" + GARBAGE)

    with Peer(script) as peer, bounded(seconds=3, memory=4 * MIB):
        with pytest.raises(ProtocolViolation, match="longer than 65536 bytes") as caught:
            swd.connect(peer.portal, TARGET, **PATIENCE)
        assert caught.value.errno == errno.EPROTO


@pytest.mark.parametrize("key", KEYS)
def test_a_mebibyte_of_garbage_for_one_key_in_a_text_answer(neighbour: None, key: str) -> None:
    garbage = DIGITS if key in NUMBERS else GARBAGE

    def script(target: Connection) -> None:
        target.login()
        in_text(target, key.encode() + b"=" + garbage + b"\0", target.expect(Op.TEXT))

    with Peer(script) as peer, swd.connect(peer.portal, TARGET, **PATIENCE) as session:
        with bounded(seconds=3, memory=16 * MIB), pytest.raises(ProtocolViolation) as caught:
            session.text({"X-org.example.question": "1"})
        assert caught.value.errno == errno.EPROTO
        assert len(str(caught.value)) < 200


def many(count: int) -> bytes:
    """A SendTargets answer of so many targets, each with two addresses."""
    return b"".join(
        wire.text({"TargetName": f"iqn.2026-01.org.example:disk{number:05}"})
        + f"TargetAddress=192.0.2.{number % 254 + 1}:3260,1\0TargetAddress=[2001:db8::{number:x}]:3260,2\0".encode()
        for number in range(count)
    )


def catalogue(data: bytes) -> Callable[[Connection], None]:
    def script(target: Connection) -> None:
        target.login()
        in_text(target, data, target.expect(Op.TEXT))

    return script


def test_ten_thousand_targets_in_one_answer(neighbour: None) -> None:
    with Peer(catalogue(many(10_000))) as peer, bounded(seconds=5, memory=48 * MIB):
        found = swd.discover(peer.portal, **PATIENCE)
    assert len(found) == 10_000
    assert len({target.name for target in found}) == 10_000
    assert {len(target.portals) for target in found} == {2}
    assert str(found[-1].portals[1]) == "[2001:db8::270f]:3260"


def test_ten_thousand_targets_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Peer(catalogue(many(10_000))) as peer, bounded(seconds=10, memory=96 * MIB):
        assert main.run(["discover", peer.portal, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 20_000


def test_an_answer_that_lists_targets_without_end(neighbour: None) -> None:
    """Sixteen mebibytes are listened to, and no more."""
    data = many(2000)

    def script(target: Connection) -> None:
        target.login()
        request = target.expect(Op.TEXT)
        while True:
            target.send(target.text_response(request, data[: len(data) // 4], final=False, continued=True, ttt=1))
            request = target.expect(Op.TEXT)

    with Peer(script) as peer, bounded(seconds=15, memory=64 * MIB):
        with pytest.raises(ProtocolViolation, match="longer than") as caught:
            swd.discover(peer.portal, **PATIENCE)
        assert caught.value.errno == errno.EPROTO


def report(count: int) -> bytes:
    fields = b"".join(struct.pack(">Q", (0x4000 | number if number > 255 else number) << 48) for number in range(count))
    return struct.pack(">I4x", 8 * count) + fields


def listing(data: bytes) -> Callable[[Connection], None]:
    def luns(target: Connection, command: Pdu) -> None:
        reply(target, command, data[: command.expected])

    def script(target: Connection) -> None:
        target.login(MaxBurstLength="262144")
        Disk().serve(target, {0xA0: luns})

    return script


def test_sixteen_thousand_units(neighbour: None) -> None:
    with Peer(listing(report(16384))) as peer, swd.connect(peer.portal, TARGET, **PATIENCE) as session:
        with bounded(seconds=3, memory=16 * MIB):
            assert session.luns() == list(range(16384))
        assert session.ping(b"x") == b"x"


def test_a_list_of_units_that_promises_four_gibibytes(neighbour: None) -> None:
    """65536 units are asked for at most, and what comes of them is taken."""
    data = struct.pack(">I4x", 0xFFFFFFF8) + report(16384)[8:]
    with Peer(listing(data)) as peer, swd.connect(peer.portal, TARGET, **PATIENCE) as session:
        with bounded(seconds=3, memory=16 * MIB):
            assert session.luns() == list(range(16384))
        assert session.ping(b"x") == b"x"
