# SPDX-License-Identifier: Apache-2.0
"""Device names: from text to the records of `swd.proto.dev`. A form is a row of `_SCHEMES` or a test in `parse_dev`.

A name with a password in it is refused, and nothing of it is repeated: neither in the message nor in a chained error.
A password may hold '/', '?' or '#' and then tears the URL apart, so once an '@' is about, no part of the text is quoted
until the place of that '@' is known.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Collection
from urllib.parse import unquote
from uuid import UUID

from swd.errors import InvalidArgument, NoSuchDevice, SwdError
from swd.proto import lun as _lun
from swd.proto import names, options
from swd.proto.dev import (
    PLAIN_USER,
    Dev,
    FaultDev,
    FileDev,
    HardwarePath,
    IscsiDev,
    IswDev,
    LvmDev,
    MemDev,
    Settings,
    Wwid,
)
from swd.proto.portal import parse_portal, parse_target_address
from swd.proto.units import parse_size

__all__ = [
    "Dev",
    "FaultDev",
    "FileDev",
    "HardwarePath",
    "IscsiDev",
    "IswDev",
    "LvmDev",
    "MemDev",
    "Settings",
    "Wwid",
    "parse_dev",
    "parse_portal",
    "parse_size",
    "parse_target_address",
]

EXAMPLE = "iscsi://192.0.2.10/iqn.2026-01.org.example:disk/0"
_FORMS = (
    "iscsi://host/target-name/lun, 255/0/s.b.t.l, wwid:..., lvm://VG/LV, mem://SIZE, file://PATH, a path with a /, isw:"
)
_REFUSED = (
    "this iscsi:// name cannot be read: the form is iscsi://[user@]host[:port]/target-name/lun, and a password has no "
    "place in it.\nGive the secret by secret_file=FILE (0600), SWD_CHAP_SECRET, the keyring, a prompt, or swd.Chap(...)"
)
_BLOCK_SIZES = tuple(str(1 << power) for power in range(9, 17))
_HARDWARE = re.compile(r"255/0/([0-9]{1,9})\.([0-9]{1,3})\.([0-9]{1,2})\.([0-9])")
_PORTAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_WWID = re.compile(r"naa\.([0-9a-f]{16}|[0-9a-f]{32})|eui\.([0-9a-f]{16}|[0-9a-f]{24}|[0-9a-f]{32})")


def parse_dev(text: str) -> Dev:
    """The record for a device name.

    Raises InvalidArgument (malformed, bad option), Unsupported (an option that is not built), and NoSuchDevice with
    ENODEV for a scheme that no row of the driver table has.
    """
    hardware = _HARDWARE.fullmatch(text)
    if hardware:
        return _hardware(*map(int, hardware.groups()))
    scheme = _SCHEME.match(text)
    if scheme:
        reader = _SCHEMES.get(scheme[1].lower())
        if reader is None and not _PORTAL.fullmatch(text):
            raise NoSuchDevice(f"no row exists for the scheme {scheme[1][:20]!r}; known: {_FORMS}", errno=errno.ENODEV)
        if reader is not None:
            return reader(text[scheme.end() :])
    if "/" in text and _is_path(text):
        return FileDev(text)
    shown = "this" if _hides(text) else ascii(text[:60])
    if _PORTAL.fullmatch(text):
        raise InvalidArgument(f"{shown} is a portal, no device name: `swdctl discover {text}` names its targets")
    raise InvalidArgument(f"{shown} is no device name; write one of: {_FORMS} (./NAME for a file here)")


def _hardware(session: int, bus: int, target: int, lun: int) -> HardwarePath:
    if bus > 127 or target > 15 or lun > 7:
        raise InvalidArgument("a hardware path is 255/0/session.bus.target.lun with bus <= 127, target <= 15, lun <= 7")
    return HardwarePath(session, bus, target, lun)


def _iscsi(rest: str) -> IscsiDev:
    head, _, tail = rest.partition("?")
    dev, error = _head(head), None
    if dev is None:
        if _hides(rest):
            raise InvalidArgument(_REFUSED)
        raise _explain(head)
    try:
        settings = _settings(tail, options.BY_NAME, "iscsi://")
        options.read(settings, source="iscsi:// name")
    except SwdError as caught:
        error = caught
    if error is not None and _hides(tail):
        error = InvalidArgument(_REFUSED)  # made outside the except block: no __context__ may lead to the old one
    if error is not None:
        raise error
    return _with_user(dev, settings)


def _hides(text: str) -> bool:
    """Whether a part of this text may be a password."""
    return "@" in text or "%40" in text


def _with_user(dev: IscsiDev, settings: Settings) -> IscsiDev:
    user = dict(settings).get("user")
    if dev.user is not None and user is not None:
        raise InvalidArgument("iscsi:// name: the user is given twice; which one is meant?")
    rest = tuple(pair for pair in settings if pair[0] != "user")
    return IscsiDev(dev.portal, dev.target, dev.lun, dev.user or user, rest)


def _head(head: str) -> IscsiDev | None:
    """What stands before the query, or None: `_explain` has the words."""
    parts = head.removeprefix("//").split("/")
    if not head.startswith("//") or len(parts) != 3 or "#" in head:
        return None
    user, at, host = parts[0].rpartition("@")
    if at and not PLAIN_USER.fullmatch(user):
        return None
    try:
        # Raised here and dropped here: its text may quote a part of a password.
        portal, target, field = parse_portal(host), _unquote(parts[1]), _lun.parse(parts[2])
    except InvalidArgument:
        return None
    return IscsiDev(portal, target, field, user if at else None) if names.valid(target) else None


def _explain(head: str) -> InvalidArgument:
    """Why `_head` found nothing; only for text without an '@'."""
    parts = head.removeprefix("//").split("/")
    try:
        if head.startswith("//") and "#" not in head and len(parts) >= 2:
            parse_portal(parts[0])
            names.validate(_unquote(parts[1]))
            if len(parts) == 3 and parts[2]:
                _lun.parse(parts[2])
    except InvalidArgument as error:
        return InvalidArgument(f"{error.reason}; an iscsi:// name looks like {EXAMPLE}")
    missing = "the LUN is missing: " if len(parts) < 3 or not parts[-1] else ""
    return InvalidArgument(f"iscsi:// name: {missing}write host, target name and LUN, as in {EXAMPLE}")


def _wwid(rest: str) -> Wwid:
    designator = rest.lower()
    if _WWID.fullmatch(designator):
        return Wwid(designator)
    if re.fullmatch(r"uuid\.[0-9a-f-]{32,36}", designator):
        digits = designator[5:].replace("-", "")
        if len(digits) == 32:
            return Wwid(f"uuid.{UUID(digits)}")
    raise InvalidArgument("a wwid: name is naa. (16 or 32), eui. (16, 24 or 32) or uuid. (32) and that many hex digits")


def _lvm(rest: str) -> LvmDev:
    head, _, tail = rest.partition("?")
    found = re.fullmatch(r"//([A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126})/([A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,126})", head)
    if not found or {found[1], found[2]} & {".", ".."}:
        raise InvalidArgument("the form is lvm://VG/LV, with the names that LVM allows")
    return LvmDev(found[1], found[2], _checked(tail, "lvm://"))


def _mem(rest: str) -> MemDev:
    head, _, tail = rest.partition("?")
    if not head.startswith("//"):
        raise InvalidArgument("the form is mem://SIZE, as in mem://64M?block_size=4096")
    size, keys = parse_size(head[2:]), dict(_settings(tail, ("block_size", "name", "partition"), "mem://"))
    block_size = _block_size(keys.get("block_size", "512"))
    if not size or size % block_size:
        raise InvalidArgument(f"mem://{head[2:]}: the size is not a whole number of {block_size}-byte blocks")
    name = keys.get("name")
    if name is not None and not (name and name.isprintable()):
        raise InvalidArgument("mem://: name is 1 or more printable characters")
    chosen = {"partition": keys["partition"]} if "partition" in keys else {}
    return MemDev(size, block_size, name, options.read(chosen, source="mem://").partition)


def _file(rest: str) -> FileDev:
    head, _, tail = rest.partition("?")
    path = _unquote(head.removeprefix("//"), errors="surrogateescape")
    if not path or not _is_path(path):
        raise InvalidArgument("the form is file:///absolute/path or file://relative/path")
    settings = _checked(tail, "file://", extra=("block_size",))
    if "block_size" in dict(settings):
        _block_size(dict(settings)["block_size"])
    return FileDev(path, settings)


def _isw(rest: str) -> IswDev:
    if rest:
        raise InvalidArgument("isw: takes nothing after the colon")
    return IswDev()


def _fault(rest: str) -> FaultDev:
    head, _, tail = rest.partition("?")
    keys = dict(_settings(tail, ("plan", "on"), "fault://"))
    if head not in ("//", "") or not keys.get("plan") or not keys.get("on"):
        raise InvalidArgument("the form is fault://?plan=PLAN&on=DEV, with DEV percent-encoded")
    return FaultDev(keys["plan"], parse_dev(keys["on"]))


_SCHEMES: dict[str, Callable[[str], Dev]] = {
    "iscsi": _iscsi,
    "wwid": _wwid,
    "lvm": _lvm,
    "mem": _mem,
    "file": _file,
    "isw": _isw,
    "fault": _fault,
}


def _checked(tail: str, source: str, extra: Collection[str] = ()) -> Settings:
    settings = _settings(tail, (*options.BY_NAME, *extra), source)
    options.read([pair for pair in settings if pair[0] not in extra], source=source)
    return settings


def _settings(tail: str, known: Collection[str], source: str) -> Settings:
    """The key=value pairs of a query; a key that is unknown, repeated or without a value raises InvalidArgument."""
    pairs: dict[str, str] = {}
    for item in tail.split("&") if tail else []:
        key, equals, value = item.partition("=")
        if key not in known and key not in options.TOP_LEVEL:
            raise options.unknown(key, known, source)
        if not equals:
            raise InvalidArgument(f"{source}: {key} has no value; write {key}=...")
        if key in pairs:
            raise InvalidArgument(f"{source}: {key} is given twice; which one is meant?")
        pairs[key] = _text(_unquote(value))
    return tuple(pairs.items())


def _block_size(text: str) -> int:
    if text not in _BLOCK_SIZES:
        raise InvalidArgument(f"block_size: {text[:20]!a} is none of {', '.join(_BLOCK_SIZES)}")
    return int(text)


def _is_path(text: str) -> bool:
    """Whether a file can have this name. A byte that is no UTF-8 is a lone surrogate, as in all Python (PEP 383)."""
    return "\0" not in text and not re.search("[\ud800-\udc7f\udd00-\udfff]", text)


def _text(value: str) -> str:
    """The value, which no lone surrogate may be part of: it goes into logs, JSON and texts of the wire."""
    if re.search("[\ud800-\udfff]", value):
        raise InvalidArgument("a value holds bytes that are not UTF-8")
    return value


def _unquote(text: str, errors: str = "strict") -> str:
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        raise InvalidArgument("a '%' stands before something other than two hex digits; write %25 for a % itself")
    try:
        return unquote(text, errors=errors)
    except UnicodeDecodeError:
        pass
    raise InvalidArgument("percent-encoded bytes that are not UTF-8")
