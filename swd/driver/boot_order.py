# SPDX-License-Identifier: Apache-2.0
"""The table [startup] of the configuration: what a host asks for when it starts, in boot order, and for how long.

Keys and values only; what is done with them is `swd.startup`'s. Every name is read here, so that a mistake is told with
its line when the file is read, and not by a boot that misses a disk.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from swd.errors import InvalidArgument, SwdError
from swd.proto import names, options
from swd.proto.portal import parse_portal
from swd.proto.url import HardwarePath, IscsiDev, Wwid, parse_dev

if TYPE_CHECKING:
    from swd.driver.config import Setting

_GROUP: Final = re.compile(r"(?!\.{1,2}(?:\?|$))([A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126})(?:\?(.*))?", re.DOTALL)
_TRUTH: Final = {"yes": True, "no": False, "true": True, "false": False}
_LONGEST: Final = 86400.0  # seconds


@dataclass(frozen=True, slots=True)
class Group:
    """A volume group to activate: `partial` although physical volumes are missing, `rw` for writing, too."""

    name: str
    partial: bool = False
    rw: bool = False

    def __str__(self) -> str:
        flags = [f"{flag}=yes" for flag in ("partial", "rw") if getattr(self, flag)]
        return self.name + ("?" + "&".join(flags) if flags else "")


@dataclass(frozen=True, slots=True)
class BootOrder:
    """[startup]: the lists in the order of the boot; time-outs in seconds."""

    discover: tuple[str, ...] = ()  # portals
    login: tuple[str, ...] = ()  # target names and DEVs
    wanted: bool = True  # log in to what `swdctl login` recorded, too
    devices: tuple[str, ...] = ()  # where volume groups are looked for; none: the units that the registry knows
    volume_groups: tuple[Group, ...] = ()
    filesystems: tuple[str, ...] = ()  # DEVs
    attempt_timeout: float = 120.0  # after which the first attempt at the network is over, successful or not
    step_timeout: float = 60.0  # of one portal, target, volume group or file system


def read(settings: Iterable[Setting]) -> BootOrder:
    """The boot order that these settings make, a later one of a key over an earlier. Raises InvalidArgument."""
    values = {one.key: _value(one) for one in settings}
    return BootOrder(**values)


def check_key(setting: Setting) -> None:
    """Raises InvalidArgument, naming the nearest key, for one that has no place in [startup]."""
    if setting.key not in KEYS:
        raise options.unknown(setting.key, KEYS, setting.place)


def from_text(key: str, text: str) -> Any:
    """A value in the words of `config set` as a file holds it: lists have commas. Raises InvalidArgument."""
    kind = _KINDS[key]
    if kind is _flag:
        return _truth(text) if text in _TRUTH else text
    if kind is _seconds:
        return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text) else text
    return [word.strip() for word in text.split(",") if word.strip()]


# --- values ------------------------------------------------------------------------------------------------------


def _value(setting: Setting) -> Any:
    try:
        return _KINDS[setting.key](setting.value)
    except SwdError as error:
        raise InvalidArgument(f"{setting.place}: {setting.key}: {error.reason}") from error


def _list(one: Callable[[str], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise InvalidArgument(f"it is a list of text in quotes, not {value!r:.60}")
        found = tuple(one(item) for item in value)
        again = next((item for item in found if found.count(item) > 1), None)
        if again is not None:
            raise InvalidArgument(f"{again} is listed twice: once is enough")
        return found

    return read_list


def _portal(text: str) -> str:
    return str(parse_portal(text))


def _login(text: str) -> str:
    if names.valid(text):
        return text
    dev = parse_dev(text)
    if not isinstance(dev, (IscsiDev, HardwarePath, Wwid)):
        raise InvalidArgument(f"{dev}: there is nothing to log in to: name an iSCSI target or one of its units")
    return text


def _dev(text: str) -> str:
    parse_dev(text)
    return text


def _group(text: str) -> Group:
    found = _GROUP.fullmatch(text)
    if found is None:
        raise InvalidArgument(f"{text[:80]!a} is no volume group: write NAME, NAME?partial=yes or NAME?rw=yes")
    flags: dict[str, bool] = {}
    for pair in (found[2] or "").split("&") if found[2] is not None else ():
        key, _, word = pair.partition("=")
        if key not in ("partial", "rw") or word not in _TRUTH or key in flags:
            raise InvalidArgument(f"{text[:80]!a}: after the name comes ?partial=yes, ?rw=yes, or both with & between")
        flags[key] = _truth(word)
    return Group(found[1], **flags)


def _truth(word: str) -> bool:
    return _TRUTH[word]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"it is true or false, not {value!r:.60}")
    return value


def _seconds(value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value <= _LONGEST:
        raise InvalidArgument(f"it is a number of seconds, more than 0 and at most {_LONGEST:g}, not {value!r:.60}")
    return float(value)


_KINDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "discover": _list(_portal),
    "login": _list(_login),
    "wanted": _flag,
    "devices": _list(_dev),
    "volume_groups": _list(_group),
    "filesystems": _list(_dev),
    "attempt_timeout": _seconds,
    "step_timeout": _seconds,
}
KEYS: Final = tuple(_KINDS)
assert tuple(field.name for field in fields(BootOrder)) == KEYS
