# SPDX-License-Identifier: Apache-2.0
"""iSCSI names: iqn., eui. and naa. (RFC 7143 4.2.7), checked and normalised as RFC 3722 says.

Two names are the same node when `validate` gives the same text for both. On the wire the name goes as it was written,
because some targets compare bytes. Names come from hostile places (SendTargets, redirects) and end up in paths, logs
and terminals, so everything that is not plainly a name is refused.
"""

from __future__ import annotations

import re
import stringprep
import unicodedata

from swd.errors import InvalidArgument

MAX_NAME = 223  # bytes of UTF-8 (4.2.7.2)

# RFC 3722 leaves letters, digits, '-', '.' and ':' of ASCII. '_' and '@' are not among them, but shipped targets have
# them in their names, and neither can do harm in a path or on a terminal.
_ASCII = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.:_@")

_TYPES = {
    "iqn": (
        re.compile(r"iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[^.:][^:]*(:.*)?"),
        "iqn.yyyy-mm.reversed.domain[:anything]",
    ),
    "eui": (re.compile(r"eui\.[0-9a-f]{16}"), "eui. and 16 hex digits"),
    "naa": (re.compile(r"naa\.([0-9a-f]{16}|[0-9a-f]{32})"), "naa. and 16 or 32 hex digits"),
}

# RFC 3722 section 5; the ASCII part is covered by the table above.
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,  # not assigned in the Unicode version that stringprep speaks of
)


def validate(name: str) -> str:
    """The normalised name. Raises InvalidArgument that says what is wrong, with the name made printable."""
    normal = _normalise(name)
    why = _fault(normal)
    if why is not None:
        shown = ascii(name if len(name) <= 80 else name[:77] + "...")
        raise InvalidArgument(f"{shown} is no iSCSI name: {why}")
    return normal


def valid(name: str) -> bool:
    """Whether `validate` would take it; for callers that must not show the name."""
    return _fault(_normalise(name)) is None


def _normalise(name: str) -> str:
    if name.isascii():
        return name.lower()
    # RFC 3722 section 3: delete table B.1, fold by table B.2, then NFKC.
    if len(name) > MAX_NAME:  # every character is a byte at least: do not normalise what is too long anyway
        return name
    folded = "".join(stringprep.map_table_b2(char) for char in name if not stringprep.in_table_b1(char))
    return unicodedata.normalize("NFKC", folded)


def _fault(name: str) -> str | None:
    if len(name) > MAX_NAME or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME:
        return f"it is longer than {MAX_NAME} bytes"
    for char in name:
        if (char not in _ASCII) if char.isascii() else _prohibited(char):
            return f"the character U+{ord(char):04X} is not allowed"
    if not name.isascii() and not _bidi_sound(name):
        return "it mixes left-to-right and right-to-left characters"
    known = _TYPES.get(name[:3])
    if known is None or name[3:4] != ".":
        return "it must begin with iqn., eui. or naa."
    pattern, form = known
    return None if pattern.fullmatch(name) else f"the form is {form}"


def _prohibited(char: str) -> bool:
    return char == "\u3002" or any(table(char) for table in _PROHIBITED)  # U+3002: the ideographic full stop


def _bidi_sound(name: str) -> bool:
    # RFC 3454 section 6. A name begins with a left-to-right letter, so no right-to-left one may follow.
    return not any(stringprep.in_table_d1(char) for char in name)
