# SPDX-License-Identifier: Apache-2.0
"""How much longer than elsewhere a test may take: under valgrind and sanitizers programs are many times slower."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

SLOWER = float(os.environ.get("SWD_TEST_SLOWER", "1"))


def unhurried(attempt: Callable[[float], object], seconds: float) -> None:
    """`attempt(seconds)`, in which an idle machine keeps its times. One that is busy, and does not, gets four times and
    sixteen times as long: what fails then is no matter of pace.
    """
    for longer in (1, 4):
        try:
            attempt(seconds * longer * SLOWER)
        except (Exception, pytest.fail.Exception) as missed:  # noqa: BLE001  # the last attempt says what it was
            print(f"not in {seconds * longer} s: {missed!r}")
        else:
            return
    attempt(seconds * 16 * SLOWER)
