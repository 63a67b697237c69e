# SPDX-License-Identifier: Apache-2.0
"""docs/faults.md and docs/target.md: their examples run, and what they print is as the pages say."""

from __future__ import annotations

from pathlib import Path

from support.pages import play


def test_the_examples_of_the_page(root: Path, tmp_path: Path) -> None:
    explained, in_python, on_a_dev = play(root / "docs" / "faults.md", tmp_path)
    assert "1. check_condition (sense = 3/11/00)" in explained
    assert in_python.startswith("{'reset': 1, 'busy': ")
    assert on_a_dev.startswith("5 READ(10) of 1 blocks at 100 ended with ")


def test_the_program_in_the_page_of_the_target(root: Path, tmp_path: Path) -> None:
    """Its file of targets is tried in tests/cli/test_serve_file.py."""
    (said,) = play(root / "docs" / "target.md", tmp_path)
    assert [words.partition(":")[0] for words in said.split()] == ["127.0.0.1", "127.0.0.1"]
