# SPDX-License-Identifier: Apache-2.0
"""`ioctl`: one control request to a device, with its argument written as KEY=VALUE words."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import swd
from swd.cli.call import Call, UsageProblem
from swd.cli.verbs import data
from swd.driver import Driver
from swd.driver.ioctl import TABLE, Argument, Entry, lookup
from swd.proto.units import parse_size
from swd.values import SgIo


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a number, a dict, a SCSI result, or nothing."""

    device: str
    request: str
    result: Any


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of `--list`."""

    request: str
    number: str
    argument: str
    result: str
    what: str


def ioctl(
    call: Call,
    *,
    dev: str | None,
    request: str | None,
    pairs: Sequence[str],
    list: bool,
    write: bool,
    overwrite: bool,
    force: bool,
) -> Answer | tuple[Listed, ...]:
    """The request's result; or with `list` the table of requests."""
    if list:
        return tuple(_listed(entry) for entry in TABLE)
    if dev is None or request is None:
        raise UsageProblem("ioctl takes DEV REQUEST [KEY=VALUE...]; `swdctl ioctl --list` names the requests")
    entry = lookup(int(request, 0) if request[:1].isdigit() else request)
    argument = _argument(entry, pairs)
    if entry.argument is Argument.RANGE:  # the destructive ones: a reset leaves the content alone
        with swd.open(dev, "rb", **call.options) as disk:
            data.check(dev, disk, overwrite, force)
    writable = write or entry.writes or (isinstance(argument, SgIo) and bool(argument.data_out))
    with Driver() as driver:
        fd = driver.open(dev, os.O_RDWR if writable else os.O_RDONLY, **call.options)
        return Answer(dev, entry.request.name, driver.ioctl(fd, entry.request, argument))


def _listed(entry: Entry) -> Listed:
    if entry.argument is Argument.DICT:
        return Listed(entry.request.name, f"0x{entry.request.value:x}", "[KEY=VALUE...]", entry.result, entry.doc)
    words = " ".join(f"{key}={shape}" for key, (shape, _) in _KEYS[entry.argument].items())
    return Listed(entry.request.name, f"0x{entry.request.value:x}", words, entry.result, entry.doc)


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


# The words that make each shape of argument: key -> (what to write, how it is read).
_KEYS: Final[dict[Argument, dict[str, tuple[str, Callable[[str], Any]]]]] = {
    Argument.NONE: {},
    Argument.DICT: {},
    Argument.RANGE: {"offset": ("N", parse_size), "length": ("N", parse_size)},
    Argument.SG_IO: {
        "cdb": ("HEX", _hex),
        "data_out": ("HEX", _hex),
        "data_in": ("N", parse_size),
        "timeout": ("SECONDS", float),
    },
}
_NEEDED: Final = {"offset", "length", "cdb"}


def _argument(entry: Entry, words: Sequence[str]) -> object:
    """The words as the request's argument. Raises UsageProblem for an unknown, repeated, missing or unreadable key."""
    if entry.argument is Argument.DICT:
        return _dict(entry, words)
    keys, values = _KEYS[entry.argument], dict[str, Any]()
    for word in words:
        key, _, text = word.partition("=")
        if key not in keys or key in values:
            raise UsageProblem(f"{entry.request.name}: {key!r} is {'given twice' if key in values else _unknown(keys)}")
        try:
            values[key] = keys[key][1](text)
        except ValueError as error:
            raise UsageProblem(f"{entry.request.name}: {key} takes {keys[key][0]}") from error
    if missing := sorted(_NEEDED & keys.keys() - values.keys()):
        raise UsageProblem(f"{entry.request.name} needs {' and '.join(f'{key}={keys[key][0]}' for key in missing)}")
    if entry.argument is Argument.SG_IO:
        return SgIo(**values)
    return (values["offset"], values["length"]) if values else None


def _dict(entry: Entry, words: Sequence[str]) -> dict[str, str]:
    """Any keys: the driver knows which."""
    values: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or key in values:
            raise UsageProblem(f"{entry.request.name}: {key!r} is {'given twice' if equals else 'no KEY=VALUE'}")
        values[key] = text
    return values


def _unknown(keys: dict[str, tuple[str, Callable[[str], Any]]]) -> str:
    return f"not one of {', '.join(keys)}" if keys else "too much: it takes no argument"
