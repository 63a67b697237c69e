# SPDX-License-Identifier: Apache-2.0
"""A session whose path does not come back goes on by another one to the same disks: what is tried, what is waited for,
what is compared, and what never happens. Embedded targets that share a medium are two portals of one array."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import swd
from swd.driver import known, registry
from swd.errors import ConnectionLost, StaleIdentity
from swd.proto.lun import field
from swd.proto.recovery import Path
from swd.scsi.unit import LogicalUnit
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.target.config import Limits

NAME = "iqn.2026-01.org.example:array"
OTHER = "iqn.2026-01.org.example:array-b"
SIZE = 8 << 20
SOON = {"default_time2wait": 0, "path_settle": 0.0, "replacement_timeout": 10}

Serve = Callable[..., TargetServer]


@pytest.fixture
def medium() -> Iterator[RamMedium]:
    with_it = RamMedium(SIZE)
    yield with_it
    with_it.close()


@pytest.fixture
def serve(medium: RamMedium) -> Iterator[Serve]:
    """A portal to the medium: serve(portal, group=, name=, lun=, serial=, of=another medium, wait=Time2Wait)."""
    with ExitStack() as stack:

        def start(
            portal: str,
            *,
            group: int = 1,
            name: str = NAME,
            lun: int = 0,
            serial: str = "one",
            of: RamMedium = medium,
            wait: int = 0,
        ) -> TargetServer:
            limits = Limits(default_time2wait=wait, default_time2retain=wait)
            config = TargetConfig(name, {lun: Lun(of, serial=serial)}, portal_group=group, limits=limits)
            return stack.enter_context(TargetServer([config], portal))

        yield start


def opened(server: TargetServer, **options: object) -> swd.Disk:
    return swd.open(f"iscsi://{server.portal}/{NAME}/0", "r+b", **{**SOON, **options})


def session_of(disk: swd.Disk) -> swd.Session:
    unit = disk.unit
    assert isinstance(unit, LogicalUnit)
    assert isinstance(unit.session, swd.Session)
    return unit.session


def resets(server: TargetServer) -> int:
    return server.statistics["pdus_in"].get("TASK_MANAGEMENT_REQUEST", 0)


def pair(serve: Serve, **second: object) -> tuple[TargetServer, TargetServer]:
    """Two portals, both scanned."""
    servers = serve("127.0.0.1:0"), serve("127.0.0.2:0", **second)
    for server in servers:
        swd.scan(str(server.portal))
    return servers


@pytest.mark.parametrize("dev", ["iscsi", "wwid"])
@pytest.mark.parametrize(
    "second", [{}, {"group": 2}, {"name": OTHER}], ids=["same group", "other group", "other target"]
)
def test_a_killed_portal_under_load_costs_nothing(
    serve: Serve, medium: RamMedium, dev: str, second: dict[str, object]
) -> None:
    first, other = pair(serve, **second)
    with opened(first) as look:
        identity = look.identity
    name = f"wwid:{identity}" if dev == "wwid" else f"iscsi://{first.portal}/{NAME}/0"
    with swd.open(name, "r+b", **SOON) as disk:
        session = session_of(disk)
        used = first if session.portal == first.portal else other
        left = other if used is first else first
        errors: list[BaseException] = []
        acknowledged: dict[int, bytes] = {}
        enough, done = threading.Event(), threading.Event()

        def work(number: int) -> None:
            step = 0
            try:
                while not done.is_set():
                    block = (number * 1000003 + step).to_bytes(8, "big") * 512
                    at = (number * 64 + step % 64) * 4096
                    disk.pwrite(block, at)
                    acknowledged[at] = block
                    assert disk.pread(4096, at) == block
                    step += 1
                    if step == 20:
                        enough.set()
            except BaseException as error:  # noqa: BLE001  # shown below
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        assert enough.wait(30)
        used.stop()
        disk.pread(512, 0)
        disk.pread(512, 0)
        done.set()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert session.portal == left.portal
        assert session.statistics["failovers"] == session.statistics["recoveries"] == 1
        disk.flush()
        for at, block in acknowledged.items():
            assert disk.pread(4096, at) == block


def test_another_disk_on_the_other_path_gets_not_a_byte(serve: Serve) -> None:
    first, other = pair(serve)
    portal = str(other.portal)
    stranger = RamMedium(SIZE)
    with opened(first) as disk:
        other.stop()
        serve(portal, serial="another", of=stranger)
        first.stop()
        with pytest.raises(StaleIdentity) as caught:
            disk.pwrite(b"x" * 4096, 0)
        assert caught.value.errno == errno.ESTALE
    assert stranger.read(0, SIZE) == bytes(SIZE)


@pytest.mark.parametrize("second", [{"group": 2}, {"name": OTHER}], ids=["other group", "other target"])
def test_the_path_settles_where_the_new_login_does_not_end_the_old_tasks(
    serve: Serve, second: dict[str, object]
) -> None:
    first, _ = pair(serve, **second)
    with opened(first, path_settle=1.0) as disk:
        first.stop()
        began = time.monotonic()
        disk.pwrite(bytes(512), 0)
        assert time.monotonic() - began > 1.0


def test_a_login_that_ends_the_old_tasks_needs_no_rest(serve: Serve) -> None:
    first, _ = pair(serve)
    with opened(first, path_settle=60, replacement_timeout=20) as disk:
        first.stop()
        disk.pwrite(bytes(512), 0)


def test_no_replay_where_there_is_no_time_for_the_path_to_settle(serve: Serve, medium: RamMedium) -> None:
    first, _ = pair(serve, group=2)
    with opened(first, path_settle=60, replacement_timeout=2) as disk:
        first.stop()
        began = time.monotonic()
        with pytest.raises(ConnectionLost) as caught:
            disk.pwrite(b"x" * 512, 0)
        assert time.monotonic() - began < 4
        assert caught.value.errno == errno.EIO
    assert medium.read(0, 512) == bytes(512)


def test_the_units_are_reset_on_the_new_path_before_anything_is_sent_again(serve: Serve) -> None:
    first, other = pair(serve, group=2)
    before = resets(other)
    with opened(first, failover_fence="lun_reset") as disk:
        disk.pwrite(b"a" * 512, 0)
        first.stop()
        disk.pwrite(b"b" * 512, 512)
        assert disk.pread(1024, 0) == b"a" * 512 + b"b" * 512
        assert resets(other) == before + 1
        disk.flush()


def test_the_fence_waits_until_the_old_target_must_have_ended_the_tasks(serve: Serve) -> None:
    first = serve("127.0.0.1:0", wait=1)
    second = serve("127.0.0.2:0", group=2)
    for server in (first, second):
        swd.scan(str(server.portal))
    with opened(first, failover_fence="wait") as disk:
        agreed = session_of(disk).parameters
        bound = agreed.default_time2wait + agreed.default_time2retain
        assert bound == 2
        first.stop()
        began = time.monotonic()
        disk.pwrite(b"b" * 512, 512)
        assert time.monotonic() - began >= bound


def test_the_next_loss_leads_home_again(serve: Serve) -> None:
    first, other = pair(serve, group=2)
    home = str(first.portal)
    with opened(first) as disk:
        first.stop()
        disk.pwrite(b"a" * 512, 0)
        assert session_of(disk).portal == other.portal
        serve(home)
        assert disk.pread(512, 0) == b"a" * 512
        assert session_of(disk).portal == other.portal  # it stays where it is while that works
        other.stop()
        assert disk.pread(512, 0) == b"a" * 512
        assert str(session_of(disk).portal) == home


def test_only_a_way_to_all_units_in_use_is_a_standby_path(serve: Serve) -> None:
    first, other = pair(serve, name=OTHER)
    elsewhere = serve("127.0.0.3:0", lun=5)
    swd.scan(str(elsewhere.portal))
    with opened(first) as disk:
        unit = disk.unit
        assert isinstance(unit, LogicalUnit)
        both = {Path(first.portal, NAME), Path(other.portal, OTHER)}
        assert set(known.standby({field(0): unit}, registry.host())) == both
        assert known.standby({field(5): unit}, registry.host()) == [Path(elsewhere.portal, NAME)]
        assert known.standby({field(0): unit, field(5): unit}, registry.host()) == []
        assert known.standby({}, registry.host()) == []


def test_a_weak_identity_has_no_standby_path(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = pair(serve)
    with opened(first) as disk:
        monkeypatch.setattr(LogicalUnit, "identity_strong", False)
        assert isinstance(disk.unit, LogicalUnit)
        assert known.standby({field(0): disk.unit}, registry.host()) == []
