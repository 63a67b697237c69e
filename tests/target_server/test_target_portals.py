# SPDX-License-Identifier: Apache-2.0
"""Several portals, groups and targets; who sees what and is sent where, what outlives the server, how much fits."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from raw_initiator import INITIATOR, RawInitiator, read_10, write_10
from test_target_reservations import REGISTER, RESERVE, reserve_in, reserve_out

import swd
from swd.errors import AuthenticationFailed, InvalidArgument, LoginRefused, MediumError, NoSuchDevice, SwdError
from swd.target import Lun, PortGroups, RamMedium, TargetConfig, TargetServer
from swd.target.store import ReservationFile

ONE, TWO = "iqn.2026-01.org.example:one", "iqn.2026-01.org.example:two"
SIZE = 1 << 20


def target(name: str = ONE, **more: object) -> TargetConfig:
    return TargetConfig(name, {0: Lun(RamMedium(SIZE))}, **more)  # type: ignore[arg-type]


# Portals and groups


def test_every_target_is_told_with_its_portals_and_groups() -> None:
    with TargetServer(
        [target(), target(TWO, portal_groups=(1, 3), portal_group=3)],
        ["127.0.0.1:0", "127.0.0.1:0,2", "[::1]:0,1"] if socket.has_ipv6 else ["127.0.0.1:0", "127.0.0.1:0,2"],
    ) as server:
        first, second, *rest = server.portals
        assert server.portal == first
        assert len({portal.port for portal in server.portals}) == len(server.portals)
        for portal in server.portals:  # by whichever they ask
            found = {one.name: [(p.host, p.port, p.tpgt) for p in one.portals] for one in swd.discover(str(portal))}
            assert found[ONE] == [(first.host, first.port, 1), (second.host, second.port, 2)] + [
                (one.host, one.port, 1) for one in rest
            ]
            assert found[TWO] == [(first.host, first.port, 3)] + [(one.host, one.port, 1) for one in rest]


def test_a_wildcard_portal_is_told_by_the_address_that_was_reached() -> None:
    with TargetServer([target()], ["0.0.0.0:0", "127.0.0.1:0,2"], public=True) as server:
        for host in ("127.0.0.1", "127.0.0.2"):
            found = swd.discover(f"{host}:{server.portal.port}")[0].portals
            assert [(one.host, one.tpgt) for one in found] == [(host, 1), ("127.0.0.1", 2)]


def test_a_target_is_not_there_by_other_groups() -> None:
    with TargetServer([target(portal_groups=(2,))], ["127.0.0.1:0,1", "127.0.0.1:0,2"]) as server:
        with pytest.raises(SwdError) as refused:
            swd.connect(str(server.portals[0]), ONE)
        assert refused.value.errno == errno.ENXIO
        with swd.connect(str(server.portals[1]), ONE) as session:
            assert session.parameters.target_portal_group_tag == 2
            assert [one[1] for one in session.text({"SendTargets": ""})] == [ONE, f"{server.portals[1]},2"]


def test_the_same_port_by_another_group_is_another_nexus() -> None:
    with TargetServer([target()], ["127.0.0.1:0,1", "127.0.0.1:0,2"]) as server:
        with RawInitiator(server.portals[0]) as one, RawInitiator(server.portals[1]) as two:
            one.login(ONE)
            two.login(ONE)
            one.ready()  # still there: nothing was reinstated
            two.ready()
        assert server.statistics["reinstatements"] == 0


@pytest.mark.parametrize("text", ["127.0.0.1:0" + group for group in (",", ",0", ",65536", ",x", ",1,2", ",\u0662")])
def test_bad_portals(text: str) -> None:
    with pytest.raises(InvalidArgument):
        TargetServer([target()], ["127.0.0.1:0", text])


def test_all_portals_are_bound_or_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = TargetServer([target()], ["127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"])
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        with pytest.raises(NoSuchDevice):
            server.start()
        assert not before or len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(InvalidArgument):
        TargetServer([target()], [])


# Access states, over the wire


def test_a_group_in_standby_and_back() -> None:
    groups = PortGroups({1: "active/optimized", 2: "standby"})
    with ExitStack() as stack:
        server = stack.enter_context(TargetServer([target(alua=groups)], ["127.0.0.1:0,1", "127.0.0.1:0,2"]))
        one, two = (stack.enter_context(RawInitiator(portal)) for portal in server.portals)
        for path in (one, two):
            path.login(ONE)
            path.ready()
        assert one.run(read_10(0, 1), expect=512).status == 0
        assert two.run(read_10(0, 1), expect=512).sense == (2, 0x04, 0x0B)
        groups.set(1, "unavailable")
        groups.set(2, "active/optimized")
        for path, sense in ((one, (2, 0x04, 0x0C)), (two, None)):
            assert path.run(read_10(0, 1), expect=512).sense == (6, 0x2A, 6)
            assert path.run(read_10(0, 1), expect=512).sense == sense


@pytest.mark.parametrize(
    ("states", "words"), [({}, "numbered"), ({0: "standby"}, "numbered"), ({1: "asleep"}, "one of")]
)
def test_bad_groups(states: dict[int, str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        PortGroups(states)
    with pytest.raises(InvalidArgument, match="no portal group 9"):
        PortGroups({1: "standby"}).set(9, "standby")


# Who may use a target


def test_initiators_that_are_not_listed_neither_see_nor_reach_it() -> None:
    allowed = target(initiators=("iqn.2026-01.org.example:HOST*", "iqn.2026-01.org.example:raw"))
    with TargetServer([allowed, target(TWO)]) as server:
        portal = str(server.portal)
        for name, seen in (("host7", {ONE, TWO}), ("other", {TWO}), ("raw", {ONE, TWO}), ("raw2", {TWO})):
            options = {"initiator_name": f"iqn.2026-01.org.example:{name}"}
            assert {one.name for one in swd.discover(portal, **options)} == seen
            if ONE in seen:
                swd.connect(portal, ONE, **options).logout()
            else:
                with pytest.raises(AuthenticationFailed):
                    swd.connect(portal, ONE, **options)
        with RawInitiator(server.portal) as raw:
            raw.request([("InitiatorName", INITIATOR + "x"), ("TargetName", ONE), ("AuthMethod", "None")], csg=0, nsg=1)
        assert server.statistics["login_failures"] == 3


# Redirection


@pytest.mark.parametrize("permanent", [False, True])
def test_logins_are_sent_elsewhere_and_taken_again(permanent: bool) -> None:
    moved = target()
    with TargetServer([target()]) as there, TargetServer([moved]) as here:
        moved.redirection.to(f"{there.portal},1", permanent=permanent)
        with RawInitiator(here.portal) as raw:
            answer = raw.request([("InitiatorName", INITIATOR), ("TargetName", ONE)], csg=0, nsg=1)
            assert (answer.status_class, answer.status_detail) == (1, 2 if permanent else 1)
            assert raw.answers == {"TargetAddress": f"{there.portal},1"}
            assert raw.closed()
        with swd.connect(str(here.portal), ONE) as session:
            assert session.execute(bytes.fromhex("120000002400"), lun=0, data_in=36).status == 0
            assert (len(there.sessions), len(here.sessions)) == (1, 0)
        moved.redirection.end()
        with swd.connect(str(here.portal), ONE):
            assert len(here.sessions) == 1
        assert here.statistics["login_failures"] == 0


# Reservations that outlive the server


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "reservations.json"


def keys_of(raw: RawInitiator) -> bytes:
    return raw.run(reserve_in(0), expect=4096).data[8:]


def reserve(raw: RawInitiator, *, aptpl: bool) -> None:
    for cdb, data in (
        reserve_out(REGISTER, new=0xABC, flags=0x01 if aptpl else 0), reserve_out(RESERVE, 0xABC, kind=3),
    ):  # fmt: skip
        assert raw.run(cdb, data=data).status == 0


@pytest.mark.parametrize("aptpl", [True, False])
def test_reservations_outlive_the_server_if_that_was_asked_for(state: Path, aptpl: bool) -> None:
    serving = target()
    with TargetServer([serving], state_file=state) as server, RawInitiator(server.portal) as raw:
        raw.login(ONE)
        raw.ready()
        reserve(raw, aptpl=aptpl)
        assert raw.run(reserve_in(2), expect=8).data[2:4] == bytes([0x0D, 0x80 | aptpl])
        assert state.exists() == aptpl
        assert not aptpl or state.stat().st_mode & 0o777 == 0o600
    again = TargetConfig(ONE, {0: Lun(serving.luns[0].medium)})
    with ExitStack() as stack:
        server = stack.enter_context(TargetServer([again], state_file=state))
        raw, other = (
            stack.enter_context(RawInitiator(server.portal, isid=b"\x80\0\0\0\0" + port)) for port in (b"\1", b"\2")
        )
        for peer in (raw, other):
            peer.login(ONE)
            peer.ready()
        assert bool(keys_of(other)) == aptpl
        assert other.run(write_10(0, 1), data=bytes(512)).status == (0x18 if aptpl else 0)
        assert raw.run(read_10(0, 1), expect=512).status == 0  # who held it holds it
        if aptpl:
            cdb, data = reserve_out(REGISTER, 0xABC, 0)
            assert raw.run(cdb, data=data).status == 0
            assert json.loads(state.read_text())["units"] == {}


def test_a_reservation_that_cannot_be_kept_was_never_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TargetServer([target()], state_file=state) as server, RawInitiator(server.portal) as raw:
        raw.login(ONE)
        raw.ready()

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", full)
            cdb, data = reserve_out(REGISTER, new=5, flags=0x01)
            assert raw.run(cdb, data=data).sense == (4, 0x44, 0)
        assert keys_of(raw) == b""
        reserve(raw, aptpl=True)
        assert len(json.loads(state.read_text())["units"]) == 1


def test_a_crash_in_the_middle_leaves_the_old_file(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from swd.target.scsi.nexus import NexusId
    from swd.target.scsi.reservations import Table

    file = ReservationFile(state)
    table = Table({NexusId("iqn.2026-01.org.example:a", b"\x80\0\0\0\0\1", ONE, 1): 7}, aptpl=True)
    file.keep("unit", table)
    before = state.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _fd: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(MediumError):
        file.keep("unit", Table({}, aptpl=True))
    assert state.read_bytes() == before
    assert file.load("unit") == table == ReservationFile(state).load("unit")


REGISTRATION = {
    "initiator": "iqn.2026-01.org.example:a", "isid": "800000000001", "target": ONE, "portal_group": 1, "key": "7",
    "holder": True,
}  # fmt: skip


@pytest.mark.parametrize(
    "kept",
    [
        {"type": 3, "registrations": []}, {"type": 4, "registrations": [REGISTRATION]}, {"registrations": []},
        {"type": 3, "registrations": [REGISTRATION | {"holder": False}]}, {"type": 0, "registrations": [REGISTRATION]},
        {"type": 3, "registrations": [REGISTRATION, REGISTRATION]}, {"type": 3, "registrations": [{}]}, [], "x", None,
        {"type": 3, "registrations": [REGISTRATION | {"isid": "80"}]}, {"type": "3", "registrations": [REGISTRATION]},
        {"type": 3, "registrations": [REGISTRATION | {"key": "0"}]}, {"type": 7, "registrations": [REGISTRATION]},
        {"type": 3, "registrations": [REGISTRATION | {"key": 7}]},
    ],
)  # fmt: skip
def test_a_file_that_lies_is_refused(state: Path, kept: object) -> None:
    state.write_text(json.dumps({"version": 1, "units": {"unit": kept}}))
    if kept is None:
        assert ReservationFile(state).load("unit").keys == {}
        return
    with pytest.raises(InvalidArgument, match="holds no reservations"):
        ReservationFile(state).load("unit")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": 2, "units": {}}', b'{"version": 1}', b"\xff\xfe"])
def test_a_file_that_is_none_of_ours_is_refused(state: Path, data: bytes) -> None:
    state.write_bytes(data)
    with pytest.raises(InvalidArgument):
        TargetServer([target()], state_file=state)
    assert state.read_bytes() == data


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no folder"):
        ReservationFile(tmp_path / "none" / "file")


# How much fits


def test_64_units_are_told_apart() -> None:
    units = {number: Lun(RamMedium(64 << 10)) for number in range(64)}
    with TargetServer([TargetConfig(ONE, units)]) as server, swd.connect(str(server.portal), ONE) as session:
        assert session.luns() == list(range(64))
        for number in range(64):
            with session.unit(number) as disk:
                disk.pwrite(number.to_bytes(1, "big") * 512, 0)
        for number in reversed(range(64)):
            with session.unit(number) as disk:
                assert disk.pread(512, 0) == number.to_bytes(1, "big") * 512
        assert len({bytes(units[number].medium.read(0, 512)) for number in range(64)}) == 64


@pytest.fixture
def many_files() -> Iterator[None]:
    """256 connections have two ends here."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]) if before[1] > 0 else 4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_files")
def test_256_sessions_at_once() -> None:
    with TargetServer([target()], max_connections=256) as server, ExitStack() as stack:
        peers = []
        for number in range(256):
            raw = stack.enter_context(RawInitiator(server.portal, isid=b"\x80\0\0\0" + number.to_bytes(2, "big")))
            assert raw.login(ONE).status_class == 0
            peers.append(raw)
        assert len(server.sessions) == server.statistics["sessions_open"] == 256
        assert len({raw.tsih for raw in server.sessions}) == 256
        for number, raw in enumerate(peers):
            raw.ready()
            assert raw.run(write_10(number, 1), data=number.to_bytes(2, "big") * 256).status == 0
        for number, raw in enumerate(reversed(peers)):
            assert raw.run(read_10(255 - number, 1), expect=512).data == (255 - number).to_bytes(2, "big") * 256
        with RawInitiator(server.portal) as late:
            assert late.closed()


def test_logins_that_are_refused_are_no_sessions() -> None:
    with TargetServer([target()]) as server:
        with pytest.raises((LoginRefused, SwdError)):
            swd.connect(str(server.portal), TWO)
        assert server.sessions == []


# What one session changes holds for the next command of another that is served by compiled code


@pytest.mark.parametrize("targets", [1, 2])
def test_a_session_in_full_swing_is_stopped_by_what_another_did(targets: int) -> None:
    lun = Lun(RamMedium(SIZE), serial="shared")
    configs = [TargetConfig(name, {0: lun}) for name in (ONE, TWO)[:targets]]
    with ExitStack() as stack:
        server = stack.enter_context(TargetServer(configs))
        busy, other = (
            stack.enter_context(RawInitiator(server.portal, isid=b"\x80\0\0\0\0" + port)) for port in (b"\1", b"\2")
        )
        for peer, config in ((busy, configs[0]), (other, configs[-1])):
            peer.login(config.name)
            peer.ready()

        def goes(cdb: bytes, data: bytes = b"") -> int:
            return busy.run(cdb, expect=0 if data else 512, data=data).status

        for _ in range(3):
            assert goes(read_10(0, 1)) == goes(write_10(0, 1), bytes(512)) == 0
        mode = bytes(4) + b"\x0a\x0a\0\x10\x08" + bytes(7)
        assert other.run(bytes([0x15, 0x10, 0, 0, len(mode), 0]), data=mode).status == 0
        assert busy.run(read_10(0, 1), expect=512).sense == (6, 0x2A, 1)
        assert busy.run(write_10(0, 1), data=bytes(512)).sense == (7, 0x27, 0)
        assert goes(read_10(0, 1)) == 0
        for cdb, data in (reserve_out(REGISTER, new=1), reserve_out(RESERVE, 1, kind=3)):
            assert other.run(cdb, data=data).status == 0
        assert goes(read_10(0, 1)) == goes(write_10(0, 1), bytes(512)) == 0x18
        cdb, data = reserve_out(REGISTER, 1, 0)
        assert other.run(cdb, data=data).status == 0
        assert goes(read_10(0, 1)) == 0
        assert other.run(bytes([0x16]) + bytes(5)).status == 0  # RESERVE(6), which ends with its session
        assert goes(read_10(0, 1)) == 0x18
        other.sock.shutdown(socket.SHUT_RDWR)
        while goes(read_10(0, 1)) == 0x18:  # until the server has seen it
            pass
