# SPDX-License-Identifier: Apache-2.0
"""CHAP: known answers, strict decoding, both machines against each other and against each trick."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swd.errors import AuthenticationFailed, InvalidArgument, ProtocolViolation, SwdError
from swd.proto import chap
from swd.proto.chap import ChapInitiator, ChapTarget
from swd.values import Chap

OURS, THEIRS = b"our challenge 16", b"the targets's one"
ONE_WAY = Chap("me", "initiator-secret")
MUTUAL = Chap("me", "initiator-secret", target_user="disk", target_secret="the-target-secret")
ALL = ("sha3-256", "sha256", "sha1", "md5")


def initiator(credentials: Chap = ONE_WAY, algorithms: tuple[str, ...] = ALL) -> ChapInitiator:
    return ChapInitiator(credentials, algorithms, 3, OURS)


def target(credentials: Chap = ONE_WAY, algorithms: tuple[str, ...] = ALL, challenge: bytes = THEIRS) -> ChapTarget:
    return ChapTarget(credentials, algorithms, 200, challenge)


@pytest.mark.parametrize(
    ("algorithm", "number", "hasher"),
    [
        ("md5", 5, hashlib.md5),
        ("sha1", 6, hashlib.sha1),
        ("sha256", 7, hashlib.sha256),
        ("sha3-256", 8, hashlib.sha3_256),
    ],
)
def test_a_response_is_the_hash_of_identifier_secret_challenge(algorithm: str, number: int, hasher: object) -> None:
    assert callable(hasher)
    assert chap.BY_NAME[algorithm].number == number
    response = chap.response(algorithm, 7, b"secret", b"challenge")
    assert response == hasher(b"\x07secretchallenge").digest()
    assert len(response) == chap.BY_NAME[algorithm].size


@given(st.binary(min_size=1, max_size=1024))
def test_binary_values_are_read_in_each_form(data: bytes) -> None:
    assert chap.decode(chap.encode(data)) == data
    assert chap.decode("0X" + data.hex().upper()) == data
    assert chap.decode("0b" + base64.b64encode(data).decode()) == data
    assert chap.decode("0B" + base64.b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "text",
    ["", "0x", "0b", "0x1", "0x123", "0xgg", "0x 12", "12", "ab", "0b=", "0bAA", "0bAAE", "0bAB==", "0bAA==\n",
     "0b****", "0x" + "00" * 1025, "0b" + "A" * 1400, "0x\u0661\u0661", "0b\u0661\u0661\u0661\u0661"],
)  # fmt: skip
def test_binary_values_that_are_malformed(text: str) -> None:
    with pytest.raises(ProtocolViolation):
        chap.decode(text)


@given(st.text(max_size=60) | st.text(max_size=60).map("0x".__add__) | st.text(max_size=60).map("0b".__add__))
def test_any_text_is_bytes_or_a_violation(text: str) -> None:
    try:
        data = chap.decode(text)
    except ProtocolViolation:
        return
    assert 0 < len(data) <= 1024


@pytest.mark.parametrize(("text", "identifier"), [("0", 0), ("255", 255), ("0xff", 255), ("0X0a", 10)])
def test_identifiers(text: str, identifier: int) -> None:
    assert chap.decode_identifier(text) == identifier


@pytest.mark.parametrize("text", ["", "256", "-1", "0x100", "1.0", "x", "\u0663"])
def test_identifiers_out_of_range(text: str) -> None:
    with pytest.raises(ProtocolViolation, match="CHAP_I"):
        chap.decode_identifier(text)


@pytest.mark.parametrize("credentials", [ONE_WAY, MUTUAL])
@pytest.mark.parametrize("algorithm", ALL)
def test_both_sides_agree(credentials: Chap, algorithm: str) -> None:
    us, them = initiator(credentials), target(MUTUAL, (algorithm,))
    response = us.respond(dict(them.challenge(dict(us.propose()))))
    assert not us.done
    us.finish(dict(them.verify(dict(response))))
    assert us.done
    assert them.done
    assert them.mutual is credentials.mutual
    assert us.algorithm == them.algorithm == algorithm


def test_the_list_goes_out_best_first_and_the_target_takes_the_first_it_knows() -> None:
    assert initiator().propose() == [("CHAP_A", "8,7,6,5")]
    assert target(algorithms=("md5", "sha1")).challenge({"CHAP_A": "8,7,6,5"})[0] == ("CHAP_A", "6")


@pytest.mark.parametrize("offer", ["", "9", "x", "5 ,6 ", "05"])
def test_a_target_refuses_a_list_without_anything_it_knows(offer: str) -> None:
    with pytest.raises(AuthenticationFailed, match="no CHAP algorithm"):
        target().challenge({"CHAP_A": offer})


def test_a_target_wants_the_list_and_the_challenge_first() -> None:
    with pytest.raises(ProtocolViolation, match="CHAP_A"):
        target().challenge({})
    with pytest.raises(ProtocolViolation, match="before the challenge"):
        target().verify({"CHAP_N": "me", "CHAP_R": "0x00"})


def challenged(**changes: str) -> dict[str, str]:
    return {"CHAP_A": "7", "CHAP_I": "9", "CHAP_C": chap.encode(THEIRS)} | changes


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (challenged(CHAP_A="9"), AuthenticationFailed),
        (challenged(CHAP_A="7,6"), AuthenticationFailed),
        (challenged(CHAP_I="256"), ProtocolViolation),
        (challenged(CHAP_C="0x123"), ProtocolViolation),
        (challenged(CHAP_C="0x" + "00" * 1025), ProtocolViolation),
        ({"CHAP_A": "7", "CHAP_I": "9"}, ProtocolViolation),
        ({}, ProtocolViolation),
    ],
)
def test_a_challenge_that_is_not_answered(answer: dict[str, str], error: type[SwdError]) -> None:
    with pytest.raises(error):
        initiator().respond(answer)


def test_an_algorithm_that_was_not_offered_is_refused() -> None:
    with pytest.raises(AuthenticationFailed, match="sha3-256"):
        initiator(algorithms=("sha3-256",)).respond(challenged(CHAP_A="5"))


def test_a_base64_challenge_is_answered_like_a_hex_one() -> None:
    in_base64 = challenged(CHAP_C="0b" + base64.b64encode(THEIRS).decode())
    assert initiator().respond(in_base64) == initiator().respond(challenged())


def test_our_own_challenge_is_not_answered() -> None:
    with pytest.raises(AuthenticationFailed, match="our own CHAP challenge"):
        initiator(MUTUAL).respond(challenged(CHAP_C=chap.encode(OURS)))
    reflecting = {"CHAP_N": "me", "CHAP_I": "1", "CHAP_C": chap.encode(THEIRS)}
    them = target(MUTUAL)
    them.challenge({"CHAP_A": "7"})
    proof = chap.encode(chap.response("sha256", 200, MUTUAL.secret, THEIRS))
    with pytest.raises(AuthenticationFailed, match="our own CHAP challenge"):
        them.verify(reflecting | {"CHAP_R": proof})


def proof(secret: bytes = b"the-target-secret", identifier: int = 3, name: str = "disk") -> dict[str, str]:
    return {"CHAP_N": name, "CHAP_R": chap.encode(chap.response("sha256", identifier, secret, OURS))}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"CHAP_N": "disk"},
        {"CHAP_R": "0x00"},
        proof(b"another-secret-x"),
        proof(identifier=4),
        proof(name="other"),
    ],
)
def test_a_target_that_proves_nothing(answer: dict[str, str]) -> None:
    us = initiator(MUTUAL)
    us.respond(challenged())
    with pytest.raises(AuthenticationFailed):
        us.finish(answer)
    assert not us.done


def test_our_response_is_no_proof_of_the_target() -> None:
    us = initiator(MUTUAL)
    ours = dict(us.respond(challenged()))
    with pytest.raises(AuthenticationFailed, match="our own CHAP response"):
        us.finish({"CHAP_N": "disk", "CHAP_R": ours["CHAP_R"]})


def test_a_sound_proof_is_taken_under_any_name_if_none_is_configured() -> None:
    us = initiator(Chap("me", "initiator-secret", target_secret="the-target-secret"))
    us.respond(challenged())
    us.finish(proof(name="whoever"))
    assert us.done


@pytest.mark.parametrize(("name", "secret"), [("me", b"wrong-secret-123"), ("you", b"initiator-secret")])
def test_a_target_refuses_a_wrong_name_or_secret(name: str, secret: bytes) -> None:
    them = target()
    them.challenge({"CHAP_A": "5"})
    with pytest.raises(AuthenticationFailed, match="name or response"):
        them.verify({"CHAP_N": name, "CHAP_R": chap.encode(chap.response("md5", 200, secret, THEIRS))})
    assert not them.done


def test_a_target_reads_base64_and_refuses_what_is_too_long() -> None:
    them = target()
    them.challenge({"CHAP_A": "5"})
    response = chap.response("md5", 200, ONE_WAY.secret, THEIRS)
    assert them.verify({"CHAP_N": "me", "CHAP_R": "0b" + base64.b64encode(response).decode()}) == []
    with pytest.raises(ProtocolViolation):
        them.verify({"CHAP_N": "me", "CHAP_R": "0x" + "00" * 1025})


def test_a_target_without_a_secret_of_its_own_is_not_mutual() -> None:
    us, them = initiator(MUTUAL), target(ONE_WAY)
    response = us.respond(dict(them.challenge(dict(us.propose()))))
    with pytest.raises(AuthenticationFailed, match="no secret of its own"):
        them.verify(dict(response))


def test_credentials_that_prove_nothing_are_refused() -> None:
    short = Chap("me", "x" * 11)
    with pytest.raises(InvalidArgument, match=r"shorter than 12.*chap_short_secret"):
        chap.check(short)
    chap.check(short, short_secret=True)
    with pytest.raises(InvalidArgument, match="the target's"):
        chap.check(Chap("me", "x" * 12, target_secret="y" * 11))
    with pytest.raises(InvalidArgument, match="equal"):
        chap.check(Chap("me", "x" * 12, target_secret="x" * 12))
    with pytest.raises(InvalidArgument, match="shorter"):
        chap.check(Chap("me", ""), short_secret=True)
    chap.check(MUTUAL)


def test_what_the_host_forbids_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = hashlib.new

    def without_md5(name: str, data: bytes = b"") -> object:
        if name == "md5":
            raise ValueError("disabled for FIPS")
        return allowed(name, data)

    monkeypatch.setattr(hashlib, "new", without_md5)
    assert chap.available(("md5", "sha256")) == ("sha256",)
