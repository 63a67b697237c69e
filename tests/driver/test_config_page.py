# SPDX-License-Identifier: Apache-2.0
"""docs/configuration.md: its table of keys is the code's, and its example is a sound configuration."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from swd.driver import config
from swd.proto import options
from swd.proto.portal import parse_portal

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"


def test_the_table_of_keys_is_the_one_of_the_code() -> None:
    spec = importlib.util.spec_from_file_location("options_table", ROOT / "tools" / "options_table.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = PAGE.read_text()
    assert tool.page(text) == text, "run tools/options_table.py"
    assert [f"| `{row.name}` |" in text for row in options.TABLE] == [True] * len(options.TABLE)
    assert [f"| `{key}` |" in text for key in options.TOP_LEVEL] == [True, True]


def test_its_example_says_what_it_shows(tmp_path: Path) -> None:
    example = PAGE.read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "swd.toml").write_text(example)
    found = config.load(tmp_path / "swd.toml")
    session = found.for_target("iqn.2026-01.org.example:db", parse_portal("192.0.2.11"))
    assert (session.timeout, session.auth, session.user) == (5, "require", "host1")
    assert session.header_digest == ("crc32c", "none")
    assert found.for_discovery(parse_portal("192.0.2.10")).user == "scan"
