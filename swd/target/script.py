# SPDX-License-Identifier: Apache-2.0
"""What a test can make a served unit do while it is being served, from any thread."""

from __future__ import annotations

from collections.abc import Callable

Attention = tuple[int, int]  # ASC, ASCQ


class Script:
    """Switches of one `Lun`. `full`: writes end with 27h/07 (no space in the thin pool); `write_protected`: with 27h.

    `sanitize_seconds`: about how long a SANITIZE takes, as on a large disk, whatever the size of the medium.
    All may be set and reset at any time. They hold for commands that start from then on.
    """

    def __init__(self) -> None:
        self._watchers: list[Callable[[], None]] = []
        self._listeners: list[Callable[[Attention], None]] = []
        self.full = False
        self.write_protected = False
        self.sanitize_seconds = 0.0

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        for watcher in self._watchers:
            watcher()

    def watch(self, watcher: Callable[[], None]) -> None:
        """For the device server: called after each change of a switch, in the thread of the test."""
        self._watchers.append(watcher)

    def listen(self, listener: Callable[[Attention], None]) -> None:
        """For the device server: called with each attention, in the thread of the test."""
        self._listeners.append(listener)

    def attention(self, asc: int, ascq: int = 0) -> None:
        """Establish a unit attention for every I_T nexus that the target knows."""
        for listener in self._listeners:
            listener((asc, ascq))
