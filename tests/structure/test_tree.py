# SPDX-License-Identifier: Apache-2.0
"""What holds for every file of the tree, and for the log of the build."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = {".py", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".sh"}
SPDX = "SPDX-License-Identifier: Apache-2.0"

# Written apart, so that this file does not hold what it looks for.
FOLDERS_OF_A_MACHINE = ("home", "root", "work", "Users", "tmp/dv")
ABSOLUTE = re.compile(r"(?<![\w.}])/(?:" + "|".join(FOLDERS_OF_A_MACHINE) + r")(?:/\w|\s|$|[\"'`])")
LEFT_UNDONE = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX"]) + r")\b")

OWN_FOLDERS = {
    "acceptance",
    "conformance",
    "fuzz",
    "golden",
    "guest",
    "hostile",
    "interop",
    "limits",
    "model",
    "packaging",
    "soak",
    "structure",
}
MIRRORS = {
    "target_server": "target",
    "asyncqueue": "_asyncqueue.pyx",
    "rangelock": "_rangelock.pyx",
    "straight": "_straight.pyx",
    "asyncdisk": "_asyncdisk.pyx",
    "crc": "_crc32c.pyx",
    "engine": "_engine.pyx",
    "pump": "_fastpath.pyx",
    "targetpath": "_targetpath.pyx",
}


def load(path: Path) -> ModuleType:
    """A module of tools/, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"tools_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def files() -> list[Path]:
    """Every file of the tree, relative to its top."""
    found: list[Path] = load(ROOT / "tools" / "build.py").sources()
    return found


def text(path: Path) -> str:
    return (ROOT / path).read_bytes().decode(errors="replace")


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path in files()
        if path.suffix != ".xz"
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_tree_is_seen() -> None:
    assert Path("swd/errors.py") in files()
    assert Path("tests/structure/test_tree.py") in files()
    assert not [path for path in files() if path.suffix == ".so"]


def test_no_file_names_a_path_of_a_machine() -> None:
    assert lines_with(ABSOLUTE) == []


@pytest.mark.parametrize("folder", FOLDERS_OF_A_MACHINE)
def test_a_path_of_a_machine_is_found(folder: str) -> None:
    assert ABSOLUTE.search(f"open('/{folder}/me/x')")
    assert ABSOLUTE.search(f"cd /{folder}")
    assert not ABSOLUTE.search(f"https://example.org/{folder}/x")


def test_nothing_is_left_undone() -> None:
    assert [line for line in lines_with(LEFT_UNDONE) if not line.startswith("LICENSE")] == []


def test_every_source_has_its_licence_line() -> None:
    sources = [
        path for path in files() if path.suffix in CODE or text(path).startswith("#!") or path.name == "Makefile"
    ]
    assert [str(path) for path in sources if text(path) and SPDX not in "\n".join(text(path).splitlines()[:3])] == []


def test_the_tests_mirror_the_package() -> None:
    """Tests for each package and compiled module; no folder but mirrors and those that stand for themselves."""
    sources = [path for path in files() if path.parts[0] == "swd" and text(path)]
    parts = {path.parts[1] for path in sources if len(path.parts) > 2 or path.suffix == ".pyx"}
    tests = [path for path in files() if path.parts[0] == "tests" and path.name.startswith("test_")]
    folders = {path.parts[1] for path in tests if len(path.parts) > 2}
    mirrored = {MIRRORS.get(name, name) for name in folders - OWN_FOLDERS}
    assert parts - mirrored == set()
    assert mirrored - parts == set()


def test_the_suite_is_no_package() -> None:
    """With tests/__init__.py, pytest would put the top of the tree on sys.path, and swd would come from there."""
    assert not (ROOT / "tests" / "__init__.py").exists()
    assert not (ROOT / "tests" / "packaging" / "__init__.py").exists()  # it would hide the package of that name


def calls_and_imports(path: Path) -> set[str]:
    """Dotted names that a test file imports or calls."""
    found = set()
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            found.add(f"{node.func.value.id}.{node.func.attr}")
    return found


def test_no_test_sleeps_or_mocks() -> None:
    """Tests wait for events, and talk to real objects that misbehave."""
    tests = [path for path in files() if path.parts[0] == "tests" and path.suffix == ".py"]
    sinners = {
        str(path): calls_and_imports(path) & {"time.sleep", "unittest.mock", "unittest.mock.patch"} for path in tests
    }
    assert {path: sins for path, sins in sinners.items() if sins} == {}


def test_the_build_log_has_no_performance_hint() -> None:
    """`make` builds swd before the suite, and keeps the log."""
    log = ROOT / ".build" / "build.log"
    if "SWD_TEST_HOME" not in os.environ:
        pytest.skip("not run by make: no build log of this tree")
    assert "Successfully installed" in log.read_text(errors="replace")
    assert load(ROOT / "tools" / "build.py").hints(log.read_text(errors="replace")) == []


@pytest.mark.parametrize(("promise", "warned"), [("", True), ("noexcept ", False)])
def test_a_performance_hint_is_found(tmp_path: Path, promise: str, warned: bool) -> None:
    source = f"cdef void f() {promise}nogil:\n    pass\n\ndef g():\n    with nogil:\n        f()\n"
    (tmp_path / "slow.pyx").write_text(source)
    cython = [sys.executable, "-m", "cython", "-3", "slow.pyx"]
    done = subprocess.run(cython, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert bool(load(ROOT / "tools" / "build.py").hints(done.stdout + done.stderr)) == warned
