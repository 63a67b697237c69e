# SPDX-License-Identifier: Apache-2.0
"""Media: the same promises from memory and from a file, and the ways in which a file can fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swd.errors import InvalidArgument, MediumError
from swd.target.media import FileMedium, Medium, RamMedium

SIZE = 64 * 1024


@pytest.fixture(params=["ram", "file"])
def medium(request: pytest.FixtureRequest, tmp_path: Path) -> Medium:
    if request.param == "ram":
        return RamMedium(SIZE)
    return FileMedium(tmp_path / "image", size=SIZE, create=True)


def test_a_new_medium_is_zeros(medium: Medium) -> None:
    assert medium.size == SIZE
    assert bytes(medium.read(0, SIZE)) == bytes(SIZE)


def test_what_was_written_is_read(medium: Medium) -> None:
    medium.write(1000, b"abc" * 1000)
    assert bytes(medium.read(999, 3002)) == b"\0" + b"abc" * 1000 + b"\0"


@given(offset=st.integers(0, SIZE), length=st.integers(0, SIZE))
@settings(max_examples=100, deadline=None)
def test_zero_clears_exactly_its_range(tmp_path_factory: pytest.TempPathFactory, offset: int, length: int) -> None:
    length = min(length, SIZE - offset)
    path = tmp_path_factory.mktemp("zero") / "image"
    makers: list[Callable[[], Medium]] = [lambda: RamMedium(SIZE), lambda: FileMedium(path, size=SIZE, create=True)]
    for make in makers:
        medium = make()
        medium.write(0, b"\xff" * SIZE)
        medium.zero(offset, length)
        assert bytes(medium.read(0, SIZE)) == b"\xff" * offset + bytes(length) + b"\xff" * (SIZE - offset - length)
        medium.close()


def test_zero_gives_storage_back(tmp_path: Path) -> None:
    path = tmp_path / "image"
    medium = FileMedium(path, size=1 << 20, create=True)
    medium.write(0, b"\xff" * (1 << 20))
    medium.flush()
    before = path.stat().st_blocks
    medium.zero(0, 1 << 20)
    assert path.stat().st_size == 1 << 20
    assert path.stat().st_blocks < before


def test_memory_is_placed_into_and_a_file_is_not(tmp_path: Path) -> None:
    ram = RamMedium(SIZE)
    place = ram.place(512, 512)
    assert place is not None
    place[:] = b"x" * 512
    assert bytes(ram.read(512, 512)) == b"x" * 512
    assert FileMedium(tmp_path / "image", size=SIZE, create=True).place(512, 512) is None


def test_a_missing_file_keeps_its_errno(tmp_path: Path) -> None:
    with pytest.raises(MediumError) as caught:
        FileMedium(tmp_path / "absent")
    assert caught.value.errno == errno.ENOENT


def test_a_file_that_shrank_is_a_medium_error(tmp_path: Path) -> None:
    medium = FileMedium(tmp_path / "image", size=SIZE, create=True)
    os.truncate(tmp_path / "image", 512)
    with pytest.raises(MediumError):
        medium.read(0, 1024)


def test_a_read_only_file_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(SIZE))
    medium = FileMedium(tmp_path / "image", read_only=True)
    with pytest.raises(MediumError) as caught:
        medium.write(0, b"x")
    assert caught.value.errno == errno.EBADF


def test_a_ram_disk_has_a_size() -> None:
    with pytest.raises(InvalidArgument):
        RamMedium(0)


@pytest.mark.parametrize("size", [1 << 62, 1 << 80])
def test_a_ram_disk_that_does_not_fit_says_so(size: int) -> None:
    with pytest.raises(MediumError) as caught:
        RamMedium(size)
    assert caught.value.errno == errno.ENOMEM
