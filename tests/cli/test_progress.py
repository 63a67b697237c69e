# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest

from swd.cli.progress import Progress, line, size_text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Goes on by `step` seconds at each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"), (3 << 60, "3072 PiB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size_text(count) == text


def test_the_line_says_share_speed_and_rest() -> None:
    assert (
        line("read", 32 << 20, 64 << 20, 2.0)
        == "read [##############              ]  50%  32 MiB of 64 MiB  16 MiB/s  2 s left"
    )
    assert line("read", 0, 0, 0.0).startswith("read [############################] 100%")
    assert line("write", 1024, None, 1.0) == "write  1 KiB  1 KiB/s"
    assert "100%" in line("read", 200, 100, 1.0)


def test_in_a_pipe_it_is_silent() -> None:
    out = io.StringIO()
    with Progress("read", 100, stream=out, clock=Clock(1.0)) as bar:
        bar.add(50)
    assert out.getvalue() == ""
    assert bar.done == 50


def test_without_stderr_it_is_silent() -> None:
    with Progress("read", 100, stream=None) as bar:
        bar.add(100)
    assert bar.done == 100


def test_on_a_terminal_it_is_drawn_seldom_and_wiped() -> None:
    out = Terminal()
    with Progress("read", 1000, stream=out, clock=Clock(0.04)) as bar:
        for _ in range(100):
            bar.add(10)
    drawn = out.getvalue().split("\r")
    assert 30 < len(drawn) < 60  # 100 additions in 4 seconds: about every third is shown
    assert drawn[-2].strip() == ""  # wiped
    assert drawn[-1] == ""


def test_it_is_wiped_when_the_work_fails() -> None:
    out = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress("read", 10, stream=out, clock=Clock(1.0)) as bar:
        bar.add(1)
        raise KeyboardInterrupt
    assert out.getvalue().endswith(" \r")
