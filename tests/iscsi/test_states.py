# SPDX-License-Identifier: Apache-2.0
"""The labels that a session passes on the embedded target, through loss and reinstatement to its logout; and the
reports that come late, twice, or in the wrong order."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import swd
from swd.iscsi.states import States
from swd.iscsi.tally import Tally
from swd.proto import fsm
from swd.target.config import Limits, Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer

NAME = "iqn.2026-01.org.example:states"
LOGIN = ["T1", "T4", "T5"]


@pytest.fixture
def comes_back(no_second_connection: None) -> None:
    Path(os.environ["SWD_CONFIG"]).write_text("[all]\nreplacement_timeout = 10\ndefault_time2wait = 0\n")


@pytest.fixture
def server() -> Iterator[TargetServer]:
    config = TargetConfig(NAME, {0: Lun(RamMedium(1 << 20))}, limits=Limits(default_time2wait=0))
    with TargetServer([config], "127.0.0.1:0") as running:
        yield running


def labels(session: swd.Session) -> list[str]:
    found: Any = session.states["labels"]
    return list(found)


def reset(session: swd.Session) -> None:
    """The link dies under the session."""
    with socket.socket(fileno=os.dup(session._pump.fileno())) as sock:
        sock.shutdown(socket.SHUT_RDWR)


class Witness(logging.Handler):
    """What the session says of itself at the moment of a message."""

    def __init__(self, session: swd.Session, symbol: str) -> None:
        super().__init__()
        self.session = session
        self.symbol = symbol
        self.seen: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "symbol", "") == self.symbol:
            self.seen.append(self.session.states)


def test_a_loss_is_seen_at_once(comes_back: None, server: TargetServer) -> None:
    with swd.connect(str(server.portal), NAME) as session:
        witness = Witness(session, "SWD_LOG_CONNECTION_LOST")
        logging.getLogger("swd").addHandler(witness)
        try:
            reset(session)
            session.execute(bytes(6), lun=0)
        finally:
            logging.getLogger("swd").removeHandler(witness)
    (seen,) = witness.seen
    assert (seen["session"], seen["connection"]) == (fsm.SESSION_FAILED, fsm.CLEANUP_WAIT)
    assert seen["recovery"] == fsm.PAUSING


def test_connect_loss_reinstatement_logout(comes_back: None, server: TargetServer) -> None:
    with swd.connect(str(server.portal), NAME) as session:
        assert labels(session) == [*LOGIN, "N1"]
        assert session.states["connection"] == fsm.LOGGED_IN
        assert session.states["session"] == fsm.SESSION_LOGGED_IN
        reset(session)
        assert session.execute(bytes(6), lun=0).status in (0, 2)  # TEST UNIT READY, sent again by the recovery
        assert session.states["recovery"] == fsm.UP
        assert labels(session) == [*LOGIN, "N1", "T15", "N5", "M2", *LOGIN, "M4", "N6", "N1"]
    assert labels(session)[-3:] == ["T9", "T13", "N3"]
    assert session.states == {
        "session": fsm.SESSION_FREE,
        "connection": fsm.FREE,
        "recovery": fsm.GIVEN_UP,
        "labels": labels(session),
    }
    assert "illegal_transition" not in session.statistics


def test_a_target_that_stays_away(server: TargetServer) -> None:
    options: Any = {"replacement_timeout": 0.5, "default_time2wait": 0}
    with swd.connect(str(server.portal), NAME, **options) as session:
        server.stop()
        with pytest.raises(swd.SwdError):
            session.execute(bytes(6), lun=0)
        assert session.states["recovery"] == fsm.GIVEN_UP
        found = labels(session)
    assert found[:6] == [*LOGIN, "N1", "T15", "N5"]
    attempts = found[6:-2]
    assert attempts
    assert attempts == ["M2", "T1", "T2", "M3"] * (len(attempts) // 4)
    assert found[-2:] == ["M1", "N6"]


def test_a_close_without_a_word_is_a_loss(server: TargetServer) -> None:
    session = swd.connect(str(server.portal), NAME)
    session.close(force=True)
    assert labels(session) == [*LOGIN, "N1", "T15", "N5", "M1", "N6"]


def test_a_login_that_fails_leaves_nothing(server: TargetServer) -> None:
    states = States()
    from swd.errors import SwdError
    from swd.iscsi.connection import establish
    from swd.proto.login import LoginConfig

    config = LoginConfig("iqn.2026-01.org.example:me", "iqn.2026-01.org.example:nobody", b"\x80" + bytes(5))
    with pytest.raises(SwdError):
        establish(server.portal, config, states=states)
    assert states.record()["labels"] == ["T1", "T4", "T7"]


def test_an_illegal_step_is_counted_and_taken_nowhere() -> None:
    tally = Tally()
    states = States(tally)
    states.connected()
    states.logged_in()
    assert tally.counts() == {"illegal_transition": 2}
    assert states.record()["connection"] == fsm.FREE


def test_late_and_repeated_reports_change_nothing() -> None:
    tally = Tally()
    states = States(tally)
    for report in (states.dialling, states.connected, states.logged_in):
        report()
    threads = [threading.Thread(target=states.lost) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states.left()  # the answer to a Logout that the loss overtook
    states.leaving()
    states.resumed()
    assert states.record()["labels"] == [*LOGIN, "N1", "T15", "N5"]
    states.dialling()  # closed in the middle of a new login
    states.ended()
    states.ended()
    assert tally.counts() == {}
    assert states.record()["labels"] == [*LOGIN, "N1", "T15", "N5", "M2", "T1", "M3", "M1", "N6"]


def test_a_logout_that_the_target_asks_for() -> None:
    tally = Tally()
    states = States(tally)
    steps = ("dialling", "connected", "logged_in", "asked_to_leave", "asked_to_leave", "leaving", "left", "lost")
    for step in steps:
        getattr(states, step)()
    assert states.record()["labels"] == [*LOGIN, "N1", "T11", "T12", "T10", "T13", "N3"]
    for step in ("dialling", "connected", "logged_in", "resumed", "ended"):
        getattr(states, step)()
    assert states.record()["labels"] == (
        [*LOGIN, "N1", "T11", "T12", "T10", "T13", "N3", *LOGIN, "N1", "T15", "N5", "M1", "N6"]
    )
    assert tally.counts() == {}


def test_a_child_steps_nowhere() -> None:
    states = States()
    child = os.fork()
    if child == 0:
        states.dialling()
        os._exit(0 if states.record()["connection"] == fsm.FREE else 1)
    assert os.waitpid(child, 0)[1] == 0
