# SPDX-License-Identifier: Apache-2.0
"""The configuration: TOML files, each key with the file, the line and the scope that it came from.

A file has top-level keys and a table for each scope (`swd.driver.scopes`). For one session those settings count whose
scope it lies in, and of two with the same key the narrower one; of two with the same scope, the one of the later file.
Everything is checked when it is read, whether it will be used or not: a setting that is silently ignored could be the
one that requires authentication. What comes out is frozen.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Union

from swd.driver import boot_order, phase, places, scopes, tomltext
from swd.driver.boot_order import BootOrder
from swd.driver.scopes import ALL, STARTUP, TOP, Scope
from swd.errors import InvalidArgument, SwdError
from swd.proto import options as option_rules
from swd.proto.options import Options
from swd.values import Portal

# Who a session logs in as, and who must answer. A discovery address that names any of them names all.
CREDENTIALS: Final = frozenset({"user", "secret_file", "target_user", "target_secret_file"})
_TABLES: Final = ("all", "startup", "discovery", "target")
_SECRET_WORDS: Final = ("secret", "password", "passwd", "passphrase")
_LARGEST = 1 << 20  # bytes of a file

Source = Union["Config", Mapping[str, Any], str, "os.PathLike[str]", None]


@dataclass(frozen=True)
class Setting:
    """One key as it was found; `line` counts from 1, and is 0 where there is no file."""

    key: str
    value: Any
    scope: Scope
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else self.file


@dataclass(frozen=True)
class Config:
    """The configuration: `options` are those of every session, `settings` all that was found, widest first."""

    options: Options = field(default_factory=Options)
    errno_profile: str = phase.DEFAULT_PROFILE
    phase_timeout: float = phase.DEFAULT_TIMEOUT
    startup: BootOrder = field(default_factory=BootOrder)
    settings: tuple[Setting, ...] = ()

    def for_target(self, name: str, portal: Portal) -> Options:
        """The options of a session with this target through this portal. Raises InvalidArgument for a bad name."""
        return options_of(self.applied(scopes.of_target(name, portal)))

    def for_discovery(self, portal: Portal) -> Options:
        """The options of a discovery session. If [discovery...] has a credential, none of a wider scope is taken: the
        secret that belongs to another user must not answer for this one.
        """
        return options_of(self.applied(scopes.of_discovery(portal)))

    def applied(self, session: Scope) -> tuple[Setting, ...]:
        """The settings that hold for a session, in the order in which they are applied: the last of a key wins."""
        found = [one for one in self.settings if one.scope.holds_for(session)]
        if any(one.scope.kind == "discovery" and one.key in CREDENTIALS for one in found):
            found = [one for one in found if one.scope.kind == "discovery" or one.key not in CREDENTIALS]
        return tuple(found)


def load(source: Source = None, *, instead: Mapping[Path, str] | None = None) -> Config:
    """Read the configuration: this host's for None, one file for a path; a mapping has the structure of a file.

    `instead` has texts that stand for files of the host: what would it be? Raises `InvalidArgument` with file and line
    for what is wrong, `Unsupported` for values that are not built, `SwdError` with the system's errno for a file that
    cannot be read. Of the host's own files, one that is not there is no error.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _effective(_settings(source, lambda _path: 0, "the config argument"))
    if source is not None:
        return _effective(settings_of(read_file(Path(source)), str(source)))
    chosen, replaced = bool(os.environ.get("SWD_CONFIG")), instead or {}
    found: list[Setting] = []
    for path in places.config_files():
        if path in replaced:
            found += settings_of(replaced[path], str(path))
        elif chosen or path.exists():
            found += settings_of(read_file(path), str(path))
    return _effective(found)


def read_file(path: Path) -> str:
    """The text of a configuration file. Raises `SwdError` if it cannot be read, `InvalidArgument` if it is no text."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise SwdError(f"cannot read the configuration {path}: {error.strerror}", errno=error.errno) from error
    if len(data) > _LARGEST:
        raise InvalidArgument(f"{path} is longer than {_LARGEST} bytes: this is no configuration of swd")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path} is not UTF-8 text (byte {error.start}): TOML must be") from error


def settings_of(text: str, file: str) -> Iterator[Setting]:
    """The settings of a file's text, in its order. Raises InvalidArgument for what has no place in it."""
    document, lines = tomltext.parse(text, file), tomltext.positions(text)
    return _settings(document, lambda path: lines.get(path, 0), file)


# --- tables ------------------------------------------------------------------------------------------------------

_Line = Callable[[tuple[str, ...]], int]


def _settings(document: Mapping[str, Any], line: _Line, file: str) -> Iterator[Setting]:
    """The settings of one document. Raises InvalidArgument for a key or table that has no place where it stands."""
    seen: dict[tuple[Scope, str], Setting] = {}
    for path, value in _keys(document, line, file):
        place = f"{file}, line {line(path)}" if line(path) else file
        one = Setting(path[-1], value, _scope(path[:-1], place), file, line(path))
        before = seen.setdefault((one.scope, one.key), one)
        if before is not one:  # two spellings of one name
            raise InvalidArgument(f"{place}: `{one.key}` of {one.scope} is given twice: see line {before.line}")
        _known(one)
        yield one


def _keys(document: Mapping[str, Any], line: _Line, file: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The path and value of each key, all tables entered."""

    def table(content: Any, path: tuple[str, ...]) -> Iterable[tuple[str, Any]]:
        if isinstance(content, Mapping):
            return content.items()
        place = f"{file}, line {line(path)}" if line(path) else file
        raise InvalidArgument(f"{place}: `{path[-1]}` is a table: write {_header(path)} and its keys below")

    for key, value in document.items():
        if key not in _TABLES:
            yield (key,), value
        elif key in ("all", "startup"):
            yield from (((key, name), one) for name, one in table(value, (key,)))
        else:
            for name, content in table(value, (key,)):
                for below, one in table(content, (key, name)):
                    if key == "discovery" or below != "address":
                        yield (key, name, below), one
                        continue
                    for portal, last in table(one, (key, name, below)):
                        path = (key, name, below, portal)
                        yield from (((*path, end), setting) for end, setting in table(last, path))


def _header(path: tuple[str, ...]) -> str:
    forms = {"discovery": '[discovery."HOST:PORT"]', "target": '[target."NAME"]'}
    return forms.get(path[0], f"[{path[0]}]") if len(path) < 3 else '[target."NAME".address."HOST:PORT"]'


def _scope(table: tuple[str, ...], place: str) -> Scope:
    try:
        return scopes.of_table(table)
    except InvalidArgument as error:
        raise InvalidArgument(f"{place}: the table {_header(table)}: {error.reason}") from error


# --- keys --------------------------------------------------------------------------------------------------------


def _known(setting: Setting) -> None:
    """Raises InvalidArgument for an unknown key, or one that does not belong into its table."""
    top = setting.scope == TOP
    if setting.scope == STARTUP:
        boot_order.check_key(setting)
        return
    if setting.key in _TOP:
        if not top and _TOP[setting.key] is not None:
            raise InvalidArgument(f"{setting.place}: `{setting.key}` belongs to the top level of the file, above [all]")
        return
    if setting.key in option_rules.BY_NAME:
        if top:
            raise InvalidArgument(f"{setting.place}: `{setting.key}` is no top-level key: write it below [all]")
        return
    raise unknown(setting.key, [*_TOP, *_TABLES] if top else option_rules.BY_NAME, setting.place)


def unknown(key: str, known: Iterable[str], place: str) -> InvalidArgument:
    """The error for a key that is none of `known`; for what looks like a secret it says where secrets belong."""
    if any(word in key.lower() for word in _SECRET_WORDS):
        return InvalidArgument(
            f"{place}: {key[:60]!a} is no key, and secrets do not belong into the configuration: write the secret to a "
            "file (mode 0600) and name it with secret_file or target_secret_file"
        )
    return option_rules.unknown(key, known, place)


def _profile(setting: Setting) -> str:
    if setting.value not in phase.ERRNO_BY_PROFILE:
        raise InvalidArgument(
            f"{setting.place}: errno_profile is one of {', '.join(phase.ERRNO_BY_PROFILE)}, not {setting.value!r}"
        )
    return str(setting.value)


def _timeout(setting: Setting) -> float:
    value = setting.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InvalidArgument(f"{setting.place}: phase_timeout is a number of seconds, not {value!r}")
    return float(value)


# Top-level keys; the two with a reader of their own are not options of a target.
_TOP: Final[dict[str, Callable[[Setting], Any] | None]] = {
    "initiator_name": None,
    "errno_profile": _profile,
    "phase_timeout": _timeout,
}


TOP_KEYS: Final = tuple(_TOP)


def is_top(key: str) -> bool:
    """Whether it can only stand at the top level."""
    return _TOP.get(key) is not None


def _effective(settings: Iterable[Setting]) -> Config:
    """The whole, checked: every scope that has a setting, for a value may only be wrong beside others."""
    ordered = tuple(sorted(settings, key=lambda one: one.scope.rank))
    own = {one.key: reader(one) for one in ordered if (reader := _TOP.get(one.key)) is not None}
    own["startup"] = boot_order.read(one for one in ordered if one.scope == STARTUP)
    config = Config(settings=ordered, **own)
    for scope in dict.fromkeys(one.scope for one in ordered if one.scope != STARTUP):
        options_of(config.applied(scope))
    return Config(options_of(config.applied(ALL)), settings=ordered, **own)


def options_of(settings: Iterable[Setting]) -> Options:
    """The options that these settings make, the later over the earlier."""
    options = Options()
    for one in settings:
        if _TOP.get(one.key) is None:
            options = _with(options, one)
    return options


def _with(options: Options, setting: Setting) -> Options:
    try:
        return option_rules.read({setting.key: setting.value}, options, source=setting.place)
    except TypeError as error:  # in a program a wrong type is a TypeError; in a file it is a wrong value like any other
        raise InvalidArgument(str(error)) from error
    except InvalidArgument as error:
        if error.reason.startswith(setting.place):
            raise
        raise InvalidArgument(f"{setting.place}: {setting.key}: {error.reason}") from error
