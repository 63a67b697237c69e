# SPDX-License-Identifier: Apache-2.0
"""The two passes against embedded targets: silence before the network; after it everything, side by
side, and told in boot order."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.schema import faults

from swd.cli.main import run
from swd.driver import phase, registry
from swd.proto.portal import parse_portal
from swd.target import Lun, RamMedium, TargetConfig, TargetServer
from swd.values import Chap, Phase

ONE = "iqn.2026-01.org.example:one"
TWO = "iqn.2026-01.org.example:two"


@pytest.fixture
def target() -> Iterator[TargetServer]:
    luns = {0: Lun(RamMedium(1 << 20), serial="one")}
    configs = [TargetConfig(ONE, luns), TargetConfig(TWO, {0: Lun(RamMedium(1 << 20), serial="two")})]
    with TargetServer(configs) as server:
        yield server


@pytest.fixture
def silent() -> Iterator[str]:
    """A portal that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def refusing() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def configure(text: str, above: str = "") -> None:
    Path(os.environ["SWD_CONFIG"]).write_text(f"{above}\n[startup]\n{text}\n")


def quoted(*words: object) -> str:
    return json.dumps([str(word) for word in words])


def both(target: TargetServer, *more: str) -> str:
    return f"discover = {quoted(target.portal, *more)}\nlogin = {quoted(ONE, TWO)}\n"


class Ended:
    """One call of `swdctl --json startup --pass N`."""

    def __init__(self, capsys: pytest.CaptureFixture[str], number: int, *words: str) -> None:
        began = time.monotonic()
        self.status = run(["--json", *words, "startup", "--pass", str(number)])
        self.took = time.monotonic() - began
        self.out, self.err = capsys.readouterr()

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.out)
        assert faults(record, "startup") == []
        return record

    def results(self) -> dict[str, str]:
        return {step["name"]: step["result"] for step in self.record["steps"]}

    def step(self, name: str) -> dict[str, Any]:
        return next(step for step in self.record["steps"] if step["name"] == name)


@pytest.fixture
def begun() -> None:
    phase.begin()


# --- pass 1 ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("begun")
@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.ENXIO])
def test_before_the_network_pass_1_says_nothing(
    target: TargetServer, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    configure(both(target), above='errno_profile = "11iv3"' if number == errno.ENXIO else "")
    phase.begin(force=True)
    ended = Ended(capsys, 1)
    assert (ended.status, ended.out, ended.err) == (number, "", "")
    assert target.statistics["accepts"] == 0
    assert list(Path(os.environ["SWD_STATE_DIR"]).iterdir()) == []
    assert phase.current() is Phase.PRE_NETWORK


@pytest.mark.usefixtures("begun")
def test_pass_1_is_gated_though_nothing_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, 1)
    assert (ended.status, ended.out, ended.err) == (errno.ENETUNREACH, "", "")


@pytest.mark.usefixtures("begun")
def test_verbose_says_why(target: TargetServer, capsys: pytest.CaptureFixture[str]) -> None:
    configure(both(target))
    ended = Ended(capsys, 1, "--verbose")
    assert (ended.status, ended.out) == (errno.ENETUNREACH, "")
    assert "has not been attempted yet" in ended.err


@pytest.mark.usefixtures("begun")
def test_every_step_of_pass_1_goes_through_its_own_entry_point(
    target: TargetServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one answer for all: each step asks for itself, in boot order."""
    asked = []
    gate = phase.gate

    def seen(what: Any, **more: Any) -> None:
        asked.append(str(what))
        gate(what, **more)

    monkeypatch.setattr(phase, "gate", seen)
    configure(both(target))
    assert Ended(capsys, 1).status == errno.ENETUNREACH
    assert asked == ["discover", "login", "login"]


def test_after_the_attempt_pass_1_is_pass_2(target: TargetServer, capsys: pytest.CaptureFixture[str]) -> None:
    configure(both(target))
    ended = Ended(capsys, 1)
    assert (ended.status, ended.err, ended.record["pass"]) == (0, "", 1)
    assert ended.results() == {str(target.portal): "done", ONE: "done", TWO: "done"}


def test_a_mistake_in_the_configuration_is_told_in_pass_1_too(capsys: pytest.CaptureFixture[str]) -> None:
    phase.begin()
    configure("discovery = []")
    ended = Ended(capsys, 1)
    assert ended.status == errno.EINVAL
    assert "line 3" in ended.err


# --- pass 2 ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("begun")
def test_pass_2_ends_the_phase_and_does_it_all(target: TargetServer, capsys: pytest.CaptureFixture[str]) -> None:
    configure(both(target))
    ended = Ended(capsys, 2)
    assert (ended.status, ended.err) == (0, "")
    assert ended.record["done"] == 3
    assert ended.step(str(target.portal))["detail"] == "2 targets"
    assert ended.step(ONE)["detail"] == f"up at {target.portal}, auth none, 1 unit"
    assert phase.show().phase is Phase.NETWORK_ATTEMPTED
    assert "startup --pass 2" in phase.show().evidence


def test_pass_2_again_changes_nothing(target: TargetServer, capsys: pytest.CaptureFixture[str]) -> None:
    configure(both(target))
    first, second = Ended(capsys, 2), Ended(capsys, 2)
    assert first.results() == second.results()
    assert [way.number for way in registry.host().instances()] == [0, 1]
    assert registry.host().wanted() == [], "what the configuration lists is not recorded as wanted: it can be unlisted"


def test_the_summary_for_people(target: TargetServer, capsys: pytest.CaptureFixture[str]) -> None:
    configure(both(target))
    assert run(["startup", "--pass", "2"]) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == ["step", "name", "result", "errno", "seconds", "detail"]
    assert [line.split()[:3] for line in lines] == [
        ["discover", str(target.portal), "done"],
        ["login", ONE, "done"],
        ["login", TWO, "done"],
    ]
    assert err == ""


def test_nothing_listed_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["startup", "--pass", "2"]) == 0
    assert "lists nothing" in capsys.readouterr().out


def test_what_login_recorded_is_logged_in_to(target: TargetServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["login", f"iscsi://{target.portal}/{TWO}/0"]) == 0
    capsys.readouterr()
    assert Ended(capsys, 2).results() == {TWO: "done"}
    configure("wanted = false")
    assert Ended(capsys, 2).results() == {}


def test_a_dead_portal_delays_nobody_and_is_a_warning(
    target: TargetServer, silent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is silent for the whole login_timeout; the target is up by another way long before."""
    registry.host().instance(ONE, parse_portal(silent))
    configure(both(target, silent) + "[all]\nlogin_timeout = 1.5")
    ended = Ended(capsys, 2)
    assert (ended.status, ended.err) == (0, "")
    assert ended.results() == {str(target.portal): "done", silent: "warning", ONE: "warning", TWO: "done"}
    assert max(ended.step(ONE)["seconds"], ended.step(TWO)["seconds"]) < 1.2
    assert ended.step(ONE)["detail"].count(silent) == 1
    assert ended.took < 3, "both dead ways were waited for side by side"


def test_a_dead_portal_is_a_failure_where_nothing_is_up_by_another(
    target: TargetServer, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = refusing()
    configure(f"discover = {quoted(target.portal, dead)}")
    ended = Ended(capsys, 2)
    assert ended.status == errno.ENXIO
    assert ended.step(dead)["errno"] == "ENXIO"
    configure(f"login = {quoted(f'iscsi://{dead}/{ONE}/0')}")
    assert Ended(capsys, 2).step(f"iscsi://{dead}/{ONE}/0")["detail"].count(dead) == 1
    assert json.loads(ended.err)["error"]["name"] == "ENXIO"


def test_the_first_failure_in_boot_order_decides(silent: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The portal is dead and tells so last; the refused login is known at once."""
    secret = Chap("user", b"a secret of length")
    with TargetServer([TargetConfig(ONE, {0: Lun(RamMedium(1 << 20))}, chap=secret)]) as closed:
        login = f"login = {quoted(f'iscsi://{closed.portal}/{ONE}/0')}\n[all]\nlogin_timeout = 0.5"
        configure(f"discover = {quoted(silent)}\n{login}")
        ended = Ended(capsys, 2)
        assert (ended.status, ended.record["failed"]) == (errno.ENXIO, 2)
        configure(login)
        assert Ended(capsys, 2).status == errno.EACCES


def test_a_target_that_no_portal_tells_of(target: TargetServer, capsys: pytest.CaptureFixture[str]) -> None:
    configure(f"discover = {quoted(target.portal)}\nlogin = {quoted('iqn.2026-01.org.example:none')}")
    ended = Ended(capsys, 2)
    assert ended.status == errno.ENXIO
    assert "knows no way" in ended.err


def test_a_step_that_hangs_is_given_up(target: TargetServer, silent: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(both(target, silent) + "step_timeout = 0.5")  # login_timeout is 15 s
    ended = Ended(capsys, 2)
    assert ended.took < 5
    assert ended.results() == {str(target.portal): "done", silent: "warning", ONE: "done", TWO: "done"}
    assert ended.step(silent)["errno"] == "ETIMEDOUT"
    configure(f"discover = {quoted(silent)}\nstep_timeout = 0.1")
    alone = Ended(capsys, 2)
    assert alone.status == errno.ETIMEDOUT
    assert f"discover {silent}: not done within 0.1 s" in alone.err


def test_it_heals_when_the_target_comes(capsys: pytest.CaptureFixture[str]) -> None:
    portal = refusing()
    configure(f"discover = {quoted(portal)}\nlogin = {quoted(ONE)}")
    assert Ended(capsys, 2).status == errno.ENXIO
    with contextlib.ExitStack() as stack:
        stack.enter_context(TargetServer([TargetConfig(ONE, {0: Lun(RamMedium(1 << 20))})], portal))
        ended = Ended(capsys, 2)
    assert (ended.status, ended.results()) == (0, {portal: "done", ONE: "done"})


@pytest.mark.parametrize("words", [[], ["--pass", "3"], ["--pass"]])
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["startup", *words]) == 2
    assert "pass" in capsys.readouterr().err
