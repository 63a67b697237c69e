# SPDX-License-Identifier: Apache-2.0
"""The rows without a network (`mem`, `file`, `isw`), the table itself, and the requests that they answer."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import swd
from swd.driver import Driver, devsw, ioctl
from swd.driver.ioctl import Request
from swd.driver.row import SLOTS, Row
from swd.errors import BadDescriptor, InvalidArgument, MediumError, NoSuchDevice, SwdError, Unsupported
from swd.proto.url import FaultDev, FileDev, IscsiDev, IswDev, LvmDev, MemDev, parse_dev

BLOCK = 512


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(64 * BLOCK))
    return path


@pytest.fixture
def drv() -> Iterator[Driver]:
    with Driver() as driver:
        yield driver


# --- the table -----------------------------------------------------------------------------------------------------


def test_each_form_has_one_row() -> None:
    named = {"iscsi": IscsiDev, "mem": MemDev, "file": FileDev, "isw": IswDev, "lvm": LvmDev, "fault": FaultDev}
    assert [row.name for row in devsw.DEVSW] == ["iscsi", "isw", "mem", "file", "lvm", "fault"]
    assert len({scheme for row in devsw.DEVSW for scheme in row.schemes}) == 6
    fault = str(FaultDev("p", MemDev(512)))
    for text in ("iscsi://h/iqn.2026-01.org.example:x/0", "mem://1M", "file:///x", "./x", "isw:", "lvm://vg/lv", fault):
        dev = parse_dev(text)
        assert isinstance(dev, named[devsw.find(dev).name])
        assert [row.name for row in devsw.DEVSW if row.match(dev)] == [devsw.find(dev).name]


def test_a_form_without_a_row_is_enodev() -> None:
    with pytest.raises(NoSuchDevice) as caught:
        devsw.find(object())  # type: ignore[arg-type]
    assert caught.value.errno == errno.ENODEV


def test_a_slot_that_a_driver_lacks_raises_and_names_it() -> None:
    row = Row("hollow", (), "for tests")
    for slot in SLOTS:
        with pytest.raises(Unsupported, match=f"hollow has no {slot}") as caught:
            getattr(row, slot)(None, None)
        assert caught.value.errno == (errno.ENODEV if slot in ("match", "attach") else errno.EOPNOTSUPP)
    with pytest.raises(AttributeError):
        row.name = "other"  # type: ignore[misc]


def test_every_slot_of_the_table_is_there() -> None:
    for row in devsw.DEVSW:
        for slot in SLOTS:
            assert callable(getattr(row, slot))


# --- requests ------------------------------------------------------------------------------------------------------


def test_the_table_of_requests_has_them_all_once() -> None:
    assert [entry.request for entry in ioctl.TABLE if entry.doc] == [entry.request for entry in ioctl.TABLE]
    assert sorted(entry.request for entry in ioctl.TABLE) == sorted(Request)


@pytest.mark.parametrize("member", list(Request))
def test_a_request_by_member_name_and_number(member: Request) -> None:
    assert ioctl.lookup(member) is ioctl.lookup(member.name) is ioctl.lookup(int(member))


@pytest.mark.parametrize("request_", ["BLKGETSIZE", "blkgetsize64", 0, -1, 0x1260])
def test_an_unknown_request_is_enotty(drv: Driver, request_: str | int) -> None:
    with pytest.raises(SwdError) as caught:
        drv.ioctl(drv.open("isw:"), request_)
    assert caught.value.errno == errno.ENOTTY


@pytest.mark.skipif(not os.path.exists("/usr/include/linux/fs.h"), reason="no kernel headers to compare with")
def test_the_numbers_are_linuxs(tmp_path: Path) -> None:
    names = [member.name for member in Request if not member.name.startswith("SWD_")]
    lines = "".join(f'printf("%lu\\n", (unsigned long){name});' for name in names)
    (tmp_path / "n.c").write_text(
        f"#include <stdio.h>\n#include <linux/fs.h>\n#include <scsi/sg.h>\nint main(void) {{ {lines} return 0; }}\n"
    )
    subprocess.run(["cc", "-o", "n", "n.c"], cwd=tmp_path, check=True)
    out = subprocess.run([tmp_path / "n"], capture_output=True, text=True, check=True).stdout
    assert dict(zip(names, map(int, out.split()), strict=True)) == {name: Request[name] for name in names}


def test_what_a_disk_answers(drv: Driver, image: Path) -> None:
    fd = drv.open(f"file://{image}?block_size=4096", os.O_RDWR)
    names = ("BLKGETSIZE64", "BLKSSZGET", "BLKPBSZGET", "BLKROGET", "BLKFLSBUF")
    assert {name: drv.ioctl(fd, name) for name in names} == {
        "BLKGETSIZE64": 64 * BLOCK,
        "BLKSSZGET": 4096,
        "BLKPBSZGET": 4096,
        "BLKROGET": 0,
        "BLKFLSBUF": None,
    }
    assert drv.ioctl(fd, "SWD_VERSION") == {
        "version": swd.__version__,
        "driver": "file",
        "device": f"file://{image}?block_size=4096",
    }
    assert drv.ioctl(drv.open(str(image)), "BLKROGET") == 0  # the medium takes writes, however it was opened
    with pytest.raises(Unsupported, match="SG_IO"):
        drv.ioctl(fd, "SG_IO", swd.SgIo(bytes(6)))


def test_isw_is_for_ioctl_only(drv: Driver) -> None:
    fd = drv.open("isw:", os.O_RDWR)
    drv.open("mem://1M")
    found = drv.ioctl(fd, "SWD_STATS_GET")
    assert isinstance(found, dict)
    assert (found["descriptors"], found["sessions"]) == (2, 0)
    phase = drv.ioctl(fd, "SWD_PHASE_GET")
    assert isinstance(phase, dict)
    assert phase["phase"] == "network-attempted"
    with Driver(phase=swd.Phase.PRE_NETWORK) as other:
        phase = other.ioctl(other.open("isw:"), "SWD_PHASE_GET")
        assert isinstance(phase, dict)
        assert (phase["phase"], phase["file"]) == ("pre-network", None)
    for act in (
        lambda: drv.read(fd, BLOCK),
        lambda: drv.write(fd, bytes(BLOCK)),
        lambda: drv.lseek(fd, 0, 0),
        lambda: drv.fsync(fd),
        lambda: drv.ioctl(fd, "BLKGETSIZE64"),
    ):
        with pytest.raises(Unsupported, match="isw"):
            act()
    with pytest.raises(Unsupported):
        swd.open("isw:")


# --- mem -----------------------------------------------------------------------------------------------------------


def test_ram_disks_without_a_name_are_apart_and_with_one_are_one(drv: Driver) -> None:
    for dev, same in (("mem://1M", False), ("mem://1M?name=rows", True)):
        one = drv.open(dev, os.O_RDWR)
        drv.pwrite(one, b"x" * BLOCK, 0)
        drv.close(one)
        assert (drv.pread(drv.open(dev), BLOCK, 0) == b"x" * BLOCK) is same
    with pytest.raises(InvalidArgument, match="mem://1M"):
        drv.open("mem://2M?name=rows")


@pytest.mark.parametrize("request_", ["BLKZEROOUT", "BLKDISCARD"])
@pytest.mark.parametrize("kind", ["mem", "file"])
def test_zero_and_discard_touch_their_range_only(drv: Driver, image: Path, kind: str, request_: str) -> None:
    fd = drv.open("mem://32K" if kind == "mem" else str(image), os.O_RDWR)
    drv.pwrite(fd, b"x" * 64 * BLOCK, 0)
    assert drv.ioctl(fd, request_, (3 * BLOCK, 40 * BLOCK)) is None
    data = drv.pread(fd, 64 * BLOCK, 0)
    assert data[: 3 * BLOCK] + data[43 * BLOCK :] == b"x" * 24 * BLOCK
    if request_ == "BLKZEROOUT":
        assert data[3 * BLOCK : 43 * BLOCK] == bytes(40 * BLOCK)


def test_a_large_ram_disk_costs_nothing_until_it_is_written(drv: Driver) -> None:
    fd = drv.open("mem://1G", os.O_RDWR)
    drv.pwrite(fd, b"x" * BLOCK, 1 << 29)
    assert drv.pread(fd, BLOCK, 1 << 29) == b"x" * BLOCK


# --- file ----------------------------------------------------------------------------------------------------------


def test_what_the_driver_writes_is_in_the_file(drv: Driver, image: Path) -> None:
    fd = drv.open(str(image), os.O_RDWR)
    data = os.urandom(3 * BLOCK)
    drv.pwrite(fd, data, BLOCK)
    drv.fsync(fd)
    assert image.read_bytes() == bytes(BLOCK) + data + bytes(60 * BLOCK)


@pytest.mark.parametrize(
    ("kind", "number"), [("none", "ENXIO"), ("folder", "ENOTBLK"), ("fifo", "ENOTBLK"), ("odd", "EINVAL")]
)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_what_cannot_be_opened(drv: Driver, tmp_path: Path, kind: str, number: str, flags: int) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "odd":
        path.write_bytes(bytes(BLOCK + 1))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(SwdError) as caught:
        drv.open(str(path), flags)
    assert errno.errorcode[caught.value.errno or 0] == number
    assert str(path) in caught.value.reason
    assert before == (len(os.listdir("/proc/self/fd")) if before else 0)


def test_a_character_device_has_no_blocks(drv: Driver) -> None:
    with pytest.raises(SwdError) as caught:
        drv.open(os.devnull)
    assert caught.value.errno == errno.ENOTBLK


def test_a_file_that_shrinks_is_an_io_error_not_a_short_read(drv: Driver, image: Path) -> None:
    fd = drv.open(str(image))
    os.truncate(image, BLOCK)
    with pytest.raises(MediumError, match="truncated") as caught:
        drv.pread(fd, 2 * BLOCK, 0)
    assert caught.value.errno == errno.EIO


def test_what_the_file_system_refuses_keeps_its_errno(drv: Driver, tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a full one: EFBIG."""
    image = tmp_path / "large"
    image.touch()
    os.truncate(image, 1 << 20)
    fd = drv.open(str(image), os.O_RDWR)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(MediumError) as caught:
            drv.pwrite(fd, b"x" * BLOCK, 8192)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.errno == errno.EFBIG


def test_two_names_of_one_file_share_its_lock(image: Path, tmp_path: Path) -> None:
    """Unaligned writes to neighbours in one block, through two Disks, do not undo each other."""
    (tmp_path / "link").symlink_to(image)
    disks = [swd.open(str(path), "r+b") for path in (image, tmp_path / "link")]
    assert disks[0].unit.lock is disks[1].unit.lock
    start = threading.Barrier(2)

    def work(disk: swd.Disk, at: int) -> None:
        start.wait(30)
        for turn in range(200):
            disk.pwrite(bytes([turn]), at)
            assert disk.pread(1, at) == bytes([turn])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, disks, range(2)))
    assert image.read_bytes()[:2] == bytes([199, 199])
    for disk in disks:
        disk.close()


def test_a_disk_that_is_closed_lets_go_of_its_descriptor(image: Path) -> None:
    with swd.open(str(image)) as disk:
        unit = disk.unit
        assert disk.pread(BLOCK, 0) == bytes(BLOCK)
    with pytest.raises(BadDescriptor):
        disk.pread(BLOCK, 0)
    with pytest.raises(BadDescriptor, match="closed"):
        unit.read_blocks(0, bytearray(BLOCK))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a loop device")
def test_a_raw_device(drv: Driver, image: Path) -> None:
    losetup = shutil.which("losetup", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if losetup is None:
        pytest.skip("losetup is not installed")
    found = subprocess.run([losetup, "--find", "--show", str(image)], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no loop device to be had: {found.stderr.strip()}")
    device = found.stdout.strip()
    try:
        assert stat.S_ISBLK(os.stat(device).st_mode)
        fd = drv.open(device, os.O_RDWR)
        assert drv.ioctl(fd, "BLKGETSIZE64") == 64 * BLOCK
        drv.pwrite(fd, b"x" * BLOCK, BLOCK)
        drv.fsync(fd)
        drv.close(fd)
        assert image.read_bytes()[BLOCK : 2 * BLOCK] == b"x" * BLOCK
    finally:
        subprocess.run([losetup, "--detach", device], check=True)


# --- swd.open --------------------------------------------------------------------------------------------------------


def test_open_takes_modes_and_options(image: Path) -> None:
    with swd.open(str(image), header_digest="crc32c", timeout=3) as disk:
        assert (disk.size, disk.writable) == (64 * BLOCK, False)
    with swd.open(str(image), "r+b") as disk:
        assert disk.pwrite(b"abc", 700) == 3
    assert image.read_bytes()[700:703] == b"abc"
    for wrong in ("w", "rb+", "", None):
        with pytest.raises(InvalidArgument, match="mode"):
            swd.open(str(image), wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="header_digest"):
        swd.open(str(image), header_digset="none")
    with pytest.raises(TypeError):
        swd.open(image)  # type: ignore[arg-type]
