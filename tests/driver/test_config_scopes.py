# SPDX-License-Identifier: Apache-2.0
"""The four scopes: which settings hold for which session, and that another spelling of a name evades none of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import swd
from swd.driver import Driver, config, scopes
from swd.errors import AuthenticationFailed, InvalidArgument
from swd.proto.portal import parse_portal
from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:db"
PORTAL = "192.0.2.11:3260"
HERE = parse_portal(PORTAL)
ELSEWHERE = parse_portal("192.0.2.12")
TABLES = {
    "all": "[all]",
    "target": f'[target."{NAME}"]',
    "address": f'[target."{NAME}".address."{PORTAL}"]',
    "discovery": f'[discovery."{PORTAL}"]',
}
TIMEOUTS = {"all": 1, "target": 2, "address": 3, "discovery": 4}
WIDEST_FIRST = ("all", "target", "address")
Write = Callable[[str], Path]


@pytest.fixture
def write() -> Write:
    def to_file(text: str) -> Path:
        path = Path(os.environ["SWD_CONFIG"])
        path.write_text(text)
        return path

    return to_file


def text(*tables: str) -> str:
    return "".join(f"{TABLES[name]}\ntimeout = {TIMEOUTS[name]}\n" for name in tables)


@pytest.mark.parametrize("present", [c for n in range(1, 4) for c in itertools.permutations(WIDEST_FIRST, n)])
def test_the_narrower_scope_wins_in_whatever_order_they_stand(write: Write, present: tuple[str, ...]) -> None:
    write(text(*present))
    found = config.load()
    assert found.for_target(NAME, HERE).timeout == max(TIMEOUTS[name] for name in present)
    others = [TIMEOUTS[name] for name in present if name != "address"]
    assert found.for_target(NAME, ELSEWHERE).timeout == max(others, default=30)
    wide = TIMEOUTS["all"] if "all" in present else 30
    assert found.for_target("iqn.2026-01.org.example:other", HERE).timeout == wide
    assert found.for_discovery(HERE).timeout == wide
    assert found.options.timeout == wide


def test_a_discovery_address_holds_for_discovery_sessions_only(write: Write) -> None:
    write(text("all", "discovery"))
    found = config.load()
    assert (found.for_discovery(HERE).timeout, found.for_discovery(ELSEWHERE).timeout) == (4, 1)
    assert found.for_target(NAME, HERE).timeout == 1


def test_a_narrow_scope_of_an_earlier_file_goes_over_a_wide_one_of_a_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from swd.driver import places

    monkeypatch.delenv("SWD_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(places, "HOST_CONFIG", tmp_path / "etc.toml")
    (tmp_path / "etc.toml").write_text(text("target"))
    (tmp_path / "swd").mkdir()
    (tmp_path / "swd" / "swd.toml").write_text(text("all"))
    assert config.load().for_target(NAME, HERE).timeout == TIMEOUTS["target"]


@pytest.mark.parametrize(
    ("table", "name", "portal"),
    [
        (NAME.upper(), NAME, "192.0.2.11"),
        (NAME, NAME.upper(), "192.0.2.11"),
        (NAME, NAME, "192.0.2.11:3260"),
    ],
)
def test_no_spelling_of_a_target_evades_its_scope(write: Write, table: str, name: str, portal: str) -> None:
    write(f'[target."{table}"]\nauth = "require"')
    assert config.load().for_target(name, parse_portal(portal)).auth == "require"


@pytest.mark.parametrize(
    ("table", "portal"),
    [
        ("192.0.2.11", "192.0.2.11:3260"),
        ("STORE.example.org.", "store.EXAMPLE.org"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
        ("[fe80:0::1%eth0]:3261", "[fe80::1%25eth0]:3261"),
    ],
)
def test_no_spelling_of_a_portal_evades_its_scope(write: Write, table: str, portal: str) -> None:
    write(f'[target."{NAME}".address."{table}"]\ntimeout = 3\n[discovery."{table}"]\ntimeout = 4\n')
    found, where = config.load(), parse_portal(portal)
    assert (found.for_target(NAME, where).timeout, found.for_discovery(where).timeout) == (3, 4)


def test_credentials_of_a_discovery_address_stand_alone(write: Write) -> None:
    """Our secret for the targets must not answer for the user who may only ask."""
    write(
        '[all]\nuser = "db"\nsecret_file = "/db"\ntarget_user = "t"\ntimeout = 1\n'
        f'[discovery."{PORTAL}"]\nuser = "scan"\n[discovery."192.0.2.12"]\nlogin_timeout = 9\n'
    )
    found = config.load()
    scan = found.for_discovery(HERE)
    assert (scan.user, scan.secret_file, scan.target_user, scan.timeout) == ("scan", None, None, 1)
    assert (found.for_discovery(ELSEWHERE).user, found.for_discovery(ELSEWHERE).secret_file) == ("db", "/db")
    assert (found.for_target(NAME, HERE).user, found.for_target(NAME, HERE).secret_file) == ("db", "/db")


@pytest.mark.parametrize(
    ("toml", "line", "words"),
    [
        (f"{TABLES['target']}\nauth = 'require'\ntimeuot = 3", 3, "did you mean timeout"),
        (f"{TABLES['address']}\ntimeout = 0", 2, "out of range"),
        (f"{TABLES['discovery']}\n\nerrno_profile = '11iv1'", 3, "top level"),
        (f"{TABLES['discovery']}\naddress = 3", 2, "unknown key"),
        ("[discovery.'192.0.2.10:0']\nuser = 'scan'", 2, "port"),
        ("[target.host1]\nuser = 'scan'", 2, "iqn."),
        ("target = 3", 1, "table"),
        (f"[target]\n'{NAME}' = 3", 2, "table"),
        (f"[target.'{NAME}']\naddress = 3", 2, "table"),
        (f"[target.'{NAME}'.address]\n'192.0.2.1' = 3", 2, "table"),
        (f"all = {{ timeout = 1 }}\n\ntarget = {{ '{NAME}' = {{ timeout = 2, usr = 'x' }} }}", 3, "did you mean user"),
        ("[all]\nmax_burst_length = 1024\n" + TABLES["target"] + "\nfirst_burst_length = 2048", 4, "above max_burst"),
        ("[all]\nchap_secret = 'hunter2'", 2, "secret_file"),
        ("[all]\npassword = 'hunter2'", 2, "secret_file"),
    ],
)
def test_what_is_wrong_in_any_scope_is_told_with_its_line(write: Write, toml: str, line: int, words: str) -> None:
    """At once, and not only when a session would use it."""
    path = write(toml)
    with pytest.raises(InvalidArgument) as caught:
        config.load()
    assert f"{path}, line {line}:" in caught.value.reason
    assert words in caught.value.reason
    assert "hunter2" not in caught.value.reason


def test_two_spellings_of_one_scope_may_not_disagree(write: Write) -> None:
    write('[discovery."192.0.2.1"]\ntimeout = 1\n[discovery."192.0.2.1:3260"]\ntimeout = 2\n')
    with pytest.raises(InvalidArgument, match=r"line 4: .*timeout.* given twice: see line 2"):
        config.load()


def test_a_scope_is_read_back_as_it_is_written() -> None:
    found = [
        scopes.TOP,
        scopes.ALL,
        scopes.of_discovery(parse_portal("[fe80::1%eth0]:3261")),
        scopes.of_target(NAME),
        scopes.of_target(NAME, HERE),
    ]
    assert [scopes.parse(str(one)) for one in found] == found
    assert sorted(found, key=lambda one: one.rank) == found
    assert [scopes.of_table(one.table) for one in found] == found


@pytest.mark.parametrize("word", ["", "al", "all/x", "discovery", "discovery/", "target", "target/host1", "target/"])
def test_what_is_no_scope(word: str) -> None:
    with pytest.raises(InvalidArgument):
        scopes.parse(word)


def test_sessions_use_their_scope(write: Write, tmp_path: Path) -> None:
    """On the wire: a secret for discovery and another for the target, and the wrong one is refused."""
    secrets = {"scan": "the-secret-of-scan", "db": "the-secret-of-db"}
    for user, secret in secrets.items():
        (tmp_path / user).write_text(secret)
        (tmp_path / user).chmod(0o600)
    chap = {user: swd.Chap(user, secret) for user, secret in secrets.items()}
    node = TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))}, chap=chap["db"])
    with TargetServer([node], discovery_chap=chap["scan"]) as server:
        keys = {user: f'user = "{user}"\nsecret_file = "{tmp_path / user}"\n' for user in secrets}
        write(f'[discovery."{server.portal}"]\n{keys["scan"]}[target."{NAME}"]\n{keys["db"]}timeout = 11\n')
        assert [target.name for target in swd.discover(str(server.portal))] == [NAME]
        with swd.connect(str(server.portal), NAME) as session:
            assert session.options.timeout == 11
        swd.open(f"iscsi://{server.portal}/{NAME.upper()}/0").close()
        with Driver() as driver:
            driver.close(driver.open(f"iscsi://{server.portal}/{NAME}/0", os.O_RDONLY))
        write(f"[all]\n{keys['db']}")
        with pytest.raises(AuthenticationFailed):
            swd.discover(str(server.portal))
