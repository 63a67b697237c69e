# SPDX-License-Identifier: Apache-2.0
"""`swdctl stats` and `swdctl trace`: three formats of the same rows, and a verb run under a trace."""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.schema import faults

from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:stats"


@pytest.fixture
def dev() -> Iterator[str]:
    with TargetServer([TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))})]) as server:
        yield f"iscsi://{server.portal}/{NAME}/0"


def test_text_shows_rows_with_their_class_and_its_advice(ctl: Callable[..., Any], dev: str) -> None:
    done = ctl("stats", dev)
    assert done.status == 0, done.err
    assert "logins that succeeded" in done.out
    assert "informational" in done.out
    assert "not applicable" not in done.out
    everything = ctl("stats", dev, "--all").out
    assert "not applicable" in everything
    assert "vendor" in everything


@pytest.mark.parametrize("words", [("--json",), ("--format", "json")])
def test_json_is_what_the_schema_says(ctl: Callable[..., Any], dev: str, words: tuple[str, ...]) -> None:
    for device in ([dev], []):
        record = json.loads(ctl("stats", *device, *words).out)
        assert faults(record, "stats") == []
        assert record["device"] == (device[0] if device else "isw:")


def test_prometheus(ctl: Callable[..., Any], dev: str) -> None:
    out = ctl("stats", dev, "--format", "prometheus").out
    assert f'swd_login_ok_total{{device="{dev}",level="connection",class="I"}} 1' in out
    assert out.endswith("\n")


def test_a_format_that_is_none_is_wrong_usage(ctl: Callable[..., Any]) -> None:
    assert ctl("stats", "--format", "xml").status == 2


def test_clear_shows_first(ctl: Callable[..., Any], dev: str) -> None:
    ctl("read", dev, "--length", "4096", "-o", "/dev/null")
    value = {row["name"]: row["value"] for row in json.loads(ctl("stats", "--json", "--clear").out)["rows"]}
    assert value["io_reads"] >= 1
    value = {row["name"]: row["value"] for row in json.loads(ctl("stats", "--json").out)["rows"]}
    assert value["io_reads"] == 0


def test_a_local_device_has_counters_and_no_rows(ctl: Callable[..., Any]) -> None:
    done = ctl("stats", "mem://1M", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["reads"] == 0


def test_a_verb_under_a_trace(ctl: Callable[..., Any], dev: str, tmp_path: Path) -> None:
    path = tmp_path / "t.pcap"
    done = ctl("trace", str(path), "--", "info", dev, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"InitiatorName=" in path.read_bytes()


def test_a_verb_under_a_trace_ends_with_its_own_status(ctl: Callable[..., Any], dev: str, tmp_path: Path) -> None:
    assert ctl("trace", str(tmp_path / "t"), "--", "info", dev[:-1] + "9").status == errno.ENXIO
    assert ctl("trace", str(tmp_path / "u"), "--", "nonsense").status == 2
    assert ctl("trace", str(tmp_path / "u"), "--", "read").status == 2
    assert ctl("trace", str(tmp_path / "u")).status == 2
    assert not (tmp_path / "u").exists()


def test_before_the_network_an_older_trace_is_left_alone(ctl: Callable[..., Any], dev: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"a trace")
    assert ctl("phase", "begin").status == 0
    assert ctl("trace", str(old), "--", "info", dev).status == errno.ENETUNREACH
    assert ctl("trace", str(tmp_path / "new"), "--", "discover", "192.0.2.1").status == errno.ENETUNREACH
    assert old.read_bytes() == b"a trace"
    assert not (tmp_path / "new").exists()


def test_two_formats_at_once(ctl: Callable[..., Any]) -> None:
    assert ctl("stats", "mem://1M", "--json", "--format", "prometheus").status == 2


def test_verbose_says_what_the_driver_says(process: Callable[..., Any]) -> None:
    quiet = process("info", "iscsi://127.0.0.1:1/iqn.2026-01.org.example:x/0")
    assert "_LOG_" not in quiet.err
    assert quiet.status == errno.ENXIO
