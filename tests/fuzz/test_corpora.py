# SPDX-License-Identifier: Apache-2.0
"""Every input of fuzz/corpus keeps what its target says must hold; and the targets notice when something does not."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
sys.path.insert(0, str(FUZZ))
import corpus  # noqa: E402
from harness import disks, engine, filesystems, logins, plans, reads, scsi, target, texts, twins  # noqa: E402
from harness.choices import Choices  # noqa: E402
from harness.table import TARGETS, Target  # noqa: E402

from swd.errors import SwdError  # noqa: E402
from swd.values import Sense  # noqa: E402

LIMIT = 500 << 10


@pytest.mark.parametrize("row", TARGETS, ids=lambda row: row.name)
def test_the_corpus(row: Target) -> None:
    inputs = corpus.inputs(row.name)
    assert inputs, "no input is kept"
    for data in [b"", *inputs]:
        row.run(data)


def test_no_archive_without_a_target_and_all_of_them_are_small() -> None:
    archives = list((FUZZ / "corpus").iterdir())
    assert {path.stem for path in archives} == {row.name for row in TARGETS}
    assert sum(path.stat().st_size for path in archives) < LIMIT


def test_an_archive_has_the_same_bytes_for_the_same_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "HERE", tmp_path)
    (tmp_path / "found").mkdir()
    rng = random.Random(1)
    for number in range(400):
        (tmp_path / "found" / f"{number}").write_bytes(rng.randbytes(number % 300))
    kept, size = corpus.pack("x", tmp_path / "found")
    first = corpus.archive("x").read_bytes()
    assert corpus.MOST - 200 < len(first) <= corpus.MOST
    assert (len(corpus.inputs("x")), sum(map(len, corpus.inputs("x")))) == (kept, size)
    corpus.pack("x", corpus.unpack("x", tmp_path / "again"))
    assert corpus.archive("x").read_bytes() == first


def raising(error: BaseException) -> Callable[..., object]:
    def broken(*_: object, **__: object) -> object:
        raise error

    return broken


def another() -> Callable[[int, int], bytes]:
    """Other bytes each time."""
    calls = count()
    return lambda _number, length: bytes([next(calls) % 251]) * length


@pytest.mark.parametrize(
    ("row", "module", "name", "broken"),
    [
        ("text-keys", texts.text, "decode", raising(IndexError())),
        ("text-keys", texts.negotiate, "answer", raising(SwdError("x"))),
        ("send-targets", texts.discovery, "targets", lambda pairs, asked: [logins]),
        ("device-names", texts.url, "parse_dev", raising(UnicodeEncodeError("utf-8", "", 0, 1, ""))),
        ("luns", texts.lun, "parse", lambda text: 0),
        ("sense", scsi.proto_sense, "parse", lambda data: Sense(99, 0, 0)),
        ("headers", scsi.pdu, "unpack", raising(KeyError())),
        ("login", logins.LoginMachine, "receive", lambda *_: b""),
        ("login-of-target", logins.TargetLogin, "receive", raising(ValueError())),
        ("mbr", disks.partitions, "read", raising(MemoryError())),
        ("lvm-text", disks.records, "read", raising(RecursionError())),
        ("superblocks", filesystems.probe, "demand", raising(KeyError())),
        ("superblocks", filesystems.xfs_log, "is_clean", raising(ZeroDivisionError())),
        ("superblocks", filesystems.fat, "free_bytes", lambda disk: -1),
        ("array-superblocks", filesystems.superblock, "parse", raising(IndexError())),
        ("fault-plans", plans.Plan, "parse", lambda text: None),
        ("fault-plans", plans.Injector, "due", raising(ValueError())),
        ("reads", reads, "contents", another()),
        ("target-framing", target, "parsed", lambda stream, sizes, digests: sizes),
        ("target-path", twins.CompiledPath, "serve", lambda self: None),
        ("target-session", target.NormalSession, "receive", raising(AttributeError())),
    ],
)
def test_what_is_broken_is_noticed(
    row: str, module: ModuleType, name: str, broken: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, broken)
    run = next(target.run for target in TARGETS if target.name == row)
    with pytest.raises(Exception) as caught:  # any but a plain end is what libFuzzer reports
        for data in corpus.inputs(row):
            run(data)
    assert not isinstance(caught.value, pytest.fail.Exception)


class Lying(engine.Conversation):
    """A caller whose buffers are touched behind its back, or who is told of an end twice."""

    how = ""

    def finish(self) -> None:
        if self.how == "guard":
            for task in [*self.open.values(), *self.gone]:
                if task.buffer is not None:
                    task.buffer[-1] ^= 1
                    self.check(task)
        if self.how == "twice" and self.open:
            self.open.pop(next(iter(self.open)))
        super().finish()


@pytest.mark.parametrize("how", ["guard", "twice"])
def test_the_engine_is_watched(how: str) -> None:
    def run() -> None:
        for data in corpus.inputs("engine"):
            talk = Lying(Choices(data))
            talk.how = how
            while talk.choices.left:
                talk.step()
            talk.finish()

    with pytest.raises((AssertionError, KeyError)):
        run()
