# SPDX-License-Identifier: Apache-2.0
"""What a SendTargets answer may call itself: names and addresses are checked before anybody sees them."""

from __future__ import annotations

import errno

import pytest
from hostile_rig import PATIENCE, bounded, refused
from target.script import Connection, Peer
from target.wire import Op

import swd
from swd.errors import ProtocolViolation


def listing(answer: bytes) -> object:
    def script(target: Connection) -> None:
        target.login()
        request = target.expect(Op.TEXT)
        assert request.keys == {"SendTargets": "All"}
        target.send(target.text_response(request, answer))

    return script


def entry(name: str = "iqn.2026-01.org.example:x", address: str = "192.0.2.1:3260,1") -> bytes:
    return f"TargetName={name}\0TargetAddress={address}\0".encode("utf-8", "surrogateescape")


WRONG: dict[str, bytes] = {
    "a-path": entry("../../../etc/cron.d/x"),
    "a-path-in-a-name": entry("iqn.2026-01.org.example:../../etc/passwd"),
    "an-absolute-path": entry("/etc/passwd"),
    "a-backslash": entry("iqn.2026-01.org.example:a\\b"),
    "a-blank": entry("iqn.2026-01.org.example:a b"),
    "a-semicolon": entry("iqn.2026-01.org.example:x;reboot"),
    "a-dollar-sign": entry("iqn.2026-01.org.example:$(reboot)"),
    "a-quote": entry('iqn.2026-01.org.example:"x"'),
    "a-percent-sign": entry("iqn.2026-01.org.example:%2e%2e%2f"),
    "a-question-mark": entry("iqn.2026-01.org.example:x?auth=none"),
    "an-equals-sign": entry("iqn.2026-01.org.example:x=y"),
    "a-comma": entry("iqn.2026-01.org.example:x,y"),
    "a-bell": entry("iqn.2026-01.org.example:\x07"),
    "an-escape-sequence": entry("iqn.2026-01.org.example:\x1b[31mred"),
    "a-line-break": entry("iqn.2026-01.org.example:x\ny"),
    "a-delete": entry("iqn.2026-01.org.example:x\x7f"),
    "a-c1-control": entry("iqn.2026-01.org.example:x\x9b2J"),
    "right-to-left-override": entry("iqn.2026-01.org.example:\u202egpj.exe"),
    "a-zero-width-no-break-space": entry("iqn.2026-01.org.example:\u2060\ufff9x"),
    "an-ideographic-full-stop": entry("iqn.2026-01.org\u3002example:x"),
    "a-private-use-letter": entry("iqn.2026-01.org.example:\ue000"),
    "224-bytes": entry("iqn.2026-01.org.example:" + "x" * 200),
    "4000-bytes": entry("iqn.2026-01.org.example:" + "x" * 3976),
    "no-type": entry("target1"),
    "an-unknown-type": entry("foo.2026-01.org.example:x"),
    "month-13": entry("iqn.2026-13.org.example:x"),
    "no-month": entry("iqn.org.example:x"),
    "eui-of-15-digits": entry("eui.0123456789abcde"),
    "naa-of-17-digits": entry("naa.0123456789abcdef0"),
    "empty": entry(""),
    "not-utf-8": b"TargetName=iqn.2026-01.org.example:\xff\0",
    "address-before-any-name": b"TargetAddress=192.0.2.1:3260,1\0",
    "a-key-that-has-no-place": entry() + b"MaxBurstLength=512\0",
    "an-unknown-key": entry() + b"X-org.example.k=1\0",
    "address-empty": entry(address=""),
    "address-with-port-0": entry(address="192.0.2.1:0,1"),
    "address-with-port-65536": entry(address="192.0.2.1:65536,1"),
    "address-without-a-group-number": entry(address="192.0.2.1:3260,"),
    "address-with-a-group-beyond-16-bits": entry(address="192.0.2.1:3260,65536"),
    "address-a-path": entry(address="../../x"),
    "address-with-a-blank": entry(address="192.0.2.1 x:3260,1"),
    "address-an-open-bracket": entry(address="[::1"),
    "address-of-4000-bytes": entry(address="a" * 4000),
    "a-good-one-and-a-bad-one": entry() + entry("..") + entry(),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_an_answer_that_cannot_be(mistake: str) -> None:
    with Peer(listing(WRONG[mistake])) as peer, refused(ProtocolViolation, errno.EPROTO) as caught:  # type: ignore[arg-type]
        swd.discover(peer.portal, **PATIENCE)
    assert caught.value.reason.replace("\n", "").isprintable()
    assert "\x1b" not in repr(caught.value)
    assert len(str(caught.value)) < 500


def test_sound_ones_are_shown_as_they_are() -> None:
    answer = (
        entry("iqn.2026-01.org.example:disk1", "[2001:db8::1]:3260,2")
        + b"TargetAddress=storage.example.org,3\0"
        + b"TargetName=eui.0123456789abcdef\0"
        + entry("IQN.2026-01.ORG.EXAMPLE:Upper", "192.0.2.7:860,0")
    )
    with bounded(), Peer(listing(answer)) as peer:  # type: ignore[arg-type]
        found = swd.discover(peer.portal, **PATIENCE)
    shown = [(target.name, [(str(portal), portal.tpgt) for portal in target.portals]) for target in found]
    assert shown == [
        ("iqn.2026-01.org.example:disk1", [("[2001:db8::1]:3260", 2), ("storage.example.org:3260", 3)]),
        ("eui.0123456789abcdef", [(peer.portal, None)]),
        ("iqn.2026-01.org.example:upper", [("192.0.2.7:860", 0)]),
    ]


@pytest.mark.parametrize("answer", [b"", b"\0\0\0"], ids=["nothing", "only-nuls"])
def test_a_target_that_knows_of_none(answer: bytes) -> None:
    with bounded(), Peer(listing(answer)) as peer:  # type: ignore[arg-type]
        assert swd.discover(peer.portal, **PATIENCE) == []
