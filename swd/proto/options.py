# SPDX-License-Identifier: Apache-2.0
"""The options of a session: one table for URLs, the configuration file, `-O key=value` and Python keywords.

Decides which keys there are, what they may hold and what holds when they are absent; acts on none of them. A new option
is a field of `Options` (its default) and a row of `TABLE` (its kind, limits and help).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from swd.errors import InvalidArgument, Unsupported
from swd.proto import names, units


@dataclass(frozen=True, slots=True)
class Options:
    """All options, checked. Times in seconds, lengths in bytes; no secret is ever among them.

    `auth` None means "require" where there are credentials and "none" where there are none (`wanted_auth`).
    A digest list without "none" makes the digest compulsory.
    """

    header_digest: tuple[str, ...] = ("none", "crc32c")
    data_digest: tuple[str, ...] = ("none", "crc32c")
    auth: str | None = None
    # The target takes the first that it knows. tgtd (1.0.85) says 7, which is SHA-256, and means SHA-1: a login with
    # SHA-256 before MD5 in the list fails there, so it comes last. The hash is not what makes CHAP weak.
    chap_algs: tuple[str, ...] = ("sha3-256", "sha1", "md5", "sha256")
    secret_file: str | None = None
    user: str | None = None
    target_user: str | None = None
    target_secret_file: str | None = None
    chap_short_secret: bool = False
    initiator_name: str | None = None
    isid: bytes | None = None
    timeout: float = 30.0
    login_timeout: float = 15.0
    replacement_timeout: float = 120.0
    max_recv_data_segment_length: int = 1 << 20
    max_burst_length: int = 16776192
    first_burst_length: int = 1 << 20
    initial_r2t: bool = False
    immediate_data: bool = True
    max_outstanding_r2t: int = 8
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    default_time2wait: int = 2
    default_time2retain: int = 20
    sessions: int = 1
    connections: int = 1
    error_recovery_level: int = 0
    queue_depth: int = 32
    congestion: str | None = None
    spin_us: int = 0
    coalesce: bool = True
    ring: int = 262144
    half_refill: int = 65536
    rcvbuf: int = 0
    sndbuf: int = 0
    notsent_lowat: int = 0
    cache_loss: str = "standard"
    stable_writes: str | None = None
    path_settle: float = 5.0
    failover_fence: str = "none"
    partition: int | None = None

    def wanted_auth(self, *, credentials: bool) -> str:
        """`none`, `chap` (offered, but None is taken as well) or `require`."""
        return self.auth or ("require" if credentials else "none")


class Row(NamedTuple):
    """One key. `low` and `high` bound numbers (for text: its length); `words` are the choices.

    `built` names what works in this version where that is less than what the key allows: the highest number, or all
    the values; anything else is Unsupported.
    """

    name: str
    kind: str  # a key of _READERS
    help: str
    low: float = 0
    high: float = 0
    words: tuple[str, ...] = ()
    built: int | tuple[str | bool, ...] | None = None

    @property
    def default(self) -> object:
        return getattr(DEFAULTS, self.name)


DEFAULTS = Options()
_LENGTH = (512, (1 << 24) - 1)  # RFC 7143 13.12 to 13.14
_WAIT = (0, 3600)  # RFC 7143 13.15, 13.16
_DAY = 86400

TABLE: tuple[Row, ...] = (
    Row("header_digest", "digests", "checksum of PDU headers: crc32c and none, best first; crc32c! insists"),
    Row("data_digest", "digests", "checksum of data segments: crc32c and none, best first; crc32c! insists"),
    Row("auth", "word", "none, chap (where the target wants it), require", words=("none", "chap", "require")),
    Row("chap_algs", "words", "CHAP algorithms, best first", words=("sha3-256", "sha256", "sha1", "md5")),
    Row("secret_file", "text", "file (0600) with our CHAP secret; - is standard input", 1, 4096),
    Row("user", "text", "our CHAP name", 1, 255),
    Row("target_user", "text", "the CHAP name by which the target must prove itself", 1, 255),
    Row("target_secret_file", "text", "file (0600) with the target's CHAP secret (mutual CHAP)", 1, 4096),
    Row("chap_short_secret", "bool", "take CHAP secrets of fewer than 12 bytes"),
    Row("initiator_name", "name", "our iSCSI name"),
    Row("isid", "isid", "12 hex digits: a fixed initiator session id"),
    Row("timeout", "seconds", "deadline of a command", 0.001, _DAY),
    Row("login_timeout", "seconds", "deadline of connecting and logging in", 0.001, _DAY),
    Row("replacement_timeout", "seconds", "how long a lost session may take to come back", 0, _DAY),
    Row("max_recv_data_segment_length", "size", "longest data segment that we take", *_LENGTH),
    Row("max_burst_length", "size", "longest burst of solicited data", *_LENGTH),
    Row("first_burst_length", "size", "longest burst of unsolicited data; at most max_burst_length", *_LENGTH),
    Row("initial_r2t", "bool", "wait for R2T before any Data-Out"),
    Row("immediate_data", "bool", "send the first data along with the command"),
    Row("max_outstanding_r2t", "int", "R2Ts that may be open for one command", 1, 65535),
    Row("data_pdu_in_order", "bool", "PDUs of a burst come in the order of their offsets", built=(True,)),
    Row("data_sequence_in_order", "bool", "bursts come in the order of their offsets", built=(True,)),
    Row("default_time2wait", "int", "seconds to wait before a reconnect", *_WAIT),
    Row("default_time2retain", "int", "seconds that the target keeps the state of a lost session", *_WAIT),
    Row("sessions", "int", "sessions over which the I/O of one disk is spread, a thread each", 1, 64),
    Row("connections", "int", "connections of one session", 1, 65535, built=1),
    Row("error_recovery_level", "int", "0 to 2", 0, 2, built=0),
    Row("queue_depth", "int", "commands in flight", 1, 4096),
    Row("congestion", "text", "TCP congestion control of this host, such as cubic", 1, 15),
    Row("spin_us", "int", "microseconds that a wait polls before it sleeps; 0: it sleeps at once", 0, 1000),
    Row("coalesce", "bool", "a receive waits for as many bytes, and takes as many, as suits the target"),
    Row("ring", "size", "bytes that one receive can bring", 4096, 1 << 24),
    Row("half_refill", "size", "bytes of an I/O from which a batch refills when half its queue is done", 512, 1 << 30),
    Row("rcvbuf", "size", "bytes of the socket's receive buffer; 0: the kernel tunes it", 0, 1 << 30),
    Row("sndbuf", "size", "bytes of the socket's send buffer; 0: the kernel's choice, on one host 512K", 0, 1 << 30),
    Row("notsent_lowat", "size", "bytes that may wait unsent in the socket; 0: as many as fit", 0, 1 << 30),
    Row(
        "cache_loss",
        "word",
        "strict: the first power-on unit attention of a session counts as a lost cache, too",
        words=("standard", "strict"),
    ),
    Row(
        "stable_writes",
        "word",
        "copy: the caller may change a buffer while it is written (the default for asyncio and FUSE); none: it may not",
        words=("none", "copy"),
    ),
    Row("path_settle", "seconds", "rest between the loss of a path and replay on another", 0, 600),
    Row(
        "failover_fence",
        "word",
        "what ends old commands before replay on another path",
        words=("none", "wait", "lun_reset"),
    ),
    Row("partition", "int", "open this partition only: its number in the GPT or MBR", 1, 65535),
)
BY_NAME = {row.name: row for row in TABLE}
TOP_LEVEL = ("errno_profile", "phase_timeout")


def read(
    mapping: Mapping[str, object] | Iterable[tuple[str, object]],
    base: Options = DEFAULTS,
    source: str = "options",
) -> Options:
    """`base` with these keys changed; values are text (URL, TOML, `-O`) or Python's own. `source` begins each message.

    Raises InvalidArgument (unknown or repeated key, bad value), Unsupported (not built yet), TypeError (wrong type).
    """
    pairs = list(mapping.items() if isinstance(mapping, Mapping) else mapping)
    changes: dict[str, object] = {}
    for key, value in pairs:
        if key in changes:
            raise InvalidArgument(f"{source}: {key} is given twice; which one is meant?")
        row = find(key, source)
        changes[key] = _value(row, value, source)
    return _consistent(dataclasses.replace(base, **changes), changes, source)  # type: ignore[arg-type]  # read by TABLE


def find(key: str, source: str = "options") -> Row:
    """The row of a key. Raises InvalidArgument that names the nearest key."""
    if key in BY_NAME:
        return BY_NAME[key]
    if key in TOP_LEVEL:
        raise InvalidArgument(f"{source}: {key} is a top-level key of the configuration file; it cannot be set here")
    raise unknown(key, BY_NAME, source)


def unknown(key: str, known: Iterable[str], source: str) -> InvalidArgument:
    """The error for a key that is none of `known`, with the nearest of them."""
    near = difflib.get_close_matches(key.lower().replace("-", "_"), list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "swdctl config show lists the keys"
    return InvalidArgument(f"{source}: unknown key {key[:60]!a}; {hint}")


def _value(row: Row, value: object, source: str) -> object:
    where = f"{source}: {row.name}"
    if value is None and row.default is None:
        return None
    result = _READERS[row.kind](row, value, where)
    if isinstance(row.built, int) and isinstance(result, int) and result > row.built:
        most = f"only {row.built} is" if row.built >= row.low else "it is not"
        raise Unsupported(f"{where}={result}: {most} built yet")
    if isinstance(row.built, tuple) and result not in row.built:
        raise Unsupported(f"{where}={result}: not built yet; {' and '.join(map(str, row.built))} works")
    return result


def _consistent(options: Options, changes: Mapping[str, object], source: str) -> Options:
    if options.sessions > 1 and options.isid is not None:
        raise InvalidArgument(f"{source}: one isid cannot serve {options.sessions} sessions: leave one of the two out")
    if options.first_burst_length <= options.max_burst_length:
        return options
    if "first_burst_length" in changes:
        raise InvalidArgument(f"{source}: first_burst_length is above max_burst_length {options.max_burst_length}")
    return dataclasses.replace(options, first_burst_length=options.max_burst_length)


def _bool(_row: Row, value: object, where: str) -> bool:
    if isinstance(value, bool):
        return value
    word = _str(value, where, "yes or no").lower()
    if word in ("yes", "true", "on", "1"):
        return True
    if word in ("no", "false", "off", "0"):
        return False
    raise InvalidArgument(f"{where}: {word[:40]!r} is neither yes nor no")


def _int(row: Row, value: object, where: str) -> int:
    if isinstance(value, str):
        if not re.fullmatch("[0-9]{1,10}", value):
            raise InvalidArgument(f"{where}: {value[:40]!r} is no whole number")
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{where}: a whole number is wanted, not {type(value).__name__}")
    return int(_ranged(row, value, where))


def _size(row: Row, value: object, where: str) -> int:
    return _int(row, units.parse_size(value) if isinstance(value, str) else value, where)


def _seconds(row: Row, value: object, where: str) -> float:
    if isinstance(value, str):
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?s?", value):
            raise InvalidArgument(f"{where}: {value[:40]!r} is no number of seconds")
        value = float(value.rstrip("s"))
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{where}: a number of seconds is wanted, not {type(value).__name__}")
    return float(_ranged(row, value, where))


def _ranged(row: Row, value: float, where: str) -> float:
    if not math.isfinite(value) or not row.low <= value <= row.high:
        raise InvalidArgument(f"{where}: {value} is out of range {row.low:g}..{row.high:.16g}")
    return value


def _text(row: Row, value: object, where: str) -> str:
    text = _str(value, where, "text")
    if not row.low <= len(text) <= row.high or not text.isprintable():
        raise InvalidArgument(f"{where}: 1 to {row.high:g} printable characters are wanted")
    return text


def _word(row: Row, value: object, where: str) -> str:
    word = _str(value, where, "a word").lower()
    if word not in row.words:
        raise InvalidArgument(f"{where}: {word[:40]!r} is none of {', '.join(row.words)}")
    return word


def _words(row: Row, value: object, where: str) -> tuple[str, ...]:
    words = tuple(_word(row, word, where) for word in _list(value, where))
    if not words or len(set(words)) != len(words):
        raise InvalidArgument(f"{where}: a list of {', '.join(row.words)} is wanted, each at most once")
    return words


def _digests(_row: Row, value: object, where: str) -> tuple[str, ...]:
    words = tuple(word.lower() for word in _list(value, where))
    if words == ("crc32c!",):
        return ("crc32c",)
    if not words or set(words) - {"crc32c", "none"} or len(set(words)) != len(words):
        raise InvalidArgument(f"{where}: crc32c,none or none,crc32c or one of them is wanted, or crc32c! alone")
    return words


def _list(value: object, where: str) -> list[str]:
    if isinstance(value, str):
        return [word.strip() for word in value.split(",")]
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{where}: a list of words is wanted, not {type(value).__name__}")
    return [_str(word, where, "a word") for word in value]


def _name(_row: Row, value: object, where: str) -> str:
    name = _str(value, where, "an iSCSI name")
    names.validate(name)
    return name


def _isid(_row: Row, value: object, where: str) -> bytes:
    if isinstance(value, str) and re.fullmatch("(0[xX])?[0-9a-fA-F]{12}", value):
        value = bytes.fromhex(value[-12:])
    if isinstance(value, str) or (isinstance(value, bytes) and len(value) != 6):
        raise InvalidArgument(f"{where}: 12 hex digits (6 bytes) are wanted")
    if not isinstance(value, bytes):
        raise TypeError(f"{where}: 12 hex digits or 6 bytes are wanted, not {type(value).__name__}")
    return value


def _str(value: object, where: str, wanted: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{where}: {wanted} is wanted, not {type(value).__name__}")
    return value


_READERS: dict[str, Callable[[Row, object, str], object]] = {
    "bool": _bool,
    "int": _int,
    "size": _size,
    "seconds": _seconds,
    "text": _text,
    "word": _word,
    "words": _words,
    "digests": _digests,
    "name": _name,
    "isid": _isid,
}
