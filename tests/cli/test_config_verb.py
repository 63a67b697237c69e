# SPDX-License-Identifier: Apache-2.0
"""`swdctl config`: what is effective and from where, and the same words in as out."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.schema import faults

from swd.driver import boot_order
from swd.proto import options

Ctl = Callable[..., Any]
NAME = "iqn.2026-01.org.example:db"
DEV = f"iscsi://192.0.2.11/{NAME}/0"
FILE = f"""\
errno_profile = "11iv3"
[all]
timeout = 7
max_burst_length = "64K"
isid = "800102030405"
[discovery."192.0.2.11"]
user = "scan"
[target."{NAME}"]
auth = "require"
[target."{NAME}".address."192.0.2.11"]
timeout = 5
"""


@pytest.fixture
def file() -> Path:
    path = Path(os.environ["SWD_CONFIG"])
    path.write_text(FILE)
    return path


def answer(ctl: Ctl, *words: str) -> Any:
    """The JSON of a call, held to the schema."""
    done = ctl("--json", "config", *words)
    assert (done.status, done.err) == (0, "")
    record = json.loads(done.out)
    assert faults(record, "config") == []
    return record


def rows(record: list[dict[str, Any]]) -> dict[str, tuple[Any, str, int | None]]:
    return {row["key"]: (row["value"], row["scope"], row["line"]) for row in record}


def test_show_every_key_with_its_place(ctl: Ctl, file: Path) -> None:
    record = answer(ctl, "show")
    every = [row["key"] for row in record if "/" not in row["scope"]]
    assert sorted(every) == sorted([*options.TOP_LEVEL, *options.BY_NAME, *boot_order.KEYS])
    wide = rows(record[: len(every)])
    assert wide["errno_profile"] == ("11iv3", "top", 1)
    assert wide["timeout"] == (7.0, "all", 3)
    assert wide["max_burst_length"] == (65536, "all", 4)
    assert wide["isid"] == ("800102030405", "all", 5)
    assert wide["login_timeout"] == (15.0, "default", None)
    assert [(row["key"], row["scope"], row["line"]) for row in record[len(every) :]] == [
        ("user", "discovery/192.0.2.11:3260", 7),
        ("auth", f"target/{NAME}", 9),
        ("timeout", f"target/{NAME}/192.0.2.11:3260", 11),
    ]
    assert {row["file"] for row in record} == {str(file), None}


def test_show_a_device_and_a_discovery_address(ctl: Ctl, file: Path) -> None:
    device = rows(answer(ctl, "show", DEV + "?queue_depth=3"))
    assert device["timeout"] == (5.0, f"target/{NAME}/192.0.2.11:3260", 11)
    assert device["auth"] == ("require", f"target/{NAME}", 9)
    assert device["queue_depth"] == (3, "device", None)
    assert device["user"] == (None, "default", None)
    scan = rows(answer(ctl, "show", "--discovery", "192.0.2.11"))
    assert (scan["user"], scan["auth"]) == (("scan", "discovery/192.0.2.11:3260", 7), (None, "default", None))
    assert scan["timeout"] == (7.0, "all", 3)


def test_text_is_a_table_and_a_bare_value(ctl: Ctl, file: Path) -> None:
    lines = ctl("config", "show").out.splitlines()
    assert lines[0].split() == ["key", "value", "scope", "file", "line"]
    assert ["timeout", "7", "all", str(file), "3"] in [line.split() for line in lines]
    assert ctl("config", "get", "timeout", DEV).out == "5\n"
    assert ctl("config", "get", "user", "--discovery", "192.0.2.11").out == "scan\n"
    assert f"{file}, line 3" in ctl("--verbose", "config", "get", "timeout").err
    assert ctl("config", "get", "secret_file").status == 0


@pytest.mark.parametrize("key", [row.name for row in options.TABLE if row.default is not None])
def test_set_takes_what_get_gives(ctl: Ctl, file: Path, key: str) -> None:
    said = ctl("config", "get", key).out.rstrip("\n")
    assert ctl("config", "set", f"{key}={said}", "--scope", f"target/{NAME}").status == 0
    assert answer(ctl, "get", key, DEV.replace("192.0.2.11", "192.0.2.12"))["scope"] == f"target/{NAME}"
    assert ctl("config", "get", key, DEV.replace("192.0.2.11", "192.0.2.12")).out.rstrip("\n") == said


def test_set_and_unset(ctl: Ctl, file: Path) -> None:
    quiet = ctl("config", "set", "queue_depth=4")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")
    assert answer(ctl, "get", "queue_depth")["value"] == 4
    done = answer(ctl, "set", "timeout=9", "--scope", "discovery/192.0.2.11")
    assert (done["value"], done["scope"], done["line"]) == (9, "discovery/192.0.2.11:3260", 9)
    assert answer(ctl, "unset", "timeout", "--scope", "discovery/192.0.2.11")["value"] == 9
    assert answer(ctl, "unset", "queue_depth")["key"] == "queue_depth"
    assert file.read_text() == FILE


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("get", "timeuot"), errno.EINVAL, "did you mean timeout"),
        (("get", "timeout", "mem://1M"), errno.EINVAL, "iscsi://"),
        (("show", DEV, "--discovery", "h"), 2, "one of them"),
        (("set", "timeout"), 2, "KEY=VALUE"),
        (("set", "timeuot=3"), errno.EINVAL, "did you mean timeout"),
        (("set", "timeout=3", "--scope", "host"), errno.EINVAL, "no scope"),
        (("set", "secret_file=hunter2"), errno.EINVAL, "never the secret itself"),
        (("set", "chap_secret=hunter2"), errno.EINVAL, "secret_file"),
        (("unset", "user"), errno.EINVAL, "not set in all"),
        (("set", "connections=2"), errno.EOPNOTSUPP, "built"),
    ],
)
def test_what_is_refused(ctl: Ctl, file: Path, words: tuple[str, ...], status: int, said: str) -> None:
    done = ctl("config", *words)
    assert (done.status, done.out) == (status, "")
    assert said in done.err
    assert "hunter2" not in done.err
    assert file.read_text() == FILE


def test_an_unknown_key_of_the_file_is_told_with_its_line(ctl: Ctl, file: Path) -> None:
    file.write_text(FILE + "tmieout = 3\n")
    done = ctl("config", "show")
    assert done.status == errno.EINVAL
    assert f"{file}, line 12: unknown key 'tmieout'; did you mean timeout?" in done.err


@pytest.mark.parametrize(
    "record", [{"key": "x"}, [{"key": 1, "value": 1, "scope": "all", "file": None, "line": None}], 3]
)
def test_the_schema_refuses_other_records(record: object) -> None:
    assert faults(record, "config")
