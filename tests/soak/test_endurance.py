# SPDX-License-Identifier: Apache-2.0
"""The long runs of `make endurance` in short: many processes on one unit, and many opens."""

from __future__ import annotations

from pathlib import Path

import pytest
import soak_judges
import soak_opens
from soak_opens import Growth, Kept
from support import served


@pytest.mark.slow
@pytest.mark.parametrize(
    "judge", [soak_judges.by_embedded, pytest.param(soak_judges.by_tgtd, marks=pytest.mark.tgt)]
)
def test_processes_that_share_a_unit_never_take_each_others_session(tmp_path: Path, judge: object) -> None:
    words, complaints = judge(tmp_path, 3.0)
    assert complaints == [], words


@pytest.mark.slow
def test_what_is_opened_and_closed_leaves_nothing() -> None:
    with served.serving("--lun", "mem://1M") as target:
        grown = soak_opens.endure(target.url(), 400)
        counts = target.stop()
    assert [growth.complaints for growth in grown] == [[], []], [growth.text() for growth in grown]
    assert counts["logins"] == counts["pdus_in"]["LOGOUT_REQUEST"] == 2 * (400 + soak_opens.WARM)
    assert counts["reinstatements"] == counts["sessions_open"] == 0


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (Kept(10 << 20, 1000, 5, 2), ""),
        (Kept(20 << 20, 1000, 5, 2), "resident"),
        (Kept(10 << 20, 2000, 5, 2), "blocks"),
        (Kept(10 << 20, 1000, 6, 2), "descriptors"),
        (Kept(10 << 20, 1000, 5, 3), "threads"),
    ],
)
def test_growth_is_told(after: Kept, word: str) -> None:
    complaints = Growth("way", 1000, Kept(10 << 20, 1000, 5, 2), after).complaints
    assert len(complaints) == bool(word)
    assert all(word in complaint for complaint in complaints)
