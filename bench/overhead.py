# SPDX-License-Identifier: Apache-2.0
"""What Python costs a call: CPU of a `pread_into` beyond that of the same I/O in a batch, both at queue depth 1.

The kernel's part of such an I/O is some 7 us and wanders by more than what is looked for; so short rows of calls and
batches take turns on one session, on the target's own core and into the same memory, and neighbours in time are
subtracted. What remains is the layers of Python and the crossing into C; a batch has costs of its own, which its many
I/Os share. `bench/instructions.py --queue-depth 1 --way sync`, and `--way batch`, is a check that nothing disturbs.
"""

from __future__ import annotations

import array
import statistics
import time

import numpy as np
from targets import LUN_SIZE, Served

import swd

ROW = 512  # I/Os of a turn
SIZE = 4096


def python_us(served: Served, seconds: float) -> float:
    """Microseconds: the median over all pairs of turns."""
    places = [at * 7919 % (LUN_SIZE // SIZE) * SIZE for at in range(ROW)]
    offsets, out = array.array("q", places), np.zeros((ROW, SIZE), np.uint8)
    out.fill(1)
    calls = [(memoryview(out[at]), place) for at, place in enumerate(places)]
    differences: list[float] = []
    with swd.open(served.reads) as disk:
        read, until = disk.pread_into, time.perf_counter() + seconds
        while len(differences) < 3 or time.perf_counter() < until:
            began = time.process_time()
            for buffer, place in calls:
                read(buffer, place)
            between = time.process_time()
            disk.read_many(offsets, SIZE, out, queue_depth=1)
            ended = time.process_time()
            differences.append(((between - began) - (ended - between)) / ROW * 1e6)
    return statistics.median(differences)
