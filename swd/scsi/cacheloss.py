# SPDX-License-Identifier: Apache-2.0
"""Whether a unit may have lost what was written and not flushed: judged from its unit attentions, nothing else.

A target that powers on or resets its device server drops a volatile write cache. It says so by 29h/01 and 29h/04. It
says 29h/00 then, too, but many targets also say that once to everybody who logs in; so the first one of a session just
established (also of one that was reinstated, where the target process may really have been started anew) is counted
only, unless the caller is strict. 29h/02, 03 and 07 are resets that leave the cache alone. SPC-4 annex F, SAM-5 5.14.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final

from swd.scsi.sense import SenseKey
from swd.values import Sense

POWER_ON: Final = (0x29, 0x00)  # POWER ON, RESET, OR BUS DEVICE RESET OCCURRED
_ALWAYS: Final = frozenset({(0x29, 0x01), (0x29, 0x04)})  # POWER ON OCCURRED, DEVICE INTERNAL RESET


class CacheWatch:
    """The attentions of one unit. `losses` grows by one each time that its cache may have gone; `seen` counts all
    attentions by (ASC, ASCQ).

    `_lock` guards both and `_fresh`; nothing is called under it. `losses` may be read without it.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.losses = 0
        self.seen: Counter[tuple[int, int]] = Counter()
        self.write_cache = False  # WCE: without a volatile cache nothing is ever lost
        self._strict = strict
        self._fresh = True
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A session was established: its first 29h/00 is still to be expected."""
        with self._lock:
            self._fresh = True

    def settle(self) -> None:
        """A command that reports attentions ended well: what the new session had to say, it has said."""
        with self._lock:
            self._fresh = False

    def saw(self, sense: Sense | None) -> None:
        """Judges sense data of any kind; only unit attentions count."""
        if sense is None or sense.key != SenseKey.UNIT_ATTENTION:
            return
        attention = (sense.asc, sense.ascq)
        with self._lock:
            self.seen[attention] += 1
            first, self._fresh = self._fresh, False
            forgiven = first and not self._strict
            if self.write_cache and (attention in _ALWAYS or (attention == POWER_ON and not forgiven)):
                self.losses += 1
