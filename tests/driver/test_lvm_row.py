# SPDX-License-Identifier: Apache-2.0
"""`lvm://VG/LV` and what makes it work: records of active groups, their disks, holders, the network phase."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.golden import manifest, unpack
from support.process import Watched
from support.served import serving

import swd
from swd.driver import Driver, phase, registry, volumes
from swd.driver.ioctl import Request
from swd.errors import (
    DeviceBusy,
    InvalidArgument,
    MediumError,
    NetworkNotInitialized,
    NoSuchDevice,
    StaleIdentity,
    SwdError,
)
from swd.values import Phase

Images = Callable[[str], list[str]]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    """The DEVs of a case's images, which the test may change."""
    return lambda case: [f"file://{path}" for path in unpack(case, tmp_path)]


def digest(dev: str) -> str:
    with swd.open(dev) as disk:
        return hashlib.sha256(disk.pread(disk.size, 0)).hexdigest()


def expected(case: str, lv: str) -> str:
    (found,) = [one["sha256"] for one in manifest()[case]["volumes"] if one["lv"] == lv and not one["without"]]
    return str(found)


def test_an_active_group_is_read_by_the_names_of_its_volumes(images: Images) -> None:
    record = volumes.activate("striped", devices=images("striped"))
    assert (record.name, record.missing, record.writable) == ("striped", (), False)
    for lv in ("two", "three", "grown"):
        assert digest(f"lvm://striped/{lv}") == expected("striped", lv)
    assert volumes.active(registry.host()) == [record]
    with Driver() as drv:
        fd = drv.open("lvm://striped/two")
        assert drv.ioctl(fd, Request.BLKGETSIZE64) == 1 << 20
        assert drv.ioctl(fd, Request.BLKROGET) == 1
        assert drv.pread(fd, 512, 512) == (b"two 0000001\n" * 50)[:512]
        drv.close(fd)
    volumes.deactivate("striped")
    with pytest.raises(NoSuchDevice, match="is not active"):
        swd.open("lvm://striped/two")


@pytest.mark.parametrize("lv", ["none", "plain_rimage_0"])
def test_a_volume_that_is_not_there_or_internal_is_enxio(images: Images, lv: str) -> None:
    volumes.activate("raid0", devices=images("raid0"))
    with pytest.raises(NoSuchDevice) as caught:
        swd.open(f"lvm://raid0/{lv}")
    assert caught.value.errno == errno.ENXIO


def test_over_two_targets_and_by_what_the_registry_knows(images: Images) -> None:
    first, second, third = (dev.removeprefix("file://") for dev in images("striped"))
    with serving("--lun", first, "--lun", second) as one, serving("--lun", third) as two:
        devs = [one.url(0), one.url(1), two.url(0)]
        volumes.activate("striped", devices=devs)
        for lv in ("two", "three", "grown"):
            assert digest(f"lvm://striped/{lv}") == expected("striped", lv)
        volumes.deactivate("striped")
        for served in (one, two):
            swd.scan(str(served.portal))
        record = volumes.activate("striped")
        assert all("wwid:" in dev or "iscsi:" in dev for dev in record.devices.values())
        assert digest("lvm://striped/three") == expected("striped", "three")


def test_two_paths_to_one_disk_are_one_and_two_copies_are_eexist(images: Images, tmp_path: Path) -> None:
    devs = images("striped")
    path = devs[0].removeprefix("file://")
    os.link(path, tmp_path / "linked")
    os.symlink(path, tmp_path / "symbolic")
    volumes.activate("striped", devices=[*devs, str(tmp_path / "linked"), str(tmp_path / "symbolic")])
    shutil.copy(path, tmp_path / "copied")
    with pytest.raises(SwdError, match="two disks with one physical volume UUID") as caught:
        volumes.activate("striped", devices=[*devs, str(tmp_path / "copied")])
    assert caught.value.errno == errno.EEXIST


def test_two_portals_of_one_unit_are_one_disk(images: Images) -> None:
    paths = [dev.removeprefix("file://") for dev in images("striped")]
    with serving("--lun", paths[0]) as served:
        there = served.url(0)
        other = there.replace("127.0.0.1", "localhost")
        volumes.activate("striped", devices=[there, other, *paths[1:]])
        assert digest("lvm://striped/three") == expected("striped", "three")


def test_without_a_disk_a_group_is_activated_only_in_part(images: Images) -> None:
    devs = images("linear")[:2]
    with pytest.raises(NoSuchDevice, match="--partial") as caught:
        volumes.activate("linear", devices=devs)
    assert caught.value.errno == errno.ENXIO
    assert volumes.active(registry.host()) == []
    with pytest.raises(MediumError) as refused:
        volumes.activate("linear", devices=devs, partial=True, writable=True)
    assert refused.value.errno == errno.EROFS
    assert len(volumes.activate("linear", devices=devs, partial=True).missing) == 1
    assert digest("lvm://linear/small") == expected("linear", "small")
    with swd.open("lvm://linear/lin") as disk:
        assert disk.pread(512, 0) == (b"lin 0000000\n" * 50)[:512]
        with pytest.raises(MediumError, match="is missing") as lost:
            disk.pread(1024, (1 << 20) - 512)  # the second MiB lies on pv2
        assert lost.value.errno == errno.EIO


def test_a_disk_that_goes_after_activation_is_told(images: Images) -> None:
    devs = images("striped")
    volumes.activate("striped", devices=devs)
    os.rename(devs[1].removeprefix("file://"), devs[1].removeprefix("file://") + ".away")
    with pytest.raises(NoSuchDevice):
        swd.open("lvm://striped/two")


def test_another_group_under_the_old_name_is_estale(images: Images, tmp_path: Path) -> None:
    devs = images("striped")
    volumes.activate("striped", devices=devs)
    for dev, other in zip(devs, unpack("raid0", tmp_path / ".."), strict=True):
        shutil.copy(other, dev.removeprefix("file://"))
    with pytest.raises(StaleIdentity) as caught:
        swd.open("lvm://striped/two")
    assert caught.value.errno == errno.ESTALE


def test_a_group_does_not_stand_on_logical_volumes(images: Images) -> None:
    volumes.activate("striped", devices=images("striped"))
    with pytest.raises(InvalidArgument, match="is a logical volume"):
        volumes.activate("striped", devices=["lvm://striped/two"])
    assert digest("lvm://striped/two") == expected("striped", "two")


def test_a_group_on_partitions(images: Images, tmp_path: Path) -> None:
    table = bytes(446) + struct.pack("<B3xB3xII", 0, 0x8E, 64, 6 << 11) + bytes(48) + b"\x55\xaa"
    whole = []
    for number, dev in enumerate(images("striped")):
        path = tmp_path / f"whole {number}"
        path.write_bytes(table.ljust(64 * 512, b"\0") + Path(dev.removeprefix("file://")).read_bytes())
        whole.append(str(path))
    record = volumes.activate("striped", devices=whole)
    assert all(dev.endswith(" partition 1") for dev in record.devices.values())
    assert digest("lvm://striped/three") == expected("striped", "three")


def test_deactivation_waits_for_whoever_has_a_volume_open(images: Images) -> None:
    volumes.activate("striped", devices=images("striped"))
    code = "import swd, sys; d = swd.open('lvm://striped/two'); print('open', flush=True); sys.stdin.read()"
    process = Watched(sys.executable, "-c", code, stdin=True)
    process.wait_for("^open")
    words = rf"in use by process {process.process.pid} \(has lvm://striped/two open\)"
    with pytest.raises(DeviceBusy, match=words):
        volumes.deactivate("striped")
    process.signal(signal.SIGKILL)
    process.finish()
    assert process.process.stdin is not None
    process.process.stdin.close()
    volumes.deactivate("striped")


def test_before_the_network_nothing_is_opened(images: Images) -> None:
    devs = images("striped")
    volumes.activate("striped", devices=devs)
    with Driver(phase=Phase.PRE_NETWORK, registry="/nonexistent/registry") as drv, pytest.raises(NetworkNotInitialized):
        drv.open("lvm://striped/two")
    phase.begin()
    for attempt in (
        lambda: swd.open("lvm://striped/two"),
        lambda: volumes.activate("striped"),
        lambda: volumes.activate("striped", devices=["iscsi://192.0.2.1/iqn.2026-01.org.example:x/0"]),
        lambda: volumes.scan(),
    ):
        with pytest.raises(NetworkNotInitialized):
            attempt()
    volumes.activate("striped", devices=devs)  # files lead nowhere
    phase.complete()
    assert digest("lvm://striped/two") == expected("striped", "two")
