# SPDX-License-Identifier: Apache-2.0
"""Asymmetric access of a target's portal groups (ALUA, SPC-4 5.11): a state for each, settable while it is served.

A target port group of SCSI is a portal group of iSCSI here, by the same number. No CDBs: `scsi.ports` has those.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from swd.errors import InvalidArgument

STATES: Final[Mapping[str, int]] = {  # ASYMMETRIC ACCESS STATE (SPC-4 table 281)
    "active/optimized": 0x0,
    "active/non-optimized": 0x1,
    "standby": 0x2,
    "unavailable": 0x3,
    "transitioning": 0xF,
}
BY_SET, BY_ITSELF = 0x01, 0x02  # STATUS CODE: by SET TARGET PORT GROUPS, or by the target


class PortGroups:
    """`PortGroups({1: "active/optimized", 2: "standby"})`; `set` changes a state from any thread.

    explicit: initiators may set states, too (SET TARGET PORT GROUPS). preferred: the group with the PREF bit.
    Raises InvalidArgument for a word that is no state, and for a group that is not among them.
    """

    def __init__(self, states: Mapping[int, str], *, explicit: bool = False, preferred: int | None = None) -> None:
        if not states or not all(0 < tag < 65536 for tag in states):
            raise InvalidArgument("portal groups are numbered from 1 to 65535")
        self.explicit = explicit
        self.preferred = preferred
        self._lock = threading.Lock()  # guards _states and _causes; nothing is called under it
        self._states = {tag: _code(word) for tag, word in states.items()}
        self._causes = dict.fromkeys(states, 0)
        self._listeners: list[Callable[[int | None], None]] = []

    @property
    def tags(self) -> tuple[int, ...]:
        """The numbers of all groups."""
        return tuple(self._states)

    def code(self, tag: int) -> int:
        """The state of a group as the standard numbers it; one that has no state is active/optimized."""
        return self._states.get(tag, 0)

    def cause(self, tag: int) -> int:
        """STATUS CODE: how the group came to its state; 0 before the first change."""
        return self._causes.get(tag, 0)

    def state(self, tag: int) -> str:
        """The state of a group, as a word of STATES."""
        return next(word for word, code in STATES.items() if code == self.code(tag))

    def set(self, tag: int, state: str) -> None:
        """Change a state; all initiators get ASYMMETRIC ACCESS STATE CHANGED with their next command."""
        self.change({tag: _code(state)}, BY_ITSELF)

    def change(self, codes: Mapping[int, int], cause: int, by: int | None = None) -> None:
        """For the device server: several states at once, in the name of nexus number `by`, who is not told."""
        with self._lock:
            unknown = set(codes) - set(self._states)
            if unknown:
                raise InvalidArgument(f"there is no portal group {min(unknown)}: there are {sorted(self._states)}")
            self._states.update(codes)
            self._causes.update(dict.fromkeys(codes, cause))
        for listener in self._listeners:
            listener(by)

    def listen(self, listener: Callable[[int | None], None]) -> None:
        """For the device server: called after each change, in the thread that made it."""
        self._listeners.append(listener)


def _code(word: str) -> int:
    if word not in STATES:
        raise InvalidArgument(f"{word!r} is no access state: use one of {', '.join(STATES)}")
    return STATES[word]
