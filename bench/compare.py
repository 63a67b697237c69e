# SPDX-License-Identifier: Apache-2.0
"""Two reports of `make bench`, A and B: what differs, row by row.

    python bench/compare.py A B [--all] [--json]       results.json, or the folders that hold them

The rule: a row differs if all of its rounds in one run lie above all of its rounds in the other; else the spreads
overlap, and it is "no difference", whatever the medians say. By chance alone, with five rounds each, two runs of the
same thing lie apart like that once in 126 rows (2 of 252 orders): so a few rows of many mean nothing, and the count
that chance would give is told beside what was found. Rows with fewer than five rounds in either run are not judged.

Both runs must be of the same machine: compare nothing else with it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

FEWEST = 5
BY_CHANCE = 2 / 252  # that five and five lie apart although nothing differs
FIGURES = {"iops": "IOPS", "cpu_us": "CPU us/IO"}
SAME, FEW, ABSENT = "no difference", "too few rounds", "only in one"


def load(path: Path) -> dict[str, Any]:
    file = path / "results.json" if path.is_dir() else path
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        assert "tables" in found
    except (OSError, ValueError, AssertionError) as error:
        sys.exit(f"compare: {file} is no result of `make bench`: {error}")
    return found


def rows_of(results: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {
        (table["congestion"], row["cell"], row["runner"]): row for table in results["tables"] for row in table["rows"]
    }


def verdict(a: list[float], b: list[float]) -> tuple[str, float | None]:
    """What the rule says of two rows of rounds, and the ratio of the medians, B to A."""
    if min(len(a), len(b)) < FEWEST:
        return FEW, None
    ratio = statistics.median(b) / statistics.median(a) if statistics.median(a) else None
    if max(a) < min(b):
        return "more", ratio
    if max(b) < min(a):
        return "less", ratio
    return SAME, ratio


def compare(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """A record for each row and figure."""
    ours, theirs = rows_of(a), rows_of(b)
    found = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        for figure, word in FIGURES.items():
            record = dict(zip(("congestion", "cell", "runner"), key, strict=True)) | {"figure": word, "ratio": None}
            if key in ours and key in theirs:
                record["verdict"], record["ratio"] = verdict(ours[key][figure], theirs[key][figure])
            else:
                record["verdict"] = ABSENT
            found.append(record)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", type=Path, metavar="A")
    parser.add_argument("b", type=Path, metavar="B")
    parser.add_argument("--all", action="store_true", help="show the rows without difference, too")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    a, b = load(arguments.a), load(arguments.b)
    found = compare(a, b)
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    if a.get("machine", {}).get("cpu") != b.get("machine", {}).get("cpu"):
        print("these are of two machines: nothing below means anything")
    judged = [row for row in found if row["verdict"] not in (FEW, ABSENT)]
    differing = [row for row in judged if row["verdict"] != SAME]
    for row in found if arguments.all else differing:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        what = f"{row['congestion']:6} {row['cell']:48} {row['runner']:20} {row['figure']:10}"
        print(f"{what} {row['verdict']:14} {ratio}")
    if not differing:
        print(SAME if judged else f"nothing to judge: {FEW}")
    print(f"{len(differing)} of {len(judged)} figures differ; chance alone would give {len(judged) * BY_CHANCE:.1f}")


if __name__ == "__main__":
    main()
