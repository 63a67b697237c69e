# SPDX-License-Identifier: Apache-2.0
"""SendTargets: several targets and portals, answers in many PDUs, and answers that must not be believed."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from support.peer import Script, Talk, playing, text

import swd
from swd.errors import ProtocolViolation
from swd.iscsi import textual
from swd.proto.pdu import Opcode, TextResponse
from swd.target import TargetConfig, TargetServer
from swd.values import RESERVED_TAG, Portal

A, B, C = (f"iqn.2026-01.org.example:{letter}" for letter in "abc")
TTT = 9

ANSWER = text(
    [
        ("TargetName", A),
        ("TargetAddress", "192.0.2.1:3261,1"),
        ("TargetAddress", "[2001:db8::1]:3260,2"),
        ("TargetName", B),
        ("TargetName", C),
        ("TargetAddress", "storage.example,3"),
    ]
)


def answering(*pieces: tuple[bytes, bool]) -> Script:
    """A script whose SendTargets answer comes in these pieces; each says whether a text is cut (C=1) at its end."""

    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        assert talk.asked["SessionType"] == "Discovery"
        assert "TargetName" not in talk.asked
        for number, (piece, cut) in enumerate(pieces):
            request, data = talk.take(Opcode.TEXT_REQUEST)
            assert request.ttt == (TTT if number else RESERVED_TAG)
            assert data == (b"" if number else b"SendTargets=All\0")
            last = number == len(pieces) - 1
            talk.send(
                TextResponse(itt=request.itt, final=last, continued=cut, ttt=RESERVED_TAG if last else TTT), piece
            )
        return talk.serve()

    return script


def cut_at(*places: int) -> Iterator[tuple[bytes, bool]]:
    """ANSWER in pieces."""
    for begin, end in zip((0, *places), (*places, len(ANSWER)), strict=True):
        yield ANSWER[begin:end], end < len(ANSWER)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([(ANSWER, False)], id="whole"),
        pytest.param(cut_at(3), id="cut in a key"),
        pytest.param(cut_at(20, 40, 41, 90), id="cut four times"),
        pytest.param(cut_at(*range(1, len(ANSWER))), id="byte by byte"),
        pytest.param(
            [(ANSWER[: ANSWER.index(b"TargetName", 5)], False), (ANSWER[ANSWER.index(b"TargetName", 5) :], False)],
            id="more to say, not cut",
        ),
    ],
)
def test_targets_and_portals_however_the_answer_is_split(pieces: Iterator[tuple[bytes, bool]]) -> None:
    with playing(answering(*pieces)) as peer:
        found = swd.discover(str(peer.portal))
    assert peer.failures == []
    assert peer.results == [[Opcode.LOGOUT_REQUEST]]
    assert [target.name for target in found] == [A, B, C]
    assert found[0].portals == [Portal("192.0.2.1", 3261), Portal("2001:db8::1", 3260)]
    assert [portal.tpgt for portal in found[0].portals] == [1, 2]
    assert found[1].portals == [peer.portal]  # without an address: where it was asked
    assert found[2].portals == [Portal("storage.example", 3260)]


def test_no_target_is_no_error() -> None:
    with playing(answering((b"", False))) as peer:
        assert swd.discover(str(peer.portal)) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (text([("TargetName", "iqn.2026-01.org.example:\x1b[2J")]), "control character"),
        (text([("TargetName", "../../etc/passwd")]), "what cannot be"),
        (text([("TargetName", A), ("TargetAddress", "192.0.2.1:99999,1")]), "what cannot be"),
        (text([("TargetAddress", "192.0.2.1,1"), ("TargetName", A)]), "no place"),
        (text([("TargetName", A), ("InitialR2T", "No")]), "no place"),
        (b"TargetName", "cut off"),
        (b"TargetName=\xff\xfe\0", "UTF-8"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(answer: bytes, words: str) -> None:
    with playing(answering((answer, False))) as peer, pytest.raises(ProtocolViolation, match=words) as caught:
        swd.discover(str(peer.portal))
    assert caught.value.errno == errno.EPROTO
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ({"final": True, "continued": True}, "final and to be continued"),
        ({"final": False, "continued": False}, "breaks off"),
    ],
)
def test_an_answer_that_cannot_go_on_is_refused(response: dict[str, bool], words: str) -> None:
    def script(talk: Talk) -> list[Opcode]:
        talk.log_in()
        request, _ = talk.take(Opcode.TEXT_REQUEST)
        talk.send(TextResponse(itt=request.itt, **response), text([("TargetName", A)]))
        return talk.until_closed()

    with playing(script) as peer, pytest.raises(ProtocolViolation, match=words):
        swd.discover(str(peer.portal))
    assert peer.results == [[]]  # after a violation: closed, no more words


def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textual, "EXCHANGES", 50)
    with (
        playing(answering(*[(text([("TargetName", A)]), False)] * 60)) as peer,
        pytest.raises(ProtocolViolation, match="50 PDUs"),
    ):
        swd.discover(str(peer.portal))


def test_an_answer_without_measure_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textual, "BUDGET", 1 << 16)
    with (
        playing(answering(*[(b"TargetName=" + b"x" * 8000, True)] * 60)) as peer,
        pytest.raises(ProtocolViolation),
    ):
        swd.discover(str(peer.portal))


def test_hundreds_of_targets_of_the_embedded_target() -> None:
    """Its answer is many times the 512 bytes that we take in one PDU."""
    names = [f"iqn.2026-01.org.example:number-{number:03}" for number in range(300)]
    with TargetServer([TargetConfig(name) for name in names]) as server:
        found = swd.discover(str(server.portal), max_recv_data_segment_length=512)
        assert [target.name for target in found] == names
        assert all(target.portals == [server.portal] for target in found)
        assert server.statistics["pdus_out"]["TEXT_RESPONSE"] > 20
        assert server.statistics["pdus_in"]["LOGOUT_REQUEST"] == 1
