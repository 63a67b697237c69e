# SPDX-License-Identifier: Apache-2.0
"""`target serve --config FILE`: servers of several targets, portals, groups and units, described in TOML.

The keys are two tables here, one of targets and one of units; docs/target.md explains them. What a key may hold beyond
its type is judged by who uses it, and comes back with the file's name and line before it.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from swd.driver import secrets, tomltext
from swd.errors import InvalidArgument, MediumError, SwdError
from swd.proto import options
from swd.target.config import CHAP_ALGORITHMS, Limits, Lun, TargetConfig
from swd.target.portgroups import PortGroups
from swd.values import Chap

_LARGEST: Final = 1 << 20  # bytes of a file
OpenUnit = Callable[[str, int], Lun]  # a DEV and a default block size: a unit whose medium the caller closes

_TEXT, _FLAG, _WHOLE, _NUMBER = (str,), (bool,), (int,), (int, float)
_SECRETS: Final = ("user", "secret_file", "target_user", "target_secret_file")
_PLAIN: Final = {  # of a target, as TargetConfig has them
    "alias": _TEXT, "portal_group": _WHOLE, "queue_depth": _WHOLE, "attended": _FLAG, "nop_interval": _NUMBER,
    "nop_timeout": _NUMBER,
}  # fmt: skip
_LISTS: Final = {
    "initiators": _TEXT, "portal_groups": _WHOLE, "chap_algs": _TEXT, "header_digest": _TEXT, "data_digest": _TEXT,
}  # fmt: skip
_LIMITS: Final = {one.name: (type(getattr(Limits(), one.name)),) for one in fields(Limits)}
_GROUPS: Final = {"alua": (dict,), "alua_explicit": _FLAG, "alua_preferred": _WHOLE}
_REDIRECTS: Final = {"redirect": _TEXT, "redirect_permanent": _FLAG}
TARGET: Final[Mapping[str, tuple[type, ...]]] = {
    **_PLAIN, **dict.fromkeys(_LISTS, (list,)), **_LIMITS, **_GROUPS, **_REDIRECTS,
    **dict.fromkeys(_SECRETS, _TEXT), "lun": (list,),
}  # fmt: skip
UNIT: Final[Mapping[str, tuple[type, ...]]] = {
    "dev": _TEXT, "number": _WHOLE, "block_size": _WHOLE, "physical_block_size": _WHOLE, "read_only": _FLAG,
    "thin": _FLAG, "removable": _FLAG, "serial": _TEXT, "vendor": _TEXT, "product": _TEXT,
}  # fmt: skip
SERVER: Final[Mapping[str, tuple[type, ...]]] = {
    "portals": (list,), "state_file": _TEXT, "public": _FLAG, "target": (dict,),
    **{f"discovery_{name}": _TEXT for name in _SECRETS},
}  # fmt: skip


@dataclass(frozen=True)
class Described:
    """What a file asks for."""

    targets: tuple[TargetConfig, ...]
    portals: tuple[str, ...]
    state_file: str | None
    public: bool
    discovery_chap: Chap | None


def read(path: str, open_unit: OpenUnit) -> Described:
    """Raises InvalidArgument with file and line for what cannot be; MediumError for a file that cannot be read."""
    text = _text(path)
    reader = _Reader(path, text)
    return reader.server(tomltext.parse(text, path), open_unit)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise MediumError(f"{path} cannot be read: {error.strerror}", errno=error.errno or errno.EIO) from error
    if len(data) > _LARGEST:
        raise InvalidArgument(f"{path} is longer than {_LARGEST} bytes: is it a description of targets?")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path} is no text in UTF-8") from error


class _Reader:
    """One file; `_at` says where in it whatever is wrong stands."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._lines = tomltext.positions(text)

    def server(self, given: Mapping[str, Any], open_unit: OpenUnit) -> Described:
        self._check(given, SERVER, ())
        targets = given.get("target") or {}
        if not targets:
            raise InvalidArgument(f'{self._path} describes no target: begin one with [target."NAME"]')
        discovery = {name: given[f"discovery_{name}"] for name in _SECRETS if f"discovery_{name}" in given}
        return Described(
            tuple(self._target(name, one, open_unit) for name, one in targets.items()),
            tuple(self._list(given, "portals", _TEXT, ())) or ("127.0.0.1:3260",),
            given.get("state_file"),
            given.get("public", False),
            self._chap(discovery, "discovery", ()),
        )

    def _target(self, name: str, given: object, open_unit: OpenUnit) -> TargetConfig:
        at = ("target", name)
        if not isinstance(given, dict):
            raise self._wrong(at, "it is a table")
        self._check(given, TARGET, at)
        settings: dict[str, Any] = {key: given[key] for key in _PLAIN if key in given}
        settings |= {key: tuple(self._list(given, key, kind, at)) for key, kind in _LISTS.items() if key in given}
        if not set(settings.get("chap_algs", ())) <= set(CHAP_ALGORITHMS):
            raise self._wrong((*at, "chap_algs"), f"algorithms are {', '.join(CHAP_ALGORITHMS)}")
        with self._here(at):
            config = TargetConfig(
                name,
                self._units(given.get("lun", []), at, open_unit),
                chap=self._chap(given, name, at),
                limits=Limits(**{key: given[key] for key in _LIMITS if key in given}),
                alua=self._groups(given, at),
                **settings,
            )
            if "redirect" in given:
                config.redirection.to(given["redirect"], permanent=given.get("redirect_permanent", False))
        return config

    def _units(self, given: list[object], at: tomltext.Path, open_unit: OpenUnit) -> dict[int, Lun]:
        units: dict[int, Lun] = {}
        for one in given:
            where = (*at, "lun")
            if not isinstance(one, dict) or "dev" not in one:
                raise self._wrong(where, "each unit is a table with a dev, such as mem://64M")
            self._check(one, UNIT, where)
            number = one.get("number", max(units, default=-1) + 1)
            if number in units or not 0 <= number <= 16383:
                raise self._wrong(where, f"LUN {number} is there already, or is none")
            with self._here(where):
                lun = open_unit(one["dev"], one.get("block_size", 512))
                changed = {key: value for key, value in one.items() if key not in ("dev", "number", "block_size")}
                units[number] = Lun(lun.medium, lun.block_size, **changed)
        return units

    def _groups(self, given: Mapping[str, Any], at: tomltext.Path) -> PortGroups | None:
        """TOML has no numbers for keys: they are words of digits."""
        if "alua" not in given:
            return None
        states = given["alua"]
        if not all(tag.isascii() and tag.isdigit() and isinstance(word, str) for tag, word in states.items()):
            raise self._wrong((*at, "alua"), 'it has a state for each portal group, as { 1 = "active/optimized" }')
        return PortGroups(
            {int(tag): word for tag, word in states.items()},
            explicit=given.get("alua_explicit", False),
            preferred=given.get("alua_preferred"),
        )

    def _chap(self, given: Mapping[str, Any], peer: str, at: tomltext.Path) -> Chap | None:
        found = {name: given[name] for name in _SECRETS if name in given}
        if found and "user" not in found:
            raise self._wrong(at, "secrets without a user protect nothing: name the one that initiators log in as")
        return secrets.resolve(options.read(found, source=self._path), peer=peer) if found else None

    def _list(self, given: Mapping[str, Any], key: str, kind: tuple[type, ...], at: tomltext.Path) -> list[Any]:
        values = given.get(key, [])
        if not all(_is(value, kind) for value in values):
            raise self._wrong((*at, key), f"it is a list of {kind[0].__name__}")
        return list(values)

    def _check(self, given: Mapping[str, object], known: Mapping[str, tuple[type, ...]], at: tomltext.Path) -> None:
        for key, value in given.items():
            if key not in known:
                near = get_close_matches(key, known, 1)
                raise self._wrong((*at, key), f"it is no key here{f'; {near[0]} is' if near else ''}")
            if not _is(value, known[key]):
                raise self._wrong((*at, key), f"it is of type {known[key][0].__name__}")

    @contextlib.contextmanager
    def _here(self, at: tomltext.Path) -> Iterator[None]:
        """What the makers of configurations say of a value, with its place."""
        try:
            yield
        except InvalidArgument as error:
            if error.reason.startswith(self._path):
                raise
            raise InvalidArgument(f"{self._place(at)}: {error.reason}") from error

    def _wrong(self, at: tomltext.Path, why: str) -> SwdError:
        return InvalidArgument(f"{self._place(at)}: {'.'.join(at)}: {why}")

    def _place(self, at: tomltext.Path) -> str:
        while at and at not in self._lines:
            at = at[:-1]
        return f"{Path(self._path)}:{self._lines.get(at, 1)}"


def _is(value: object, kinds: tuple[type, ...]) -> bool:
    """Whether a value is of a type; True is no number."""
    return isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
