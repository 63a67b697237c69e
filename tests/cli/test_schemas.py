# SPDX-License-Identifier: Apache-2.0
"""The JSON of every verb, made on a running system, against the schemas of docs/schemas; and the schemas themselves:
closed, so that a field that is added or taken away is seen here first."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.golden import unpack
from support.schema import faults, schemas

import swd
from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer

Ctl = Callable[..., Any]
NAME = "iqn.2026-01.org.example:schemas"
LOCKED = f"{NAME}-locked"
SIZE = 1 << 20
OPTIONAL = {"device", "negotiated", "target", "unreadable"}  # fields that a record may be without


@pytest.fixture
def server() -> Iterator[TargetServer]:
    chap = swd.Chap("user", "a-secret-of-the-test")
    targets = [
        TargetConfig(NAME, {0: Lun(RamMedium(SIZE)), 130: Lun(RamMedium(SIZE), 4096)}),
        TargetConfig(LOCKED, {0: Lun(RamMedium(SIZE))}, chap=chap),
    ]
    with TargetServer(targets, "127.0.0.1:0") as running:
        yield running


@pytest.fixture
def answer(ctl: Ctl) -> Callable[..., Any]:
    """`answer("discover", "discover", PORTAL)`: the JSON that the words give, held to a schema."""

    def call(name: str, *words: str, status: int = 0) -> Any:
        ended = ctl("--json", *words)
        assert ended.status == status, ended.err
        record = json.loads(ended.out or ended.err)
        assert faults(record, name) == []
        return record

    return call


def test_what_is_found(answer: Callable[..., Any], server: TargetServer) -> None:
    portal, dev = str(server.portal), f"iscsi://{server.portal}/{NAME}/0"
    assert len(answer("discover", "discover", portal)) == 2
    assert {unit["lun"] for unit in answer("scan", "scan", portal)} == {"0", "130"}
    assert [unit["phase"] for unit in answer("scan", "scan")] == ["live", "live"]
    assert answer("login", "login", dev)[0]["auth"] == "none"
    listed = answer("list", "list")
    assert [row["last_error"] is None for row in listed["targets"]] == [True, False]
    assert answer("discover", "trace", os.path.join(os.environ["SWD_STATE_DIR"], "x.pcap"), "--", "discover", portal)
    assert answer("logout", "logout", NAME, "--forget") == [{"target": NAME, "forgotten": True}]


def test_what_a_device_is(answer: Callable[..., Any], server: TargetServer) -> None:
    dev = f"iscsi://{server.portal}/{NAME}/0"
    session = answer("info", "info", dev)["session"]
    assert (session["session_state"], session["labels"]) == ("Q3 LOGGED_IN", ["T1", "T4", "T5", "N1"])
    assert answer("info", "info", "mem://1M")["session"] is None
    assert answer("info", "info", "--build")["version"] == swd.__version__
    for device in (dev, "mem://1M", "isw:"):
        assert answer("stats", "stats", device)["device"] == device
    assert answer("stats", "stats")["rows"]


def test_how_fast_a_device_is(answer: Callable[..., Any], server: TargetServer) -> None:
    quick = ("--profile", "latency", "--seconds", "0.02", "--warm-up", "0")
    assert answer("bench", "bench", f"iscsi://{server.portal}/{NAME}/0", *quick)["session"]["immediate_data"] is True
    assert answer("bench", "bench", "mem://1M", *quick)["session"] is None


def test_what_is_moved(answer: Callable[..., Any], server: TargetServer, tmp_path: Path) -> None:
    dev, file = f"iscsi://{server.portal}/{NAME}/0", tmp_path / "file"
    file.write_bytes(b"s" * 4096)
    assert answer("transfer", "write", dev, "-i", str(file))["length_bytes"] == 4096
    assert answer("transfer", "read", dev, "--length", "4K", "-o", str(tmp_path / "back"))["verified"] is None
    assert answer("transfer", "copy", dev, str(tmp_path / "copy"), "--verify")["verified"] is True


IOCTLS = (
    *(("BLKGETSIZE64",), ("BLKSSZGET",), ("BLKPBSZGET",), ("BLKROGET",), ("BLKFLSBUF",), ("SWD_VERSION",)),
    *(("SWD_PHASE_GET",), ("SWD_STATS_GET",), ("SWD_STATS_CLEAR",), ("SWD_PARAMS_GET",), ("SWD_RESET",)),
    *(("BLKDISCARD", "offset=0", "length=4K"), ("BLKZEROOUT", "offset=0", "length=4K"), ("SWD_LOGIN",)),
    *(("SG_IO", "cdb=120000002400", "data_in=36"), ("SG_IO", "cdb=12ff00002400", "data_in=36")),
)


def test_what_is_controlled(answer: Callable[..., Any], server: TargetServer) -> None:
    dev = f"iscsi://{server.portal}/{NAME}/0"
    assert len(answer("ioctl", "ioctl", "--list")) == 17
    ends = [answer("ioctl", "ioctl", dev, *words)["result"] for words in IOCTLS]
    assert ends[0] == SIZE
    assert ends[-1]["sense"]["key"] == 5
    assert answer("ioctl", "ioctl", "isw:", "SWD_PARAMS_GET")["result"]["options"]["timeout"] == 30
    assert answer("ioctl", "ioctl", "isw:", "SWD_PARAMS_SET", "timeout=5")["result"] == {"timeout": "5"}
    assert answer("ioctl", "ioctl", "isw:", "SWD_LOGIN", f"device={dev}")["result"]["target_name"] == NAME


def test_what_is_set(answer: Callable[..., Any]) -> None:
    assert answer("config", "config", "set", "timeout=7")["value"] == 7
    assert answer("config", "config", "get", "timeout")["scope"] == "all"
    assert answer("config", "config", "unset", "timeout")["key"] == "timeout"
    assert answer("config", "config", "show")
    assert answer("phase", "phase", "show")["since"] is None
    assert answer("phase", "phase", "begin")["phase"] == "pre-network"
    assert answer("phase", "phase", "complete")["phase"] == "network-attempted"


def test_what_is_on_iscsi(answer: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text("/dev/vda1 /srv ext4 defaults 0 0\n")
    answer("placement", "placement", "check", "--fstab", str(tmp_path / "fstab"))


def test_a_host_is_started(answer: Callable[..., Any], server: TargetServer, tmp_path: Path) -> None:
    Path(os.environ["SWD_CONFIG"]).write_text(f'[startup]\ndiscover = ["{server.portal}"]\n')
    (tmp_path / "etc").mkdir()
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "usr" / "bin" / "swdctl").write_text("#!/bin/sh\n")
    (tmp_path / "usr" / "bin" / "swdctl").chmod(0o755)
    assert answer("startup", "startup", "--pass", "2")["done"] == 1
    installed = answer("startup-install", "startup", "install", "--root", str(tmp_path), "--swdctl", "/usr/bin/swdctl")
    gone = answer("startup-install", "startup", "uninstall", "--root", str(tmp_path))
    assert gone["files"] == installed["files"] != []


def test_what_is_on_volume_groups(answer: Callable[..., Any], tmp_path: Path) -> None:
    devices = [word for path in unpack("linear", tmp_path) for word in ("--device", str(path))]
    assert [group["name"] for group in answer("vg-scan", "vg", "scan", *devices)["groups"]] == ["linear"]
    assert answer("vg", "vg", "activate", "linear", *devices)[0]["writable"] is False
    assert answer("vg", "vg", "list") == answer("vg", "vg", "list")
    logical = answer("vg-info", "vg", "info", "linear")["logical"]
    assert answer("lv-list", "lv", "list", "linear") == logical
    assert {volume["types"] for volume in logical} == {"linear"}
    segments = [answer("lv-info", "lv", "info", f"linear/{volume['volume']}")["segments"] for volume in logical]
    assert {segment["type"] for found in segments for segment in found} == {"linear"}
    assert answer("vg", "vg", "deactivate", "linear")[0]["name"] == "linear"


def test_what_may_go_wrong(answer: Callable[..., Any], tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('seed = 3\n[[fault]]\ndo = "busy"\nevery = 2\n')
    said = answer("target-faults", "target", "faults", str(plan))
    assert (said["seed"], len(said["faults"])) == (3, 1)
    assert "busy" in {row["fault"] for row in answer("target-faults", "target", "faults")}


def test_the_story(answer: Callable[..., Any], server: TargetServer) -> None:
    record = answer("demo", "demo", f"iscsi://{server.portal}/{NAME}/0")
    assert all(step["ok"] for step in record["steps"])


def test_what_goes_wrong(answer: Callable[..., Any], server: TargetServer) -> None:
    assert answer("error", "info", f"iscsi://{server.portal}/{NAME}/9", status=6)["error"]["name"] == "ENXIO"
    assert answer("error", "info", status=2)["error"]["name"] == "EUSAGE"


def closed(rule: Any) -> Iterator[str]:
    """Each object of a schema that takes fields without a word: neither closed, nor a map of like values."""
    if isinstance(rule, list):
        for item in rule:
            yield from closed(item)
    if isinstance(rule, dict):
        if rule.get("type") == "object":
            rest = rule.get("additionalProperties")
            if rest is not False and not (isinstance(rest, dict) and "propertyNames" in rule):
                yield str(rule)[:80]
            if rest is False and set(rule["properties"]) - set(rule["required"]) - OPTIONAL:
                yield f"not required: {sorted(set(rule['properties']) - set(rule['required']))}"
        for value in rule.values():
            yield from closed(value)


@pytest.mark.parametrize("name", sorted(schemas()))
def test_a_schema_is_closed(name: str) -> None:
    assert list(closed(schemas()[name])) == []
    assert schemas()[name]["$id"] == f"{name}.schema.json"
    assert faults({"no": "such thing"}, name)


def test_a_field_more_or_less_is_a_fault(answer: Callable[..., Any], server: TargetServer) -> None:
    record = answer("info", "info", f"iscsi://{server.portal}/{NAME}/0")
    assert "$: Additional properties are not allowed ('colour' was unexpected)" in faults(
        {**record, "colour": "blue"}, "info"
    )
    del record["session"]["isid"]
    assert "$.session: 'isid' is a required property" in faults(record, "info")
