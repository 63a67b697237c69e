# SPDX-License-Identifier: Apache-2.0
"""libiscsi's iscsi-test-cu against the embedded target: which units, which suites, and what became of each test.

The tool counts a skipped test as passed, so its output is read line by line: a test is skipped, in whole or in part,
if it said so. One that is skipped on every unit that it ran on has to have its reason in `UNAVOIDABLE`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from swd.target import Lun, RamMedium, TargetConfig, TargetServer

NAME = "iqn.2026-01.org.example:conformance"
SIZE = 64 << 20
SANITIZE_SECONDS = 10.0  # longer than the tool waits before it looks whether a SANITIZE still runs
SLOW = "ALL.Sanitize.Reset"  # it waits a whole minute for the end of a SANITIZE that takes longer than it takes to look
SANITIZE = "ALL.Sanitize.[B-Q]*,ALL.Sanitize.Readonly,ALL.Sanitize.Reservations"  # the others
TIMEOUT = 300
_AT_ONCE = 6

UNAVOIDABLE: Mapping[str, str] = {
    "ReportSupportedOpcodes.OneCommand": "asks for opcodes with REPORTING OPTIONS that do not fit them, gets INVALID"
    " FIELD IN CDB as SPC-4 6.35 demands, and takes that for a command that is not there",
    "WriteSame10.ZeroBlocks": "WSNZ=1 in the Block Limits page: SBC-3 lets a target refuse to write up to the end",
    "WriteSame16.ZeroBlocks": "WSNZ=1 in the Block Limits page: SBC-3 lets a target refuse to write up to the end",
}


@dataclass(frozen=True)
class Unit:
    """A kind of logical unit, and the suites that are run on it (the tool's patterns; none: all but SANITIZE and SLOW).

    attended: its session goes on while a SANITIZE runs, which takes its time.
    """

    name: str
    suites: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    attended: bool = False

    def lun(self) -> Lun:
        lun = Lun(RamMedium(SIZE), **self.settings)  # type: ignore[arg-type]
        lun.script.sanitize_seconds = SANITIZE_SECONDS if self.attended else 0.0
        return lun


UNITS = (
    Unit("512, thin"),
    Unit("512, thick", settings={"thin": False}),
    Unit("4096, thin", settings={"block_size": 4096}),
    Unit("4096, thick", settings={"block_size": 4096, "thin": False}),
    *(
        Unit(f"{size}, {'thin' if thin else 'thick'}, sanitized", SANITIZE, {"block_size": size, "thin": thin})
        for size in (512, 4096)
        for thin in (True, False)
    ),
    Unit("512, thin, attended", SLOW, attended=True),
    Unit("4096, thick, attended", SLOW, {"block_size": 4096, "thin": False}, attended=True),
    Unit("removable", "ALL.NoMedia,ALL.StartStopUnit,ALL.PreventAllow", {"removable": True}),
    Unit("read-only", "ALL.ReadOnly,ALL.TestUnitReady,ALL.Inquiry,ALL.Read1*", {"read_only": True}),
    Unit(
        "512 in 4096",
        "ALL.WriteAtomic16,ALL.CompareAndWrite,ALL.WriteSame1*,ALL.Unmap",
        {"physical_block_size": 4096},
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one test. `skips`: what the tool said of what it left out."""

    failed: bool
    skips: tuple[str, ...]


def all_suites() -> list[str]:
    """All suites of the tool's family ALL, but for those of SANITIZE: what they leave behind is not what other tests
    expect (MultipathIO.CompareAndWrite takes the block behind those that it zeroed for zeros)."""
    done = subprocess.run(["iscsi-test-cu", "-l"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    found = re.findall(r"^ALL\.\w+$", done.stdout, re.MULTILINE)
    return [name for name in found if name != "ALL.Sanitize"]


def run(unit: Unit, suites: str | None = None) -> dict[str, Outcome]:
    """The tests of some suites on a unit of its own, behind two portals of one target."""
    suites = suites or unit.suites or ",".join(all_suites())
    config = TargetConfig(NAME, {0: unit.lun()}, attended=unit.attended)
    with TargetServer([config], ["127.0.0.1:0,1", "127.0.0.1:0,2"]) as server:
        urls = [f"iscsi://{portal}/{NAME}/0" for portal in server.portals]
        words = ["iscsi-test-cu", "--dataloss", "--allow-sanitize", "-V", "-t", suites, *urls]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
    said = done.stdout.decode("utf-8", "replace")
    found = dict(_outcomes(said))
    totals = re.search(r"tests +(\d+) +(\d+) +(\d+) +(\d+) +\d+", said)
    assert totals is not None, said[-2000:] + done.stderr.decode("utf-8", "replace")[-2000:]
    assert int(totals[2]) == len(found), f"{totals[0]}: {sorted(found)}"
    assert int(totals[4]) == sum(one.failed for one in found.values()), said[-2000:]
    return found


def run_beside(wanted: Iterable[tuple[Unit, str | None]]) -> list[tuple[Unit, dict[str, Outcome]]]:
    """Several runs at once, each on a unit of its own: the tool mostly sleeps."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [(unit, pool.submit(run, unit, suites)) for unit, suites in wanted]
        return [(unit, job.result()) for unit, job in jobs]


def skipped_everywhere(runs: Iterable[Mapping[str, Outcome]]) -> set[str]:
    """The tests that no run has carried out in full."""
    seen: set[str] = set()
    whole: set[str] = set()
    for found in runs:
        seen |= set(found)
        whole |= {name for name, one in found.items() if not one.skips}
    return seen - whole


def _outcomes(said: str) -> Iterator[tuple[str, Outcome]]:
    """A test begins with its name and ends with "passed" or "FAILED", at the start of a line unless it said nothing;
    what comes between two tests is the tool's preparation of the next."""
    suite = test = ""
    skips: list[str] = []
    for line in said.splitlines():
        if found := re.match(r"Suite: (\S+)", line):
            suite = found[1]
        if found := re.match(r" +Test: (\S+) \.\.\.", line):
            test, skips = f"{suite}.{found[1]}", []
            line = line[found.end() :]
        if test and (found := re.match(r"(passed|FAILED)", line)):
            yield test, Outcome(found[1] == "FAILED", tuple(dict.fromkeys(skips)))
            test = ""
        elif test and (found := re.match(r" *\[SKIPPED\] *(.*)", line)):
            skips.append(found[1].strip().removesuffix("."))
