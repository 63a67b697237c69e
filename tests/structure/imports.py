# SPDX-License-Identifier: Apache-2.0
"""Reads which module of swd names which: the imports of .py files, the cimports of .pyx and .pxd files and of the .pxi
files that they include, and module paths in strings (tables name the modules that they load late)."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+(?P<home>[\w.]+)\s+c?import\s+(?P<name>\w+)|c?import\s+(?P<module>[\w.]+))")
MODULE_PATH = re.compile(r"swd(\.\w+)+(:\w+)?")


class Import(NamedTuple):
    """Module `importer` names `imported` (a module or a name inside one) on `line` of `path`."""

    importer: str
    imported: str
    path: Path
    line: int


def module_name(path: Path, top: Path) -> str:
    """`swd/proto/url.py` -> `swd.proto.url`, `swd/__init__.py` -> `swd`."""
    parts = path.relative_to(top).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(top: Path) -> dict[str, Path]:
    """Every source of the package below `top`, by module name; a .pyx stands before the .pxd of the same name."""
    found: dict[str, Path] = {}
    for suffix in ("pxd", "pyx", "py"):
        found |= {module_name(path, top): path for path in sorted((top / "swd").rglob(f"*.{suffix}"))}
    return found


def read(top: Path) -> list[Import]:
    """All imports between modules of swd, and of anything else. A string counts when it is the path of a module."""
    paths = {path for suffix in ("py", "pyx", "pxd", "pxi") for path in (top / "swd").rglob(f"*.{suffix}")}
    known = modules(top).keys()
    return [found for path in sorted(paths) for found in _of_file(path, module_name(home(path), top), known)]


def home(path: Path) -> Path:
    """The file whose module `path` belongs to: the .pyx that includes it, for a .pxi; else itself."""
    if path.suffix != ".pxi":
        return path
    homes = [pyx for pyx in path.parent.glob("*.pyx") if f'include "{path.name}"\n' in pyx.read_text()]
    assert len(homes) == 1, f"{path} is included by {len(homes)} files, not by one"
    return homes[0]


def _of_file(path: Path, importer: str, known: Collection[str]) -> Iterator[Import]:
    text = path.read_text()
    if path.suffix == ".py":
        tree = ast.parse(text)
        names = [*_of_python(tree, importer, path.name == "__init__.py"), *_of_strings(tree, known)]
    else:
        names = list(_of_cython(text, importer))
    for imported, line in names:
        yield Import(importer, imported, path, line)


def _of_python(tree: ast.AST, importer: str, is_package: bool) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = _absolute(node, importer, is_package)
            yield from ((f"{home}.{alias.name}", node.lineno) for alias in node.names)


def _of_strings(tree: ast.AST, known: Collection[str]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_PATH.fullmatch(node.value):
            name = node.value.replace(":", ".")
            if name in known or name.rpartition(".")[0] in set(known) - {"swd"}:
                yield name, node.lineno


def _absolute(node: ast.ImportFrom, importer: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = importer.split(".")
    home = parts[: len(parts) - node.level + is_package]
    return ".".join([*home, *([node.module] if node.module else [])])


def _of_cython(text: str, importer: str) -> Iterator[tuple[str, int]]:
    package = importer.rpartition(".")[0]
    for number, line in enumerate(text.splitlines(), 1):
        if found := CYTHON_IMPORT.match(line):
            imported = found["module"] or f"{found['home']}.{found['name']}"
            yield (package + imported if imported.startswith(".") else imported), number
