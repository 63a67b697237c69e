# SPDX-License-Identifier: Apache-2.0
"""The parts of a write that lie apart: each goes where NumPy says that it is, and those in one piece are not copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import swd
from swd import strided
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import Fault, Plan

NAME = "iqn.2026-01.org.example:strided"
SIZE = 1024  # bytes of a part
BYTES = np.random.default_rng(1).integers(0, 256, 64 * SIZE, np.uint8)

# name -> (array of equal parts, how many, whether its memory can be used as it is)
SHAPES: dict[str, tuple[np.ndarray[Any, Any], int, bool]] = {
    "in one piece": (BYTES.reshape(16, 4 * SIZE), 64, True),
    "one block, many times": (np.broadcast_to(BYTES[:SIZE], (12, SIZE)), 12, True),
    "four blocks in turn": (np.broadcast_to(BYTES[: 4 * SIZE].reshape(4, SIZE), (3, 4, SIZE)), 12, True),
    "each block three times": (np.broadcast_to(BYTES[: 4 * SIZE].reshape(4, 1, SIZE), (4, 3, SIZE)), 12, True),
    "every other line": (BYTES.reshape(64, SIZE)[::2], 32, True),
    "the last first": (BYTES.reshape(64, SIZE)[::-1], 64, True),
    "the left of an image": (BYTES.reshape(32, 2 * SIZE)[:, :SIZE], 32, True),
    "tiles' lines": (BYTES.reshape(2, 4, 8, SIZE)[:, :, 3], 8, True),
    "words": (BYTES.view(np.uint32).reshape(32, 2, SIZE // 4)[:, 0], 32, True),
    "parts of two dimensions": (BYTES.reshape(16, 4, 32, 32)[::2], 8, True),
    "halves of lines": (BYTES.reshape(32, 2 * SIZE)[::2], 32, False),
    "every other byte": (BYTES[::2], 32, False),
    "columns": (BYTES.reshape(SIZE, 64).T, 64, False),
    "three levels": (BYTES.reshape(2, 2, 2, 8, SIZE)[:, ::-1, :, 2], 8, False),
}


@pytest.fixture(params=list(SHAPES))
def shape(request: pytest.FixtureRequest) -> tuple[np.ndarray[Any, Any], int, bool]:
    return SHAPES[request.param]


def parts_of(array: np.ndarray[Any, Any], count: int) -> list[bytes]:
    whole = array.tobytes()
    size = len(whole) // count
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def test_rows(shape: tuple[np.ndarray[Any, Any], int, bool]) -> None:
    array, count, shared = shape
    found, wanted = strided.rows(memoryview(array), count), parts_of(array, count)
    assert np.shares_memory(np.asarray(found), array) == shared
    assert [bytes(part) for part in strided.each(found, count)] == wanted
    assert [bytes(strided.nth(found, at, count)) for at in range(count)] == wanted
    assert bytes(strided.flat(found)) == b"".join(wanted)


def test_objects_are_no_bytes() -> None:
    objects = np.array([[b"a", b"b"]] * 4).astype(object)
    for array in (objects, objects[:, ::-1]):
        with pytest.raises(TypeError, match="bytes are needed"):
            strided.rows(memoryview(array), 4)


@pytest.fixture
def disk(places: None) -> Iterator[swd.Disk]:
    changed = Fault("unit_attention", command="WRITE", nth=3, asc=0x2A, ascq=0x01)
    target = TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))})], faults=Plan((changed,)))
    with target as server, swd.open(f"iscsi://{server.portal}/{NAME}/0", "r+b") as found:
        yield found


@pytest.mark.parametrize("queue_depth", [1, 5, 32])
def test_over_the_wire(shape: tuple[np.ndarray[Any, Any], int, bool], disk: swd.Disk, queue_depth: int) -> None:
    """Also the third, which is done again by itself, since a unit attention comes in its place."""
    array, count, _ = shape
    size = array.nbytes // count
    places = np.random.default_rng(count).permutation(disk.size // size)[:count] * size
    counted: Any = disk.unit
    odd = counted.session.statistics["odd_completions"]
    disk.write_many(places, array, queue_depth=queue_depth)
    wanted = dict(zip(places.tolist(), parts_of(array, count), strict=True))
    found = disk.pread(disk.size, 0)
    assert found == b"".join(wanted.get(at, bytes(size)) for at in range(0, disk.size, size))
    assert counted.session.statistics["odd_completions"] == odd + 1
