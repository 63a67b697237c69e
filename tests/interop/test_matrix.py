# SPDX-License-Identifier: Apache-2.0
"""All 48 rows of the interoperability table, and qemu-img as a third party wherever libiscsi can log in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import matrix, tap
from support.matrix import ROWS, Row

from swd import crc32c
from swd.proto.pdu import NopOut, padded

SIZE = 4 << 20  # bytes that are written and read in a row; `make matrix` does it with more
LIBISCSI_ROWS = tuple(row for row in ROWS if row.libiscsi)

held: set[Row] = set()
converted: set[Row] = set()


def params(rows: tuple[Row, ...]) -> list[object]:
    return [pytest.param(row, id=str(row), marks=[pytest.mark.tgt] if row.target == "tgtd" else []) for row in rows]


@pytest.fixture(scope="module")
def tgtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[matrix.Witness]:
    with matrix.tgtd_witness(tmp_path_factory.mktemp("tgtd"), SIZE) as witness:
        yield witness


@pytest.fixture(scope="module")
def embedded() -> Iterator[matrix.Witness]:
    with matrix.embedded_witness(SIZE) as witness:
        yield witness


@pytest.fixture
def witness(request: pytest.FixtureRequest) -> matrix.Witness:
    """The target of the test's row; a row of tgtd is not tried where there is none."""
    found: matrix.Witness = request.getfixturevalue(request.getfixturevalue("row").target)
    return found


@pytest.mark.parametrize("row", params(ROWS))
def test_matrix(row: Row, witness: matrix.Witness, tmp_path: Path) -> None:
    matrix.play(row, witness, tmp_path, SIZE)
    held.add(row)


@pytest.mark.qemu
@pytest.mark.parametrize("row", params(LIBISCSI_ROWS))
def test_matrix_with_qemu_img(row: Row, witness: matrix.Witness, tmp_path: Path) -> None:
    matrix.play_qemu(row, witness, tmp_path, SIZE)
    converted.add(row)


@pytest.mark.tgt
def test_matrix_is_complete() -> None:
    """A row that was left out is as bad as one that failed."""
    assert len(ROWS) == 48
    assert held == set(ROWS)


@pytest.mark.tgt
@pytest.mark.qemu
def test_matrix_is_complete_for_qemu_img() -> None:
    assert len(LIBISCSI_ROWS) == 24
    assert converted == set(LIBISCSI_ROWS)


@pytest.mark.parametrize("spoilt", ["nothing", "header", "data"])
def test_the_tap_sees_a_wrong_digest(spoilt: str) -> None:
    """What the rows rely on: a digest is not just skipped over."""
    data = bytes(range(10))
    header = NopOut(immediate=True, itt=7, data_segment_length=len(data)).pack()
    pieces = [header, crc32c(header).to_bytes(4, "little"), padded(data), crc32c(padded(data)).to_bytes(4, "little")]
    if spoilt != "nothing":
        at = 1 if spoilt == "header" else 3
        pieces[at] = bytes([pieces[at][0] ^ 1]) + pieces[at][1:]
        with pytest.raises(tap.BadDigest, match=spoilt):
            tap.read(b"".join(pieces), header_digest=True, data_digest=True)
    else:
        talk = tap.read(b"".join(pieces) * 3, header_digest=True, data_digest=True)
        assert (talk.header_digests, talk.data_digests) == (3, 3)
        assert talk.pdus == [(0, data)] * 3
