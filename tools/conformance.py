# SPDX-License-Identifier: Apache-2.0
"""All of libiscsi's iscsi-test-cu against the embedded target, on every kind of unit: `make conformance`.

Prints the totals of each run, and each test that was left out somewhere: on which units, what the tool said of it, and
whether another unit had it in full. Ends with 1 if a test failed, or if one that no unit had in full has no reason that
we know (tests/support/cu.py). Takes some minutes, most of which the tool sleeps through.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support import cu  # its folder is on the path only now

Runs = list[tuple[cu.Unit, dict[str, cu.Outcome]]]


def main() -> int:
    print(f"commit {_commit()}, {_version()}: iscsi-test-cu --dataloss --allow-sanitize, two portals of one target\n")
    runs: Runs = []
    print(f"{'unit':24} {'tests':>5} {'failed':>6} {'skipped':>7}   suites")
    for unit, found in cu.run_beside((unit, None) for unit in cu.UNITS):
        runs.append((unit, found))
        failed = sum(one.failed for one in found.values())
        skipped = sum(bool(one.skips) for one in found.values())
        suites = unit.suites or "ALL but ALL.Sanitize"
        print(f"{unit.name:24} {len(found):5} {failed:6} {skipped:7}   {suites}", flush=True)
    return _union(runs)


def _union(runs: Runs) -> int:
    """Prints what the runs are together; the exit status."""
    everywhere = cu.skipped_everywhere(found for _, found in runs)
    tests = {name for _, found in runs for name in found}
    failed = {name for _, found in runs for name, one in found.items() if one.failed}
    print(f"\nall together: {len(tests)} tests, {len(failed)} failed, {len(everywhere)} on no unit in full")
    for name in sorted(failed):
        units = [unit.name for unit, found in runs if name in found and found[name].failed]
        print(f"FAILED {name} on {'; '.join(units)}")
    print("\nOn no unit in full, and why:")
    for name in sorted(everywhere):
        print(f"  {name}: {cu.UNAVOIDABLE.get(name, 'WITHOUT A REASON')}")
    print("\nLeft out on some units, in whole or in part, and carried out in full on another:")
    for (name, said), units in sorted(_skips(runs, besides=everywhere).items()):
        print(f"  {name:38} {said[:62]:62} on {'; '.join(units)}")
    return int(bool(failed) or not everywhere <= set(cu.UNAVOIDABLE))


def _skips(runs: Runs, *, besides: set[str]) -> dict[tuple[str, str], list[str]]:
    """(test, what the tool said) -> units."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for unit, outcomes in runs:
        for name, one in outcomes.items():
            if one.skips and name not in besides:
                found[name, " / ".join(one.skips)].append(unit.name)
    return found


def _commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "unknown"


def _version() -> str:
    words = ["dpkg-query", "-W", "-f", "${Package} ${Version}", "libiscsi-bin"]
    try:
        return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "libiscsi"
    except FileNotFoundError:
        return "libiscsi"


if __name__ == "__main__":
    sys.exit(main())
