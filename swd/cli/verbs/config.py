# SPDX-License-Identifier: Apache-2.0
"""`config show|get|set|unset`: the effective configuration with the place of each value, and changes to one key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from swd.cli.call import Call, UsageProblem
from swd.driver import boot_order, config, config_edit, scopes
from swd.driver.config import Config, Setting
from swd.driver.scopes import Scope
from swd.errors import InvalidArgument
from swd.proto import options as option_rules
from swd.proto.dev import FaultDev, IscsiDev
from swd.proto.options import Options
from swd.proto.portal import parse_portal
from swd.proto.url import parse_dev


@dataclass(frozen=True, slots=True)
class Value:
    """A row: a key, its value, and where that is from. `scope` "default": from no file; "device": from the DEV."""

    key: str
    value: Any
    scope: str
    file: str | None = None
    line: int | None = None


def show(call: Call, *, dev: str | None, discovery: str | None) -> list[Value]:
    """All effective values: of every session, of the start of the host, and then what the narrower scopes hold; or
    those of one session.
    """
    found = config.load()
    rows = _effective(found, dev, discovery)
    if dev is None and discovery is None:
        rows += _startup(found)
        rows += [_row(one) for one in found.settings if one.scope not in (scopes.TOP, scopes.ALL, scopes.STARTUP)]
    return rows if call.json else [replace(row, value=_spelled(row.value)) for row in rows]


def get(call: Call, *, key: str, dev: str | None, discovery: str | None) -> Value | str:
    """One value; in text the bare value, as `set` takes it, and its place on stderr with --verbose."""
    found = config.load()
    rows = _startup(found) if key in boot_order.KEYS else _effective(found, dev, discovery)
    row = next((row for row in rows if row.key == key), None)
    if row is None:
        raise config.unknown(key, [row.key for row in rows], "config")
    call.say(f"from {row.scope}" + (f", {row.file}, line {row.line}" if row.file else ""))
    return row if call.json else _spelled(row.value) or ""


def set(call: Call, *, pair: str, scope: str | None) -> Value | None:  # the verb's name
    """Says nothing in text: `get` tells what holds now."""
    key, sign, text = pair.partition("=")
    if not sign or not key:
        raise UsageProblem("config set takes KEY=VALUE, e.g. timeout=10; `swdctl config unset KEY` takes a key away")
    return _quiet(call, config_edit.set_key(key, text, _scope(scope)))


def unset(call: Call, *, key: str, scope: str | None) -> Value | None:
    """The value that was taken away, with --json or --verbose."""
    return _quiet(call, config_edit.unset_key(key, _scope(scope)))


def _scope(text: str | None) -> Scope | None:
    return None if text is None else scopes.parse(text)


def _quiet(call: Call, setting: Setting) -> Value | None:
    return _row(setting) if call.json or call.verbose else None


def _effective(found: Config, dev: str | None, discovery: str | None) -> list[Value]:
    """A row for every key there is, in the order of the tables of keys."""
    if dev is not None and discovery is not None:
        raise UsageProblem("DEV and --discovery are two kinds of session: name one of them")
    named = {}
    if discovery is not None:
        session = scopes.of_discovery(parse_portal(discovery))
    elif dev is not None:
        remote = _remote(dev)
        session, named = scopes.of_target(remote.target, remote.portal), remote.settings
    else:
        session = scopes.ALL
    applied = found.applied(session)
    last = {one.key: one for one in applied}
    options = option_rules.read(named, config.options_of(applied), source="iscsi:// name")
    return list(_rows(found, options, last, named))


def _rows(found: Config, options: Options, last: dict[str, Setting], named: Iterable[str]) -> Iterable[Value]:
    for key in dict.fromkeys((*config.TOP_KEYS, *option_rules.BY_NAME)):
        value = getattr(found if config.is_top(key) else options, key)
        if key in named:
            yield Value(key, value, "device")
        elif key in last:
            yield replace(_row(last[key]), value=value)
        else:
            yield Value(key, value, "default")


def _startup(found: Config) -> list[Value]:
    """A row for every key of [startup]."""
    last = {one.key: one for one in found.settings if one.scope == scopes.STARTUP}
    values = {key: getattr(found.startup, key) for key in boot_order.KEYS}
    values["volume_groups"] = tuple(map(str, found.startup.volume_groups))
    return [
        replace(_row(last[key]), value=value) if key in last else Value(key, value, "default")
        for key, value in values.items()
    ]


def _remote(dev: str) -> IscsiDev:
    parsed = parse_dev(dev)
    while isinstance(parsed, FaultDev):
        parsed = parsed.on
    if not isinstance(parsed, IscsiDev):
        raise InvalidArgument(f"{parsed} has no session, and so no configuration: name an iscsi:// device")
    return parsed


def _row(one: Setting) -> Value:
    return Value(one.key, one.value, str(one.scope), one.file, one.line)


def _spelled(value: Any) -> str | None:
    """A value in the words of `set` and `-O`."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return ",".join(map(str, value))
    if isinstance(value, bytes):
        return value.hex()
    return f"{value:.15g}" if isinstance(value, float) else str(value)
