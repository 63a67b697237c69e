# SPDX-License-Identifier: Apache-2.0
"""`vg` and `lv`: what they print, and that they print nothing before the network."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.golden import unpack

from swd.driver import phase

Ctl = Callable[..., Any]


@pytest.fixture
def devices(tmp_path: Path) -> list[str]:
    """`--device DEV` for each disk of a striped group."""
    return [word for path in unpack("striped", tmp_path) for word in ("--device", str(path))]


def test_a_group_from_the_first_look_to_the_last(ctl: Ctl, devices: list[str]) -> None:
    seen = ctl("vg", "scan", *devices)
    assert seen.status == 0
    assert seen.out.splitlines()[0].split()[0] == "striped"
    assert len(seen.out.splitlines()) == 4
    assert ctl("vg", "list").out == ""
    assert ctl("vg", "activate", *devices).out == "striped is active for reading: 3 physical volumes, seqno 6\n"
    assert ctl("vg", "list").out.startswith("striped is active")
    facts = json.loads(ctl("vg", "info", "striped", "--json").out)
    assert (facts["name"], facts["extent_size_bytes"], facts["missing"]) == ("striped", 65536, [])
    listed = json.loads(ctl("lv", "list", "--json").out)
    assert [(one["volume"], one["size_bytes"], one["readable"]) for one in listed] == [
        ("grown", 1507328, "yes"),
        ("three", 1572864, "yes"),
        ("two", 1 << 20, "yes"),
    ]
    one = json.loads(ctl("lv", "info", "striped/grown", "--json").out)
    segments = [(part["extents"], part["on"]) for part in one["segments"]]
    assert segments == [(12, "pv0 pv1 pv2"), (8, "pv2 pv1"), (3, "pv0")]
    assert ctl("info", "lvm://striped/two").status == 0
    assert ctl("vg", "deactivate").out == "striped is active no more\n"


def test_a_volume_is_writable_if_its_group_is_active_for_that(ctl: Ctl, devices: list[str]) -> None:
    def writable(*words: str) -> set[str]:
        answer = json.loads(ctl(*words, "--json").out)
        return {one["writable"] for one in answer} if isinstance(answer, list) else {answer["writable"]}

    assert writable("lv", "list", "striped", *devices) == {"yes"}  # not active: what the volumes themselves allow
    ctl("vg", "activate", *devices)
    for words in (("lv", "list"), ("lv", "list", "striped", *devices), ("lv", "info", "striped/two")):
        assert writable(*words) == {"its group is active for reading only"}
    refused = ctl("write", "lvm://striped/two", "-i", "/dev/null")
    assert refused.status == errno.EROFS
    ctl("vg", "activate", "--rw", *devices)
    assert writable("lv", "list") == writable("lv", "info", "striped/two") == {"yes"}
    assert ctl("write", "lvm://striped/two", "-i", "/dev/null").status == 0


def test_what_is_not_there(ctl: Ctl, devices: list[str]) -> None:
    lacking = ctl("vg", "activate", "striped", *devices[:4])
    assert (lacking.status, lacking.out) == (errno.ENXIO, "")
    assert "--partial" in lacking.err
    assert ctl("vg", "activate", "other", *devices).status == errno.ENXIO
    assert ctl("vg", "deactivate", "striped").status == errno.ENXIO
    assert ctl("vg", "scan", "--device", "/nonexistent/disk").status == errno.ENXIO
    assert ctl("lv", "info", "striped").status == errno.EINVAL
    partial = ctl("vg", "activate", "striped", *devices[:4], "--partial")
    assert partial.out == "striped is active for reading: 2 physical volumes, 1 missing, seqno 6\n"


def test_before_the_network_there_is_silence(ctl: Ctl, devices: list[str]) -> None:
    remote = ["--device", "iscsi://192.0.2.1/iqn.2026-01.org.example:x/0"]
    phase.begin()
    for words in (
        ("vg", "activate"),
        ("vg", "activate", "striped", *devices, *remote),
        ("vg", "scan"),
        ("vg", "info", "striped"),
        ("lv", "list"),
        ("lv", "info", "striped/two"),
        ("read", "lvm://striped/two"),
    ):
        ended = ctl(*words)
        assert (ended.status, ended.out, ended.err) == (errno.ENETUNREACH, "", ""), words
    assert ctl("vg", "activate", *devices).status == 0
    assert ctl("vg", "list").status == 0
