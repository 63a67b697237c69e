# SPDX-License-Identifier: Apache-2.0
"""Images with file systems, made by the tools that people use. Sparse files; seconds at most."""

from __future__ import annotations

import importlib.util
import json
import lzma
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

GOLDEN = Path(__file__).parents[1] / "golden"


def run(*command: str | Path, **settings: object) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, **settings)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')[-500:]}"
    return done


def blank(path: Path, mebibytes: int) -> Path:
    with path.open("wb") as file:
        file.truncate(mebibytes << 20)
    return path


def ext(path: Path, *words: str | Path, kind: str = "ext4", mebibytes: int = 32) -> Path:
    """`words` for mkfs: `-d FOLDER`, `-O FEATURES`."""
    run(f"mkfs.{kind}", "-q", "-F", *words, blank(path, mebibytes))
    return path


def xfs(path: Path, *words: str | Path, mebibytes: int = 300) -> Path:
    run("mkfs.xfs", "-q", *words, blank(path, mebibytes))
    return path


def ntfs(path: Path, mebibytes: int = 16) -> Path:
    run(
        "mkntfs",
        "-q",
        "-Q",
        "-F",
        "-L",
        "windows",
        "-s",
        "512",
        "-p",
        "0",
        "-H",
        "1",
        "-S",
        "1",
        blank(path, mebibytes),
    )
    return path


def fat(path: Path, bits: int, mebibytes: int | None = None) -> Path:
    run("mkfs.fat", "-F", str(bits), "-n", "STICK", blank(path, mebibytes or {12: 2, 16: 16, 32: 40}[bits]))
    return path


def unpacked(name: str, folder: Path) -> Path:
    """A golden image, as a sparse file."""
    path = folder / name
    with lzma.open(GOLDEN / f"{name}.xz") as packed, path.open("wb") as file:
        while piece := packed.read(1 << 20):
            if piece.strip(b"\0"):
                file.write(piece)
            else:
                file.seek(len(piece), 1)
        file.truncate()
    return path


def patched(path: Path, *changes: tuple[int, bytes]) -> Path:
    """Bytes put into an image by hand."""
    with path.open("r+b") as file:
        for offset, data in changes:
            file.seek(offset)
            file.write(data)
    return path


def load(name: str) -> ModuleType:
    """A module of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"tools_{name}", GOLDEN.parents[1] / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


trees = load("fs_trees")  # made the golden images, and knows how trees are compared
mutants = load("fs_mutants")


def truth(name: str) -> dict[str, dict[str, Any]]:
    """What the kernel said of a golden image."""
    told: dict[str, dict[str, Any]] = json.loads(lzma.decompress((GOLDEN / f"{name}.json.xz").read_bytes()))
    return told
