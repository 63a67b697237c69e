# SPDX-License-Identifier: Apache-2.0
"""The target's command window: 128 requests in order, and 128 that come in reverse, which is as bad as it gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from swd.target.framing import Frame
from swd.target.window import Window

DEPTH = 128
FRAME = Frame(bytes(48), memoryview(b""))


def arrive(window: Window, numbers: Sequence[int]) -> int:
    return sum(1 for number in numbers for _ in window.arrive(FRAME, number, number))


@pytest.mark.parametrize("order", ["in order", "in reverse"])
def test_window(benchmark: Any, order: str) -> None:
    numbers = range(1, DEPTH + 1) if order == "in order" else range(DEPTH, 0, -1)

    def ready() -> tuple[tuple[Window, Sequence[int]], dict[str, Any]]:
        return (Window(1, DEPTH), numbers), {}

    assert benchmark.pedantic(arrive, setup=ready, rounds=300) == DEPTH
