# SPDX-License-Identifier: Apache-2.0
"""How long I/Os took: a histogram of bounded size, and percentiles from it. No clock in here.

Buckets are 1/64 of a power of two wide, so that a percentile is right within 1.6 %; the longest is kept as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PER_OCTAVE: Final = 64
_OCTAVES: Final = 64
SHARES: Final = {"p50_us": 0.5, "p90_us": 0.9, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}


class Latencies:
    """Counts of latencies in nanoseconds."""

    def __init__(self) -> None:
        import numpy as np

        self._counts: NDArray[np.int64] = np.zeros(_PER_OCTAVE * _OCTAVES, np.int64)
        self._longest = 0

    def add(self, nanoseconds: Sequence[int]) -> None:
        import numpy as np

        if nanoseconds:
            mantissa, exponent = np.frexp(np.maximum(np.asarray(nanoseconds, np.float64), 1.0))
            buckets = (exponent - 1) * _PER_OCTAVE + ((mantissa - 0.5) * 2 * _PER_OCTAVE).astype(np.int64)
            self._counts += np.bincount(buckets, minlength=len(self._counts))
            self._longest = max(self._longest, *nanoseconds)

    def merge(self, other: Latencies) -> None:
        self._counts += other._counts
        self._longest = max(self._longest, other._longest)

    def percentiles(self) -> dict[str, float | None]:
        """Microseconds, by the names of SHARES; None where nothing was counted."""
        total = int(self._counts.sum())
        if not total:
            return dict.fromkeys(SHARES)
        reached = self._counts.cumsum()
        found: dict[str, float | None] = {}
        for name, share in SHARES.items():
            bucket = int(reached.searchsorted(share * total))
            octave, step = divmod(bucket, _PER_OCTAVE)
            edge = (1 << octave) * (1 + (step + 1) / _PER_OCTAVE)
            found[name] = round(min(edge, self._longest) / 1000, 2)
        found["max_us"] = round(self._longest / 1000, 2)
        return found


def of_octaves(buckets: Sequence[int]) -> dict[str, float | None]:
    """The same from counts per power of two of microseconds, as sessions keep them: upper bounds."""
    total = sum(buckets)
    found: dict[str, float | None] = dict.fromkeys(SHARES)
    for name, share in SHARES.items():
        seen = 0
        for octave, count in enumerate(buckets):
            seen += count
            if count and seen >= share * total:
                found[name] = float(1 << (octave + 1))
                break
    return found
