# SPDX-License-Identifier: Apache-2.0
"""The golden images are those whose sums device-mapper gave: what the manifest says of them is so."""

from __future__ import annotations

import hashlib
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
MANIFEST: dict[str, dict[str, Any]] = json.loads((HERE / "manifest.json").read_text())


def test_every_image_belongs_to_a_case_and_every_case_has_its_script() -> None:
    listed = {image["file"] for case in MANIFEST.values() for image in case["images"]}
    assert listed == {str(path.relative_to(HERE)) for path in HERE.glob("*/*.xz")}
    assert set(MANIFEST) == {path.stem for path in (HERE.parent / "guest" / "golden").glob("*.sh")}
    assert sum(path.stat().st_size for path in HERE.glob("*/*.xz")) < 6 << 20


@pytest.mark.parametrize("case", MANIFEST)
def test_the_images_are_the_summed_ones(case: str) -> None:
    for image in MANIFEST[case]["images"]:
        raw = lzma.decompress((HERE / image["file"]).read_bytes())
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (image["size"], image["sha256"])
