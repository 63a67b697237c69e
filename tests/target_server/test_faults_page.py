# SPDX-License-Identifier: Apache-2.0
"""docs/faults.md: its examples run, and its counts are as it says."""

from __future__ import annotations

from pathlib import Path

from support.pages import play


def test_the_examples_of_the_page(root: Path, tmp_path: Path) -> None:
    explained, in_python, on_a_dev = play(root / "docs" / "faults.md", tmp_path)
    assert "1. check_condition (sense = 3/11/00, bytes = 18)" in explained
    assert in_python.startswith("{'reset': 1, 'busy': ")
    assert on_a_dev.startswith("5 READ(10) of 1 blocks at 100 ended with ")
