# SPDX-License-Identifier: Apache-2.0
"""The security stage of a login: which method is used, and whether it was really carried through (RFC 7143 chapter 12).

    state      we sent                 the target must answer
    METHOD     AuthMethod              AuthMethod: CHAP -> CHALLENGE, None -> DONE
    CHALLENGE  CHAP_A                  CHAP_A, CHAP_I, CHAP_C -> PROOF
    PROOF      CHAP_N, CHAP_R (+I, C)  CHAP_N, CHAP_R when CHAP is mutual -> DONE

Only DONE lets the login go on. Everything that would get there without what the configuration asks for raises
AuthenticationFailed, whatever else the target says.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from swd.errors import AuthenticationFailed
from swd.proto.chap import ChapInitiator
from swd.proto.text import Pairs

_OFFERS = {"none": "None", "chap": "CHAP,None", "require": "CHAP"}


class _State(enum.Enum):
    METHOD = enum.auto()
    CHALLENGE = enum.auto()
    PROOF = enum.auto()
    DONE = enum.auto()


class Authentication:
    """`propose` once, then `receive` each answer; `wanted` is `none`, `chap` or `require` (`Options.wanted_auth`)."""

    def __init__(self, wanted: str, chap: ChapInitiator | None, *, mutual: bool) -> None:
        self._offer = _OFFERS[wanted]
        self._chap = chap
        self._mutual = mutual
        self._state = _State.METHOD
        self.method = ""  # none, chap or chap-mutual, once it is done
        self.algorithm: str | None = None

    @property
    def done(self) -> bool:
        return self._state is _State.DONE

    @property
    def ready(self) -> bool:
        """Whether the request that goes out now may ask to leave the stage: nothing but the answer is missing."""
        return self._state in (_State.PROOF, _State.DONE) or self._offer == "None"

    def propose(self) -> Pairs:
        return [("AuthMethod", self._offer)]

    def receive(self, answer: Mapping[str, str]) -> Pairs:
        """Take the security keys of one answer; what to send next. Raises AuthenticationFailed or ProtocolViolation."""
        if self._state is _State.METHOD:
            return self._choose(answer.get("AuthMethod"))
        if self._chap is not None and self._state is _State.CHALLENGE:
            pairs = self._chap.respond(answer)
            self._state = _State.PROOF
            return pairs
        if self._chap is not None and self._state is _State.PROOF:
            self._chap.finish(answer)
            self.algorithm = self._chap.algorithm
            self._finish("chap-mutual" if self._mutual else "chap")
        return []

    def _choose(self, method: str | None) -> Pairs:
        if method == "CHAP" and self._chap is not None:
            self._state = _State.CHALLENGE
            return self._chap.propose()
        if method in ("None", None) and "None" in self._offer.split(","):
            self._finish("none")
            return []
        if self._chap is None:
            raise AuthenticationFailed("the target insists on authentication: give a user and a secret (auth=require)")
        said = "said nothing about CHAP" if method is None else f"answered AuthMethod={method[:40]}"
        raise AuthenticationFailed(f"CHAP is required, but the target {said}: enable CHAP there, or auth=none")

    def _finish(self, method: str) -> None:
        self.method = method
        self._state = _State.DONE
