# SPDX-License-Identifier: Apache-2.0
"""`scan`, `list`, `login`, `logout`: what they say, in which shape, and when they refuse."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from swd.driver import holders, phase
from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer
from swd.values import Chap, LogicalUnit

Ctl = Callable[..., Any]
NAME = "iqn.2026-01.org.example:verbs"
LOCKED = "iqn.2026-01.org.example:verbs-locked"
SECRET = "sentinel-secret-of-ours"
SIZE = 1 << 20


@pytest.fixture
def server() -> Iterator[TargetServer]:
    targets = [
        TargetConfig(NAME, {0: Lun(RamMedium(SIZE)), 130: Lun(RamMedium(SIZE), 4096)}),
        TargetConfig(LOCKED, {0: Lun(RamMedium(SIZE))}, chap=Chap("u", SECRET)),
    ]
    with TargetServer(targets) as running:
        yield running


def test_scan_is_a_tree_for_people_and_records_for_programs(ctl: Ctl, server: TargetServer) -> None:
    ended = ctl("scan", str(server.portal), "--target", NAME)
    lines = ended.out.splitlines()
    assert (ended.status, len(lines)) == (0, 4)
    assert lines[0].startswith("naa.")
    assert lines[1].split() == ["255/0/0.0.0.0", "live", NAME, str(server.portal), "LUN", "0"]
    assert lines[3].split()[0] == "255/0/0.1.0.2"
    units = json.loads(ctl("scan", "--json").out)
    assert [set(unit) for unit in units] == [{field.name for field in fields(LogicalUnit)}] * 2
    assert [(unit["size"], unit["block_size"], unit["strong"], unit["phase"]) for unit in units] == [
        (SIZE, 512, True, "live"),
        (SIZE, 4096, True, "live"),
    ]
    assert units[0]["paths"] == [units[0]["dev"]]


def test_a_target_that_refuses_is_said_on_stderr_and_listed(ctl: Ctl, server: TargetServer) -> None:
    ended = ctl("scan", str(server.portal), "--json")
    assert ended.status == 0
    assert {unit["target"] for unit in json.loads(ended.out)} == {NAME}
    warnings = [json.loads(line)["warning"] for line in ended.err.splitlines()]
    assert [LOCKED in warning for warning in warnings] == [True]
    said = ctl("scan", str(server.portal)).err.splitlines()
    assert [line.startswith(f"swdctl: WARNING {LOCKED} at ") for line in said] == [True]
    listed = json.loads(ctl("list", "--json").out)
    assert set(listed) == {"file", "discovery_addresses", "targets", "units"}
    assert listed["discovery_addresses"] == [str(server.portal)]
    states = {row["target"]: row["last_error"] for row in listed["targets"]}
    assert states[NAME] is None
    assert states[LOCKED]
    assert {unit["phase"] for unit in listed["units"]} == {"known"}
    assert f"{LOCKED}  not wanted  last error: " in ctl("list").out


def test_list_needs_no_network(ctl: Ctl) -> None:
    phase.begin()
    assert ctl("list").out == ""
    assert json.loads(ctl("list", "--json").out)["targets"] == []


@pytest.mark.parametrize("words", [("scan",), ("scan", "host.example"), ("login", NAME), ("logout", NAME)])
def test_before_the_network_the_others_are_quiet(ctl: Ctl, words: tuple[str, ...]) -> None:
    phase.begin()
    ended = ctl(*words)
    assert (ended.status, ended.out, ended.err) == (errno.ENETUNREACH, "", "")


def test_login_proves_chap_and_keeps_no_secret(ctl: Ctl, server: TargetServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    dev = f"iscsi://{server.portal}/{LOCKED}/0"
    assert ctl("login", dev).status == errno.EACCES
    ended = ctl("login", dev, "-O", "user=u", "-O", f"secret_file={secret}", "--json")
    (proof,) = json.loads(ended.out)
    assert (proof["target"], proof["auth"], len(proof["units"])) == (LOCKED, "chap", 1)
    assert not server.sessions
    (row,) = json.loads(ctl("list", "--json").out)["targets"]
    assert (row["wanted"], row["portals"], row["last_error"]) == (True, {"0": str(server.portal)}, None)
    state = Path(os.environ["SWD_STATE_DIR"])
    assert not [path for path in state.rglob("*") if SECRET.encode() in path.read_bytes()]


def test_the_first_failure_in_the_order_of_the_arguments_counts(ctl: Ctl, server: TargetServer) -> None:
    good = f"iscsi://{server.portal}/{NAME}/0"
    ended = ctl("login", "mem://1M", good, "iqn.2026-01.org.example:nobody")
    assert ended.status == errno.EINVAL
    assert [row["wanted"] for row in json.loads(ctl("list", "--json").out)["targets"]] == [True]
    assert ctl("login", good).out.startswith(f"{NAME} at {server.portal}: login works")


def test_logout_refuses_while_a_holder_lives_and_then_forgets(ctl: Ctl, server: TargetServer) -> None:
    ctl("login", f"iscsi://{server.portal}/{NAME}/0")
    with holders.holding("mount of /somewhere", [NAME]):
        ended = ctl("logout", NAME, "--forget")
        assert ended.status == errno.EBUSY
        assert f"process {os.getpid()} (mount of /somewhere)" in ended.err
    assert json.loads(ctl("logout", NAME, "--json").out) == [{"target": NAME, "forgotten": False}]
    assert json.loads(ctl("list", "--json").out)["units"]
    assert ctl("logout", NAME, "--forget").status == 0
    assert ctl("list").out == ""
    assert ctl("logout", NAME).status == errno.ENXIO


def test_a_device_is_read_by_its_hardware_path(ctl: Ctl, server: TargetServer) -> None:
    ctl("scan", str(server.portal), "--target", NAME)
    assert ctl("info", "255/0/0.1.0.2").status == 0
    assert json.loads(ctl("info", "255/0/0.1.0.2", "--json").out)["block_size"] == 4096
    assert ctl("info", "255/0/9.0.0.0").status == errno.ENXIO


def test_a_registry_that_cannot_be_written_is_told_and_nothing_is_claimed(ctl: Ctl, server: TargetServer) -> None:
    """As on a full disk: the login works, and says that it is not kept; a logout that changes nothing fails."""
    dev = f"iscsi://{server.portal}/{NAME}/0"
    state = Path(os.environ["SWD_STATE_DIR"])
    (state / "registry.sqlite3").mkdir()
    ended = ctl("login", dev)
    assert (ended.status, "NOT kept as wanted" in ended.out) == (0, True)
    assert "registry" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert [proof["remembered"] for proof in json.loads(ctl("login", dev, "--json").out)] == [False]
    ended = ctl("logout", dev)
    assert (ended.status, ended.out) == (errno.EROFS, "")
