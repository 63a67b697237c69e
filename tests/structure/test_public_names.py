# SPDX-License-Identifier: Apache-2.0
"""The names that users build on: those of the contract, no more and no fewer."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import swd
from swd import errors
from swd._asyncdisk import AsyncStraight

PUBLIC = {
    *("open", "connect", "discover", "crc32c", "Chap", "Session", "Disk", "Target", "Portal"),
    *("ScsiResult", "Sense", "SgIo", "Phase", "scan", "LogicalUnit", "aio", "filesystem"),
}
TO_COME = {"Task"}

MEMBERS = {
    "Disk": (
        {"size", "block_size", "physical_block_size", "identity", "read_only", "pread", "pread_into", "pwrite", "flush"}
        | {"raw", "read_many", "write_many", "stream", "close", "__enter__", "__exit__"},
        {"discard", "zero"},
    ),
    "Session": (
        {"unit", "luns", "execute", "submit", "ping", "text", "abort", "parameters", "statistics", "states", "logout"}
        | {"close", "__enter__", "__exit__"},
        {"abort_task_set", "clear_task_set", "lun_reset", "target_warm_reset", "target_cold_reset", "add_connection"},
    ),
}
# What the ranks below need of a Session; docs/architecture.md, "The seams".
SEAMS = {
    "Session": {"read_blocks", "write_blocks", "batch", "alive", "look_in", "close_at_exit"}
    | {"last_headers", "latencies", "trace", "loop_queue", "straight"},
    "Disk": {"unit", "writable", "stable_writes", "is_open"},
}

NOT_AT_IMPORT = {
    *("numpy", "asyncio", "sqlite3", "rich", "click", "keyring", "socket", "ssl", "logging", "threading", "ctypes"),
    *("subprocess", "tomllib", "tomli", "json"),
}


def error_classes() -> set[str]:
    found = inspect.getmembers(errors, inspect.isclass)
    return {name for name, value in found if issubclass(value, errors.SwdError)}


def test_the_public_names_are_those_of_the_contract() -> None:
    assert set(swd.__all__) - TO_COME == PUBLIC | error_classes()
    assert len(swd.__all__) == len(set(swd.__all__))


@pytest.mark.parametrize("name", sorted(swd.__all__))
def test_a_public_name_is_there(name: str) -> None:
    value = getattr(swd, name)
    assert getattr(value, "__name__", name).removeprefix("swd.") == name
    assert name in dir(swd)


def test_swd_aio_has_the_names_of_swd_that_wait() -> None:
    assert set(swd.aio.__all__) == {"open", "connect", "discover", "scan", "AsyncDisk", "AsyncSession"}
    waiting = {"flush", "discard", "zero", "read_many", "write_many", "close"}
    assert {name for name in waiting if inspect.iscoroutinefunction(getattr(swd.aio.AsyncDisk, name))} == waiting
    for name in ("pread", "pread_into", "pwrite"):  # compiled, and coroutines in all but their type (tests/asyncdisk)
        assert getattr(swd.aio.AsyncDisk, name) is getattr(AsyncStraight, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        swd.opne  # type: ignore[attr-defined]  # noqa: B018


def assigned(cls: type) -> set[str]:
    """The attributes that the methods of a class, or of those of swd that it stands on, give an instance."""
    bases = [base for base in cls.__mro__ if base.__module__.startswith("swd.")]
    sources = (inspect.getsource(base) for base in bases if not base.__module__.startswith("swd._"))  # not compiled
    return {
        name for source in sources for name in re.findall(r"^\s+self\.([a-z]\w*)\b[^=\n]*=[^=]", source, re.MULTILINE)
    }


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_a_class_has_the_members_of_the_contract(name: str) -> None:
    cls = getattr(swd, name)
    built, to_come = MEMBERS[name]
    assert built - set(dir(cls)) - assigned(cls) == set()
    public = {member for member in dir(cls) if not member.startswith("_")}
    assert public - built - to_come - SEAMS[name] == set()


def submodules() -> Iterator[str]:
    """Every module of swd that is there, as it was installed."""
    top = Path(swd.__file__).parent
    for path in sorted(top.rglob("*.py")):
        if path.name != "__main__.py":
            parts = path.relative_to(top.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", list(submodules()))
def test_what_a_module_says_it_exports_is_there(name: str) -> None:
    module = importlib.import_module(name)
    assert [export for export in getattr(module, "__all__", ()) if not hasattr(module, export)] == []


def test_importing_swd_costs_nothing() -> None:
    """No numpy, asyncio, sqlite3, rich, click ...; no thread, no handler; and nothing of swd below the public names."""
    code = (
        "import sys; before = set(sys.modules); import swd; new = sorted(set(sys.modules) - before);"
        "import threading, logging, signal;"
        "print(*new);"
        "print(threading.active_count(), len(logging.root.handlers), signal.getsignal(signal.SIGTERM).name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new, state = done.stdout.splitlines()
    assert "swd" in new.split()
    assert {name.partition(".")[0] for name in new.split()} & NOT_AT_IMPORT == set()
    assert [name for name in new.split() if name.startswith("swd.")] == []
    assert state == "1 0 SIG_DFL"


def stubs() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parents[2].glob("swd/_*.pyi"))


def public(names: Iterable[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def declared_in(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What the statements of a stub declare, by name: functions, classes, annotated constants and attributes."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return {name: node for name, node in found.items() if not name.startswith("_")}


def declared(stub: Path) -> dict[str, set[str]]:
    """The public names of a stub; with a class, those of its members."""
    names = declared_in(ast.parse(stub.read_text()).body)
    return {
        name: set(declared_in(node.body)) if isinstance(node, ast.ClassDef) else set() for name, node in names.items()
    }


def defined(module: ModuleType) -> dict[str, set[str]]:
    """The same of a compiled module: its own functions and classes, and constants in upper case."""
    own = {
        name: value
        for name, value in vars(module).items()
        if name in public(vars(module)) and (getattr(value, "__module__", None) == module.__name__ or name.isupper())
    }
    return {name: public(members(value)) if inspect.isclass(value) else set() for name, value in own.items()}


def members(cls: type) -> set[str]:
    """What a class has, private bases of its module included: those only divide it among files."""
    bases = (base for base in cls.__mro__ if base.__module__ == cls.__module__)
    return {name for base in bases if base is cls or base.__name__.startswith("_") for name in vars(base)}


@pytest.mark.parametrize("name", stubs())
def test_a_stub_says_what_the_compiled_module_has(root: Path, name: str) -> None:
    """Names only; `make types` compares the signatures."""
    assert find_spec(f"swd.{name}") is not None, "a stub without a compiled module"
    module = importlib.import_module(f"swd.{name}")
    assert not (module.__file__ or "").endswith(".py")
    stub, compiled = declared(root / "swd" / f"{name}.pyi"), defined(module)
    assert stub == compiled
