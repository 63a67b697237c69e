# SPDX-License-Identifier: Apache-2.0
"""The chaos run in short, its negative controls, and its judge on its own. `make soak` is the long one."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from soak_journal import Journal, Numbers, Words, stamped
from soak_load import Silences
from support.process import environment

SEED = 7
CHAOS = 16  # a seed whose plans begin with the longest fault, the silence
FEWEST = 4  # faults in a short run: that one, and others of 3 s at most, restarts on a busy machine included


def soak(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "tools" / "soak.py"), *words]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=110)


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("target", ["embedded", pytest.param("tgt", marks=pytest.mark.tgt)])
def test_nothing_acknowledged_is_lost(root: Path, target: str) -> None:
    done = soak(root, "--seconds", "20", "--seed", str(CHAOS), "--target", target)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = re.search(r"^verdict: nothing acknowledged was lost, (\d+) faults$", done.stdout, re.MULTILINE)
    assert verdict is not None, done.stdout
    assert int(verdict[1]) >= FEWEST, done.stdout
    assert re.search(r"^  silent past deadline +[1-9]", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.netns
@pytest.mark.slow
def test_nor_by_the_compiled_target(root: Path) -> None:
    """All ways to call swd had their share, and met faults."""
    done = soak(root, "--seconds", "8", "--seed", str(SEED), "--target", "ram")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict: nothing acknowledged was lost" in done.stdout, done.stdout
    for what in ("awaited read", "awaited write", "flush", "read", "write"):
        assert re.search(rf"^I/Os ended .*\b\d\d+ {what}\b", done.stdout, re.MULTILINE), done.stdout
    assert int(re.findall(r"^recoveries +(\d+)$", done.stdout, re.MULTILINE)[0]) > 0, done.stdout


@pytest.mark.netns
@pytest.mark.slow
def test_targets_that_lie_are_caught(root: Path) -> None:
    done = soak(root, "--control", "--seconds", "8", "--seed", str(SEED))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\w+) +caught: ", done.stdout, re.MULTILINE) == ["forgetful", "stale"]


BLOCKS: Numbers = np.array([3, 5], np.int64)


def written(journal: Journal, times: int) -> Words:
    """Blocks 3 and 5 after so many acknowledged writes."""
    data = stamped(SEED, BLOCKS, np.zeros(2, np.int64))
    for _ in range(times):
        data = journal.issue(BLOCKS)
        journal.acknowledge(BLOCKS)
    return data


def verdicts(journal: Journal, data: Words) -> list[str]:
    journal.judge("test", BLOCKS, journal.floor(BLOCKS), data)
    return [violation.kind for violation in journal.violations]


def versions(first: int, second: int, seed: int = SEED) -> Words:
    return stamped(seed, BLOCKS, np.array([first, second], np.int64))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (versions(2, 2), []),
        (versions(1, 2), ["lost"]),
        (versions(2, 3), ["future"]),
        (versions(2, 2, seed=SEED + 1), ["foreign", "foreign"]),
        (versions(2, 2)[::-1], ["foreign", "foreign"]),
        (np.zeros((2, 512), np.uint64), ["torn", "torn"]),
        (np.hstack((versions(2, 2)[:, :256], versions(1, 2)[:, 256:])), ["torn"]),
    ],
    ids=["as acknowledged", "older", "never issued", "another run's", "swapped", "zeros", "half and half"],
)
def test_the_judge(data: Words, expected: list[str]) -> None:
    journal = Journal(SEED, 8)
    written(journal, 2)
    assert verdicts(journal, np.ascontiguousarray(data)) == expected


@pytest.mark.parametrize(("version", "expected"), [(0, ["lost"]), (1, []), (2, []), (3, ["future"])])
def test_while_a_write_is_open_old_and_new_may_be_read(version: int, expected: list[str]) -> None:
    journal = Journal(SEED, 8)
    written(journal, 1)
    journal.issue(BLOCKS)
    assert verdicts(journal, versions(version, 1)) == expected


def test_while_a_write_is_open_a_torn_block_is_counted_only() -> None:
    journal = Journal(SEED, 8)
    written(journal, 1)
    new = journal.issue(BLOCKS)
    new[0, 7] ^= np.uint64(1)
    assert verdicts(journal, new) == []
    assert journal.in_flight == 1


def test_a_write_that_ends_during_a_read_does_not_count_against_it() -> None:
    journal = Journal(SEED, 8)
    before = written(journal, 1)
    floor = journal.floor(BLOCKS)
    written(journal, 1)
    journal.judge("test", BLOCKS, floor, before)
    assert journal.violations == []


@pytest.mark.parametrize(
    ("number", "began", "ended", "good"),
    [
        (errno.ETIMEDOUT, 95, 106, True),
        (errno.ETIMEDOUT, 111, 116, True),
        (errno.EIO, 95, 106, False),
        (errno.ETIMEDOUT, 95, 104, False),
        (errno.ETIMEDOUT, 113, 118, False),
    ],
    ids=["in the silence", "begun in it", "another errno", "too soon", "after it"],
)
def test_only_a_silence_excuses_a_deadline(
    monkeypatch: pytest.MonkeyPatch, number: int, began: float, ended: float, good: bool
) -> None:
    now = iter([100.0, 112.0])
    silences = Silences(deadline=5)
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    silences.begin()
    silences.end()
    assert silences.excuse(number, began, ended) is good
    assert silences.excused == good


@pytest.mark.parametrize(("ended", "good"), [(101.9, False), (102.1, True)])
def test_an_awaited_call_may_have_been_held_up_before_the_silence(ended: float, good: bool) -> None:
    """By at most three seconds, and only it: that of a thread is judged as ever."""
    silences = Silences(deadline=5)
    silences._past = [(100.0, 112.0)]
    assert silences.excuse(errno.ETIMEDOUT, ended - 5, ended, awaited=True) is good
    assert not silences.excuse(errno.ETIMEDOUT, ended - 5, ended)
