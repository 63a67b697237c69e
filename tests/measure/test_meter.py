# SPDX-License-Identifier: Apache-2.0
"""The warm-up does not count, the time that does is as long as was asked for, and readings are taken at its ends."""

from __future__ import annotations

from swd.measure.meter import Meter

SECOND = 1_000_000_000


def test_what_comes_before_the_mark_does_not_count() -> None:
    readings, ticks = iter(("begin", "end")), []
    meter: Meter[str] = Meter(10.0, 2.0, lambda: next(readings), ticks.append)
    lane, mark = meter.lane(), meter.begins
    assert lane.add(mark - 5 * SECOND, mark - 4 * SECOND)  # the warm-up
    assert (meter.before, meter.seconds) == (None, 0.0)
    late = mark + 3 * SECOND  # an I/O that ends the warm-up long after its time
    assert lane.add(mark - SECOND, late)
    assert (meter.before, lane.ios, ticks) == ("begin", 0, [2])
    assert lane.add(late, late + SECOND)
    assert lane.add(late + SECOND, late + 2 * SECOND - 1)
    assert not lane.add(late + 2 * SECOND - 1, late + 2 * SECOND)
    meter.finish()
    meter.finish()
    assert (meter.after, meter.ios, meter.seconds) == ("end", 3, 2.0)
    assert meter.latencies.percentiles()["max_us"] == 1_000_000


def test_lanes_are_added_up_and_stop_together() -> None:
    meter: Meter[None] = Meter(0.0, 100.0, lambda: None, lambda _ios: None)
    one, other = meter.lane(), meter.lane()
    assert one.add_many(10, meter.begins + SECOND)
    assert other.add_many(5, meter.begins + 2 * SECOND)
    assert (meter.ios, meter.seconds) == (15, 2.0)
    meter.stopped = True
    assert not one.add_many(1, meter.begins + 3 * SECOND)
