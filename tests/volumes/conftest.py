# SPDX-License-Identifier: Apache-2.0
"""Disks over image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import swd
from swd.disk import Disk


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., Path]:
    """Makes a sparse image file of so many bytes."""

    def make(size: int, name: str = "image") -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make


@pytest.fixture
def disk() -> Callable[..., Disk]:
    """Opens an image for reading and writing, in blocks of so many bytes."""

    def opened(path: Path, block_size: int = 512, mode: str = "r+b") -> Disk:
        return swd.open(f"file://{path}?block_size={block_size}", mode)

    return opened
