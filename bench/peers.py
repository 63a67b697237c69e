# SPDX-License-Identifier: Apache-2.0
"""Those who take turns in a cell: swd by its ways, and its peers, each in a process of its own on a core of its own.

A sample is I/Os, wall and CPU seconds. A peer's CPU is that of its whole process (getrusage), less what starting costs
it; swd's worker lives on, and counts around its calls.
"""

from __future__ import annotations

import functools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from shapes import CYTHON, DIGESTS, PERF, QEMU, RAW, SPIN, Cell
from targets import Served, pinned
from worker import cpu_of

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".build" / "bench"
STARTS = 5  # of a peer, for what starting costs: while one runs the host may be busy elsewhere, which counts as CPU
PATIENCE = 30  # seconds that a peer may take for a turn
BOTH = {"header_digest": "crc32c!", "data_digest": "crc32c!"}
NEITHER = {"header_digest": "none", "data_digest": "none"}
SPINS = {"spin_us": "50"}


@dataclass
class Sample:
    """One turn of one runner. `cpu` and `target_cpu` in seconds, `checked`: I/Os compared with the pattern."""

    ios: int
    seconds: float
    cpu: float
    target_cpu: float = 0.0
    syscalls: float | None = None
    checked: int = 0
    terms: dict[str, Any] = field(default_factory=dict)


class Worker:
    """swd, in a process that is held to one core."""

    def __init__(self, cpu: int | None) -> None:
        command = [*pinned(cpu), sys.executable, str(HERE / "worker.py")]
        alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # whose idle threads spin for a while, at our cost
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=alone)
        self._orders = 0

    def run(self, served: Served, way: str, cell: Cell, seconds: float, more: dict[str, Any]) -> dict[str, Any]:
        self._orders += 1
        order = {
            "url": served.writes if cell.write else served.reads,
            "way": way.removesuffix(DIGESTS).removesuffix(SPIN),
            "size": cell.size,
            "depth": cell.depth,
            "write": cell.write,
            "seconds": seconds,
            "generation": self._orders % 32768,
            "target_pid": served.pid,
            "options": {**(BOTH if DIGESTS in way else NEITHER), **(SPINS if SPIN in way else {}), **more},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"swd's worker ended with {self._process.wait()} in {cell.name}, {way}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        self._process.communicate()


class Runners:
    """All of them, for one placement: the initiator on `cpu`."""

    def __init__(self, cpu: int | None) -> None:
        self._cpu = cpu
        self._worker = Worker(cpu)
        self._rates: dict[Any, float] = {}
        self._others: dict[str, Callable[[Served, Cell, float], Sample]] = {
            PERF: self._iscsi_perf,
            QEMU: self._qemu_img,
            CYTHON: self._cython_iscsi,
            RAW: self._raw,
        }

    def sample(self, name: str, served: Served, cell: Cell, seconds: float) -> Sample:
        if name in self._others:
            return self._others[name](served, cell, seconds)
        answer = self._worker.run(served, name, cell, seconds, {})
        del answer["all_ios"]
        return Sample(**answer)

    def close(self) -> None:
        self._worker.close()

    def _command(self, *words: str, served: Served | None = None) -> tuple[str, float, float]:
        """Its output, its CPU seconds, and those of the target meanwhile."""
        usage, target = _children(), cpu_of(served.pid) if served else 0.0
        command = [*pinned(self._cpu), *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        text = ended.stdout + ended.stderr
        if ended.returncode:
            raise SystemExit(f"{words[0]} ended with {ended.returncode}: {text[-300:]}")
        return text, _children() - usage, cpu_of(served.pid) - target if served else 0.0

    def _iscsi_perf(self, served: Served, cell: Cell, seconds: float) -> Sample:
        """Random reads only; whole seconds only. Its own average is over all of the time that it ran."""
        whole = max(1, round(seconds))
        words = ("-m", str(cell.depth), "-b", str(cell.size // 512), "-t", str(whole), "-r", served.reads)
        text, cpu, target = self._command("iscsi-perf", *words, served=served)
        found = re.findall(r"iops average (\d+)", text)
        if not found:
            raise SystemExit(f"iscsi-perf told no rate: {text[-300:]}")
        return Sample(int(found[-1]) * whole, float(whole), cpu, target)

    def _qemu_img(self, served: Served, cell: Cell, seconds: float) -> Sample:
        """In order, since it knows nothing else; how many I/Os make up the time is guessed from the turn before."""
        starting = ("start", cell.key)  # it fills depth times size bytes then
        if starting not in self._rates:
            self._rates[starting] = median(self._qemu_run(served, cell, 1)[1].cpu for _ in range(STARTS))
        if cell.key not in self._rates:
            few = self._qemu_run(served, cell, max(cell.depth, min(2000, (64 << 20) // cell.size)))[1]
            self._rates[cell.key] = few.ios / few.seconds
        count, sample = self._qemu_run(served, cell, max(cell.depth, int(self._rates[cell.key] * seconds)))
        self._rates[cell.key] = count / sample.seconds
        sample.cpu = max(0.0, sample.cpu - self._rates[starting])
        return sample

    def _qemu_run(self, served: Served, cell: Cell, count: int) -> tuple[int, Sample]:
        words = ["-f", "raw", "-c", str(count), "-d", str(cell.depth), "-s", str(cell.size)] + ["-w"] * cell.write
        url = served.writes if cell.write else served.reads
        text, cpu, target = self._command("qemu-img", "bench", *words, url, served=served)
        found = re.search(r"in ([0-9.]+) seconds", text)
        if found is None:
            raise SystemExit(f"qemu-img told no time: {text[-300:]}")
        return count, Sample(count, max(float(found[1]), 1e-3), cpu, target)

    def _cython_iscsi(self, served: Served, cell: Cell, seconds: float) -> Sample:
        words = (str(peer_python()), str(HERE / "cython_iscsi.py"), served.reads, str(cell.size), str(seconds))
        text, _, _ = self._command(*words)
        ios, wall, cpu = text.split()[-3:]
        return Sample(int(ios), float(wall), float(cpu))

    def _raw(self, served: Served, cell: Cell, seconds: float) -> Sample:
        long, short = str(48 + cell.size), "48"
        sizes = (short, long) if cell.write else (long, short)
        target = min(os.sched_getaffinity(served.pid))
        serve = [*pinned(None if self._cpu is None else target), str(raw()), "serve", *sizes, str(cell.depth)]
        with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                port, before = server.stdout.readline().strip(), cpu_of(server.pid)
                text, _, _ = self._command(str(raw()), "load", port, *sizes, str(cell.depth), str(seconds))
                spent = cpu_of(server.pid) - before
            finally:
                server.kill()
        ios, wall, cpu, calls = text.split()
        return Sample(int(ios), float(wall), float(cpu), spent, int(calls) / max(1, int(ios)))


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@functools.cache
def raw() -> Path:
    """The program of raw.c, compiled here."""
    WORK.mkdir(parents=True, exist_ok=True)
    program = WORK / "raw"
    subprocess.run(["gcc", "-O2", "-o", str(program), str(HERE / "raw.c")], check=True)
    return program


@functools.cache
def peer_python() -> Path:
    """The Python of an environment that has cython-iscsi. Raises subprocess.CalledProcessError if it cannot be made."""
    home = WORK / "peers"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "cython-iscsi"]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        (home / "ready").touch()
    return python


def absent(*, build: bool) -> dict[str, str]:
    """Runners that cannot run here, and why; without `build`, nothing is fetched and built for one."""
    found = {}
    for name, program in ((PERF, "iscsi-perf"), (QEMU, "qemu-img"), (RAW, "gcc")):
        if not shutil.which(program):
            found[name] = f"{program} is not installed (`make test-deps` does that)"
    if not build and not (WORK / "peers" / "ready").exists():
        return {**found, CYTHON: "it was not built before, and a quick run does not"}
    try:
        peer_python()
    except (OSError, subprocess.SubprocessError) as error:
        told = str(getattr(error, "stderr", "") or error).strip().splitlines()
        why = told[-1] if told else error
        found[CYTHON] = f"it could not be built from PyPI against this libiscsi (libiscsi-dev is needed): {why}"
    return found
