# SPDX-License-Identifier: Apache-2.0
"""[startup] of the configuration: what it takes, the line that an error names, and editing it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from swd.cli.main import run
from swd.driver import boot_order, config, scopes
from swd.driver.boot_order import BootOrder, Group
from swd.errors import InvalidArgument
from swd.proto.portal import parse_portal

WHOLE = """
[startup]
discover = ["192.0.2.10", "[2001:db8::1]:3261"]
login = ["iqn.2026-01.org.example:db", "iscsi://192.0.2.11/iqn.2026-01.org.example:log/0x0001000000000000", "255/0/0.0.0.1"]
wanted = false
devices = ["/dev/shm/disk.img"]
volume_groups = ["vg0", "vg_1?partial=yes", "vg-2?rw=yes&partial=no"]
filesystems = ["lvm://vg0/home", "mem://1M?name=x"]
attempt_timeout = 2.5
step_timeout = 10
"""  # noqa: E501


def write(text: str) -> Path:
    path = Path(os.environ["SWD_CONFIG"])
    path.write_text(text)
    return path


def test_without_the_table_nothing_is_asked_for() -> None:
    assert config.load().startup == BootOrder()
    assert BootOrder().wanted


def test_every_key() -> None:
    write(WHOLE)
    found = config.load()
    assert found.startup == BootOrder(
        ("192.0.2.10:3260", "[2001:db8::1]:3261"),
        (
            "iqn.2026-01.org.example:db",
            "iscsi://192.0.2.11/iqn.2026-01.org.example:log/0x0001000000000000",
            "255/0/0.0.0.1",
        ),
        False,
        ("/dev/shm/disk.img",),
        (Group("vg0"), Group("vg_1", partial=True), Group("vg-2", rw=True)),
        ("lvm://vg0/home", "mem://1M?name=x"),
        2.5,
        10.0,
    )
    assert {one.key for one in found.settings} == set(boot_order.KEYS)
    assert {one.scope for one in found.settings} == {scopes.STARTUP}


def test_it_touches_no_session() -> None:
    write(WHOLE + '[all]\ntimeout = 7\n')
    found = config.load()
    assert found.options.timeout == 7
    assert found.for_discovery(parse_portal("192.0.2.10")).timeout == 7


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('logins = ["iqn.2026-01.org.example:db"]', "did you mean login"),
        ("timeout = 7", "timeout"),
        ('discover = "192.0.2.10"', "list of text"),
        ("discover = [1]", "list of text"),
        ('discover = ["192.0.2.10:x"]', "is no portal"),
        ('discover = ["192.0.2.10", "192.0.2.10:3260"]', "twice"),
        ('login = ["mem://1M"]', "nothing to log in to"),
        ('login = ["db"]', "db"),
        ("wanted = 1", "true or false"),
        ('volume_groups = ["vg/0"]', "is no volume group"),
        ('volume_groups = [".."]', "is no volume group"),
        ('volume_groups = ["vg?partial"]', "?partial=yes"),
        ('volume_groups = ["vg?rw=yes&rw=yes"]', "?partial=yes"),
        ('volume_groups = ["-vg"]', "is no volume group"),
        ('filesystems = ["lvm://vg0"]', "filesystems"),
        ("step_timeout = 0", "more than 0"),
        ("step_timeout = true", "number of seconds"),
        ("attempt_timeout = inf", "number of seconds"),
        ('attempt_timeout = "5"', "number of seconds"),
        ('password = "x"', "password"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(line: str, words: str) -> None:
    path = write(f"# boot\n[startup]\n\n{line}\n")
    with pytest.raises(InvalidArgument) as caught:
        config.load()
    assert f"{path}, line 4" in caught.value.reason
    assert words in caught.value.reason


def test_startup_is_a_table() -> None:
    write("startup = 1\n")
    with pytest.raises(InvalidArgument, match=r"write \[startup\]"):
        config.load()


@pytest.mark.parametrize(
    ("pair", "written"),
    [
        ("discover=192.0.2.10,[2001:db8::1]", 'discover = ["192.0.2.10", "[2001:db8::1]"]'),
        ("volume_groups=vg0,vg1?partial=yes", 'volume_groups = ["vg0", "vg1?partial=yes"]'),
        ("wanted=no", "wanted = false"),
        ("attempt_timeout=2.5", "attempt_timeout = 2.5"),
        ("login=", "login = []"),
    ],
)
def test_config_set_writes_it(pair: str, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("[all]\ntimeout = 7\n")
    assert run(["config", "set", pair]) == 0
    assert path.read_text() == f"[all]\ntimeout = 7\n\n[startup]\n{written}\n"
    key, _, value = pair.partition("=")
    assert run(["config", "get", key]) == 0
    out = capsys.readouterr().out.strip()
    assert out.replace(":3260", "") == (value or "-")
    assert run(["config", "unset", key]) == 0
    assert written not in path.read_text()


def test_config_set_refuses_what_would_not_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    path = write("")
    for pair in ("discover=nobody@host", "wanted=perhaps", "step_timeout=0", "filesystems=lvm://x"):
        assert run(["config", "set", pair]) == 22
    assert run(["config", "set", "timeout=3", "--scope", "startup"]) == 22
    assert path.read_text() == ""
    assert "did you mean step_timeout" in capsys.readouterr().err


def test_config_show_has_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    path = write('[startup]\nvolume_groups = ["vg0?rw=yes"]\n')
    assert run(["--json", "config", "show"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["volume_groups"] == {
        "key": "volume_groups", "value": ["vg0?rw=yes"], "scope": "startup", "file": str(path), "line": 2,
    }  # fmt: skip
    assert rows["step_timeout"]["scope"] == "default"
    assert rows.keys() >= set(boot_order.KEYS)
