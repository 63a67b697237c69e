# SPDX-License-Identifier: Apache-2.0
"""tools/build.py: what the clean copy holds, and what makes it build again."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tree(root: Path, tmp_path: Path) -> Path:
    """A small tree with the tool in it, with what builds leave behind, and with what is ignored."""
    (tmp_path / "tools").mkdir()
    shutil.copy(root / "tools" / "build.py", tmp_path / "tools")
    leftovers = (
        "swd/_x.so",
        "swd/_x.c",
        "swd/__pycache__/a.pyc",
        "build/lib/swd/stale.py",
        ".venv/pyvenv.cfg",
        ".build/a",
    )
    for name in ("swd/__init__.py", "swd/_x.pyx", "swd/_kernel.c", "setup.py", "README.md", *leftovers):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.so\n__pycache__/\nbuild/\n.venv/\n.build/\nswd/_x.c\n")
    return tmp_path


def load(tree: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_tool", tree / "tools" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCES = {"swd/__init__.py", "swd/_x.pyx", "swd/_kernel.c", "setup.py", "README.md", "tools/build.py", ".gitignore"}


def copied(tree: Path) -> set[str]:
    tool = load(tree)
    tool.copy_clean(tree / ".build" / "src", tool.sources())
    top = tree / ".build" / "src"
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}


def git(tree: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-C", str(tree), "-c", "init.defaultBranch=main", *arguments], check=True, capture_output=True
    )


def test_a_copy_without_git_leaves_out_what_builds_left(tree: Path) -> None:
    assert copied(tree) == SOURCES


def test_a_copy_of_a_checkout_is_what_git_would_commit(tree: Path) -> None:
    git(tree, "init", "-q")
    git(tree, "add", "swd/__init__.py")
    assert copied(tree) == SOURCES


def test_a_file_that_was_deleted_is_no_source(tree: Path) -> None:
    git(tree, "init", "-q")
    git(tree, "add", ".")
    (tree / "setup.py").unlink()
    assert copied(tree) == SOURCES - {"setup.py"}


def test_the_copy_keeps_nothing_of_an_earlier_one(tree: Path) -> None:
    (tree / ".build/src/swd").mkdir(parents=True)
    (tree / ".build/src/swd/stale.py").write_text("")
    assert copied(tree) == SOURCES


@pytest.mark.parametrize("change", ["text", "name", "gone", "same"])
def test_any_change_of_a_source_changes_the_fingerprint(tree: Path, change: str) -> None:
    tool = load(tree)
    before = tool.fingerprint(tool.sources())
    path = tree / "swd" / "__init__.py"
    if change == "text":
        path.write_text("1")
    elif change == "name":
        path.rename(tree / "swd" / "renamed.py")
    elif change == "gone":
        path.unlink()
    else:
        (tree / "swd" / "_x.so").write_text("a build leaves something")
    assert (tool.fingerprint(tool.sources()) == before) == (change == "same")


def test_the_build_requirements_are_those_of_pyproject(root: Path) -> None:
    found = load(root).build_requirements()
    assert {requirement.partition(">")[0] for requirement in found} == {"setuptools", "cython"}
