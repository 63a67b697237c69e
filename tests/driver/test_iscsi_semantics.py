# SPDX-License-Identifier: Apache-2.0
"""What a disk behind iSCSI promises, against the embedded target: lost caches, full pools, large LUNs; and the
requests of the driver itself."""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import swd
from swd.driver import Driver
from swd.driver.ioctl import TABLE, Request
from swd.errors import NetworkNotInitialized
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.media import FileMedium

NAME = "iqn.2026-01.org.example:semantics"
TIB = 1 << 40


@pytest.fixture
def lun() -> Lun:
    return Lun(RamMedium(1 << 20))


@pytest.fixture
def server(lun: Lun) -> Iterator[TargetServer]:
    luns = {0: lun, 300: Lun(RamMedium(1 << 20), block_size=4096)}
    with TargetServer([TargetConfig(NAME, luns)]) as found:
        yield found


def dev(server: TargetServer, number: int = 0, query: str = "") -> str:
    return f"iscsi://{server.portal}/{NAME}/{number}{query}"


def ends_with(number: int, call: Any, *arguments: Any, **options: Any) -> None:
    with pytest.raises(OSError) as caught:
        call(*arguments, **options)
    assert caught.value.errno == number


def test_each_descriptor_that_wrote_is_told_once_of_a_lost_cache(server: TargetServer, lun: Lun) -> None:
    with Driver() as drv:
        first, second, reader = (drv.open(dev(server), os.O_RDWR) for _ in range(3))
        raw = drv.open(dev(server), os.O_RDWR)
        drv.pwrite(first, bytes(512), 0)
        drv.pwrite(second, bytes(512), 512)
        write = bytes([0x2A, 0, 0, 0, 0, 9, 0, 0, 1, 0])
        assert drv.ioctl(raw, "SG_IO", swd.SgIo(write, data_out=bytes(512))).status == 0  # type: ignore[attr-defined]
        lun.attention(0x29, 0x04)
        assert drv.pread(reader, 512, 0) == bytes(512)
        drv.fsync(reader)
        for fd in (first, second, raw):
            ends_with(errno.EIO, drv.fsync, fd)
            drv.fsync(fd)


def test_a_nexus_loss_and_a_first_power_on_are_no_loss(server: TargetServer, lun: Lun) -> None:
    with Driver() as drv:
        fd = drv.open(dev(server), os.O_RDWR)
        drv.pwrite(fd, bytes(512), 0)
        lun.attention(0x29, 0x07)
        drv.fsync(fd)
        drv.pwrite(fd, bytes(512), 0)
        lun.attention(0x29, 0x00)  # not the first of this session
        ends_with(errno.EIO, drv.fsync, fd)


def test_the_strict_option_is_taken(server: TargetServer) -> None:
    with swd.open(dev(server, query="?cache_loss=strict"), "r+b") as disk:
        disk.pwrite(b"x", 0)
        disk.flush()


def test_a_full_pool_and_a_write_protected_unit(server: TargetServer, lun: Lun) -> None:
    with swd.open(dev(server), "r+b") as disk:
        lun.script.full = True
        ends_with(errno.ENOSPC, disk.pwrite, bytes(512), 0)
        ends_with(errno.ENOSPC, disk.zero, offset=0, length=512)
        lun.script.full, lun.script.write_protected = False, True
        ends_with(errno.EROFS, disk.pwrite, bytes(512), 0)
        assert disk.pread(512, 0) == bytes(512)
        lun.script.write_protected = False
        disk.pwrite(b"y" * 512, 0)


def test_luns_above_255_and_blocks_of_4_kib(server: TargetServer) -> None:
    with swd.open(dev(server, 300), "r+b") as disk:
        assert disk.block_size == 4096
        disk.pwrite(b"across" * 1000, 4090)
        assert disk.pread(6000, 4090) == b"across" * 1000
        assert disk.pread(4090, 0) == bytes(4090)


@pytest.fixture
def huge(tmp_path: Path) -> Iterator[Path]:
    """20 TiB that take no space; not every file system has files of that length."""
    for folder in (tmp_path, Path("/dev/shm")):
        path = folder / f"swd-huge-{os.getpid()}"
        try:
            path.touch()
            os.truncate(path, 20 * TIB)
        except OSError:
            path.unlink(missing_ok=True)
            continue
        yield path
        path.unlink()
        return
    pytest.skip("no file system here has files of 20 TiB")


def test_20_tib_with_addresses_beyond_32_bits(huge: Path) -> None:
    medium = FileMedium(str(huge))
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server, swd.open(dev(server), "r+b") as disk:
        assert disk.size == 20 * TIB
        edges = [2 * TIB - 512, 2 * TIB, 2 * TIB + 512, 20 * TIB - 512, 0]
        disk.write_many(edges, b"".join(bytes([i + 1]) * 512 for i in range(len(edges))))
        found = disk.read_many(edges, 512)
        assert found[:, 0].tolist() == [1, 2, 3, 4, 5]
        assert disk.pread(1536, 2 * TIB - 512) == b"\1" * 512 + b"\2" * 512 + b"\3" * 512
        disk.zero(offset=2 * TIB - 256, length=512)
        assert disk.pread(1024, 2 * TIB - 512) == b"\1" * 256 + bytes(512) + b"\2" * 256
        disk.discard(offset=3 * TIB, length=1 << 30)
    medium.close()


# ---- the driver's own requests


def test_isw_holds_a_login_until_logout_or_close(server: TargetServer) -> None:
    with Driver() as drv:
        isw = drv.open("isw:")
        login = {"device": dev(server)}
        agreed = drv.ioctl(isw, "SWD_LOGIN", login)
        assert isinstance(agreed, dict)
        assert agreed["target_name"] == NAME
        fd = drv.open(dev(server))
        assert server.statistics["logins"] == 1  # shared
        assert drv.ioctl(isw, "SWD_LOGOUT", login) == {"logged_out": False}
        ends_with(errno.EINVAL, drv.ioctl, isw, "SWD_LOGOUT", login)
        drv.close(fd)
        drv.ioctl(isw, "SWD_LOGIN", login)
        assert drv.ioctl(isw, "SWD_LOGOUT", login) == {"logged_out": True}
        drv.ioctl(isw, "SWD_LOGIN", login)
        drv.close(isw)
        assert (
            server.statistics["logins"] == server.statistics["pdus_in"]["LOGOUT_REQUEST"]
        )  # each counted before its answer
        for wrong in ({}, {"device": "mem://1M"}, {"device": dev(server), "x": 1}):
            ends_with(errno.EINVAL, drv.ioctl, drv.open("isw:"), "SWD_LOGIN", wrong)


def test_a_login_through_isw_passes_the_gate(server: TargetServer) -> None:
    with Driver(phase=swd.Phase.PRE_NETWORK) as drv, pytest.raises(NetworkNotInitialized):
        drv.ioctl(drv.open("isw:"), "SWD_LOGIN", {"device": dev(server)})
    assert server.statistics["accepts"] == 0


def test_parameters_are_set_for_later_opens(server: TargetServer) -> None:
    with Driver() as drv:
        isw, before = drv.open("isw:"), drv.open(dev(server))
        assert drv.ioctl(isw, "SWD_PARAMS_SET", {"header_digest": "crc32c!"}) == {"header_digest": "crc32c!"}
        ends_with(errno.EINVAL, drv.ioctl, isw, "SWD_PARAMS_SET", {"timeout": 3, "nonsense": 1})
        after = drv.open(dev(server))
        found: Any = [drv.ioctl(fd, "SWD_PARAMS_GET") for fd in (before, after)]
        assert [one["negotiated"]["header_digest"] for one in found] == [False, True]
        assert found[1]["options"]["timeout"] == 30.0
        ends_with(errno.EOPNOTSUPP, drv.ioctl, after, "SWD_PARAMS_SET", {"timeout": 1})
        ends_with(errno.EBUSY, drv.ioctl, after, "SWD_LOGOUT")
        assert drv.ioctl(after, "SWD_LOGIN") == found[1]["negotiated"]


def test_reset(server: TargetServer) -> None:
    with Driver() as drv:
        fd = drv.open(dev(server), os.O_RDWR)
        drv.pwrite(fd, bytes(512), 0)
        assert drv.ioctl(fd, Request.SWD_RESET) == {"level": "lun"}
        assert drv.ioctl(fd, Request.SWD_RESET, {"level": "target_warm"}) == {"level": "target_warm"}
        drv.fsync(fd)  # 29h/03 and 29h/02 leave the cache alone
        ends_with(errno.EINVAL, drv.ioctl, fd, "SWD_RESET", {"level": "hammer"})
        ends_with(errno.EBADF, drv.ioctl, drv.open(dev(server)), "SWD_RESET")
        ends_with(errno.EOPNOTSUPP, drv.ioctl, drv.open("mem://1M", os.O_RDWR), "SWD_RESET")


def test_isw_resets_through_any_session_of_its_driver(server: TargetServer) -> None:
    with Driver() as drv:
        isw = drv.open("isw:", os.O_RDWR)
        ends_with(errno.EINVAL, drv.ioctl, isw, "SWD_RESET", {"device": dev(server)})  # nobody has logged in
        drv.open(dev(server))
        before = server.statistics["pdus_in"].get("TASK_MANAGEMENT_REQUEST", 0)
        assert drv.ioctl(isw, "SWD_RESET", {"device": dev(server)}) == {"level": "lun"}
        assert drv.ioctl(isw, "SWD_RESET", {"device": dev(server), "level": "target_warm"}) == {"level": "target_warm"}
        assert server.statistics["pdus_in"]["TASK_MANAGEMENT_REQUEST"] == before + 2
        ends_with(errno.EINVAL, drv.ioctl, isw, "SWD_RESET", {"device": dev(server), "level": "hammer"})
        ends_with(errno.EINVAL, drv.ioctl, isw, "SWD_RESET", {"level": "lun"})
        other = dev(server).replace(f":{server.portal.port}", ":1")
        ends_with(errno.EINVAL, drv.ioctl, isw, "SWD_RESET", {"device": other})
        ends_with(errno.EBADF, drv.ioctl, drv.open("isw:"), "SWD_RESET", {"device": dev(server)})


def test_the_page_is_the_table(root: Path) -> None:
    spec = importlib.util.spec_from_file_location("ioctl_doc", root / "tools" / "ioctl_doc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (root / "docs" / "ioctl.md").read_text() == module.text(), "run `python tools/ioctl_doc.py`"
    assert {entry.request for entry in TABLE} == set(Request)
