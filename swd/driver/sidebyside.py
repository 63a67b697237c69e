# SPDX-License-Identifier: Apache-2.0
"""The same work on many things in threads, so that a dead portal holds up nobody else: nor who interrupts it (Ctrl-C).

An executor waits for its threads even then, and again when the process ends; these are daemons.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

AT_ONCE: Final = 16

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def each(work: Callable[[_Item], _Result], items: Sequence[_Item], name: str) -> list[_Result]:
    """`[work(item) for item in items]`, up to AT_ONCE of them at a time; `name` is the threads'.

    When all have ended the first exception, in the order of the items, is raised. What interrupts the wait leaves at
    once: what is being worked on goes on and nobody listens, what is not begun is not done.
    """
    todo: queue.SimpleQueue[tuple[int, _Item]] = queue.SimpleQueue()
    for pair in enumerate(items):
        todo.put(pair)
    ended: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    left = threading.Event()

    def run() -> None:
        while not left.is_set():
            try:
                index, item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((index, work(item), None))
            except BaseException as error:  # noqa: BLE001  # raised below
                ended.put((index, None, error))

    try:
        for _ in range(min(AT_ONCE, len(items))):
            threading.Thread(target=run, name=name, daemon=True).start()
        results = sorted((ended.get() for _ in items), key=lambda one: one[0])
    finally:
        left.set()
    for _, _, error in results:
        if error is not None:
            raise error
    return [value for _, value, _ in results]
