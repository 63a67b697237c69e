# SPDX-License-Identifier: Apache-2.0
"""CHAP: with credentials configured nothing but real authentication leads to full-feature phase, in both directions
where it is mutual (RFC 7143 12.1.3)."""

from __future__ import annotations

import base64
import errno
from collections.abc import Callable

import pytest
from hostile_rig import bounded, connect, refused
from target.script import ChapPart, Connection, Peer, chap_response
from target.wire import Op

import swd
from swd.errors import AuthenticationFailed, InvalidArgument, ProtocolViolation, SwdError

PART = ChapPart()
ONE_WAY = swd.Chap("host1", PART.secret)
MUTUAL = swd.Chap("host1", PART.secret, target_user=PART.name, target_secret=PART.own)

Script = Callable[[Connection], object]


def method(answer: str, **fields: object) -> Script:
    """Answers the offer of CHAP with another method, and would go on without."""

    def script(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, {"AuthMethod": answer} if answer else {}, **fields))  # type: ignore[arg-type]
        target.operational()

    return script


def challenged(**keys: str | None) -> Script:
    """A challenge with these keys in it (None: left out)."""

    def script(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, {"AuthMethod": "CHAP"}))
        request = target.expect(Op.LOGIN)
        sound = {"CHAP_A": "5", "CHAP_I": "1", "CHAP_C": "0x" + bytes(range(16)).hex()}
        target.send(
            target.login_response(
                request, {key: value for key, value in {**sound, **keys}.items() if value is not None}
            )
        )

    return script


def skips_to_the_end(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "CHAP"}, transit=True, csg=0, nsg=3, tsih=1))


def leaves_without_a_challenge(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "CHAP"}))
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {}, transit=True, csg=0, nsg=1))


def leaves_with_the_challenge(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    target.send(target.login_response(request, {"AuthMethod": "CHAP"}))
    request = target.expect(Op.LOGIN)
    keys = {"CHAP_A": "5", "CHAP_I": "1", "CHAP_C": "0x" + bytes(range(16)).hex()}
    target.send(target.login_response(request, keys, transit=True, csg=0, nsg=1))


def challenges_without_a_method(target: Connection) -> None:
    request = target.expect(Op.LOGIN)
    keys = {"CHAP_A": "5", "CHAP_I": "1", "CHAP_C": "0x" + bytes(range(16)).hex()}
    target.send(target.login_response(request, keys))


LONG = "0x" + "ab" * 1025
DENIED, BROKEN = (AuthenticationFailed, errno.EACCES), (ProtocolViolation, errno.EPROTO)

ONE_WAY_CASES: dict[str, tuple[Script, tuple[type[SwdError], int]]] = {
    "method-none": (method("None"), DENIED),
    "method-none-and-on-to-full-feature": (method("None", transit=True, csg=0, nsg=3, tsih=1), BROKEN),
    "method-left-out": (method(""), DENIED),
    "method-rejected": (method("Reject"), DENIED),
    "method-not-understood": (method("NotUnderstood"), DENIED),
    "method-srp": (method("SRP"), DENIED),
    "method-in-small-letters": (method("chap"), DENIED),
    "skips-to-the-end": (skips_to_the_end, BROKEN),
    "leaves-without-a-challenge": (leaves_without_a_challenge, BROKEN),
    "leaves-with-the-challenge": (leaves_with_the_challenge, BROKEN),
    "challenges-without-a-method": (challenges_without_a_method, DENIED),
    "algorithm-not-offered": (challenged(CHAP_A="9"), DENIED),
    "algorithm-rejected": (challenged(CHAP_A="Reject"), DENIED),
    "algorithm-list": (challenged(CHAP_A="5,6"), DENIED),
    "algorithm-missing": (challenged(CHAP_A=None), BROKEN),
    "identifier-256": (challenged(CHAP_I="256"), BROKEN),
    "identifier-negative": (challenged(CHAP_I="-1"), BROKEN),
    "identifier-missing": (challenged(CHAP_I=None), BROKEN),
    "challenge-missing": (challenged(CHAP_C=None), BROKEN),
    "challenge-empty": (challenged(CHAP_C="0x"), BROKEN),
    "challenge-without-a-prefix": (challenged(CHAP_C="00112233"), BROKEN),
    "challenge-of-an-odd-number-of-digits": (challenged(CHAP_C="0x123"), BROKEN),
    "challenge-not-hex": (challenged(CHAP_C="0x12zz"), BROKEN),
    "challenge-with-a-blank": (challenged(CHAP_C="0x12 34"), BROKEN),
    "challenge-not-base64": (challenged(CHAP_C="0b####"), BROKEN),
    "challenge-base64-without-padding": (challenged(CHAP_C="0bQUI"), BROKEN),
    "challenge-base64-with-stray-bits": (challenged(CHAP_C="0bQUJ="), BROKEN),
    "challenge-of-1025-bytes": (challenged(CHAP_C=LONG), BROKEN),
    "challenge-of-1026-bytes-in-base64": (challenged(CHAP_C="0b" + "ABCD" * 342), BROKEN),
}


@pytest.mark.parametrize("case", ONE_WAY_CASES)
def test_nothing_but_authentication_will_do(case: str) -> None:
    script, (kind, number) = ONE_WAY_CASES[case]
    with Peer(script) as peer, refused(kind, number) as caught:
        connect(peer, chap=ONE_WAY)
    assert PART.secret.decode() not in f"{caught.value} {caught.value!r}"
    assert not any(pdu.stages[0] != 0 for pdu in peer.of(Op.LOGIN))  # nothing beyond the security stage was asked for


CHALLENGES = {
    "one-byte": ("0x7f", b"\x7f"),
    "1024-bytes": ("0x" + "5a" * 1024, b"\x5a" * 1024),
    "upper-case-hex": ("0XABCDEF", b"\xab\xcd\xef"),
    "base64": ("0b" + base64.b64encode(bytes(range(32))).decode(), bytes(range(32))),
    "upper-case-base64": ("0B" + base64.b64encode(bytes(31)).decode(), bytes(31)),
}


@pytest.mark.parametrize("form", CHALLENGES)
@pytest.mark.parametrize("algorithm", ["5", "6", "7", "8"])
def test_every_form_of_a_challenge_is_answered_rightly(form: str, algorithm: str) -> None:
    said, challenge = CHALLENGES[form]

    def script(target: Connection) -> None:
        challenged(CHAP_A=algorithm, CHAP_I="0x1F", CHAP_C=said)(target)
        request = target.expect(Op.LOGIN)
        assert request.keys["CHAP_N"] == "host1"
        assert request.keys["CHAP_R"] == "0x" + chap_response(algorithm, 31, PART.secret, challenge).hex()
        target.send(target.login_response(request))
        target.operational()

    with bounded(), Peer(script) as peer, connect(peer, chap=ONE_WAY) as session:
        assert session.parameters.auth == "chap"


@pytest.mark.parametrize(("ours", "theirs"), [("sha3-256,sha256", "5"), ("sha256", "6"), ("md5", "8")])
def test_an_algorithm_that_was_not_offered(ours: str, theirs: str) -> None:
    """Nobody makes us weaker, nor stronger, than we are told to be."""
    with Peer(challenged(CHAP_A=theirs)) as peer, refused(AuthenticationFailed, errno.EACCES, "see chap_algs"):
        connect(peer, chap=ONE_WAY, chap_algs=ours)
    assert not any("CHAP_R" in pdu.keys for pdu in peer.of(Op.LOGIN))


def mutual(proof: Callable[[dict[str, str], ChapPart], dict[str, str]]) -> Script:
    """Correct up to our own proof, which `proof` makes of the initiator's keys."""

    def script(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, {"AuthMethod": "CHAP"}))
        request = target.challenge(PART)
        target.send(target.login_response(request, proof(request.keys, PART)))
        target.operational()

    return script


def signed(keys: dict[str, str], secret: bytes, identifier: int | None = None) -> str:
    number = int(keys["CHAP_I"]) if identifier is None else identifier
    return "0x" + chap_response("5", number, secret, bytes.fromhex(keys["CHAP_C"][2:])).hex()


PROOFS: dict[str, tuple[Callable[[dict[str, str], ChapPart], dict[str, str]], tuple[type[SwdError], int]]] = {
    "none": (lambda _k, _p: {}, DENIED),
    "name-alone": (lambda _k, p: {"CHAP_N": p.name}, DENIED),
    "response-alone": (lambda k, p: {"CHAP_R": signed(k, p.own)}, DENIED),
    "our-own-response": (lambda k, p: {"CHAP_N": p.name, "CHAP_R": k["CHAP_R"]}, DENIED),
    "another-secret": (lambda k, p: {"CHAP_N": p.name, "CHAP_R": signed(k, b"another-secret-")}, DENIED),
    "our-secret": (lambda k, p: {"CHAP_N": p.name, "CHAP_R": signed(k, p.secret)}, DENIED),
    "another-identifier": (
        lambda k, p: {"CHAP_N": p.name, "CHAP_R": signed(k, p.own, (int(k["CHAP_I"]) + 1) % 256)},
        DENIED,
    ),
    "another-name": (lambda k, p: {"CHAP_N": "somebody", "CHAP_R": signed(k, p.own)}, DENIED),
    "cut-short": (lambda k, p: {"CHAP_N": p.name, "CHAP_R": signed(k, p.own)[:-2]}, DENIED),
    "nonsense": (lambda _k, p: {"CHAP_N": p.name, "CHAP_R": "yes"}, BROKEN),
    "twice-as-long": (lambda k, p: {"CHAP_N": p.name, "CHAP_R": signed(k, p.own) + signed(k, p.own)[2:]}, DENIED),
}


@pytest.mark.parametrize("case", PROOFS)
def test_a_target_that_does_not_prove_itself(case: str) -> None:
    proof, (kind, number) = PROOFS[case]
    with Peer(mutual(proof)) as peer, refused(kind, number):
        connect(peer, chap=MUTUAL, chap_algs="md5")


def test_our_challenges_never_repeat() -> None:
    """So a response that was overheard, or asked for on another connection, proves nothing."""
    challenges: list[str] = []

    def script(target: Connection) -> None:
        request = target.expect(Op.LOGIN)
        target.send(target.login_response(request, {"AuthMethod": "CHAP"}))
        request = target.challenge(PART)
        challenges.append(request.keys["CHAP_C"])
        target.send(target.login_response(request, target.proof(request, PART)))
        target.operational()

    with bounded(), Peer(script) as peer:
        for _ in range(5):
            connect(peer, chap=MUTUAL).close()
    assert len(set(challenges)) == 5
    assert all(len(challenge) >= 2 + 2 * 16 for challenge in challenges)


@pytest.mark.parametrize("algorithm", ["5", "6", "7", "8"])
def test_mutual_chap_done_rightly(algorithm: str) -> None:
    def script(target: Connection) -> None:
        target.login(PART._replace(algorithm=algorithm))

    with bounded(), Peer(script) as peer, connect(peer, chap=MUTUAL) as session:
        assert session.parameters.auth == "chap-mutual"


def test_auth_chap_takes_none_where_it_is_allowed() -> None:
    def script(target: Connection) -> None:
        target.login()

    with bounded(), Peer(script) as peer, connect(peer, chap=ONE_WAY, auth="chap") as session:
        assert session.parameters.auth == "none"


def test_a_target_that_wants_chap_of_one_without_credentials() -> None:
    with Peer(method("CHAP")) as peer, refused(AuthenticationFailed, errno.EACCES, "give a user and a secret"):
        connect(peer)


@pytest.mark.parametrize(
    "chap",
    [swd.Chap("u", "eleven-byte"), swd.Chap("u", PART.secret, target_secret=PART.secret)],
    ids=["short", "equal-in-both-directions"],
)
def test_a_secret_that_proves_nothing_is_refused_before_any_connection(chap: swd.Chap) -> None:
    with Peer(nothing) as peer, refused(InvalidArgument, errno.EINVAL):
        connect(peer, chap=chap)
    assert peer.connections == 0


def nothing(_target: Connection) -> None:
    """Does not say a word."""
