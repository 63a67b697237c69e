# SPDX-License-Identifier: Apache-2.0
"""iscsi-test-cu against the embedded target, on both block sizes; `make conformance` has all of it, on more units."""

from __future__ import annotations

import pytest
from support import cu

pytestmark = pytest.mark.libiscsi

THIN, THICK = cu.UNITS[0], cu.UNITS[3]
SPECIAL = [unit for unit in cu.UNITS if unit.suites and not unit.attended]
SLEEPERS = ("ALL.Reserve6", "ALL.iSCSIcmdsn")  # seconds each, in which nothing happens
QUICK = "ALL.CompareAndWrite,ALL.Inquiry,ALL.ReadCapacity16,ALL.Unmap,ALL.Write1*,ALL.WriteSame10,ALL.iSCSIResiduals"


def test_iscsi_test_cu_has_nothing_to_say_against_the_target() -> None:
    others = ",".join(name for name in cu.all_suites() if name not in SLEEPERS)
    wanted = [(THIN, others), (THICK, QUICK), *((THIN, suites) for suites in SLEEPERS)]
    runs = cu.run_beside([*wanted, *((unit, None) for unit in SPECIAL)])
    failed = [(unit.name, name) for unit, found in runs for name, one in found.items() if one.failed]
    assert failed == []
    assert len({name for _, found in runs for name in found}) >= 229  # all but cu.SLOW
    assert cu.skipped_everywhere(found for _, found in runs) <= set(cu.UNAVOIDABLE)


def test_a_skip_and_a_failure_are_not_overlooked() -> None:
    said = """
Suite: One
  Test: Good ...
    [OK] fine
passed    Send PRIN/READ_KEYS
    [SKIPPED] PERSISTENT RESERVE IN is not implemented.
  Test: Left ...
    [SKIPPED] NOT HERE.
passed
  Test: Bad ...
    [FAILED] no
FAILED
    1. test.c:1
Suite: Two
  Test: Last ...passed
  Test: Other ...
passed
"""
    found = dict(cu._outcomes(said))
    assert found["One.Good"] == cu.Outcome(failed=False, skips=())
    assert found["One.Left"] == cu.Outcome(failed=False, skips=("NOT HERE",))
    assert found["One.Bad"].failed
    assert {"Two.Last", "Two.Other"} < set(found)
    assert cu.skipped_everywhere([found, {"One.Bad": cu.Outcome(failed=False, skips=("x",))}]) == {"One.Left"}
