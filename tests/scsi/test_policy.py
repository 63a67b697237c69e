# SPDX-License-Identifier: Apache-2.0
"""The verdicts, row by row, and the errno of every end of a command."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from fake_disk import check_condition
from hypothesis import given
from hypothesis import strategies as st

from swd.scsi import cdb, policy
from swd.scsi.opcodes import LONG
from swd.scsi.policy import Action, Cause, judge
from swd.values import ScsiResult, Sense

READ, WRITE = cdb.read(4711, 8), cdb.write(4711, 8)
COMPARE_AND_WRITE = bytes([0x89]) + bytes(15)
ENOMEDIUM = getattr(errno, "ENOMEDIUM", errno.ENXIO)


@pytest.mark.parametrize(
    ("result", "action", "cause"),
    [
        (ScsiResult(0x00), Action.DONE, None),
        (ScsiResult(0x04), Action.DONE, None),  # CONDITION MET
        (ScsiResult(0x08), Action.RETRY, Cause.BUSY),
        (ScsiResult(0x28), Action.RETRY, Cause.BUSY),  # TASK SET FULL
        (ScsiResult(0x40), Action.RETRY, Cause.ABORTED),  # TASK ABORTED
        (ScsiResult(0x18), Action.FAIL, None),  # RESERVATION CONFLICT
        (ScsiResult(0x30), Action.FAIL, None),  # ACA ACTIVE
        (ScsiResult(0x77), Action.FAIL, None),
        (ScsiResult(0x02), Action.FAIL, None),  # no sense data: legal
        (ScsiResult(0x00, response=0x01), Action.FAIL, None),  # target failure
        (check_condition(0x0, 0x00), Action.DONE, None),
        (check_condition(0x1, 0x17, 0x01), Action.DONE, None),
        (check_condition(0x1, 0x17, 0x01, deferred=True), Action.RETRY, Cause.ATTENTION),
        (check_condition(0x3, 0x11, deferred=True), Action.FAIL, None),
        (check_condition(0x2, 0x04, 0x01), Action.RETRY, Cause.NOT_READY),
        (check_condition(0x2, 0x04, 0x02), Action.FAIL, None),
        (check_condition(0x2, 0x04, 0x03), Action.FAIL, None),
        (check_condition(0x2, 0x04, 0x0A), Action.RETRY, Cause.NOT_READY),
        (check_condition(0x2, 0x3A, 0x01), Action.FAIL, None),
        (check_condition(0x3, 0x11), Action.FAIL, None),
        (check_condition(0x4, 0x44), Action.FAIL, None),
        (check_condition(0x5, 0x20), Action.FAIL, None),
        (check_condition(0x5, 0x21), Action.REREAD, Cause.RANGE),
        (check_condition(0x6, 0x28), Action.REREAD, Cause.ATTENTION),
        (check_condition(0x6, 0x29), Action.RETRY, Cause.ATTENTION),
        (check_condition(0x6, 0x29, 0x07), Action.RETRY, Cause.ATTENTION),
        (check_condition(0x6, 0x2A, 0x01), Action.RETRY, Cause.ATTENTION),
        (check_condition(0x6, 0x2A, 0x03), Action.FAIL, None),
        (check_condition(0x6, 0x2A, 0x04), Action.FAIL, None),
        (check_condition(0x6, 0x2A, 0x05), Action.FAIL, None),
        (check_condition(0x6, 0x2A, 0x06), Action.RETRY, Cause.ATTENTION),
        (check_condition(0x6, 0x2A, 0x09), Action.REREAD, Cause.ATTENTION),
        (check_condition(0x6, 0x38, 0x07), Action.RETRY, Cause.ATTENTION),
        (check_condition(0x6, 0x3F, 0x0E), Action.REREAD, Cause.ATTENTION),
        (check_condition(0x7, 0x27), Action.FAIL, None),
        (check_condition(0xB, 0x47, 0x05), Action.RETRY, Cause.ABORTED),
        (check_condition(0xE, 0x1D), Action.FAIL, None),
    ],
)
def test_a_verdict(result: ScsiResult, action: Action, cause: Cause | None) -> None:
    verdict = judge(READ, result)
    assert (verdict.action, verdict.cause) == (action, cause)
    assert (verdict.error is not None) == (action is Action.FAIL)


@pytest.mark.parametrize(
    ("result", "on_read", "on_write"),
    [
        (ScsiResult(0x08), errno.EBUSY, errno.EBUSY),
        (ScsiResult(0x28), errno.EBUSY, errno.EBUSY),
        (ScsiResult(0x18), errno.EBUSY, errno.EBUSY),
        (ScsiResult(0x40), errno.EIO, errno.EIO),
        (ScsiResult(0x02), errno.EIO, errno.EIO),
        (ScsiResult(0x00, response=0x01), errno.EIO, errno.EIO),
        (ScsiResult(0x18, response=0x01), errno.EIO, errno.EIO),  # the status means nothing then
        (check_condition(0x2, 0x04, 0x01), errno.EBUSY, errno.EBUSY),
        (check_condition(0x2, 0x3A, 0x02), ENOMEDIUM, ENOMEDIUM),
        (check_condition(0x3, 0x11), errno.EIO, errno.EIO),
        (check_condition(0x4, 0x44), errno.EIO, errno.EIO),
        (check_condition(0x5, 0x20), errno.EOPNOTSUPP, errno.EOPNOTSUPP),
        (check_condition(0x5, 0x21), errno.EIO, errno.ENOSPC),
        (check_condition(0x5, 0x24), errno.EINVAL, errno.EINVAL),
        (check_condition(0x5, 0x25), errno.ENXIO, errno.ENXIO),
        (check_condition(0x5, 0x26, 0x02), errno.EINVAL, errno.EINVAL),
        (check_condition(0x5, 0x2C), errno.EIO, errno.EIO),
        (check_condition(0x6, 0x29), errno.EIO, errno.EIO),
        (check_condition(0x6, 0x2A, 0x03), errno.EBUSY, errno.EBUSY),
        (check_condition(0x6, 0x2A, 0x05), errno.EBUSY, errno.EBUSY),
        (check_condition(0x7, 0x27), errno.EROFS, errno.EROFS),
        (check_condition(0x5, 0x27, 0x02), errno.EROFS, errno.EROFS),
        (check_condition(0x7, 0x27, 0x07), errno.ENOSPC, errno.ENOSPC),
        (check_condition(0xB, 0x4E), errno.EIO, errno.EIO),
        (check_condition(0xE, 0x1D), errno.EILSEQ, errno.EILSEQ),
    ],
)
def test_an_errno(result: ScsiResult, on_read: int, on_write: int) -> None:
    assert policy.error_for(result, READ).errno == on_read
    assert policy.error_for(result, WRITE).errno == on_write


@pytest.mark.parametrize(
    ("result", "limit"),
    [
        (check_condition(0x6, 0x29), 10),
        (check_condition(0x2, 0x04, 0x01), 8),
        (ScsiResult(0x40), 3),
        (check_condition(0x5, 0x21), 1),
    ],
)
def test_no_cause_is_retried_for_ever(result: ScsiResult, limit: int) -> None:
    cause = judge(READ, result).cause
    assert cause is not None
    assert judge(READ, result, {cause: limit - 1}).action is not Action.FAIL
    given_up = judge(READ, result, {cause: limit})
    assert given_up.action is Action.FAIL
    assert cause.value in str(given_up.error)
    others = dict.fromkeys(set(Cause) - {cause}, 1000)
    assert judge(READ, result, others).action is not Action.FAIL  # each cause counts for itself


def test_busy_backs_off_up_to_a_second() -> None:
    pauses = [judge(READ, ScsiResult(0x08), {Cause.BUSY: count}).delay for count in (0, 1, 2, 10, 5000)]
    assert pauses == [0.01, 0.02, 0.04, 1.0, 1.0]


def test_unit_attentions_are_retried_at_once() -> None:
    assert [judge(READ, check_condition(0x6, 0x29), {Cause.ATTENTION: count}).delay for count in range(10)] == [
        0.0
    ] * 10


def test_what_may_be_half_done_is_not_sent_again() -> None:
    aborted = check_condition(0xB, 0x47)
    assert judge(WRITE, aborted).action is Action.RETRY
    assert judge(COMPARE_AND_WRITE, aborted).action is Action.FAIL
    assert judge(COMPARE_AND_WRITE, ScsiResult(0x40)).action is Action.FAIL
    assert judge(COMPARE_AND_WRITE, check_condition(0x6, 0x29)).action is Action.RETRY  # this was not begun
    assert judge(COMPARE_AND_WRITE, ScsiResult(0x08)).action is Action.RETRY


def test_an_error_says_what_why_and_what_next() -> None:
    sense = Sense(0x3, 0x11, 0x00, 4712, b"")
    error = policy.error_for(ScsiResult(0x02, sense=sense), READ)
    what, then = str(error).splitlines()
    assert what == "READ(10) of 8 blocks at 4711 ended with medium error: unrecovered read error (03h 11h/00h) at 4712"
    assert then
    assert (error.sense, error.status) == (sense, 0x02)
    assert "RESERVATION CONFLICT" in str(policy.error_for(ScsiResult(0x18), cdb.TEST_UNIT_READY))
    assert "iSCSI response 01h" in str(policy.error_for(ScsiResult(0, response=1), WRITE))
    assert "WRITE SAME(16) of 9 blocks at 5" in str(policy.error_for(ScsiResult(0x77), cdb.write_same_16(5, 9)))


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.none() | st.builds(Sense, st.integers(0, 15), st.integers(0, 255), st.integers(0, 255)),
    st.binary(max_size=20),
)
def test_any_end_of_any_command_has_a_verdict(status: int, response: int, sense: Sense | None, raw: bytes) -> None:
    result = ScsiResult(status, sense=sense, response=response)
    verdict = judge(raw, result)
    if verdict.action is Action.FAIL:
        assert verdict.error is not None
        assert verdict.error.errno in errno.errorcode
        assert len(str(verdict.error).splitlines()) <= 2
    if response:
        assert verdict.action is Action.FAIL


def test_the_page_on_recovery_has_the_deadlines_of_the_long_commands() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recovery.md").read_text()
    rows = re.findall(r"^\| ([A-Z][A-Z0-9(), ]+) \| (\d+) \|", page, re.MULTILINE)
    assert {name: int(times) for names, times in rows for name in names.split(", ")} == LONG
