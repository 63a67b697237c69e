# SPDX-License-Identifier: Apache-2.0
"""The text keys of RFC 7143 chapters 12 and 13 as one table; both sides of a negotiation read it.

Decides what a key is: how its result is made, what it may hold, what holds without it, when and by whom it may be sent.
A new key is a row here, and a row of `negotiate.OFFERED` if we offer it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from swd.errors import ProtocolViolation

Value = int | bool | str | tuple[str, ...]

RESERVED = frozenset({"Reject", "Irrelevant", "NotUnderstood"})  # answers that are no values (6.2)


class Key(NamedTuple):
    """One text key.

    `kind` says how offer and answer make the result: `min`, `max`, `and`, `or`, `list` (the responder picks one), or
    that there is no answer: `number` and `text` are declared. `offers`: who may begin with it. `stage`: `security`,
    `operational`, `any` (both, and full-feature phase) or `full` (full-feature phase only). `discovery`: it means
    something in a discovery session. `leading_only`: on the first connection of a session only.
    """

    name: str
    kind: str
    clause: str
    default: Value = ""
    low: int = 0
    high: int = 0
    values: tuple[str, ...] = ()
    offers: str = "both"  # initiator, target, both
    stage: str = "operational"
    discovery: bool = False
    leading_only: bool = False

    @property
    def declarative(self) -> bool:
        return self.kind in ("number", "text")


_LENGTH = (512, (1 << 24) - 1)
_DIGESTS = ("None", "CRC32C")
_TAG = (0, 65535)

# fmt: off
TABLE: tuple[Key, ...] = (
    Key("AuthMethod", "list", "12.1", "None", values=("CHAP", "None"), stage="security", discovery=True),
    Key("CHAP_A", "text", "12.1.3", stage="security", discovery=True),
    Key("CHAP_I", "text", "12.1.3", stage="security", discovery=True),
    Key("CHAP_C", "text", "12.1.3", stage="security", discovery=True),
    Key("CHAP_N", "text", "12.1.3", stage="security", discovery=True),
    Key("CHAP_R", "text", "12.1.3", stage="security", discovery=True),
    Key("HeaderDigest", "list", "13.1", "None", values=_DIGESTS, discovery=True),
    Key("DataDigest", "list", "13.1", "None", values=_DIGESTS, discovery=True),
    Key("MaxConnections", "min", "13.2", 1, 1, 65535, leading_only=True),
    Key("SendTargets", "text", "13.3", offers="initiator", stage="full", discovery=True),
    Key("TargetName", "text", "13.4", stage="any", discovery=True),
    Key("InitiatorName", "text", "13.5", offers="initiator", stage="any", discovery=True),
    Key("TargetAlias", "text", "13.6", offers="target", stage="any", discovery=True),
    Key("InitiatorAlias", "text", "13.7", offers="initiator", stage="any", discovery=True),
    Key("TargetAddress", "text", "13.8", offers="target", stage="any", discovery=True),
    Key("TargetPortalGroupTag", "number", "13.9", "", *_TAG, offers="target", stage="any", discovery=True),
    Key("InitialR2T", "or", "13.10", True, leading_only=True),
    Key("ImmediateData", "and", "13.11", True, leading_only=True),
    Key("MaxRecvDataSegmentLength", "number", "13.12", 8192, *_LENGTH, stage="any", discovery=True),
    Key("MaxBurstLength", "min", "13.13", 262144, *_LENGTH, leading_only=True),
    Key("FirstBurstLength", "min", "13.14", 65536, *_LENGTH, leading_only=True),
    Key("DefaultTime2Wait", "max", "13.15", 2, 0, 3600, discovery=True, leading_only=True),
    Key("DefaultTime2Retain", "min", "13.16", 20, 0, 3600, discovery=True, leading_only=True),
    Key("MaxOutstandingR2T", "min", "13.17", 1, 1, 65535, leading_only=True),
    Key("DataPDUInOrder", "or", "13.18", True, leading_only=True),
    Key("DataSequenceInOrder", "or", "13.19", True, leading_only=True),
    Key("ErrorRecoveryLevel", "min", "13.20", 0, 0, 2, discovery=True, leading_only=True),
    Key("SessionType", "text", "13.21", "Normal", offers="initiator", stage="any", discovery=True, leading_only=True),
    Key("TaskReporting", "list", "13.23", "RFC3720", values=("RFC3720",), leading_only=True),
    Key("iSCSIProtocolLevel", "min", "13.24", 1, 0, 31, leading_only=True),
    Key("X#NodeArchitecture", "text", "13.26", stage="any", discovery=True),
)
# fmt: on
BY_NAME = {key.name: key for key in TABLE}


def read(key: Key, text: str) -> Value:
    """The value in a text, of the type of the key's default (a list gives its words). Raises ProtocolViolation."""
    if key.kind in ("and", "or"):
        if text not in ("Yes", "No"):
            raise _bad(key, text, "is neither Yes nor No")
        return text == "Yes"
    if key.kind == "list":
        return tuple(text.split(","))
    if key.kind == "text":
        return text
    number = _number(text)
    if number is None or not key.low <= number <= key.high:
        raise _bad(key, text, f"is not in {key.low}..{key.high}")
    return number


def write(value: Value) -> str:
    """The text of a value."""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def result(key: Key, left: Value, right: Value) -> Value:
    """What two numbers or booleans make by the key's result function; the order does not matter."""
    if key.kind in ("min", "and"):
        return min(left, right)
    if key.kind in ("max", "or"):
        return max(left, right)
    raise ValueError(f"{key.name} has no result function")


def _number(text: str) -> int | None:
    # 6.1: a numerical value is a decimal or a hex constant.
    if re.fullmatch("[0-9]{1,20}", text):
        return int(text)
    return int(text, 16) if re.fullmatch("0[xX][0-9a-fA-F]{1,16}", text) else None


def _bad(key: Key, text: str, why: str) -> ProtocolViolation:
    return ProtocolViolation(f"the peer sent {key.name}={text[:40]}, which {why}", clause=key.clause)
