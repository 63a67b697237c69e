# SPDX-License-Identifier: Apache-2.0
"""What the bench makes of its figures. That it runs is what `make bench-quick` in .ci/run shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swd.target.config import Lun, TargetConfig
from swd.target.media import RamMedium
from swd.target.server import TargetServer

NAME = "iqn.2026-01.org.example:worker"
BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of bench/ import each other by their names; they are of no use to other tests."""
    monkeypatch.syspath_prepend(str(BENCH))
    for name in ("goals", "shapes", "compare", "instructions", "targets", "worker", "peers"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def results(rate: dict[str, float], cpu: dict[str, float]) -> dict[str, Any]:
    """Of a headline run of five rounds in which each runner has the rate and the CPU that is named, or 1."""
    import shapes

    rows = [
        {
            **{name: getattr(cell, name) for name in ("target", "size", "depth", "write", "pin")},
            "cell": cell.name,
            "runner": runner,
            "iops": [rate.get(runner, 1.0)] * 5,
            "cpu_us": [cpu.get(runner, 1.0)] * 5,
            "syscalls": 2 / cell.depth if runner.startswith("swd") else None,
        }
        for cell in shapes.cells("headline", (shapes.SAME, shapes.APART))
        for runner in cell.runners
    ]
    called = [
        {"name": name, "size": size, "gb_s": 1.0} for name in ("swd", "awscrt", "google-crc32c") for size in SIZES
    ]
    in_c = [{"kernel": "best", "size": size, "gb_s": 30.0} for size in SIZES]
    tables = [{"congestion": "bbr", "rows": rows}]
    return {"python_us": [0.1], "tables": tables, "crc": {"called": called, "in_c": in_c}}


SIZES = (4096, 65536, 1 << 20)


def test_the_headline_run_judges_every_goal() -> None:
    import goals

    found = goals.judge(results({}, {}))
    assert [goal["number"] for goal in found] == list(range(1, 15))
    assert not [goal["number"] for goal in found if goal["must"] is None or goal["stretch"] is None]


def test_goals_are_met_by_good_figures_and_missed_by_equal_ones() -> None:
    import goals

    ours = ("swd sync", "swd sync +spin", "swd batch", "swd stream", "swd asyncio", "swd uvloop")
    good = goals.judge(results(dict.fromkeys(ours, 2e6) | {"raw loopback": 2e6}, dict.fromkeys(ours, 0.05)))
    missed = {goal["number"] for goal in good if not goal["stretch"]}
    assert missed == {1, 10}  # the kernel of 30 GB/s, and digests at 1 us beside 0.05
    equal = {goal["number"]: (goal["must"], goal["stretch"]) for goal in goals.judge(results({}, {}))}
    assert equal[4] == (False, False)
    assert equal[7] == (True, False)
    assert equal[12] == equal[14] == (True, True)


def test_what_was_not_measured_is_no_verdict() -> None:
    import goals

    found = goals.judge({**results({}, {}), "tables": [{"rows": []}], "python_us": []})
    assert {goal["must"] for goal in found[1:]} == {None}


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        ([1, 2, 3, 4, 5], [5, 6, 7, 8, 9], "no difference"),
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], "more"),
        ([6, 7, 8, 9, 10], [1, 2, 3, 4, 5], "less"),
        ([1, 2, 3, 4], [6, 7, 8, 9, 10], "too few rounds"),
    ],
)
def test_spreads_that_overlap_are_no_difference(a: list[float], b: list[float], word: str) -> None:
    import compare

    assert compare.verdict(a, b)[0] == word


def test_two_results_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    import compare

    for name, rate in (("a", 1.0), ("b", 2.0)):
        (tmp_path / f"{name}.json").write_text(json.dumps(results({"swd sync": rate}, {})))
    for second, told in (("a", "no difference\n0 of "), ("b", "more           2.00x\n4 of ")):
        monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "a.json"), str(tmp_path / f"{second}.json")])
        compare.main()
        assert told in capsys.readouterr().out


def test_callgrind_files_are_read() -> None:
    import instructions

    engine = "__pyx_f_3swd_7_engine_6Engine_feed"
    profile = f"fn=(1) main\n10 5\n+3 7\ncfn=(2) {engine}\ncalls=4 20\n* 400\n\nfn=(2)\n20 300\n21 100\n25\n"
    costs = instructions.self_costs(profile)
    assert costs == {"main": 12, engine: 400}
    assert instructions.readable(engine) == "_engine.Engine_feed"


@pytest.mark.parametrize("way", ["swd sync", "swd batch", "swd threads", "swd asyncio", "swd uvloop"])
@pytest.mark.parametrize("write", [False, True], ids=["reads", "writes"])
def test_the_worker_checks_what_it_reads(way: str, write: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import targets
    import worker

    size = 1 << 20
    for module in (targets, worker):
        monkeypatch.setattr(module, "LUN_SIZE", size)
    medium = RamMedium(size)
    with TargetServer([TargetConfig(NAME, {0: Lun(medium)})]) as server:
        order = {"url": f"iscsi://{server.portal}/{NAME}/0", "way": way, "size": 4096, "depth": 4, "write": write}
        order |= {"seconds": 0.01, "generation": 1, "target_pid": os.getpid(), "options": {}}
        if not write:
            with pytest.raises(SystemExit, match="wrong bytes"):  # zeros, where the pattern should be
                worker.run(order)
            medium.write(0, bytes(targets.pattern(0, size)))
        answer = worker.run(order)
        assert answer["checked"] * worker.CHECKED >= answer["ios"] > 0
        assert answer["terms"]["max_burst_length"] == 1 << 20
        if write:  # where anything was written, there is the pattern of this generation; in batches, its place in a row
            words = np.frombuffer(bytes(medium.read(0, size)), np.int64)
            written = words != 0
            assert written.sum() >= 512
            off = words[written] - targets.pattern(0, size, 1).view(np.int64)[written]
            assert not (off % (4 * 4096) if way == "swd batch" else off).any()
            assert (words[written] >> 48 == 1).all()
    medium.close()


def test_every_file_of_the_bench_says_what_it_is() -> None:
    for path in BENCH.rglob("*.py"):
        assert re.match(r'# SPDX[^\n]*\n"""\S', path.read_text()), path


def test_the_micro_benches_run_once() -> None:
    """Untimed: so that they do not rot. `make bench-micro` times them."""
    words = ["-c", os.devnull, "--rootdir", str(BENCH), "-q", "-p", "no:cacheprovider", "--benchmark-disable"]
    command = [sys.executable, "-m", "pytest", *words, str(BENCH / "micro")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    told = re.search(r"^(\d+) passed in ", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout
    assert told is not None
    assert int(told[1]) >= 20, done.stdout


def test_a_peer_gains_nothing_by_a_start_that_was_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What starting costs is taken from its CPU seconds: of several starts, each with the buffers of its cell."""
    import peers
    import shapes
    import targets

    costs = {"1": iter((0.080, 0.008, 0.008, 0.009, 0.007)), "2000": iter([0.5]), "4000": iter([0.1])}

    def command(_self: object, *words: str, **_more: object) -> tuple[str, float, float]:
        return "in 0.5 seconds", next(costs[words[words.index("-c") + 1]]), 0.0

    monkeypatch.setattr(peers.Runners, "_command", command)
    runners = peers.Runners.__new__(peers.Runners)
    runners._rates = {}
    cell = shapes.Cell(shapes.EMBEDDED, 4096, 32, False, shapes.APART, (shapes.QEMU,))
    served = targets.Served("iscsi://127.0.0.1:1/iqn/0", "", 0, "")
    assert runners._qemu_img(served, cell, 1.0).cpu == pytest.approx(0.1 - 0.008)
