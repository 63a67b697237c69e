# SPDX-License-Identifier: Apache-2.0
"""Many processes on one unit, each with two sessions and a fork between them: nobody reinstates anybody.

`python soak_sharing.py URL NUMBER COUNT` is one of COUNT processes: it opens the unit, forks, opens it once more, says
"ready", and works in its share of the unit until its standard input ends. Its child finds the first session shut and
goes. `share` runs them all; who logged in and how often is for the target to say.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import swd

if __name__ != "__main__":
    from support.process import Watched

PROCESSES = 8
SESSIONS = 2  # of each process
SIZE = 16 << 20  # bytes of the unit
LENGTHS = (512, 4096, 4097, 65536, 200_001)  # of an I/O


@dataclass(frozen=True)
class Outcome:
    """What the processes said: I/Os done by all, and what went wrong, in their words."""

    ios: int
    complaints: list[str]


def share(url: str, seconds: float, look: Callable[[], None] = lambda: None) -> Outcome:
    """`PROCESSES` of them for `seconds`; `look` is called when all work, and again before they are told to stop."""
    with _all(url) as processes:
        for process in processes:
            process.wait_for("^ready$")
        look()
        threading.Event().wait(seconds)
        look()
        for process in processes:
            assert process.process.stdin is not None
            process.process.stdin.close()
        statuses = [process.finish() for process in processes]
    done = [line.split()[1] for process in processes for line in process.lines if line.startswith("done ")]
    complaints = [line for process in processes for line in process.lines if not line.startswith(("ready", "done "))]
    complaints += [f"process {number} ended with {status}" for number, status in enumerate(statuses) if status]
    return Outcome(sum(map(int, done)), complaints)


@contextlib.contextmanager
def _all(url: str) -> Iterator[list[Watched]]:
    words = [(sys.executable, __file__, url, str(number), str(PROCESSES)) for number in range(PROCESSES)]
    processes = [Watched(*each, stdin=True) for each in words]
    try:
        yield processes
    finally:
        for process in processes:
            if process.running:
                process.process.kill()
            process.finish()


def main() -> None:
    url, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    first = swd.open(url, "r+b")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later: threads at a fork are what is tried here
        child = os.fork()
    if child == 0:
        os._exit(0 if _refused(first) else 1)
    second = swd.open(url, "r+b")
    with first, second:
        assert os.waitpid(child, 0)[1] == 0, "the child could use its parent's session"
        share = first.size // count
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        print("ready", flush=True)
        ios = _work((first, second), share * number, share, stop)
        assert [disk.unit.session.statistics["recoveries"] for disk in (first, second)] == [0, 0]
    print("done", ios, flush=True)


def _refused(disk: swd.Disk) -> bool:
    """In a child: every use ends with EBADF."""
    calls = (lambda: disk.pread(512, 0), lambda: disk.pwrite(bytes(512), 0), disk.flush)
    return all(_errno(call) == errno.EBADF for call in calls)


def _errno(call: Callable[[], object]) -> int | None:
    try:
        call()
    except swd.SwdError as error:
        return error.errno
    return 0


def _work(disks: tuple[swd.Disk, ...], base: int, size: int, stop: threading.Event) -> int:
    """Writes by one session are read by the other, against a copy in memory; how many I/Os."""
    chance, ios = random.Random(base), 0
    model = bytearray(disks[0].pread(size, base))
    while not stop.is_set():
        length = chance.choice(LENGTHS)
        at = chance.randrange(size - length)
        model[at : at + length] = chance.randbytes(length)
        writer, reader = chance.sample(disks, 2)
        writer.pwrite(model[at : at + length], base + at)
        at = chance.randrange(size - length)
        assert reader.pread(length, base + at) == model[at : at + length], f"{length} bytes at {base + at} are wrong"
        ios += 2
    assert disks[0].pread(size, base) == model
    return ios


if __name__ == "__main__":
    main()
