# SPDX-License-Identifier: Apache-2.0
"""`swd.scan` and the DEVs that it makes possible, against embedded targets: two portals, dead portals, weak names."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import swd
from swd.driver import Driver, login, phase, registry
from swd.driver.scan import join
from swd.errors import DeviceBusy, NetworkNotInitialized, NoSuchDevice, StaleIdentity, SwdError
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.values import LogicalUnit, Portal

NAME = "iqn.2026-01.org.example:scan"
OTHER = "iqn.2026-01.org.example:scan-other"
SIZE = 1 << 20


@pytest.fixture
def medium() -> Iterator[RamMedium]:
    with_it = RamMedium(SIZE)
    yield with_it
    with_it.close()


@pytest.fixture
def first(medium: RamMedium) -> Iterator[TargetServer]:
    luns = {0: Lun(medium, serial="one"), 300: Lun(RamMedium(SIZE), 4096)}
    with TargetServer([TargetConfig(NAME, luns), TargetConfig(OTHER, {1: Lun(RamMedium(SIZE))})]) as server:
        yield server


@pytest.fixture
def second(medium: RamMedium) -> Iterator[TargetServer]:
    """Another portal to the first medium."""
    with TargetServer([TargetConfig(NAME, {0: Lun(medium, serial="one")})], "127.0.0.2:0") as server:
        yield server


def known() -> registry.Registry:
    return registry.host()


def test_a_portal_is_scanned_and_what_is_there_is_remembered(first: TargetServer) -> None:
    units = swd.scan(str(first.portal))
    assert [(unit.hardware_path, unit.lun, unit.phase, unit.strong) for unit in units] == [
        ("255/0/0.0.0.0", "0", "live", True),
        ("255/0/0.2.5.4", "300", "live", True),
        ("255/0/1.0.0.1", "1", "live", True),
    ]
    assert [(unit.size, unit.block_size) for unit in units] == [(SIZE, 512), (SIZE, 4096), (SIZE, 512)]
    assert units[1].dev == f"iscsi://{first.portal}/{NAME}/300"
    assert known().addresses() == [first.portal]
    assert {str(unit.dev) for unit in known().units()} == {unit.dev for unit in units}
    assert first.statistics["logins"] == 3  # one for discovery, one for each target


def test_one_target_can_be_asked_alone(first: TargetServer) -> None:
    assert {unit.target for unit in swd.scan(str(first.portal), OTHER)} == {OTHER}
    assert known().targets() == [OTHER]


def test_two_portals_to_one_disk_are_one_unit_with_two_paths(first: TargetServer, second: TargetServer) -> None:
    swd.scan(str(first.portal), NAME)
    swd.scan(str(second.portal))
    one, other, alone = sorted(swd.scan(), key=lambda unit: (unit.lun, unit.hardware_path))
    assert one.identity == other.identity
    assert one.paths == other.paths == (one.dev, other.dev)
    assert (one.phase, other.phase, alone.phase) == ("live", "standby", "live")
    assert alone.paths == (alone.dev,)


def test_a_disk_is_opened_by_its_identity_over_whichever_path_answers(
    first: TargetServer, second: TargetServer, medium: RamMedium
) -> None:
    swd.scan(str(second.portal))
    (unit,) = (unit for unit in swd.scan(str(first.portal), NAME) if unit.lun == "0")
    wwid = f"wwid:{unit.identity}"
    with Driver() as drv:
        drv.pwrite(drv.open(wwid, os.O_RDWR), b"x" * 512, 0)
    logins = second.statistics["logins"]
    first.stop()
    with swd.open(wwid) as disk:
        assert disk.pread(512, 0) == b"x" * 512
    assert second.statistics["logins"] == logins + 1
    states = {unit.hardware_path: unit.phase for unit in swd.scan(target=NAME)}
    assert states == {"255/0/0.0.0.0": "live", "255/0/1.0.0.0": "unreachable", "255/0/1.2.5.4": "unreachable"}
    assert known().errors() == {}  # the target is up: one portal is
    second.stop()
    with pytest.raises(NoSuchDevice, match="none of its 2 paths answers") as caught:
        swd.open(wwid)
    assert caught.value.errno == errno.ENXIO
    assert caught.value.__cause__ is not None


def test_a_path_that_leads_to_another_disk_now_is_not_taken(first: TargetServer) -> None:
    swd.scan(str(first.portal))
    liar = "naa.60014050000000000000000000000001"
    known().remember(0, 0, liar, True, SIZE, 512)
    with pytest.raises(StaleIdentity, match=liar):
        swd.open(f"wwid:{liar}")
    assert first.statistics["logins"] == 4


def test_disks_of_two_sizes_are_never_one(first: TargetServer, second: TargetServer) -> None:
    swd.scan(str(first.portal), NAME)
    swd.scan(str(second.portal))
    identity = next(unit.identity for unit in known().units() if unit.lun == 0)
    known().remember(0, 0, identity, True, 2 * SIZE, 512)
    logins = second.statistics["logins"]
    first.stop()
    with pytest.raises(NoSuchDevice):  # the disk that was seen last is of another size: only its own paths are tried
        swd.open(f"wwid:{identity}")
    assert second.statistics["logins"] == logins


def test_a_hardware_path_is_the_same_unit_as_its_dev(first: TargetServer) -> None:
    for unit in swd.scan(str(first.portal)):
        assert unit.hardware_path is not None
        with swd.open(unit.hardware_path) as disk:
            assert (disk.identity, disk.size) == (unit.identity, unit.size)
    with Driver() as drv:
        fd = drv.open("255/0/0.0.0.0", os.O_RDWR | os.O_EXCL)
        with pytest.raises(DeviceBusy):
            drv.open("255/0/0.0.0.0", os.O_RDWR | os.O_EXCL)
        drv.close(fd)
        drv.open("255/0/0.0.0.0", os.O_RDWR | os.O_EXCL)


@pytest.mark.parametrize("dev", ["255/0/7.0.0.0", "wwid:naa.6001405000000000"])
def test_what_nobody_knows_is_enxio_with_the_next_step(dev: str) -> None:
    with pytest.raises(NoSuchDevice, match="swdctl scan") as caught:
        swd.open(dev)
    assert caught.value.errno == errno.ENXIO


def test_an_iscsi_dev_needs_no_registry(first: TargetServer) -> None:
    with swd.open(f"iscsi://{first.portal}/{NAME}/0") as disk:
        assert disk.size == SIZE
    assert known().path is not None
    assert not known().path.exists()  # type: ignore[union-attr]


# --- ways that are dead -------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A portal that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


@pytest.fixture
def silent(listener: socket.socket) -> Portal:
    return Portal(*listener.getsockname()[:2])


def test_a_dead_portal_delays_nobody(
    first: TargetServer, listener: socket.socket, silent: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    """The live way has ended, and its units are recorded, before the silent one is given up: here, hung up by us."""
    known().instance(NAME, silent)
    known().remember(0, 0, "naa.60", False, 512, 512)
    known().instance(NAME, first.portal)
    answers: list[list[LogicalUnit]] = []
    scanning = threading.Thread(target=lambda: answers.append(swd.scan(target=NAME, login_timeout=20)))
    scanning.start()
    until = time.monotonic() + 8
    while len(known().units()) < 3 and time.monotonic() < until:
        pass
    recorded = len(known().units())
    listener.settimeout(8)
    listener.accept()[0].close()
    listener.close()
    scanning.join(30)
    assert recorded == 3
    assert sorted(unit.phase for unit in answers[0]) == ["live", "live", "unreachable"]
    assert str(silent) in caplog.text
    assert known().errors() == {}  # the target is up


def test_where_nobody_answers_the_error_is_raised_and_remembered(silent: Portal) -> None:
    known().instance(NAME, silent)
    with pytest.raises(NoSuchDevice):
        swd.scan(login_timeout=0.3)
    assert NAME in known().errors()


def test_a_unit_that_is_gone_is_said_to_be(first: TargetServer) -> None:
    swd.scan(str(first.portal), NAME)
    known().remember(0, 5 << 48, "unnamed", False, 512, 512)
    gone = next(unit for unit in swd.scan(target=NAME) if unit.lun == "5")
    assert (gone.phase, gone.hardware_path) == ("gone", "255/0/0.0.0.5")


# --- joining ------------------------------------------------------------------------------------------------------


def unit(dev: str, identity: str, *, strong: bool = True, size: int = SIZE, state: str = "live") -> LogicalUnit:
    return LogicalUnit(None, "0", dev, size, 512, identity, strong, NAME, "127.0.0.1:3260", state)


def test_only_strong_identities_of_one_size_are_joined() -> None:
    found = join(
        [
            unit("a", "naa.1"),
            unit("b", "naa.1"),
            unit("c", "naa.1", size=512),
            unit("d", "t10.x", strong=False),
            unit("e", "t10.x", strong=False),
            unit("f", "naa.2", state="unreachable"),
            unit("g", "naa.2"),
        ]
    )
    assert [(one.dev, one.phase, one.paths) for one in found] == [
        ("a", "live", ("a", "b")),
        ("b", "standby", ("a", "b")),
        ("c", "live", ("c",)),
        ("d", "live", ("d",)),
        ("e", "live", ("e",)),
        ("f", "unreachable", ("f", "g")),
        ("g", "live", ("f", "g")),
    ]


def test_weak_identities_have_no_wwid(first: TargetServer) -> None:
    swd.scan(str(first.portal))
    weak = replace(known().units()[0], identity="naa.3000000000000001")
    known().remember(0, 0, weak.identity, False, SIZE, 512)
    with pytest.raises(NoSuchDevice, match="swdctl scan"):
        swd.open(f"wwid:{weak.identity}")


# --- login and logout ---------------------------------------------------------------------------------------------


def test_a_login_is_proven_recorded_and_over(first: TargetServer) -> None:
    proof = login.prove(f"iscsi://{first.portal}/{NAME}/0?header_digest=crc32c!", {})
    assert (proof.target, proof.header_digest, proof.auth) == (NAME, True, "none")
    assert [unit.hardware_path for unit in proof.units] == ["255/0/0.0.0.0"]
    assert known().wanted() == [NAME]
    assert not first.sessions
    assert len(login.prove(NAME, {}).units) == 2
    assert login.release("255/0/0.0.0.0", forget=False) == [NAME]
    assert (known().wanted(), known().targets()) == ([], [NAME])
    assert login.release(NAME, forget=True) == [NAME]
    assert (known().targets(), known().units()) == ([], [])


@pytest.mark.parametrize(
    "call", [lambda: swd.scan(), lambda: login.prove(NAME, {}), lambda: login.release(NAME, forget=True)]
)
def test_before_the_network_all_of_it_ends_at_once(call: object) -> None:
    phase.begin()
    with pytest.raises(NetworkNotInitialized):
        call()  # type: ignore[operator]


def test_a_login_that_fails_wants_nothing(first: TargetServer) -> None:
    with pytest.raises(SwdError):
        login.prove(f"iscsi://{first.portal}/{NAME}/7", {})
    assert known().wanted() == []
    assert NAME in known().errors()


# --- stock targets ------------------------------------------------------------------------------------------------


@pytest.fixture
def two_tgtds() -> Iterator[list[Portal]]:
    """Two tgtd processes with default identities, each with a disk of one size."""
    folder = Path(tempfile.mkdtemp(prefix="swd-"))
    processes, portals = [], []
    try:
        for number in (0, 1):
            (folder / f"image{number}").write_bytes(bytes([number]) * SIZE)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            process, control = start_tgtd(port, str(2000 + port % 20000 + number))
            processes.append(process)
            for words in (
                ("--op", "new", "--mode", "target", "--tid", "1", "-T", f"{NAME}{number}"),
                ("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", f"{folder}/image{number}"),
                ("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"),
            ):
                subprocess.run(["tgtadm", "-C", control, "--lld", "iscsi", *words], check=True, timeout=20)
            portals.append(Portal("127.0.0.1", port))
        yield portals
    finally:
        for process in processes:
            process.kill()  # it does not end on SIGTERM while it has targets
            process.wait(20)
        shutil.rmtree(folder)


def start_tgtd(port: int, control: str) -> tuple[subprocess.Popen[bytes], str]:
    process = subprocess.Popen(
        ["tgtd", "-f", "-C", control, "--iscsi", f"portal=127.0.0.1:{port}"], stderr=subprocess.DEVNULL
    )
    ask = ["tgtadm", "-C", control, "--lld", "iscsi", "--op", "show", "--mode", "sys"]
    pause = threading.Event()
    for _ in range(200):
        if subprocess.run(ask, capture_output=True, timeout=20).returncode == 0:
            break
        pause.wait(0.05)
    return process, control


@pytest.mark.tgt
def test_two_stock_targets_are_never_joined(two_tgtds: list[Portal]) -> None:
    for portal in two_tgtds:
        swd.scan(str(portal))
    disks = [unit for unit in swd.scan() if unit.lun == "1"]
    assert len(disks) == 2
    assert disks[0].identity == disks[1].identity
    assert [(unit.strong, unit.phase, unit.paths) for unit in disks] == [(False, "live", (unit.dev,)) for unit in disks]
    for number, unit in enumerate(disks):
        assert known().by_identity(unit.identity) == []
        with pytest.raises(SwdError) as caught:
            swd.open(f"wwid:{unit.identity}")
        assert caught.value.errno in (errno.EINVAL, errno.ENXIO)
        assert unit.hardware_path is not None
        with swd.open(unit.hardware_path) as disk:
            assert disk.pread(512, 0) == bytes([number]) * 512
    assert len({unit.hardware_path for unit in disks}) == 2
    controllers = [unit for unit in swd.scan() if unit.lun == "0"]
    assert [(unit.phase, unit.size) for unit in controllers] == [("skipped", None)] * 2
    assert "storage array controller" in controllers[0].reason
