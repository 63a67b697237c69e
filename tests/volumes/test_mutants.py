# SPDX-License-Identifier: Apache-2.0
"""A few hundred mutants of the golden images; the full number is `python tests/volumes/volume_mutants.py`."""

from __future__ import annotations

import signal
from pathlib import Path

import volume_mutants


def test_mutants_raise_nothing_but_swd_errors_and_stay_on_their_disks(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGALRM)
    try:
        seen = volume_mutants.run(150, 20261125, tmp_path)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen["read"] > 60
    assert sum(times for what, times in seen.items() if what.startswith("refused")) > 10
    assert all(seen[f"mutants of kind {kind}"] for kind in volume_mutants.KINDS)
