# SPDX-License-Identifier: Apache-2.0
"""Put the boot integration on a host, or into the image of one: systemd units or rc scripts, and the links that enable
them.

The files are data of the package with words to fill in: the path of `swdctl`, the errno of the phase, and the lines
that keep a service from what it does not need. The placement rules come first: a host whose root disk would be on iSCSI
is refused before anything is written. Files are written whole; a file that is not ours is never touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from swd.driver import config, phase, places
from swd.errors import DeviceBusy, InvalidArgument, SwdError
from swd.startup import placement

MARK: Final = "Installed by `swdctl startup install"
SYSTEMD: Final = "etc/systemd/system"
RC: Final = "etc/init.d"


@dataclass(frozen=True)
class Unit:
    """A systemd unit and the target that wants it."""

    name: str
    wanted_by: str


EARLY: Final = Unit("swd-early.service", "sysinit.target")
WATCH: Final = Unit("swd-watch.service", "multi-user.target")
UMOUNT: Final = Unit("swd-umount.service", "multi-user.target")
UNITS: Final = (
    EARLY,
    Unit("swd-complete.service", "multi-user.target"),
    Unit("swd-startup.service", "multi-user.target"),
    UMOUNT,
)
SCRIPTS: Final = ("swd-early", "swd")
_PLAIN: Final = re.compile(r"/[A-Za-z0-9._/+@-]+")  # what neither systemd nor a shell takes for more than a path


@dataclass(frozen=True)
class Installed:
    """What is there now (or, after an uninstall, what is gone), and what to do next. Paths are those on the host."""

    files: tuple[str, ...]
    links: tuple[str, ...]
    next: str


@dataclass(frozen=True)
class _File:
    path: str
    text: str
    mode: int
    link: str | None = None  # what enables it


def install(root: str = "/", *, rc: bool = False, watch: bool = False, swdctl: str | None = None) -> Installed:
    """Write and enable the units, or the scripts with `rc`; `watch`: the watcher instead of network-online.target.

    `swdctl` is its path on that host (default: this one's). Raises InvalidArgument for what placement refuses, a root
    that is no folder, or a path that cannot stand in a unit; DeviceBusy for a file of somebody else in the way;
    SwdError with the system's errno for what cannot be written.
    """
    top = Path(root)
    placement.check(root).require()
    if rc and watch:
        raise InvalidArgument("the watcher is a systemd unit: give --rc or --watch, not both")
    words = _words(top, swdctl)
    files = [_script(name, words) for name in SCRIPTS] if rc else [_unit(one, words) for one in _chosen(watch)]
    for one in files:
        _refuse_strangers(top, one)
    _remove(top, [path for path in _ours() if path not in {one.path for one in files}], rc=rc)
    for one in files:
        _write(top, one)
    links = tuple(one.link for one in files if one.link)
    return Installed(tuple(one.path for one in files), links, _RC_NEXT if rc else _NEXT)


def uninstall(root: str = "/") -> Installed:
    """Take away what `install` put there, of either kind, and nothing else. Raises SwdError with the system's errno."""
    top = Path(root)
    if not top.is_dir():
        raise InvalidArgument(f"{root} is no folder: --root names the top of a host's files")
    files, links = _remove(top, _ours())
    return Installed(tuple(files), tuple(links), _GONE if files else "there was nothing of swd")


_NEXT: Final = "it holds from the next boot on; `systemctl daemon-reload` makes the running systemd know the units"
_RC_NEXT: Final = "enable them the way of this host, e.g. `update-rc.d swd-early defaults && update-rc.d swd defaults`"
_GONE: Final = "`systemctl daemon-reload` (or `update-rc.d swd-early remove; update-rc.d swd remove`) makes it known"


# --- what is written ---------------------------------------------------------------------------------------------


def _chosen(watch: bool) -> tuple[Unit, ...]:
    return (EARLY, WATCH, UMOUNT) if watch else UNITS


def _unit(unit: Unit, words: Mapping[str, str]) -> _File:
    text = _filled(f"units/{unit.name}", words)
    return _File(f"/{SYSTEMD}/{unit.name}", text, 0o644, f"/{SYSTEMD}/{unit.wanted_by}.wants/{unit.name}")


def _script(name: str, words: Mapping[str, str]) -> _File:
    return _File(f"/{RC}/{name}", _filled(f"rc/{name}.sh", words), 0o755)


def _filled(name: str, words: Mapping[str, str]) -> str:
    text = _data(name)
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def _data(name: str) -> str:
    return resources.files("swd.startup").joinpath(name).read_text(encoding="utf-8")


def _words(top: Path, swdctl: str | None) -> dict[str, str]:
    """What the templates leave open."""
    number = phase.ERRNO_BY_PROFILE[_config(top).errno_profile]
    program = _program(top, swdctl)
    folders = (program, sys.prefix, sys.base_prefix) if _is_host(top) and swdctl is None else (program,)
    return {
        "SWDCTL": program,
        "FOLDERS": " ".join(dict.fromkeys(path for path in folders if _PLAIN.fullmatch(path))),
        "PHASE_ERRNO": str(number),
        "HARDENING": _data("units/hardening.txt").strip(),
    }


def _config(top: Path) -> config.Config:
    """The configuration of the host below `top`, with what holds where it has none."""
    if _is_host(top):
        return config.load()
    file = top / places.HOST_CONFIG.relative_to("/")
    return config.load(file if file.exists() else {})


def _program(top: Path, given: str | None) -> str:
    """The absolute path of swdctl on that host."""
    beside = Path(sys.executable).parent / "swdctl"
    path = given or (str(beside) if beside.exists() else shutil.which("swdctl"))
    if path is None:
        raise InvalidArgument("there is no swdctl in PATH: say with --swdctl where it is")
    if not _PLAIN.fullmatch(path):
        raise InvalidArgument(f"{path[:80]!a} cannot stand in a unit: name an absolute path of plain characters")
    if not os.path.lexists(top / path.lstrip("/")):
        raise InvalidArgument(f"there is no {path} below {top}: install swd there first, or say --swdctl PATH")
    return path


def _is_host(top: Path) -> bool:
    return top.resolve() == Path("/")


# --- writing and taking away -------------------------------------------------------------------------------------


def _ours() -> list[str]:
    return [f"/{SYSTEMD}/{unit.name}" for unit in (*UNITS, WATCH)] + [f"/{RC}/{name}" for name in SCRIPTS]


def _links(path: str) -> list[str]:
    unit = next((unit for unit in (*UNITS, WATCH) if path.endswith(f"/{unit.name}")), None)
    return [f"/{SYSTEMD}/{unit.wanted_by}.wants/{unit.name}"] if unit else []


def _inside(top: Path, path: str) -> Path:
    """`path` of the host below `top`; a link of an image must not lead out of it, on to the host that we run on."""
    folder = (top / path.lstrip("/")).parent
    if not folder.resolve().is_relative_to(top.resolve()):
        raise InvalidArgument(f"{folder} leads out of {top}: install from inside that host")
    return folder / Path(path).name


def _is_ours(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and MARK in path.read_text(encoding="utf-8", errors="replace")


def _refuse_strangers(top: Path, file: _File) -> None:
    where = _inside(top, file.path)
    if os.path.lexists(where) and not _is_ours(where):
        raise DeviceBusy(f"{where} is there and not of swd's making: look at it, and move it away")
    if file.link is not None and os.path.lexists(link := _inside(top, file.link)) and not link.is_symlink():
        raise DeviceBusy(f"{link} is there and no link: look at it, and move it away")


def _write(top: Path, file: _File) -> None:
    with _failing(top):
        where = _inside(top, file.path)
        where.parent.mkdir(parents=True, exist_ok=True)
        places.write_atomically(where, file.text.encode(), file.mode)
        if file.link is not None:
            link = _inside(top, file.link)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(f"../{where.name}")


def _remove(top: Path, paths: Iterable[str], *, rc: bool | None = None) -> tuple[list[str], list[str]]:
    """Take away those of our files that are there, and the links to them. `rc`: of this kind only."""
    files, links = [], []
    with _failing(top):
        for path in paths:
            if rc is not None and path.startswith(f"/{RC}/") != rc:
                continue
            where = _inside(top, path)
            if not _is_ours(where):
                continue
            for name in _links(path):
                link = _inside(top, name)
                if link.is_symlink():
                    link.unlink()
                    links.append(name)
            where.unlink()
            files.append(path)
    return files, links


@contextlib.contextmanager
def _failing(top: Path) -> Iterator[None]:
    try:
        yield
    except SwdError:
        raise
    except OSError as error:
        where = error.filename or top
        raise SwdError(f"cannot write {where}: {error.strerror}", errno=error.errno) from error
