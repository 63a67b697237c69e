# SPDX-License-Identifier: Apache-2.0
"""CHAP (RFC 7143 12.1.3, RFC 1994): the primitives, and both sides of the exchange as machines without I/O.

Challenges and identifiers are arguments: randomness belongs to the caller. No secret, response or challenge ever gets
into a message. What the peer sends wrong raises ProtocolViolation, what it fails to prove AuthenticationFailed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from swd.errors import AuthenticationFailed, InvalidArgument, ProtocolViolation
from swd.proto.text import Pairs
from swd.values import Chap

MAX_BINARY = 1024  # bytes of a CHAP_C or CHAP_R (12.1.3)
MIN_SECRET = 12  # bytes; 96 bits are asked for where there is no IPsec (9.2.1)
CHALLENGE_SIZE = 32  # bytes that callers should draw for a challenge of ours


class Algorithm(NamedTuple):
    name: str
    number: int  # IANA's PPP authentication algorithms
    size: int  # bytes of a response
    hash: str  # hashlib's name


# Best first.
ALGORITHMS = (
    Algorithm("sha3-256", 8, 32, "sha3_256"),
    Algorithm("sha256", 7, 32, "sha256"),
    Algorithm("sha1", 6, 20, "sha1"),
    Algorithm("md5", 5, 16, "md5"),
)
BY_NAME = {algorithm.name: algorithm for algorithm in ALGORITHMS}


def available(names: Iterable[str]) -> tuple[str, ...]:
    """Those algorithms, in the same order, which this host's hashing policy allows (FIPS hosts forbid MD5)."""
    return tuple(name for name in names if _hashes(BY_NAME[name]))


def _hashes(algorithm: Algorithm) -> bool:
    try:
        hashlib.new(algorithm.hash)
    except ValueError:
        return False
    return True


def response(algorithm: str, identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """Hash of identifier, secret and challenge (RFC 1994 4.1)."""
    return hashlib.new(BY_NAME[algorithm].hash, bytes([identifier]) + secret + challenge).digest()


def matches(left: bytes, right: bytes) -> bool:
    """Whether two responses or secrets are equal, in constant time."""
    return hmac.compare_digest(left, right)


def encode(data: bytes) -> str:
    """A binary value as text, in the form that every target reads: lower-case hex."""
    return "0x" + data.hex()


def decode(text: str, limit: int = MAX_BINARY) -> bytes:
    """A binary value from hex (0x, 0X) or base64 (0b, 0B), 1 to `limit` bytes. Raises ProtocolViolation.

    Hex of an odd number of digits is refused: where the missing half-byte belongs is anyone's guess.
    """
    form, body = text[:2].lower(), text[2:]
    if len(body) > 2 * limit:
        raise _malformed(f"is longer than {limit} bytes")
    if form == "0x" and len(body) % 2 == 0 and re.fullmatch("[0-9a-fA-F]+", body):
        data = bytes.fromhex(body)
    elif form == "0b":
        data = _base64(body)
    else:
        raise _malformed("is neither hex (0x, an even number of digits) nor base64 (0b)")
    if not 0 < len(data) <= limit:
        raise _malformed(f"is empty or longer than {limit} bytes")
    return data


def _base64(body: str) -> bytes:
    data = b""
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        pass  # judged below: a strict reading has to write the same text
    if not data or base64.b64encode(data).decode() != body:
        raise _malformed("is not base64")
    return data


def _malformed(why: str) -> ProtocolViolation:
    return ProtocolViolation(f"a binary value in CHAP {why}", clause="6.1")


def check(chap: Chap, *, short_secret: bool = False) -> None:
    """Refuse credentials that prove nothing. Raises InvalidArgument; call it before any connection is made."""
    for whose, secret in (("our", chap.secret), ("the target's", chap.target_secret)):
        if secret is not None and len(secret) < MIN_SECRET and not (short_secret and secret):
            raise InvalidArgument(
                f"{whose} CHAP secret is shorter than {MIN_SECRET} bytes; use a longer one"
                + ("" if not secret else ", or set chap_short_secret if the target cannot")
            )
    if chap.target_secret is not None and matches(chap.secret, chap.target_secret):
        raise InvalidArgument("both CHAP secrets are equal, so a reflected answer would pass; use two (RFC 7143 9.2.1)")


class ChapInitiator:
    """Our side: `propose`, then `respond` to the challenge, then `finish` with the target's proof.

    `finish` must be called for one-way CHAP as well; `done` is True only after it. Run `check` on credentials first.
    """

    def __init__(self, chap: Chap, algorithms: Iterable[str], identifier: int, challenge: bytes) -> None:
        self._chap = chap
        self._offered = tuple(algorithms)
        self._identifier = identifier
        self._challenge = challenge
        self._response = b""
        self.algorithm: str | None = None
        self.done = False

    def propose(self) -> Pairs:
        """CHAP_A with all algorithms, best first."""
        return [("CHAP_A", ",".join(str(BY_NAME[name].number) for name in self._offered))]

    def respond(self, answer: Mapping[str, str]) -> Pairs:
        """Answer CHAP_A, CHAP_I and CHAP_C with CHAP_N and CHAP_R, and our own challenge when CHAP is mutual."""
        algorithm, identifier, challenge = self._challenged(answer)
        if self._chap.mutual and matches(challenge, self._challenge):
            raise AuthenticationFailed("the target sent our own CHAP challenge back; refusing to answer it")
        self._response = response(algorithm, identifier, self._chap.secret, challenge)
        self.algorithm = algorithm
        pairs = [("CHAP_N", self._chap.user), ("CHAP_R", encode(self._response))]
        if self._chap.mutual:
            pairs += [("CHAP_I", str(self._identifier)), ("CHAP_C", encode(self._challenge))]
        return pairs

    def finish(self, answer: Mapping[str, str]) -> None:
        """Check the target's proof; nothing to check when CHAP is one-way."""
        secret = self._chap.target_secret
        if secret is not None:
            self._verify(answer, secret)
        self.done = True

    def _challenged(self, answer: Mapping[str, str]) -> tuple[str, int, bytes]:
        number = require(answer, "CHAP_A")
        algorithm = next((name for name in self._offered if str(BY_NAME[name].number) == number), None)
        if algorithm is None:
            raise AuthenticationFailed(
                "the target takes none of the CHAP algorithms offered (" + ", ".join(self._offered) + "); see chap_algs"
            )
        return algorithm, decode_identifier(require(answer, "CHAP_I")), decode(require(answer, "CHAP_C"))

    def _verify(self, answer: Mapping[str, str], secret: bytes) -> None:
        if "CHAP_N" not in answer or "CHAP_R" not in answer or self.algorithm is None:
            raise AuthenticationFailed("mutual CHAP is configured, but the target did not prove who it is")
        proof = decode(answer["CHAP_R"])
        if matches(proof, self._response):
            raise AuthenticationFailed("the target sent our own CHAP response back as its proof")
        if not matches(proof, response(self.algorithm, self._identifier, secret, self._challenge)):
            raise AuthenticationFailed("the target's CHAP response is wrong: check target_secret on both sides")
        if self._chap.target_user is not None and answer["CHAP_N"] != self._chap.target_user:
            raise AuthenticationFailed("the target proved itself under another name than target_user; check both sides")


class ChapTarget:
    """The target's side: `challenge` answers CHAP_A, `verify` judges the response and proves us in return.

    `chap.user` and `chap.secret` are what the initiator must know; `target_user` and `target_secret` are our own.
    """

    def __init__(self, chap: Chap, algorithms: Iterable[str], identifier: int, challenge: bytes) -> None:
        self._chap = chap
        self._allowed = tuple(algorithms)
        self._identifier = identifier
        self._challenge = challenge
        self.algorithm: str | None = None
        self.mutual = False
        self.done = False

    def challenge(self, offer: Mapping[str, str]) -> Pairs:
        """The first algorithm of the initiator's list that we take, with identifier and challenge."""
        numbers = require(offer, "CHAP_A").split(",")
        names = {str(BY_NAME[name].number): name for name in self._allowed}
        self.algorithm = next((names[number] for number in numbers if number in names), None)
        if self.algorithm is None:
            raise AuthenticationFailed("the initiator offers no CHAP algorithm that this target takes")
        return [
            ("CHAP_A", str(BY_NAME[self.algorithm].number)),
            ("CHAP_I", str(self._identifier)),
            ("CHAP_C", encode(self._challenge)),
        ]

    def verify(self, answer: Mapping[str, str]) -> Pairs:
        """Judge CHAP_N and CHAP_R; the pairs to send are our own proof where the initiator asks for one."""
        if self.algorithm is None:
            raise ProtocolViolation("a CHAP response came before the challenge", clause="12.1.3")
        name, proof = require(answer, "CHAP_N"), decode(require(answer, "CHAP_R"))
        expected = response(self.algorithm, self._identifier, self._chap.secret, self._challenge)
        # Both are always compared, so that time does not tell a wrong name from a wrong secret.
        known = matches(name.encode(), self._chap.user.encode())
        if not matches(proof, expected) or not known:
            raise AuthenticationFailed("the initiator's CHAP name or response is wrong")
        pairs = self._prove(answer) if "CHAP_I" in answer or "CHAP_C" in answer else []
        self.done = True
        return pairs

    def _prove(self, answer: Mapping[str, str]) -> Pairs:
        identifier, challenge = decode_identifier(require(answer, "CHAP_I")), decode(require(answer, "CHAP_C"))
        if self._chap.target_secret is None or self.algorithm is None:
            raise AuthenticationFailed("the initiator asks for mutual CHAP, but this target has no secret of its own")
        if matches(challenge, self._challenge):
            raise AuthenticationFailed("the initiator sent our own CHAP challenge back; refusing to answer it")
        self.mutual = True
        proof = response(self.algorithm, identifier, self._chap.target_secret, challenge)
        return [("CHAP_N", self._chap.target_user or "target"), ("CHAP_R", encode(proof))]


def require(pairs: Mapping[str, str], key: str) -> str:
    """The value of a key that has to be there. Raises ProtocolViolation."""
    if key not in pairs:
        raise ProtocolViolation(f"the peer left {key} out of its CHAP step", clause="12.1.3")
    return pairs[key]


def decode_identifier(text: str) -> int:
    """CHAP_I: one byte, as a decimal or hex constant. Raises ProtocolViolation."""
    if re.fullmatch("[0-9]{1,3}|0[xX][0-9a-fA-F]{1,2}", text):
        number = int(text, 16 if text[:2].lower() == "0x" else 10)
        if number <= 255:
            return number
    raise ProtocolViolation("CHAP_I is not a number 0..255", clause="12.1.3")
