# SPDX-License-Identifier: Apache-2.0
"""The configuration: TOML files, each key with the file and line that it came from.

Known so far are the top-level keys and `[all]`, the widest scope. The narrower scopes (`[discovery...]`,
`[target...]`) are to come: their headers are refused with their line, because a setting that is silently ignored
could be the one that requires authentication. An unknown key is an error with its line. What comes out is frozen.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Union

from swd.driver import phase, places
from swd.errors import InvalidArgument, SwdError, Unsupported
from swd.proto import options as option_rules
from swd.proto.options import Options

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TO_COME: Final = ("discovery", "target")
_LARGEST = 1 << 20  # bytes of a file

Source = Union["Config", Mapping[str, Any], str, "os.PathLike[str]", None]


@dataclass(frozen=True)
class Setting:
    """One key as it was found: `scope` is "top" or "all"; `line` counts from 1, and is 0 where there is no file."""

    key: str
    value: Any
    scope: str
    file: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.file}, line {self.line}" if self.line else self.file


@dataclass(frozen=True)
class Config:
    """The effective configuration, and the settings that made it, in the order in which they were applied."""

    options: Options = field(default_factory=Options)
    errno_profile: str = phase.DEFAULT_PROFILE
    phase_timeout: float = phase.DEFAULT_TIMEOUT
    settings: tuple[Setting, ...] = ()


def load(source: Source = None) -> Config:
    """Read the configuration: this host's for None, one file for a path; a mapping has the structure of a file.

    Raises `InvalidArgument` with file and line for what is wrong in it, `Unsupported` for scopes to come, `SwdError`
    with the system's errno for a file that cannot be read. Of the host's own files, one that is not there is no
    error.
    """
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return _effective(_settings(source, lambda _path: 0, "the config argument"))
    if source is not None:
        return _effective(_file(Path(source)))
    chosen = bool(os.environ.get("SWD_CONFIG"))
    found: list[Setting] = []
    for path in places.config_files():
        if chosen or path.exists():
            found += _file(path)
    return _effective(found)


# --- files and lines ---------------------------------------------------------------------------------------------


def _file(path: Path) -> list[Setting]:
    try:
        with open(path, "rb") as file:
            text = file.read(_LARGEST + 1).decode()
    except OSError as error:
        raise SwdError(f"cannot read the configuration {path}: {error.strerror}", errno=error.errno) from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{path} is not UTF-8 text (byte {error.start}): TOML must be") from error
    if len(text) > _LARGEST:
        raise InvalidArgument(f"{path} is longer than {_LARGEST} bytes: this is no configuration of swd")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path} is not valid TOML: {error}") from error
    lines = dict(_lines(text))
    return list(_settings(document, lambda key: lines.get(key, 0), str(path)))


def _lines(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """(path of a key or table, its line) for a text that is valid TOML; the first place of each comes last.

    TOML parsers forget lines. A statement ends where the lines since the last end parse by themselves: an open array or
    multi-line string never does, so what looks like a key inside one is not taken for a key.
    """
    found: list[tuple[tuple[str, ...], int]] = []
    table: tuple[str, ...] = ()
    statement, start = "", 1
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        statement += line
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        keys = _single_path(content)
        if statement.lstrip().startswith("["):
            table = keys
            found += [(keys[:depth], start) for depth in range(1, len(keys) + 1)]
        elif keys:
            found += [(table + keys[:depth], start) for depth in range(1, len(keys) + 1)]
        statement, start = "", number + 1
    return reversed(found)


def _single_path(content: Any) -> tuple[str, ...]:
    """The keys of nested tables that hold one key each, as one statement makes them."""
    path: tuple[str, ...] = ()
    while content and isinstance(content, (dict, list)):
        if isinstance(content, list):  # [[array of tables]]
            content = content[0]
            continue
        key, content = next(iter(content.items()))
        path += (key,)
    return path


# --- keys --------------------------------------------------------------------------------------------------------


def _settings(document: Mapping[str, Any], line: Callable[[tuple[str, ...]], int], file: str) -> list[Setting]:
    found = []
    for key, value in document.items():
        here = Setting(key, value, "top", file, line((key,)))
        if key in TO_COME:
            raise Unsupported(f"{here.place}: the scope [{key}...] is to come; for now write its keys in [all]")
        if key == "all":
            found += _all(here, line)
        elif key in _TOP:
            found.append(here)
        else:
            raise _unknown(here)
    return found


def _all(table: Setting, line: Callable[[tuple[str, ...]], int]) -> list[Setting]:
    if not isinstance(table.value, Mapping):
        raise InvalidArgument(f"{table.place}: `all` is a table: write [all] and its keys below")
    return [Setting(key, value, "all", table.file, line(("all", key))) for key, value in table.value.items()]


def _unknown(setting: Setting) -> InvalidArgument:
    if setting.key in option_rules.BY_NAME:
        return InvalidArgument(f"{setting.place}: `{setting.key}` is no top-level key: write it below [all]")
    return option_rules.unknown(setting.key, [*_TOP, "all"], setting.place)


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


def _effective(settings: list[Setting]) -> Config:
    """Apply the settings: the top level is the widest, so `[all]` of any file goes over it."""
    options, own = Options(), {}
    for setting in sorted(settings, key=lambda setting: setting.scope == "all"):
        reader = _TOP.get(setting.key)
        if setting.scope == "all" and reader is not None:
            raise InvalidArgument(f"{setting.place}: `{setting.key}` belongs to the top level of the file, above [all]")
        if reader is not None:
            own[setting.key] = reader(setting)
        else:
            options = _with(options, setting)
    return Config(options=options, settings=tuple(settings), **own)


def _with(options: Options, setting: Setting) -> Options:
    try:
        return option_rules.read({setting.key: setting.value}, options, source=setting.place)
    except TypeError as error:  # in a program a wrong type is a TypeError; in a file it is a wrong value like any other
        raise InvalidArgument(str(error)) from error
    except InvalidArgument as error:
        if error.reason.startswith(setting.place):
            raise
        raise InvalidArgument(f"{setting.place}: {setting.key}: {error.reason}") from error
