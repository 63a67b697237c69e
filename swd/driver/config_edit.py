# SPDX-License-Identifier: Apache-2.0
"""Changes one key of one configuration file, for `swdctl config set` and `unset`.

The rest of the file stays as it is, comments included; the new file takes the old one's place whole, with its mode.
What would not be read back as a sound configuration is never written, and neither is a secret.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from swd.driver import boot_order, config, places, scopes, tomltext
from swd.driver.config import Setting
from swd.driver.scopes import Scope
from swd.errors import InvalidArgument, SwdError
from swd.proto import options as option_rules

_FILES_OF_SECRETS: Final = ("secret_file", "target_secret_file")
_NEW_MODE: Final = 0o644


def target_file() -> Path:
    """The file that is changed: SWD_CONFIG; root: the host's; else the user's own."""
    files = places.config_files()
    return files[0] if os.geteuid() == 0 else files[-1]


def default_scope(key: str) -> Scope:
    """Where a key goes that was given no scope: the widest place that takes it."""
    if key in boot_order.KEYS:
        return scopes.STARTUP
    return scopes.TOP if key in config.TOP_KEYS else scopes.ALL


def set_key(key: str, text: str, scope: Scope | None = None) -> Setting:
    """Write `key` with a value in the words of `-O`; returns what then stands there.

    Raises InvalidArgument for what is no key, no value of it, or cannot be edited; Unsupported for what is not built;
    SwdError with the system's errno if the file cannot be written.
    """
    where = scope or default_scope(key)
    value = _value(key, text, where)
    return _changed(
        key, where, lambda old, table, source: tomltext.with_key(old, table, key, value, source), wanted=True
    )


def unset_key(key: str, scope: Scope | None = None) -> Setting:
    """Remove `key`; returns what stood there. Raises as `set_key`, and InvalidArgument if it is not set there."""
    where = scope or default_scope(key)
    _check_key(key, where)
    return _changed(key, where, lambda old, table, source: tomltext.without_key(old, table, key, source), wanted=False)


def _check_key(key: str, scope: Scope) -> None:
    known = boot_order.KEYS if scope == scopes.STARTUP else (*option_rules.BY_NAME, *config.TOP_KEYS)
    if key not in known:
        raise config.unknown(key, known, "config")


def _value(key: str, text: str, scope: Scope) -> Any:
    """The value as a file holds it; what the text may be is said by the one table of options."""
    _check_key(key, scope)
    if scope == scopes.STARTUP:
        return boot_order.from_text(key, text)  # config.load judges it
    if key in _FILES_OF_SECRETS and text != "-" and not os.path.isabs(text):
        raise InvalidArgument(
            f"config: {key} is the absolute path of a file (mode 0600) that holds the secret, never the secret itself"
        )
    row = option_rules.BY_NAME.get(key)
    if row is None or config.is_top(key):  # config.load judges these
        return _number(text) if key == "phase_timeout" else text
    read = getattr(option_rules.read({key: text}, source=f"config: {scope}"), key)
    if row.kind == "size" and not text.isdigit():
        return text  # 64K is easier to read than 65536
    if isinstance(read, bytes):
        return read.hex()
    if isinstance(read, tuple):
        return list(read)
    return int(read) if isinstance(read, float) and read.is_integer() else read


def _number(text: str) -> float | int:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise InvalidArgument(f"config: phase_timeout is a number of seconds, not {text[:40]!r}")
    return float(text) if "." in text else int(text)


_Edit = Callable[[str, tuple[str, ...], str], str]


def _changed(key: str, scope: Scope, edit: _Edit, *, wanted: bool) -> Setting:
    """Edit the file under a lock; the setting after the edit (`wanted`), or the one before it."""
    path = target_file()
    with _failing(path), _alone(path.parent):
        before = config.read_file(path) if path.exists() else ""
        old = _find(before, key, scope, path)
        if old is None and not wanted:
            raise InvalidArgument(f"{path}: `{key}` is not set in {scope}; `swdctl config show` says where it is")
        after = edit(before, _table(before, scope, path), str(path))
        config.load(instead={path: after})
        real = path.resolve()  # a link stays a link
        mode = stat.S_IMODE(real.stat().st_mode) if real.exists() else _NEW_MODE
        places.write_atomically(real, after.encode(), mode)
        found = _find(after, key, scope, path) if wanted else old
        assert found is not None
        return found


def _find(text: str, key: str, scope: Scope, path: Path) -> Setting | None:
    return next((one for one in config.settings_of(text, str(path)) if (one.key, one.scope) == (key, scope)), None)


def _table(text: str, scope: Scope, path: Path) -> tuple[str, ...]:
    """The scope's table as this file spells it: names and portals have more than one spelling."""
    tomltext.parse(text, str(path))
    for statement in tomltext.statements(text):
        table = statement.path[: len(scope.table)]
        if len(table) == len(scope.table) > 1 and table[0] == scope.kind and scopes.of_table(table) == scope:
            return table
    return scope.table


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One editor at a time: else of two edits at once the first would be lost."""
    if not folder.exists():
        places.private_folder(folder, 0o755 if os.geteuid() == 0 else 0o700)
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _failing(path: Path) -> Iterator[None]:
    try:
        yield
    except SwdError:
        raise
    except OSError as error:
        raise SwdError(f"cannot write the configuration {path}: {error.strerror}", errno=error.errno) from error
