# SPDX-License-Identifier: Apache-2.0
"""The values that a fault plan may hold, each read by a function of its own: checked once, when the plan is made.

A reader takes what TOML or Python gave and returns what the rest of the package works with; a ValueError says in a few
words what would be right. Nothing here knows which key a value belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from swd.errors import InvalidArgument
from swd.proto import lun
from swd.proto.pdu import Opcode
from swd.target.scsi.reply import fixed_sense

MOST: Final = (1 << 64) - 1
MOST_SENSE: Final = 252  # bytes (SPC-4 4.5.1)

# Commands by the words of a plan; an int is an operation code.
COMMANDS: Final[Mapping[str, tuple[int, ...]]] = {
    "READ": (0x08, 0x28, 0x88, 0xA8),
    "WRITE": (0x0A, 0x2A, 0x8A, 0xAA),
    "FLUSH": (0x35, 0x91),
    "UNMAP": (0x42,),
    "WRITE_SAME": (0x41, 0x93),
    "COMPARE_AND_WRITE": (0x89,),
    "VERIFY": (0x2F, 0x8F, 0xAF),
    "INQUIRY": (0x12,),
    "TEST_UNIT_READY": (0x00,),
    "READ_CAPACITY": (0x25, 0x9E),
    "REPORT_LUNS": (0xA0,),
    "REQUEST_SENSE": (0x03,),
    "MODE_SENSE": (0x1A, 0x5A),
    "PERSISTENT_RESERVE": (0x5E, 0x5F),
    "START_STOP_UNIT": (0x1B,),
}
EVENTS: Final[Mapping[str, int]] = {  # of an asynchronous message (RFC 7143 11.9.1)
    "scsi": 0,
    "logout": 1,
    "drop_connection": 2,
    "drop_session": 3,
    "renegotiate": 4,
    "vendor": 255,
}
REASONS: Final[Mapping[str, int]] = {  # of a Reject (RFC 7143 11.17.1)
    "data_digest": 0x02,
    "snack": 0x03,
    "protocol": 0x04,
    "not_supported": 0x05,
    "too_many_immediate": 0x06,
    "task_in_progress": 0x07,
    "invalid_data_ack": 0x08,
    "invalid_field": 0x09,
    "out_of_resources": 0x0A,
    "negotiation_reset": 0x0B,
    "waiting_for_logout": 0x0C,
}
STATES: Final = ("login", "discovery", "full_feature")
PDUS: Final = tuple(opcode.name for opcode in Opcode)


class Range(NamedTuple):
    """Whole numbers from `low` to `high`, both included; None: no end."""

    low: int
    high: int | None

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.low <= number and (self.high is None or number <= self.high)

    def meets(self, first: int, count: int) -> bool:
        """Whether `count` numbers from `first` on touch the range; none at all still stand at `first`."""
        return first + max(count, 1) > self.low and (self.high is None or first <= self.high)

    def __str__(self) -> str:
        if self.high == self.low:
            return str(self.low)
        return f"{self.low}-{'' if self.high is None else self.high}"


class SenseData(NamedTuple):
    """Sense data as they come, and the words for people."""

    raw: bytes
    said: str

    def __str__(self) -> str:
        return self.said


def whole(value: object, low: int = 0, high: int = MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"a whole number from {low} {'on, of at most 64 bits' if high == MOST else f'to {high}'}")
    return value


def signed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MOST:
        raise ValueError("a whole number of at most 64 bits")
    return value


def unit(value: object) -> int:
    """The number of a logical unit, or a LUN's whole field."""
    number = whole(value)
    try:
        lun.field(number)
    except InvalidArgument as error:
        raise ValueError(error.reason) from None
    return number


def shown(value: object) -> str:
    """A value for a message, as far as it fits."""
    try:
        return ascii(value)[:60]
    except ValueError:  # Python does not write numbers of more than some thousands of digits
        return "a number beyond all measure"


def counting(value: object) -> int:
    return whole(value, 1)


def byte(value: object) -> int:
    return whole(value, 0, 255)


def seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 86400:
        raise ValueError("seconds, 0 to 86400")
    return float(value)


def chance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ValueError("a probability above 0 and up to 1")
    return float(value)


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable() or len(value) > 4096:
        raise ValueError("text of printable characters")
    return value


def loose_text(value: object) -> str:
    """As it will stand in a text key: nothing is too wrong."""
    if not isinstance(value, str) or len(value) > 1 << 20:
        raise ValueError("text")
    return value


def span(value: object) -> Range:
    """5, "5", "5-9" or "5-"."""
    words = 'a number, or a range as "5-9" or "5-"'
    if isinstance(value, str):
        low, dash, high = value.partition("-")
        if not _digits(low) or (high and not _digits(high)):
            raise ValueError(words)
        found = Range(int(low), int(high) if high else None if dash else int(low))
    elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST:
        found = Range(value, value)
    else:
        raise ValueError(words)
    if found.high is not None and found.high < found.low:
        raise ValueError("a range that does not end before it begins")
    return found


def sense(value: object) -> SenseData:
    """ "3/11/00": key, ASC and ASCQ in hexadecimal. Or all of the sense data: "72 03 11 00 00 00 00 00"."""
    text = value if isinstance(value, str) else ""
    try:
        if "/" not in text:
            raw = bytes.fromhex(text)
            if 1 <= len(raw) <= MOST_SENSE:
                return SenseData(raw, raw.hex(" "))
        key, asc, ascq = (int(part, 16) for part in text.split("/"))
        if 0 <= key <= 15 and 0 <= asc <= 255 and 0 <= ascq <= 255:
            return SenseData(fixed_sense(key, asc, ascq), f"{key:X}/{asc:02X}/{ascq:02X}")
    except ValueError:
        pass
    raise ValueError(f'sense as "KEY/ASC/ASCQ" in hexadecimal, such as "3/11/00", or 1 to {MOST_SENSE} bytes of it')


def pdus(value: object) -> frozenset[str]:
    return frozenset(_each(value, "PDU names", lambda name: _word(name, PDUS)))


def commands(value: object) -> frozenset[int]:
    codes: set[int] = set()
    for item in value if isinstance(value, (list, tuple)) else [value]:
        if isinstance(item, str):
            codes.update(COMMANDS[_word(item, tuple(COMMANDS))])
        else:
            codes.add(byte(item))
    if not codes:
        raise ValueError("command names or operation codes")
    return frozenset(codes)


def state(value: object) -> str:
    return _word(value, STATES)


def event(value: object) -> int:
    return EVENTS[_word(value, tuple(EVENTS))] if isinstance(value, str) else byte(value)


def reason(value: object) -> int:
    return REASONS[_word(value, tuple(REASONS))] if isinstance(value, str) else byte(value)


def status(value: object) -> int:
    """Class and detail of a Login Response: "0301" or 0x0301."""
    if isinstance(value, str) and len(value) == 4 and all(digit in "0123456789abcdefABCDEF" for digit in value):
        return int(value, 16)
    if isinstance(value, int):
        return whole(value, 0, 0xFFFF)
    raise ValueError('class and detail as four hex digits, such as "0301"')


def nearest(word: str, known: tuple[str, ...]) -> str:
    """'; did you mean X?' where a known word is near, else the list of them."""
    import difflib

    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def line(value: object) -> str:
    """A setting for people: text in one line, cut where it becomes tiresome."""
    told = str(value)
    told = told if len(told) <= 80 else f"{told[:77]}..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in told)


def _digits(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) < 20  # which 64 bits hold


def _word(value: object, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"a word of its table{nearest(str(value)[:40], known)}")
    return value


def _each(value: object, words: str, one: Callable[[object], str]) -> list[str]:
    items = value if isinstance(value, (list, tuple)) else [value]
    if not items:
        raise ValueError(words)
    return [one(item) for item in items]
