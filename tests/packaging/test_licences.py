# SPDX-License-Identifier: Apache-2.0
"""tools/licences.py: which words of a licence keep a package out of every extra."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def licences(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences_tool", root / "tools" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("LGPL-3.0-or-later", True),
        ("GNU Lesser General Public License v3 or later (LGPLv3+)", True),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0-only", False),
        ("MIT AND GPL-2.0-only", False),
        ("GNU General Public License v2 (GPLv2)", False),
        ("GNU Affero General Public License v3", False),
        ("says nothing about its licence", False),
    ],
)
def test_words_of_a_licence(licences: ModuleType, words: str, allowed: bool) -> None:
    assert (licences.faults({"package": words}) == []) == allowed


def test_the_extras_are_followed_to_their_leaves(licences: ModuleType) -> None:
    if not licences.needs("iscsi-swd"):
        pytest.skip("iscsi-swd is not installed here, only built in place")
    found = licences.closure("iscsi-swd")
    assert {"click", "numpy", "pytest", "pluggy", "iniconfig"} <= found  # pluggy and iniconfig come with pytest
    assert "iscsi-swd" not in found
    assert all(licences.installed({"click", "numpy", "pluggy"}).values())


@pytest.mark.parametrize(
    ("title", "allowed"), [("Apache License", True), ("GNU GENERAL PUBLIC LICENSE", False), ("", False)]
)
def test_a_licence_that_only_its_file_names(
    licences: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str, allowed: bool
) -> None:
    about = tmp_path / "silent_words-1.dist-info"
    (about / "licenses").mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.4\nName: silent-words\nVersion: 1\nLicense-File: LICENSE\n")
    (about / "licenses" / "LICENSE").write_text(f"\n   {title}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert (licences.faults({"silent-words": licences.licence("silent-words")}) == []) == allowed
