# SPDX-License-Identifier: Apache-2.0
"""LUNs: the 64-bit field that goes over the wire, and the numbers that people write (SAM-5 4.7).

`field` and `number` are exact inverses, so what is shown can be typed again and reaches the same unit. A field in a
form that `field` would not have chosen (flat space below 256, several levels, extended) is written with its 16 digits.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from swd.errors import InvalidArgument

MAX_NUMBER = 16383  # what 14 bits of flat space addressing hold (SAM-5 4.7.7.3)
_FIELD_BITS = 64
_FIRST_LEVEL = 48  # bits below the first level of a field
_PERIPHERAL_LIMIT = 256
_FLAT = 0x4000
_FORMS = f"a LUN is a number 0..{MAX_NUMBER}, or 0x and the 16 hex digits of a SAM field"


class Address(NamedTuple):
    """One level of a LUN field: addressing method in words, the numbers it holds, and the bytes that it takes."""

    method: str
    bus: int
    target: int
    lun: int
    size: int


def field(n: int) -> int:
    """The 64-bit field of LUN number `n`; a larger int is taken for a field already. Raises InvalidArgument."""
    if 0 <= n < _PERIPHERAL_LIMIT:
        return n << _FIRST_LEVEL
    if 0 <= n <= MAX_NUMBER:
        return (_FLAT | n) << _FIRST_LEVEL
    # Between the two lie fields of LUN 0 with rubbish behind it: surely a number that is too large.
    if not 1 << _FIRST_LEVEL <= n < 1 << _FIELD_BITS:
        raise InvalidArgument(f"LUN {n} is out of range: {_FORMS}")
    return n


def number(field: int) -> int | None:
    """The number that `field(number)` turns into this very field, or None where there is none."""
    first, rest = field >> _FIRST_LEVEL, field & ((1 << _FIRST_LEVEL) - 1)
    if rest:
        return None
    if first < _PERIPHERAL_LIMIT:
        return first
    if _FLAT | _PERIPHERAL_LIMIT <= first <= _FLAT | MAX_NUMBER:
        return first & MAX_NUMBER
    return None


def parse(text: str) -> int:
    """The field for `0..16383` or `0x` + 16 hex digits. Raises InvalidArgument."""
    if re.fullmatch(r"0[xX][0-9a-fA-F]{16}", text):
        return int(text, 16)
    if re.fullmatch(r"[0-9]{1,5}", text) and int(text) <= MAX_NUMBER:
        return field(int(text))
    raise InvalidArgument(f"{text[:40]!r} is no LUN: {_FORMS}")


def text(field: int) -> str:
    """What `parse` reads back: the number if there is one, else the 16 digits."""
    n = number(field)
    return f"0x{field:016x}" if n is None else str(n)


def decode(field: int) -> Address:
    """What the first level of a field says. Raises InvalidArgument for an extended form that SAM-5 does not define."""
    first = field >> _FIRST_LEVEL
    low = first & 0xFF
    method = first >> 14
    if method == 0:  # SAM-5 4.7.7.2
        return Address("peripheral device", first >> 8 & 0x3F, 0, low, 2)
    if method == 1:  # SAM-5 4.7.7.3
        return Address("flat space", 0, 0, first & MAX_NUMBER, 2)
    if method == 2:  # SAM-5 4.7.7.4
        return Address("logical unit", low >> 5, first >> 8 & 0x3F, low & 0x1F, 2)
    return _extended(field)


# (LENGTH, EXTENDED ADDRESS METHOD) -> name and bytes of the level (SAM-5 4.7.7.5).
_EXTENDED = {
    (0, 1): ("well known logical unit", 2),
    (1, 2): ("extended flat space", 4),
    (2, 2): ("long extended flat space", 6),
    (3, 15): ("not specified", 8),
}


def _extended(field: int) -> Address:
    first_byte = field >> 56
    known = _EXTENDED.get((first_byte >> 4 & 3, first_byte & 15))
    if known is None:
        raise InvalidArgument(f"0x{field:016x} is no LUN: its extended address method is not defined")
    name, size = known
    payload = field & ((1 << 56) - 1)
    return Address(name, 0, 0, payload >> 8 * (8 - size), size)
