# SPDX-License-Identifier: Apache-2.0
"""Redirects (RFC 7143 11.13.5, 13.8): followed a few times, to sound addresses, under the same name."""

from __future__ import annotations

import errno

import pytest
from hostile_rig import bounded, connect, refused
from target.script import TARGET, Connection, Peer
from target.wire import Op

from swd.errors import LoginRefused, NoSuchDevice, ProtocolViolation

TEMPORARILY, PERMANENTLY = 0x0101, 0x0102


def redirecting(keys: dict[str, str] | bytes, status: int = TEMPORARILY) -> object:
    def script(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, keys, transit=False, status=status))

    return script


def test_a_circle_is_left_after_a_few_hops() -> None:
    def script(target: Connection) -> None:
        redirecting({"TargetAddress": peer.portal + ",1"})(target)  # type: ignore[operator]

    with Peer(script) as peer, refused(LoginRefused, errno.ENXIO, "redirects in a circle"):
        connect(peer)
    assert peer.connections == 5


def test_a_circle_of_two() -> None:
    def to_the_other(target: Connection) -> None:
        redirecting({"TargetAddress": there.portal}, PERMANENTLY)(target)  # type: ignore[operator]

    def back(target: Connection) -> None:
        redirecting({"TargetAddress": here.portal})(target)  # type: ignore[operator]

    with Peer(to_the_other) as here, Peer(back) as there, refused(LoginRefused, errno.ENXIO, "circle"):
        connect(here)
    assert here.connections + there.connections == 5


WRONG: dict[str, dict[str, str] | bytes] = {
    "no-address": {},
    "another-name-alone": {"TargetName": "iqn.2026-01.org.example:other"},
    "empty-address": {"TargetAddress": ""},
    "port-0": {"TargetAddress": "127.0.0.1:0"},
    "port-65536": {"TargetAddress": "127.0.0.1:65536"},
    "port-of-many-digits": {"TargetAddress": "127.0.0.1:" + "9" * 500},
    "port-a-word": {"TargetAddress": "127.0.0.1:iscsi"},
    "group-beyond-16-bits": {"TargetAddress": "127.0.0.1:3260,65536"},
    "group-negative": {"TargetAddress": "127.0.0.1:3260,-1"},
    "a-path": {"TargetAddress": "/etc/passwd"},
    "a-path-as-scope": {"TargetAddress": "[fe80::1%../../x]:3260"},
    "a-user": {"TargetAddress": "root@127.0.0.1"},
    "a-url": {"TargetAddress": "iscsi://127.0.0.1/x"},
    "ipv6-unclosed": {"TargetAddress": "[::1:3260"},
    "ipv4-of-five": {"TargetAddress": "1.2.3.4.5"},
    "a-blank": {"TargetAddress": "127.0.0.1 :3260"},
    "an-escape-sequence": b"TargetAddress=127.0.0.1\x1b[2J\0",
    "a-line-break": b"TargetAddress=127.0.0.1\r\nHost: x\0",
    "not-utf-8": b"TargetAddress=\xff\xfe\0",
    "not-ended": b"TargetAddress=127.0.0.1:3260",
    "two-addresses": b"TargetAddress=127.0.0.1:1\0TargetAddress=127.0.0.1:2\0",
    "very-long": {"TargetAddress": "a" * 4000},
}


@pytest.mark.parametrize("mistake", WRONG)
def test_an_address_that_is_none(mistake: str) -> None:
    with Peer(redirecting(WRONG[mistake])) as peer:  # type: ignore[arg-type]  # a script
        with refused(ProtocolViolation, errno.EPROTO) as caught:
            connect(peer)
    assert caught.value.reason.replace("\n", "").isprintable()
    assert peer.connections == 1


def test_the_name_stays_the_same() -> None:
    """Whatever name the redirect gives, the login there asks for ours; a redirect's ISID and numbers start anew."""

    def script(target: Connection) -> None:
        keys = {"TargetName": "iqn.2026-01.org.example:other", "TargetAddress": there.portal + ",7"}
        redirecting(keys)(target)  # type: ignore[operator]

    def login(target: Connection) -> None:
        target.login()

    with bounded(), Peer(script) as here, Peer(login) as there, connect(here) as session:
        assert str(session.portal) == there.portal
    assert there.of(Op.LOGIN)[0].keys["TargetName"] == TARGET
    assert there.of(Op.LOGIN)[0].lun == here.of(Op.LOGIN)[0].lun


def test_to_where_nobody_listens() -> None:
    with Peer(lambda target: target.close()) as gone:
        portal = gone.portal
    with Peer(redirecting({"TargetAddress": portal})) as peer:  # type: ignore[arg-type]  # a script
        with refused(NoSuchDevice, errno.ENXIO, "cannot be reached"):
            connect(peer)


def test_all_hops_share_one_deadline() -> None:
    def silent(_target: Connection) -> None:
        """Accepts, and says nothing."""

    with Peer(silent) as there, Peer(redirecting({"TargetAddress": there.portal})) as peer:  # type: ignore[arg-type]
        with bounded(1.5), refused(NoSuchDevice, errno.ENXIO, "silent"):
            connect(peer, login_timeout=0.5)


def test_the_password_does_not_follow_in_words() -> None:
    with Peer(redirecting({"TargetAddress": "user:secret@127.0.0.1"})) as peer:  # type: ignore[arg-type]
        with refused(ProtocolViolation, errno.EPROTO) as caught:
            connect(peer)
    assert "secret@" not in str(caught.value)
