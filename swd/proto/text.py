# SPDX-License-Identifier: Apache-2.0
"""Text of Login and Text PDUs: key=value pairs, each ended by a NUL, possibly split over PDUs (RFC 7143 6.1, 6.2).

Decides what is well formed; knows no key and no stage. Key names are case-sensitive. Everything here that reads a
peer's bytes raises ProtocolViolation and nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from swd.errors import ProtocolViolation

Pairs = list[tuple[str, str]]

MAX_KEY = 63  # characters (6.1)
MAX_VALUE = 4096  # bytes: a 1024-byte CHAP challenge in hex is 2050, target names and addresses are shorter
LOGIN_BUDGET = 65536  # bytes of one logical text in login
LOGIN_EXCHANGES = 64  # PDUs that one logical text may be split over

# 6.1: a capital letter, then letters, digits and . - + @ _; '#' is for X#NodeArchitecture (13.26).
_KEY = re.compile(r"[A-Z][A-Za-z0-9.+@_#-]{0,62}")
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Unicode categories: controls, lone surrogates, line separators


def encode(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The logical text of these pairs, UTF-8. A key or value that could not be read back raises ValueError."""
    data = bytearray()
    for key, value in pairs:
        if not _KEY.fullmatch(key) or _fault(value) is not None:
            raise ValueError(f"the text key {key!r} or its value cannot be written")
        data += f"{key}={value}\0".encode()
    return bytes(data)


def decode(data: bytes, *, repeats: bool = False) -> Pairs:
    """The pairs in a complete logical text, in order; raises ProtocolViolation.

    A key that comes twice is refused unless `repeats` (a SendTargets answer repeats TargetName and TargetAddress).
    """
    pairs: Pairs = []
    seen: set[str] = set()
    for item in _items(data):
        key, value = _pair(item)
        if key in seen and not repeats:
            raise ProtocolViolation(f"the text key {key} comes twice in one negotiation", clause="6.2")
        seen.add(key)
        pairs.append((key, value))
    return pairs


def split(data: bytes, limit: int) -> list[bytes]:
    """`data` in pieces of at most `limit` bytes, at least one; all but the last go out with the C bit set."""
    if limit < 1:
        raise ValueError(f"a text cannot be split into pieces of {limit} bytes")
    return [data[start : start + limit] for start in range(0, len(data), limit)] or [b""]


class Collector:
    """Puts the pieces of one split text together, within a budget of bytes and a limit of PDUs.

    After it has given a text away it is empty and ready for the next one. After an error it must not be used again.
    """

    def __init__(self, budget: int = LOGIN_BUDGET, exchanges: int = LOGIN_EXCHANGES) -> None:
        self._budget = budget
        self._exchanges = exchanges
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether a text has begun and its end has not come."""
        return bool(self._pieces)

    def add(self, data: bytes, *, continued: bool) -> bytes | None:
        """Take one segment: the whole text if it is the last (C bit clear), else None. Raises ProtocolViolation."""
        self._pieces.append(bytes(data))
        self._size += len(data)
        if self._size > self._budget:
            raise ProtocolViolation(f"a text is longer than {self._budget} bytes; giving up", clause="6.2")
        if continued and len(self._pieces) >= self._exchanges:
            raise ProtocolViolation(f"a text is split over more than {self._exchanges} PDUs", clause="6.2")
        if continued:
            return None
        whole = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return whole


def _items(data: bytes) -> list[bytes]:
    # Some targets count the padding into DataSegmentLength: more NULs at the end are harmless.
    body = data.rstrip(b"\0")
    if body and len(body) == len(data):
        raise ProtocolViolation("a text does not end with a NUL: it was cut off", clause="6.1")
    return body.split(b"\0") if body else []


def _pair(item: bytes) -> tuple[str, str]:
    raw_key, equals, raw_value = item.partition(b"=")
    if not equals:
        raise ProtocolViolation("a text holds something that is not key=value", clause="6.1")
    key = raw_key.decode("ascii", "replace")
    if not _KEY.fullmatch(key):
        raise ProtocolViolation(f"a text holds an illegal key name ({len(raw_key)} bytes)", clause="6.1")
    value = raw_value.decode("utf-8", "replace")
    fault = _fault(value) if value.encode() == raw_value else "is not UTF-8"
    if fault is not None:
        raise ProtocolViolation(f"the value of the text key {key} {fault}", clause="6.1")
    return key, value


def _fault(value: str) -> str | None:
    if len(value.encode()) > MAX_VALUE:
        return f"is longer than {MAX_VALUE} bytes"
    # Values end up on terminals and in logs: no control character gets past this point.
    if not value.isprintable() and any(unicodedata.category(char) in _CONTROL for char in value):
        return "holds a control character"
    return None
