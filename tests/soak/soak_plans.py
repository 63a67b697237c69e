# SPDX-License-Identifier: Apache-2.0
"""The chaos run over fault plans: one kind after the other strikes a session under load, and is accounted for.

A *round* is one plan: it begins when the session is whole and idle of trouble, waits until the fault has been injected
(the target says so), ends the plan, opens the disk again if the session died, and ends when every worker has done an
I/O without error. A worker's error is a violation unless the kind of the round allows that errno, and so is a kind
whose counters stand still. What is read is judged by the journal, and so is the whole medium at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soak_kinds
from soak_journal import BLOCK, Journal, stamped
from soak_meddler import Meddler
from soak_run import resident
from soak_targets import Lio, Tgt

import swd
from swd.errors import BadDescriptor, DeadlineExceeded, SwdError
from swd.export.testing import IscsiTarget
from swd.iscsi.tally import PROCESS
from swd.target import Limits, Lun, RamMedium
from swd.target.faults import KINDS, Fault

BLOCKS, WORKERS = 4096, 6
DEPTH = 4  # commands that the target takes: fewer than workers, so that its window matters
EXTENTS = (1, 1, 1, 4, 16, 64)  # blocks of an I/O; the longest need R2Ts
PATIENCE = 20.0  # seconds in which a fault strikes
BOUND = 40.0  # seconds within which every call ends
RSS_GROWTH = 8 << 20
OPTIONS: dict[str, Any] = {
    "header_digest": "crc32c!",
    "data_digest": "crc32c!",
    "default_time2wait": 0,
    "timeout": 1.0,
    "login_timeout": 5,
    "replacement_timeout": 30,
}
DEADLINES = {"lio": 3.0}  # seconds, for OPTIONS["timeout"]: a guest is emulated where there is no KVM, and stalls
LIMITS = Limits(default_time2wait=0, first_burst_length=16384, max_burst_length=65536, max_outstanding_r2t=2)

Progress = Callable[[str], object]


@dataclass
class Ledger:
    """What happened. `told`: rounds in which a counter of the kind rose."""

    target: str
    seed: int
    seconds: float = 0.0
    rounds: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    counters: dict[str, Counter[str]] = field(default_factory=dict)
    ios: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)  # deadlines that passed for no reason of the plan, by round
    sessions: int = 0
    recoveries: int = 0
    longest: float = 0.0
    checked: int = 0
    rss: tuple[int, int] = (0, 0)
    violations: int = 0
    shown: list[str] = field(default_factory=list)

    def text(self) -> str:
        head = f"{'kind':26}{'rounds':>7}{'injected':>9}{'told by':>8}  counters that rose, errors that callers saw"
        rows = [f"plan soak on {self.target}, seed {self.seed}, {self.seconds:.0f} s", head]
        for kind in sorted(self.rounds):
            rose = ", ".join(f"{name} {count}" for name, count in sorted(self.counters.get(kind, {}).items()))
            mine = [name for name in self.excused if name.startswith(f"{kind} ")]
            seen = ", ".join(f"errno {name.partition(' ')[2]}: {self.excused[name]}" for name in mine)
            counts = f"{self.rounds[kind]:7}{self.injected[kind]:9}{self.told[kind]:8}"
            rows.append(f"{kind:26}{counts}  {rose}{'; ' * bool(seen)}{seen}")
        rows += [
            f"{'faults injected':26}{sum(self.injected.values())}, of {len(self.injected)} kinds",
            f"{'I/Os':26}" + ", ".join(f"{count} {what}" for what, count in sorted(self.ios.items())),
            f"{'blocks judged':26}{self.checked}",
            f"{'sessions, recoveries':26}{self.sessions}, {self.recoveries}",
            f"{'late without a reason':26}{sum(self.late.values())} {dict(self.late) or ''}".rstrip(),
            f"{'longest stall':26}{self.longest:.1f} s (bound {BOUND:.0f} s)",
            f"{'memory in use':26}{self.rss[0] / 1e6:.1f} MB early, {self.rss[1] / 1e6:.1f} MB at the end",
            f"{'violations':26}{self.violations}",
            *self.shown,
        ]
        return "\n".join(rows)


class Target(Protocol):
    """What is tested against. `mend`: no session is left of those before, and the disk has its size."""

    @property
    def url(self) -> str: ...
    @property
    def faults_seen(self) -> dict[str, int]: ...
    def set_plan(self, *faults: Any, seed: int = 0) -> None: ...
    def wait_for_fault(self, kind: str, count: int, timeout: float) -> None: ...
    def mend(self) -> None: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def stop(self) -> None: ...


class Embedded(IscsiTarget):
    """The embedded target, in this process."""

    def __init__(self, content: bytes) -> None:
        medium = RamMedium(len(content))
        medium.write(0, content)
        super().__init__(luns=[Lun(medium, BLOCK)], limits=LIMITS, queue_depth=DEPTH)
        self.start()

    def mend(self) -> None:
        _until(lambda: not self.statistics["sessions_open"])
        for unit in self.server.node(self.server.targets()[0]).scsi.units.values():
            unit.blocks = BLOCKS


class Foreign(Meddler):
    """tgtd or LIO, behind a relay that spoils what it says."""

    def __init__(self, content: bytes, serve: Callable[[Path], Tgt | Lio]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="swd-soak-")
        self._image = Path(self._folder.name) / "image"
        self._image.write_bytes(content)
        self._server = serve(self._image)
        super().__init__(self._server.port, gentle=isinstance(self._server, Lio))

    @property
    def url(self) -> str:
        return self._server.url(self.port)

    def mend(self) -> None:
        _until(lambda: not self._server.sessions())

    def read(self, offset: int, length: int) -> bytes:
        with self._image.open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def stop(self) -> None:
        self.close()
        self._server.kill()
        self._folder.cleanup()


TARGETS: dict[str, Callable[[bytes], Target]] = {
    "embedded": Embedded,
    "tgt": lambda content: Foreign(content, Tgt),
    "lio": lambda content: Foreign(content, Lio),
}


class Bench:
    """The target, the disk that all workers use, and who may fail with what."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.journal = Journal(ledger.seed, BLOCKS)
        content = stamped(ledger.seed, np.arange(BLOCKS, dtype=np.int64), np.zeros(BLOCKS, np.int64))
        self.target = TARGETS[ledger.target](content.tobytes())
        self.lock = threading.Condition()  # guards what follows
        self.disk: swd.Disk | None = None
        self.allowed: tuple[int, ...] = ()
        self.kind = ""
        self.dead = False  # the session is: nobody goes on before there is another
        self.calm = [0] * WORKERS  # I/Os without error since the plan ended
        self.stop = threading.Event()
        self.options = {**OPTIONS, "timeout": DEADLINES.get(ledger.target, OPTIONS["timeout"])}
        self.trials = soak_kinds.trials(1.5 * float(self.options["timeout"]))
        self.open()

    def open(self) -> None:
        """A new session; the old one is gone from the target by then, so that nothing of it is still carried out."""
        if self.disk is not None:
            self._retire(self.disk)
        disk = None
        while disk is None:
            self.target.mend()
            try:
                disk = swd.open(self.target.url, "r+b", **self.options)
            except DeadlineExceeded:
                self.ledger.late["opening"] += 1
                if self.ledger.late["opening"] > 100:
                    raise
        with self.lock:
            self.disk, self.dead = disk, False
            self.ledger.sessions += 1
            self.lock.notify_all()

    def _retire(self, disk: swd.Disk) -> None:
        self.ledger.recoveries += disk.unit.session.statistics["recoveries"]  # type: ignore[attr-defined]
        disk.close()

    def close(self) -> None:
        assert self.disk is not None
        self._retire(self.disk)
        self.target.stop()

    def current(self) -> swd.Disk | None:
        """The disk, when there is one that lives; None when it is over."""
        with self.lock:
            while self.dead and not self.stop.is_set():
                self.lock.wait(1)
            return None if self.stop.is_set() else self.disk

    def failed(self, what: str, error: SwdError, disk: swd.Disk, number: int) -> None:
        with self.lock:
            self.calm[number] = 0
            if disk is self.disk and error.errno in (soak_kinds.BROKEN, soak_kinds.STALE):
                self.dead = True
            if isinstance(error, BadDescriptor) and (self.dead or disk is not self.disk):
                return  # closed under the worker's hands, because it was dead
            late = error.errno == soak_kinds.LATE  # may be a busy machine; `_account` has the limit
            if late and error.errno not in self.allowed:
                self.ledger.late[self.kind or "between"] += 1
            if late or error.errno in self.allowed:
                self.ledger.excused[f"{self.kind} {error.errno}"] += 1
                return
            kind = self.kind
        self.journal.violate("error", f"{what} failed in a round of {kind!r}: {type(error).__name__}: {error}")

    def succeeded(self, number: int) -> None:
        with self.lock:
            self.calm[number] += 1
            self.lock.notify_all()

    def begin(self, kind: str, allowed: tuple[int, ...]) -> None:
        with self.lock:
            self.kind, self.allowed = kind, allowed

    def settle(self) -> bool:
        """Wait until every worker has gone on; opens the disk again where the session has died."""
        deadline = time.monotonic() + BOUND
        with self.lock:
            self.calm = [0] * WORKERS
        while time.monotonic() < deadline:
            if self.dead:
                self.open()
            with self.lock:
                if not self.dead and min(self.calm) >= 2:  # the first may have begun before the plan ended
                    return True
                self.lock.wait(0.5)
        return False


def _work(bench: Bench, number: int, dice: random.Random) -> None:
    """One worker: writes to its own range, reads anywhere, now and then a flush; until it is over."""
    share = BLOCKS // WORKERS
    steps = {"write": 10, "read": 10, "flush": 1}
    while (disk := bench.current()) is not None:
        step = dice.choices(list(steps), list(steps.values()))[0]
        size = dice.choice(EXTENTS)
        low, high = (number * share, (number + 1) * share) if step == "write" else (0, BLOCKS)
        first = dice.randrange(low, high - size + 1)
        began = time.monotonic()
        try:
            _STEPS[step](bench.journal, disk, np.arange(first, first + size, dtype=np.int64))
        except SwdError as error:
            bench.failed(step, error, disk, number)
        else:
            bench.succeeded(number)
        with bench.lock:
            bench.ledger.ios[step] += 1
            bench.ledger.longest = max(bench.ledger.longest, time.monotonic() - began)


def _write(journal: Journal, disk: swd.Disk, blocks: np.ndarray) -> None:
    data = journal.issue(blocks)
    disk.pwrite(data, int(blocks[0]) * BLOCK)
    journal.acknowledge(blocks)


def _read(journal: Journal, disk: swd.Disk, blocks: np.ndarray) -> None:
    floor = journal.floor(blocks)
    data = disk.pread(len(blocks) * BLOCK, int(blocks[0]) * BLOCK)
    journal.judge("read", blocks, floor, np.frombuffer(data, np.uint64).reshape(len(blocks), -1))


def _flush(_journal: Journal, disk: swd.Disk, _blocks: np.ndarray) -> None:
    disk.flush()


_STEPS = {"write": _write, "read": _read, "flush": _flush}


def run(faults: int, seed: int, progress: Progress, *, quick: bool = False, target: str = "embedded") -> Ledger:
    """Rounds until so many faults have been injected, each kind by its weight. `quick`: nothing that takes seconds."""
    _one_arena()
    ledger = Ledger(target, seed)
    bench = Bench(ledger)
    with closing(bench):
        began, early = time.monotonic(), 0
        with _Loaded(bench):
            chosen = _chosen(target, quick)
            for kind in _kinds(random.Random(f"{seed}/kinds"), chosen):
                _round(bench, kind, random.Random(f"{seed}/{sum(ledger.rounds.values())}"))
                done = sum(ledger.injected.values())
                if not early and done > faults / 10:
                    early = _held()
                progress(
                    f"{done} faults, {sum(ledger.ios.values())} I/Os, {bench.journal.violated} violations, "
                    f"{resident() / 1e6:.1f} MB, {kind}"
                )
                if (done >= faults and len(ledger.rounds) == len(chosen)) or bench.journal.violated > 20:
                    break
        ledger.seconds = time.monotonic() - began
        ledger.rss = (early or _held(), _held())
        _judge_all(bench)
    return _account(ledger, bench.journal)


def control(lie: str, seconds: float, seed: int, *, blind: bool = False) -> Ledger:
    """The same load and judge on a target that lies; `blind`: with a judge that sees nothing."""
    ledger = Ledger("embedded", seed)
    bench = Bench(ledger)
    if blind:
        bench.journal.judge = lambda *_arguments: None  # type: ignore[method-assign]
    with closing(bench):
        bench.begin(lie, ())
        bench.target.set_plan(Fault(lie, **soak_kinds.LIES[lie]), seed=seed)
        deadline = time.monotonic() + seconds
        with _Loaded(bench):
            while time.monotonic() < deadline and not bench.journal.violated:
                bench.stop.wait(0.05)
        bench.target.set_plan()
        ledger.injected.update(bench.target.faults_seen)
        _judge_all(bench)
    return _account(ledger, bench.journal, growth=False)


class _Loaded:
    """Workers meanwhile."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._threads = [
            threading.Thread(target=self._guarded, args=(number,), name=f"soak-{number}") for number in range(WORKERS)
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._bench.stop.set()
        for thread in self._threads:
            thread.join(BOUND)
            if thread.is_alive():
                self._bench.journal.violate("hung", f"{thread.name} did not come back within {BOUND:.0f} s")

    def _guarded(self, number: int) -> None:
        try:
            _work(self._bench, number, random.Random(f"{self._bench.ledger.seed}/{number}"))
        except BaseException as error:
            self._bench.journal.violate("worker", f"a worker died: {error!r}")
            raise


def _chosen(target: str, quick: bool) -> dict[str, soak_kinds.Trial]:
    """From outside, only what is said on the wire can be spoilt; neither looks at the tag of an R2T's data."""
    chosen = {kind: trial for kind, trial in soak_kinds.TRIALS.items() if trial.weight > 1 or not quick}
    if target != "embedded":
        outside = (kind for kind in chosen if KINDS[kind].place in ("wire", "answer") and kind != "wrong_ttt")
        return {kind: chosen[kind] for kind in outside}
    return chosen


def _kinds(dice: random.Random, chosen: Mapping[str, soak_kinds.Trial]) -> Iterator[str]:
    """Every kind once, then by weight, in random order, without end."""
    yield from dice.sample(list(chosen), len(chosen))
    while True:
        bag = [kind for kind, trial in chosen.items() for _ in range(trial.weight)]
        dice.shuffle(bag)
        yield from bag


def _round(bench: Bench, kind: str, dice: random.Random) -> None:
    trial, ledger, target = bench.trials[kind], bench.ledger, bench.target
    disk = bench.disk
    assert disk is not None
    before, injected = _counts(disk), target.faults_seen.get(kind, 0)
    excused = ledger.excused[given_up := f"poison {errno.EIO}"]
    bench.begin(kind, trial.errors)
    target.set_plan(trial.make(dice), seed=ledger.seed)
    target.wait_for_fault(kind, injected + 1, PATIENCE)
    if trial.until == "shut":
        _until(lambda: disk.unit.session.statistics["window"] <= 0)  # type: ignore[attr-defined]
        threading.Event().wait(0.3)
    elif trial.until == "told":
        _until(lambda: bool(_rose(trial, before, disk)))
    elif kind == "poison":  # until the command has been given up, after its replays
        _until(lambda: ledger.excused[given_up] > excused)
    target.set_plan()
    if not bench.settle():
        bench.journal.violate("stuck", f"after {kind} not every worker went on within {BOUND:.0f} s")
    rose = _rose(trial, before, disk)
    ledger.rounds[kind] += 1
    ledger.injected[kind] += target.faults_seen[kind] - injected
    ledger.told[kind] += bool(rose)
    ledger.counters.setdefault(kind, Counter()).update(rose)
    bench.begin("", ())


def _rose(trial: soak_kinds.Trial, before: Counter[str], disk: swd.Disk) -> Counter[str]:
    """The counters of a kind that are higher than they were, and by how much."""
    return Counter({name: count for name, count in (_counts(disk) - before).items() if name in trial.moved})


def _counts(disk: swd.Disk) -> Counter[str]:
    """Those of a session, and those that a process counts where a login has failed."""
    counts = Counter(disk.unit.session.statistics)  # type: ignore[attr-defined]
    counts.update({name: count - counts[name] for name, count in PROCESS.counts().items() if name.startswith("login_")})
    return counts


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < deadline:
        threading.Event().wait(0.01)


def _one_arena() -> None:
    """The threads of each new connection, of the target or the relay in this process, would have arenas of their own:
    glibc gives little of those back, and 20 MB of free memory would look like a leak (mallopt(M_ARENA_MAX, 1)).
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(-8, 1)


def _held() -> int:
    """Bytes of memory in use: without garbage, and without what glibc keeps of what was freed."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    return resident()


def _judge_all(bench: Bench) -> None:
    """The whole medium, without the initiator."""
    blocks = np.arange(BLOCKS, dtype=np.int64)
    words = np.frombuffer(bench.target.read(0, BLOCKS * BLOCK), np.uint64).reshape(BLOCKS, -1)
    bench.journal.judge("the medium", blocks, bench.journal.floor(blocks), words)


def _account(ledger: Ledger, journal: Journal, *, growth: bool = True) -> Ledger:
    if ledger.longest > BOUND:
        journal.violate("late", f"a call took {ledger.longest:.1f} s")
    if growth and ledger.rss[1] - ledger.rss[0] > RSS_GROWTH:
        journal.violate("memory", f"resident memory grew from {ledger.rss[0]} to {ledger.rss[1]} bytes")
    if (late := sum(ledger.late.values())) > max(WORKERS, sum(ledger.rounds.values()) // 100):
        journal.violate("late", f"{late} deadlines passed in rounds that do not put anything off")
    for kind, rounds in ledger.rounds.items():
        trial, still = soak_kinds.TRIALS[kind], rounds - ledger.told[kind]
        if still > rounds // 50:
            moved = ", ".join(trial.moved)
            journal.violate("silent", f"in {still} of {rounds} rounds {kind} moved none of {moved}")
    ledger.checked, ledger.violations = journal.checked, journal.violated
    ledger.shown = [f"{one.kind}: {one.words}" for one in journal.violations]
    return ledger
