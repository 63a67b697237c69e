# SPDX-License-Identifier: Apache-2.0
"""Operational negotiation (RFC 7143 6.2): what we offer, what the answers make of it, and the responder's side.

Both sides stand on `keys.TABLE`. Results come from offer *and* answer by the key's function, so that a target which
answers with a wish of its own instead of the result cannot widen what we offered.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from swd.errors import LoginRefused, ProtocolViolation
from swd.proto import keys
from swd.proto.keys import Key, Value
from swd.proto.options import Options
from swd.proto.text import Pairs

_DIGEST_WORDS = {"none": "None", "crc32c": "CRC32C"}

# What an initiator offers, and the option it comes from. All of them, even where they equal the default: a target that
# wants another value then answers at once instead of asking back, which would cost a round trip.
OFFERED = (
    ("HeaderDigest", "header_digest"),
    ("DataDigest", "data_digest"),
    ("MaxRecvDataSegmentLength", "max_recv_data_segment_length"),
    ("InitialR2T", "initial_r2t"),
    ("ImmediateData", "immediate_data"),
    ("MaxBurstLength", "max_burst_length"),
    ("FirstBurstLength", "first_burst_length"),
    ("MaxOutstandingR2T", "max_outstanding_r2t"),
    ("MaxConnections", "connections"),
    ("DataPDUInOrder", "data_pdu_in_order"),
    ("DataSequenceInOrder", "data_sequence_in_order"),
    ("DefaultTime2Wait", "default_time2wait"),
    ("DefaultTime2Retain", "default_time2retain"),
    ("ErrorRecoveryLevel", "error_recovery_level"),
)


class Answered(NamedTuple):
    """What a responder sends, and what holds now: results and declarations by key name."""

    pairs: Pairs
    values: dict[str, Value]


def wanted(options: Options) -> dict[str, Value]:
    """The options as values of text keys."""
    values: dict[str, Value] = {name: getattr(options, attribute) for name, attribute in OFFERED}
    for name in ("HeaderDigest", "DataDigest"):
        words: tuple[str, ...] = getattr(options, dict(OFFERED)[name])
        values[name] = tuple(_DIGEST_WORDS[word] for word in words)
    return values


def answer(offered: Iterable[tuple[str, str]], mine: Mapping[str, Value], *, discovery: bool = False) -> Answered:
    """The responder's side: what to answer to these pairs, and the values that result.

    `mine` holds our own limits by key name (int, bool, or a tuple of words for lists); where it is silent the key's
    default stands in. Bad values are answered Reject and unknown keys NotUnderstood, so nothing is raised for them.
    Keys of the security stage are not judged here; declarations have no answer and are in `values` only.
    """
    pairs: Pairs = []
    values: dict[str, Value] = {}
    for name, text in offered:
        key = keys.BY_NAME.get(name)
        if key is not None and key.stage == "security":
            continue
        if key is None:
            if text not in keys.RESERVED:
                pairs.append((name, "NotUnderstood"))
        elif key.declarative:
            _declare(key, text, pairs, values)
        elif discovery and not key.discovery:
            pairs.append((name, "Irrelevant"))
        else:
            _respond(key, text, mine.get(name, key.default), pairs, values)
    return Answered(pairs, values)


def _declare(key: Key, text: str, pairs: Pairs, values: dict[str, Value]) -> None:
    try:
        values[key.name] = keys.read(key, text)
    except ProtocolViolation:
        pairs.append((key.name, "Reject"))


def _respond(key: Key, text: str, mine: Value, pairs: Pairs, values: dict[str, Value]) -> None:
    try:
        offer = keys.read(key, text)
    except ProtocolViolation:
        pairs.append((key.name, "Reject"))
        return
    if key.kind == "list":
        allowed = mine if isinstance(mine, tuple) else (mine,)
        picked = next((word for word in (offer if isinstance(offer, tuple) else ()) if word in allowed), None)
        if picked is None:
            pairs.append((key.name, "Reject"))
            return
        value: Value = picked
    else:
        value = keys.result(key, offer, mine)
    values[key.name] = value
    pairs.append((key.name, keys.write(value)))


class Initiator:
    """Our side of one login: `offers` once, `hear` each answer (giving what must be replied), `settle` at the end."""

    def __init__(self, options: Options, *, discovery: bool = False, leading: bool = True) -> None:
        self._discovery = discovery
        self._mine = {
            name: value
            for name, value in wanted(options).items()
            if (not discovery or keys.BY_NAME[name].discovery) and (leading or not keys.BY_NAME[name].leading_only)
        }
        self._offered = False
        self._heard: dict[str, str] = {}
        self.declared: dict[str, Value] = {}

    def offers(self) -> Pairs:
        """All that we offer, in the order of `OFFERED`."""
        self._offered = True
        return [(name, keys.write(value)) for name, value in self._mine.items()]

    def hear(self, pairs: Pairs, stage: str) -> Pairs:
        """Take the target's keys; the pairs are our replies to what it offers itself. Raises ProtocolViolation."""
        replies: Pairs = []
        for name, text in pairs:
            if not self._again(name, text):
                self._heard[name] = text
                replies += self._judge(name, text, stage)
        return replies

    def settle(self) -> dict[str, Value]:
        """What holds in full-feature phase. Raises ProtocolViolation, or LoginRefused where a digest is denied."""
        values = {key.name: key.default for key in keys.TABLE}
        values.update(self.declared)
        for name, mine in self._mine.items():
            key = keys.BY_NAME[name]
            if key.kind == "list":
                values[name] = self._picked(key, mine)
            elif not key.declarative:
                values[name] = self._result(key, mine)
        values["FirstBurstLength"] = keys.result(
            keys.BY_NAME["FirstBurstLength"], values["FirstBurstLength"], values["MaxBurstLength"]
        )
        return values

    def _again(self, name: str, text: str) -> bool:
        if name not in self._heard:
            return False
        key = keys.BY_NAME.get(name)
        # Some targets repeat a declaration in each stage; that is harmless as long as it stays the same.
        if key is None or not key.declarative or self._heard[name] != text:
            raise ProtocolViolation(f"the target negotiates {name} twice in one login", clause="6.2")
        return True

    def _judge(self, name: str, text: str, stage: str) -> Pairs:
        key = keys.BY_NAME.get(name)
        if key is not None and key.stage not in (stage, "any"):
            raise ProtocolViolation(f"the target sent {name} in the {stage} stage", clause=key.clause)
        if key is not None and key.stage == "security":
            return []  # for `authentication.Authentication`
        if key is not None and key.declarative:
            if key.offers != "initiator" and text not in keys.RESERVED:
                self.declared[name] = keys.read(key, text)
            return []
        if key is not None and key.name in self._mine and self._offered:
            return []  # an answer: `settle` judges it
        if text in keys.RESERVED:
            return []
        # The target began with this one. Our reply is the result, but nothing that we act on comes from it.
        return answer([(name, text)], self._mine, discovery=self._discovery).pairs

    def _picked(self, key: Key, mine: Value) -> str:
        offered = mine if isinstance(mine, tuple) else ()
        text = self._heard.get(key.name, "None")
        text = "None" if text in keys.RESERVED else text
        if text in offered:
            return text
        if text == "None":
            raise LoginRefused(
                f"the target denies {key.name}={keys.write(mine)}, which is required; allow none, or enable it there",
                errno=errno.EOPNOTSUPP,
            )
        raise ProtocolViolation(f"the target chose {key.name}={text[:40]}, which was not offered", clause=key.clause)

    def _result(self, key: Key, mine: Value) -> Value:
        text = self._heard.get(key.name, "NotUnderstood")
        # Without a value from the target its side is at the default; ours still narrows it.
        theirs = key.default if text in keys.RESERVED else keys.read(key, text)
        return keys.result(key, theirs, mine)
