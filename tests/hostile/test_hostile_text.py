# SPDX-License-Identifier: Apache-2.0
"""Text negotiation after login, and SendTargets: pieces in order, tags that agree, nothing that is not text (RFC 7143
6.1, 11.11)."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from hostile_rig import PATIENCE, bounded, connect, refused
from target import wire
from target.script import Connection, Peer
from target.wire import RESERVED, Op, Pdu

import swd
from swd.errors import ProtocolViolation

NAME = "iqn.2026-01.org.example:disk1"
SOUND = wire.text({"TargetName": NAME, "TargetAddress": "192.0.2.1:3260,1"})

Sender = Callable[[Connection, Pdu], bytes]


def answering(sender: Sender) -> Callable[[Connection], object]:
    def script(target: Connection) -> None:
        target.login()
        target.send(sender(target, target.expect(Op.TEXT)))

    return script


def keys(data: bytes) -> Sender:
    return lambda target, request: target.text_response(request, data)


WRONG: dict[str, Sender] = {
    "no-equals-sign": keys(b"TargetName\0"),
    "no-key": keys(b"=value\0"),
    "a-key-in-small-letters": keys(b"targetName=x\0"),
    "a-key-of-64-letters": keys(b"K" * 64 + b"=x\0"),
    "a-key-with-a-blank": keys(b"Target Name=x\0"),
    "a-key-that-is-not-ascii": keys(b"T\xc3\xa4rget=x\0"),
    "a-value-that-is-not-utf-8": keys(b"TargetAlias=\xff\xfe\0"),
    "a-value-with-overlong-utf-8": keys(b"TargetAlias=\xc0\xaf\0"),
    "a-value-with-an-escape-sequence": keys(b"TargetAlias=\x1b]0;owned\x07\0"),
    "a-value-with-a-line-break": keys(b"TargetAlias=a\nb\0"),
    "a-value-with-a-surrogate": keys(b"TargetAlias=\xed\xa0\x80\0"),
    "a-value-of-5000-bytes": keys(b"TargetAlias=" + b"x" * 5000 + b"\0"),
    "not-ended": keys(b"TargetName=" + NAME.encode()),
    "final-and-continued": lambda t, r: t.text_response(r, SOUND, continued=True),
    "neither-final-nor-to-be-continued": lambda t, r: t.text_response(r, SOUND, final=False, ttt=RESERVED),
    "another-task-tag": lambda t, r: t.text_response(r, SOUND, itt=r.itt ^ 0x1000),
    "the-reserved-task-tag": lambda t, r: t.text_response(r, SOUND, itt=RESERVED),
    "statsn-skipped": lambda t, r: t.text_response(r, SOUND, stat_sn=t.stat_sn + 1),
    "statsn-repeated": lambda t, r: t.text_response(r, SOUND, stat_sn=t.stat_sn - 1),
    "a-ping-answer-in-its-place": lambda t, r: t.nop_in(itt=r.itt),
    "a-scsi-response-in-its-place": lambda t, r: t.response(r),
    "data-in-in-its-place": lambda t, r: t.data_in(r, SOUND),
    "an-r2t-in-its-place": lambda t, r: t.r2t(r, 0, 4),
    "two-answers": lambda t, r: t.text_response(r, b"") + t.text_response(r, b"") + t.text_response(r, b""),
}


@pytest.mark.parametrize("mistake", [mistake for mistake in WRONG if mistake != "two-answers"])
def test_a_wrong_answer(mistake: str) -> None:
    with Peer(answering(WRONG[mistake])) as peer, connect(peer) as session:
        with refused(ProtocolViolation, errno.EPROTO):
            session.text({"SendTargets": "All"})
        assert not session.alive


@pytest.mark.parametrize("mistake", ["with-data", "final"])
def test_an_answer_before_our_text_has_ended(mistake: str) -> None:
    def script(target: Connection) -> None:
        target.login(MaxRecvDataSegmentLength="512")
        request = target.expect(Op.TEXT)
        data, final = (SOUND, False) if mistake == "with-data" else (b"", True)
        target.send(target.text_response(request, data, final=final))
        target.until_closed()

    with Peer(script) as peer, connect(peer) as session:
        with refused(ProtocolViolation, errno.EPROTO, "has not ended"):
            session.text({"X-org.example.long": "x" * 1000})


def test_an_answer_too_many_is_found_out_by_who_comes_next() -> None:
    with Peer(answering(WRONG["two-answers"])) as peer, connect(peer) as session:
        with refused(ProtocolViolation, errno.EPROTO, "not open"):
            session.text({"SendTargets": "All"})
            session.ping()


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_an_answer_in_pieces_is_put_together(size: int) -> None:
    """Each piece is asked for with the same task tag and the target's tag of the piece before."""
    tags: list[tuple[int, int]] = []

    def script(target: Connection) -> None:
        target.login()
        pieces = [SOUND[at : at + size] for at in range(0, len(SOUND), size)]
        for number, piece in enumerate(pieces):
            request = target.expect(Op.TEXT)
            tags.append((request.itt, request.ttt))
            last = number == len(pieces) - 1
            ttt = RESERVED if last else number + 100
            target.send(target.text_response(request, piece, final=last, continued=not last, ttt=ttt))

    with bounded(), Peer(script) as peer:
        found = swd.discover(peer.portal, **PATIENCE)
    assert [target.name for target in found] == [NAME]
    assert len({itt for itt, _ in tags}) == 1
    assert [ttt for _, ttt in tags] == [RESERVED, *range(100, 100 + len(tags) - 1)]


def test_login_keys_in_pieces() -> None:
    """The C bit in login: the answer of a stage comes byte by byte, one PDU each, until the round limit ends it."""

    def script(target: Connection) -> None:
        target.security()
        request = target.expect(Op.LOGIN)
        text = wire.text(target.answers(request))
        step = len(text) // 8
        pieces = [text[at : at + step] for at in range(0, len(text), step)]
        for piece in pieces[:-1]:
            target.send(target.login_response(request, piece, transit=False, continued=True))
            request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, pieces[-1], transit=False))
        target.send(target.login_response(target.expect(Op.LOGIN), tsih=1))

    with bounded(), Peer(script) as peer, connect(peer) as session:
        assert session.parameters.target_max_recv_data_segment_length == 65536


def test_a_login_text_cut_in_the_middle_of_a_key_and_never_ended() -> None:
    def script(target: Connection) -> None:
        target.security()
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, b"MaxRecvDataSegmentLength=81", tsih=1))

    with Peer(script) as peer, refused(ProtocolViolation, errno.EPROTO, "cut off"):
        connect(peer)


def test_a_key_twice_in_one_login() -> None:
    def script(target: Connection) -> None:
        target.security()
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, b"MaxBurstLength=512\0MaxBurstLength=1024\0", tsih=1))

    with Peer(script) as peer, refused(ProtocolViolation, errno.EPROTO, "comes twice"):
        connect(peer)


def test_more_padding_than_needed_is_harmless() -> None:
    with bounded(), Peer(answering(keys(SOUND + b"\0\0\0"))) as peer:
        assert [target.name for target in swd.discover(peer.portal, **PATIENCE)] == [NAME]
