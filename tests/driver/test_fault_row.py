# SPDX-License-Identifier: Apache-2.0
"""`fault://`: any DEV behind a plan. Each kind that works there, on memory and on a target."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import swd
import swd.aio
from swd.driver import Driver
from swd.driver.ioctl import Request, SgIo
from swd.driver.phase import Phase
from swd.errors import (
    InvalidArgument,
    MediumError,
    NetworkNotInitialized,
    NoSuchDevice,
    ScsiError,
    SwdError,
    Unsupported,
)
from swd.proto.dev import FaultDev
from swd.proto.url import parse_dev
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.faults import KINDS

BLOCK = 512
DATA = bytes(range(256)) * 16

Behind = Callable[..., str]


@pytest.fixture
def behind(tmp_path: Path) -> Behind:
    """`behind(plan)`: the DEV of a new RAM disk, or another DEV, with this plan before it."""

    def dev(plan: str, on: str = "mem://1M") -> str:
        path = tmp_path / f"plan{len(list(tmp_path.iterdir()))}.toml"
        path.write_text(plan)
        return str(FaultDev(str(path), parse_dev(on)))

    return dev


def fault(do: str, **keys: object) -> str:
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in keys.items()]
    return "\n".join(["[[fault]]", f'do = "{do}"', *lines, ""])


ENDS: dict[str, tuple[dict[str, object], int]] = {
    "busy": ({}, errno.EBUSY),
    "task_set_full": ({}, errno.EBUSY),
    "reservation_conflict": ({}, errno.EBUSY),
    "status": ({"code": 0x30}, errno.EBUSY),
    "check_condition": ({"sense": "3/11/00"}, errno.EIO),
    "close": ({}, errno.EIO),
    "reset": ({}, errno.EIO),
    "poison": ({}, errno.EIO),
    "no_answer": ({}, errno.ETIMEDOUT),
    "short_read": ({}, errno.EIO),
}
OTHERS = {"delay", "slow", "wrong_data", "lost_write"}


def test_every_kind_of_a_dev_has_a_test() -> None:
    assert set(ENDS) | OTHERS == {kind.name for kind in KINDS.values() if kind.block}


@pytest.mark.parametrize("do", ENDS)
def test_commands_that_end_badly(behind: Behind, do: str) -> None:
    """The third read of block 8 does; nothing else."""
    keys, number = ENDS[do]
    with swd.open(behind(fault(do, command="READ", lba=8, nth=2, **keys)), "r+b") as disk:
        disk.pwrite(DATA, 0)
        assert disk.pread(4096, 0) == DATA
        assert disk.pread(4096, 4096) == bytes(4096)
        with pytest.raises(SwdError) as caught:
            disk.pread(4096, 4096)
        assert caught.value.errno == number
        assert disk.pread(4096, 4096) == bytes(4096)
        assert disk.unit.injector.counts == {do: 1}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("bytes_", "sense"), [(18, (3, 0x11, 0)), (8, (3, 0, 0)), (0, None)])
def test_sense_may_be_short(behind: Behind, bytes_: int, sense: tuple[int, int, int] | None) -> None:
    dev = behind(fault("check_condition", sense="3/11/00", bytes=bytes_))
    with swd.open(dev) as disk, pytest.raises(ScsiError) as caught:
        disk.pread(BLOCK, 0)
    found = caught.value.sense
    assert (found and (found.key, found.asc, found.ascq)) == sense


def test_sense_in_another_format(behind: Behind) -> None:
    dev = behind(fault("check_condition", sense="72 07 27 07 00 00 00 00", once=True))
    with swd.open(dev, "r+b") as disk, pytest.raises(ScsiError) as caught:
        disk.pwrite(DATA, 0)
    assert caught.value.errno == errno.ENOSPC


def test_errors_by_sense_are_those_of_a_real_unit(behind: Behind) -> None:
    with swd.open(behind(fault("check_condition", sense="7/27/07", command="WRITE")), "r+b") as disk:
        with pytest.raises(ScsiError) as caught:
            disk.pwrite(DATA, 0)
        assert caught.value.errno == errno.ENOSPC
        assert disk.pread(BLOCK, 0) == bytes(BLOCK)


@pytest.mark.parametrize("do", ["delay", "slow"])
def test_delays(behind: Behind, do: str) -> None:
    with swd.open(behind(fault(do, seconds=0.2, nth=2))) as disk:
        disk.pread(BLOCK, 0)
        began = time.monotonic()
        disk.pread(BLOCK, 0)
        assert time.monotonic() - began >= 0.2


def test_lies(behind: Behind) -> None:
    plan = fault("wrong_data", byte=5, command="READ", nth=1) + fault("lost_write", command="WRITE", nth=2)
    with swd.open(behind(plan), "r+b") as disk:
        disk.pwrite(DATA, 0)
        lie = disk.pread(4096, 0)
        assert [at for at in range(4096) if lie[at] != DATA[at]] == [5]
        disk.pwrite(bytes(4096), 0)
        assert disk.pread(4096, 0) == DATA


def test_batches(behind: Behind) -> None:
    with swd.open(behind(fault("reset", lba="16-23") + fault("lost_write", lba=32)), "r+b") as disk:
        offsets, errors = np.arange(8, dtype=np.int64) * 4096, np.zeros(8, np.int32)
        disk.write_many(offsets, np.broadcast_to(np.frombuffer(DATA, np.uint8), (8, 4096)), errors=errors)
        assert errors.tolist() == [0, 0, errno.EIO, 0, 0, 0, 0, 0]
        disk.unit.injector.replace(type(disk.unit.injector.plan)())  # type: ignore[attr-defined]
        back = disk.read_many(offsets, 4096)
        assert [bytes(row) == DATA for row in back] == [True, True, False, True, False, True, True, True]


def test_flush_discard_and_zero(behind: Behind) -> None:
    plan = "".join(fault("busy", command=command) for command in ("FLUSH", "UNMAP", "WRITE_SAME"))
    with swd.open(behind(plan), "r+b") as disk:
        disk.pwrite(DATA, 0)
        for call in (disk.flush, lambda: disk.discard(offset=0, length=512), lambda: disk.zero(offset=0, length=512)):
            with pytest.raises(SwdError) as caught:
                call()
            assert caught.value.errno == errno.EBUSY
        assert disk.pread(4096, 0) == DATA


@pytest.fixture
def url() -> object:
    name = "iqn.2026-01.org.example:behind"
    with TargetServer([TargetConfig(name, {0: Lun(RamMedium(1 << 20))})]) as server:
        yield f"iscsi://{server.portal}/{name}/0"


def test_on_a_target_through_the_driver_table(behind: Behind, url: str) -> None:
    """SG_IO goes to the unit behind; the statistics have the faults; the session ends with the descriptor."""
    with Driver() as drv:
        fd = drv.open(behind(fault("reservation_conflict", command="WRITE", once=True), url), os.O_RDWR)
        with pytest.raises(SwdError) as caught:
            drv.pwrite(fd, DATA, 0)
        assert caught.value.errno == errno.EBUSY
        assert drv.pwrite(fd, DATA, 0) == len(DATA)
        assert drv.pread(fd, len(DATA), 0) == DATA
        assert drv.ioctl(fd, Request.SG_IO, SgIo(bytes(6))).status == 0
        assert drv.ioctl(fd, Request.SWD_STATS_GET)["faults"] == {"reservation_conflict": 1}
        assert drv.ioctl(fd, Request.BLKGETSIZE64) == 1 << 20
        drv.close(fd)


@pytest.mark.parametrize(
    ("plan", "kind", "words"),
    [
        (fault("drop"), Unsupported, "fault 1: drop needs a wire; a DEV can have busy, check_condition,"),
        (fault("busy", pdu="SCSI_COMMAND"), InvalidArgument, "fault 1: pdu says nothing of a DEV"),
        (fault("busy", lun=1), InvalidArgument, "fault 1: lun says nothing of a DEV"),
        (fault("bussy"), InvalidArgument, ":2: there is no fault 'bussy'"),
    ],
)
def test_plans_that_mean_nothing_here(behind: Behind, plan: str, kind: type[SwdError], words: str) -> None:
    with pytest.raises(kind) as caught:
        swd.open(behind(plan))
    assert words in str(caught.value)


def test_what_is_not_there(behind: Behind, tmp_path: Path) -> None:
    with pytest.raises(NoSuchDevice):
        swd.open(behind(fault("busy"), str(tmp_path / "absent")))
    with pytest.raises(MediumError) as caught:
        swd.open(f"fault://?plan={tmp_path}/absent.toml&on=mem%3A%2F%2F1M")
    assert caught.value.errno == errno.ENOENT


def test_the_phase_of_the_device_behind_it_counts(behind: Behind) -> None:
    with Driver(phase=Phase.PRE_NETWORK) as drv:
        drv.close(drv.open(behind(fault("busy")), os.O_RDONLY))
        with pytest.raises(NetworkNotInitialized):
            drv.open(behind(fault("busy"), "iscsi://192.0.2.1/iqn.2026-01.org.example:x/0"), os.O_RDONLY)


async def _reads(dev: str) -> bytes:
    async with await swd.aio.open(dev) as disk:
        with pytest.raises(SwdError):
            await disk.pread(BLOCK, 0)
        return await disk.pread(BLOCK, 0)


def test_coroutines(behind: Behind) -> None:
    import asyncio

    assert asyncio.run(_reads(behind(fault("reset", nth=1)))) == bytes(BLOCK)
