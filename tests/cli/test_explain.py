# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import stat
import tempfile
from pathlib import Path

import pytest

from swd import errors
from swd.cli.call import Terminated, UsageProblem
from swd.cli.explain import NEXT, Exit, explain, verdict

ALL = [
    getattr(errors, name)
    for name in dir(errors)
    if isinstance(getattr(errors, name), type) and issubclass(getattr(errors, name), errors.SwdError)
]


def make(kind: type[errors.SwdError]) -> errors.SwdError:
    return kind("it broke", errno=errno.EIO) if kind is errors.BatchError else kind("it broke")


@pytest.mark.parametrize("kind", [k for k in ALL if k is not errors.NetworkNotInitialized], ids=lambda k: k.__name__)
def test_every_error_has_its_errno_and_at_most_two_lines(kind: type[errors.SwdError]) -> None:
    error = make(kind)
    judged = verdict(error)
    assert judged.status == error.errno
    assert judged.name == errno.errorcode[judged.status]
    assert 1 <= len(judged.lines) <= 2
    assert judged.lines[0] == "it broke"


def test_the_phase_error_is_silent_and_its_number_is_its_own() -> None:
    quiet = errors.NetworkNotInitialized("too early;\nwait")
    later = errors.NetworkNotInitialized("too early", errno=errno.ENXIO)
    assert (verdict(quiet).status, verdict(quiet).lines, verdict(quiet).as_json()) == (errno.ENETUNREACH, (), "")
    assert (verdict(later).status, verdict(later).lines) == (errno.ENXIO, ())
    assert verdict(quiet, verbose=True).lines == ("too early; wait",)


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (Terminated(), 143), (BrokenPipeError(errno.EPIPE, "x"), 141)]
)
def test_signals_say_nothing(error: BaseException, status: int) -> None:
    judged = verdict(error)
    assert (judged.status, judged.lines) == (status, ())


def test_wrong_usage() -> None:
    judged = verdict(UsageProblem("say it so"))
    assert (judged.status, judged.lines) == (2, ("say it so",))


def test_a_local_file_is_named() -> None:
    judged = verdict(FileNotFoundError(errno.ENOENT, "No such file or directory", "/x/y"))
    assert (judged.status, judged.name) == (errno.ENOENT, "ENOENT")
    assert judged.lines == ("/x/y: No such file or directory",)


def test_memory() -> None:
    assert verdict(MemoryError()).status == errno.ENOMEM


def chained() -> errors.SwdError:
    try:
        try:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        except OSError as cause:
            raise errors.NoSuchDevice("192.0.2.1:3260 cannot be reached") from cause
    except errors.NoSuchDevice as error:
        return error


def test_the_deepest_cause_is_the_second_line() -> None:
    assert explain(chained()) == ("192.0.2.1:3260 cannot be reached", "Because: Connection refused")


def test_a_cause_that_was_said_is_not_said_again() -> None:
    error = chained()
    error.reason += " (connection refused)"
    assert explain(error) == (error.reason,)


@pytest.mark.parametrize(("kind", "step"), NEXT, ids=lambda one: getattr(one, "__name__", ""))
def test_the_next_step_is_the_second_line_of_one(kind: type[errors.SwdError], step: str) -> None:
    assert explain(kind("it broke")) == ("it broke", step)
    assert explain(kind("it broke\nmend it")) == ("it broke", "mend it")


def test_a_hidden_cause_stays_hidden_and_a_circle_ends() -> None:
    hidden = errors.MediumError("no")
    hidden.__context__, hidden.__suppress_context__ = ValueError("secret"), True
    assert explain(hidden) == ("no",)
    first, second = errors.MediumError("a"), errors.MediumError("b")
    first.__cause__, second.__cause__ = second, first
    assert explain(first) == ("a", "Because: b")


def test_two_lines_of_its_own_are_enough() -> None:
    assert explain(errors.NoSuchDevice("one\ntwo\nthree")) == ("one", "two")


def test_foreign_text_cannot_command_the_terminal() -> None:
    assert explain(errors.MediumError("\x1b[2J")) == ("\\x1b[2J",)


def test_json_carries_number_name_and_words() -> None:
    said = json.loads(verdict(chained()).as_json())["error"]
    assert (said["errno"], said["name"]) == (errno.ENXIO, "ENXIO")
    assert "cannot be reached" in said["message"]
    assert "Connection refused" in said["message"]


def test_a_bug_leaves_a_private_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        raise ZeroDivisionError("oops")
    except ZeroDivisionError as error:
        judged = verdict(error)
    assert judged.status == Exit.BUG
    (line,) = judged.lines
    (trace,) = tmp_path.iterdir()
    assert str(trace) in line
    assert stat.S_IMODE(trace.stat().st_mode) == 0o600
    assert "ZeroDivisionError: oops" in trace.read_text()


def test_a_bug_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert "could not be written" in verdict(ZeroDivisionError()).lines[0]
