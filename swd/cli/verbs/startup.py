# SPDX-License-Identifier: Apache-2.0
"""`startup`: the two passes of a host's start, the watch between them, and what makes a host call them."""

from __future__ import annotations

from swd.cli.call import Call, Reported, UsageProblem
from swd.startup.plan import Report


def startup(call: Call, *, number: str | None) -> object:
    """One pass. One that failed has its table all the same."""
    if number is None:
        raise UsageProblem("startup takes --pass 1 or --pass 2")
    from swd.startup import actions, passes

    order = actions.order()
    report = passes.first(order) if number == "1" else passes.second(order)
    return answer(call, report)


def answer(call: Call, report: Report) -> object:
    """The table of a pass. Raises `Reported` with its first failure in boot order."""
    nothing = "[startup] of the configuration lists nothing, and no target is wanted"
    record: object = report.record() if call.json else report.rows() or nothing
    if report.failure is not None:
        raise Reported(record, report.failure)
    return record
