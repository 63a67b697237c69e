# SPDX-License-Identifier: Apache-2.0
"""`startup`: the two passes of a host's start, the watch between them, and what makes a host call them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from swd.cli import render
from swd.cli.call import Call, Reported, UsageProblem
from swd.cli.explain import verdict
from swd.startup.plan import Report

if TYPE_CHECKING:
    from swd.startup.install import Installed


def startup(call: Call, *, number: str | None, watch: bool) -> object:
    """One pass, which has its table although it failed; or the watch, which tells of each pass and never returns."""
    if watch == (number is not None):
        raise UsageProblem("startup takes one of --pass 1, --pass 2, --watch")
    if watch:
        from swd.startup import watch as watcher

        watcher.watch(lambda report: _tell(call, report))
    from swd.startup import actions, passes

    order = actions.order()
    report = passes.first(order) if number == "1" else passes.second(order)
    return answer(call, report)


def _tell(call: Call, report: Report) -> None:
    """A pass of the watch, at once; why it failed goes to stderr, as it would at the end of `--pass 2`."""
    width = render.width_of(sys.stdout)
    render.emit(render.as_json(report.record()) if call.json else render.as_text(_table(report), width))
    if report.failure is not None and sys.stderr is not None:
        judged = verdict(report.failure)
        sys.stderr.write(judged.as_json() if call.json else judged.as_text())
        sys.stderr.flush()


def _table(report: Report) -> object:
    return report.rows() or "[startup] of the configuration lists nothing, and no target is wanted"


def answer(call: Call, report: Report) -> object:
    """The table of a pass. Raises `Reported` with its first failure in boot order."""
    record = report.record() if call.json else _table(report)
    if report.failure is not None:
        raise Reported(record, report.failure)
    return record


def install(_call: Call, *, root: str, rc: bool, watch: bool, swdctl: str | None) -> Installed:
    """What was written, and what to do next."""
    from swd.startup import install as installer

    return installer.install(root, rc=rc, watch=watch, swdctl=swdctl)


def uninstall(_call: Call, *, root: str) -> Installed:
    """What was taken away."""
    from swd.startup import install as installer

    return installer.uninstall(root)
