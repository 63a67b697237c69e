# SPDX-License-Identifier: Apache-2.0
"""The golden images: volume groups that device-mapper made, and what it read from them (tests/golden/README.md)."""

from __future__ import annotations

import functools
import json
import lzma
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "golden"


@functools.cache
def manifest() -> dict[str, Any]:
    cases: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text())
    return cases


def unpack(case: str, folder: Path) -> list[Path]:
    """The images of a case, pv0 first."""
    made = []
    for image in manifest()[case]["images"]:
        path = folder / Path(image["file"]).stem
        if not path.exists():
            _unpack(FOLDER / image["file"], path)
        made.append(path)
    return made


def _unpack(packed: Path, path: Path) -> None:
    """As a sparse file: these images are holes for the most part."""
    with lzma.open(packed) as source, path.open("wb") as file:
        while piece := source.read(1 << 20):
            if piece.strip(b"\0"):
                file.write(piece)
            else:
                file.seek(len(piece), 1)
        file.truncate()


def losses(case: str) -> list[tuple[str, ...]]:
    """The sets of images that were hidden when volumes were read."""
    return sorted({tuple(one["without"]) for one in manifest()[case]["volumes"]})
