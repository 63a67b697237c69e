# SPDX-License-Identifier: Apache-2.0
"""Random valid streams, cut up in every way, and streams with one rule broken: the engine says what the oracle says."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest
from engine_rig import Pair, agreement, begin_something, converse, exchange, pieces
from hypothesis import given, settings
from hypothesis import strategies as st
from model.target_stream import BREAKS, RandomTarget, break_one

SEEDS = st.integers(0, (1 << 32) - 1)


@pytest.mark.parametrize(
    ("how", "examples", "size"), [("bytes", 25, 3000), ("random", 100, 20000), ("whole", 25, 20000)]
)
def test_valid_streams(how: str, examples: int, size: int) -> None:
    """Completions, events, buffers and PDUs sent, whatever the cuts; and every write arrives whole at the target."""

    @settings(max_examples=examples, deadline=None)
    @given(seed=SEEDS)
    def run(seed: int) -> None:
        rng = random.Random(seed)
        pair = Pair(agreement(rng), ring=rng.choice([4096, 262144]))
        target = RandomTarget(rng, pair.agreed)
        converse(rng, pair, target, how=how, commands=12, size=size)
        for itt, got in target.done.items():
            assert all(pair.writes[itt][at : at + len(part)] == part for at, part in got.items())
        for itt, found in target.found.items():
            assert pair.reads[itt][0].view[: len(found)] == found

    run()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_long_segments(seed: int) -> None:
    """Segments that go straight into the caller's buffer, where the next header is received behind them."""
    rng = random.Random(seed)
    lengths = {"max_recv_data_segment_length": 200_000, "max_burst_length": 400_000, "first_burst_length": 65536}
    pair = Pair(agreement(rng, target_max_recv_data_segment_length=100_001, data_digest=seed % 8 == 0, **lengths))
    target = RandomTarget(rng, pair.agreed)
    for _ in range(3):
        pair.read(rng.randint(70_000, 300_000))
        pair.write(rng.randbytes(rng.randint(1, 300_000)))
    while len(pair.done) < 6:
        stream = pair.frame(exchange(rng, pair, target))
        pair.feed(pieces(rng, stream, rng.choice(["random", "whole"])))
        assert pair.fault is None, pair.fault


@pytest.mark.parametrize("name", BREAKS)
def test_one_rule_broken(name: str) -> None:
    """The connection ends with the class of error that the oracle says, and nothing lies outside a buffer."""
    broken = 0

    @settings(max_examples=8, deadline=None)
    @given(seed=SEEDS)
    def run(seed: int) -> None:
        nonlocal broken
        rng = random.Random(seed)
        digests = {"header_digest": True, "data_digest": True} if "digest" in name else {}
        pair = Pair(agreement(rng, **digests))
        target = RandomTarget(rng, pair.agreed)
        for _ in range(200):
            begin_something(rng, pair, 6000)
            pdus = exchange(rng, pair, target)
            spoiled = break_one(rng, pdus, name)
            pair.feed(pieces(rng, pair.frame(pdus), "random"))
            broken += pair.fault is not None
            if spoiled or pair.fault:
                return

    run()
    assert broken, "the oracle and the engine took it every time"


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_letting_go_at_any_moment(seed: int) -> None:
    """What a detached task still gets is dropped, what it still sends is what it had; all others go on."""
    rng = random.Random(seed)
    pair = Pair(agreement(rng))
    target = RandomTarget(rng, pair.agreed)
    gone: list[tuple[int, bytes]] = []
    for _ in range(30):
        begin_something(rng, pair, 6000)
        for part in pieces(rng, pair.frame(exchange(rng, pair, target)), "random"):
            pair.feed(iter([part]))
            alive = [itt for itt in pair.model.tasks if itt in pair.reads and pair.model.tasks[itt].wanted]
            if alive and rng.random() < 0.1:
                itt = rng.choice(alive)
                pair.let_go(itt)
                pair.reads[itt][0].view[:] = b"\x55" * len(pair.reads[itt][0].view)
                gone.append((itt, bytes(pair.reads[itt][0].view)))
        assert pair.fault is None, pair.fault
    assert all(pair.reads[itt][0].view == canary for itt, canary in gone)


def test_the_oracle_knows_nothing_of_swd_but_its_values(root: Path) -> None:
    """A second opinion that shares code with the first is none."""
    imported = set()
    for path in (root / "tests" / "model").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
    assert {name for name in imported if name.split(".")[0] == "swd"} == {"swd.values"}
