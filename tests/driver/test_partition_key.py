# SPDX-License-Identifier: Apache-2.0
"""The key `partition` on every DEV that has blocks, and what a partition cannot do."""

from __future__ import annotations

import errno
import logging
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.served import serving

import swd
from swd.cli import guard
from swd.driver import Driver
from swd.driver.ioctl import Request
from swd.errors import InvalidArgument, NoSuchDevice, Unsupported
from swd.values import SgIo

START, COUNT, BLOCK = 64, 16, 512


def table() -> bytes:
    """An MBR whose partition 2 is blocks 64 to 79, and 3 ends behind the disk."""
    entries = [(0, 0, 0), (0x83, START, COUNT), (0x83, 2000, 100)]
    body = b"".join(struct.pack("<B3xB3xII", 0, *entry) for entry in entries).ljust(64, b"\0")
    return bytes(446) + body + b"\x55\xaa"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes((table() + bytes(START * BLOCK - BLOCK) + bytes(range(16)) * 512).ljust(2048 * BLOCK, b"\xff"))
    return path


@pytest.fixture(params=["file", "path", "mem", "iscsi"])
def dev(request: pytest.FixtureRequest, image: Path) -> Iterator[Callable[[str], str]]:
    """A DEV of the image by each driver, with a query."""
    if request.param == "file":
        yield lambda query: f"file://{image}{query}"
    elif request.param == "mem":
        with swd.open("mem://1M?name=parts", "r+b") as disk:
            disk.pwrite(image.read_bytes(), 0)
        yield lambda query: f"mem://1M?name=parts{query.replace('?', '&')}"
    elif request.param == "iscsi":
        with serving("--lun", str(image)) as served:
            yield lambda query: served.url() + query
    else:
        yield lambda query: f"file://{os.path.relpath(image)}{query}"


def test_a_partition_by_its_number(dev: Callable[[str], str]) -> None:
    with swd.open(dev("?partition=2")) as part, swd.open(dev(""), partition=2) as same, swd.open(dev("")) as whole:
        assert part.size == same.size == COUNT * BLOCK
        assert part.pread(COUNT * BLOCK, 0) == same.pread(1 << 20, 0) == bytes(range(16)) * 512
        assert part.identity == f"{whole.identity}-part2"
    with Driver() as drv:
        fd = drv.open(dev("?partition=2"), os.O_RDWR)
        assert drv.ioctl(fd, Request.BLKGETSIZE64) == COUNT * BLOCK
        drv.pwrite(fd, bytes(BLOCK), BLOCK)
        with pytest.raises(Unsupported):
            drv.ioctl(fd, Request.SG_IO, SgIo(bytes(6)))
        drv.close(fd)
    with swd.open(dev("")) as whole:
        assert whole.pread(BLOCK + 1, (START + 1) * BLOCK) == bytes(BLOCK + 1)


def test_one_that_is_not_there_is_enxio(dev: Callable[[str], str]) -> None:
    with pytest.raises(NoSuchDevice, match="no partition 7") as caught:
        swd.open(dev("?partition=7"))
    assert caught.value.errno == errno.ENXIO


@pytest.mark.parametrize("value", ["0", "-1", "x", "65536", ""])
def test_a_bad_number_is_einval(dev: Callable[[str], str], value: str) -> None:
    with pytest.raises(InvalidArgument):
        swd.open(dev(f"?partition={value}"))


def test_the_file_of_a_missing_partition_is_closed(image: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(NoSuchDevice):
            swd.open(f"file://{image}?partition=7")
    assert os.listdir("/proc/self/fd") == before


def test_what_is_wrong_with_the_table_is_a_message(image: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "swd"), swd.open(f"file://{image}?partition=3") as part:
        assert part.size == 48 * BLOCK
    assert [record.symbol for record in caplog.records] == ["SWD_LOG_PARTITION_TABLE"]  # type: ignore[attr-defined]


def test_a_partition_of_a_disk_that_the_kernel_has_is_refused_as_the_disk_is(tmp_path: Path) -> None:
    (tmp_path / "block" / "sdz" / "device").mkdir(parents=True)
    (tmp_path / "block" / "sdz" / "device" / "wwid").write_text("naa.6001405aabbccddeeff0011223344556\n")
    assert guard.attached("naa.6001405aabbccddeeff0011223344556-part2", tmp_path) == "sdz"
    assert guard.attached("t10.x (weak)-part12", tmp_path) is None
