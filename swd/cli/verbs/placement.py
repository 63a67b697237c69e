# SPDX-License-Identifier: Apache-2.0
"""`placement check`: what of this host lies on iSCSI that must not."""

from __future__ import annotations

from collections.abc import Iterator

from swd.cli import render
from swd.cli.call import Call
from swd.startup import placement


def check(call: Call, *, root: str, fstab: str | None) -> None:
    """Prints the whole report first; InvalidArgument (EINVAL) then says that something is refused."""
    report = placement.check(root, fstab)
    render.emit(render.as_json(report) if call.json else render.as_text(list(lines(report))))
    report.require()


def lines(report: placement.Report) -> Iterator[str]:
    """Each finding in three lines: what and where, why, what to do."""
    for one in report.findings:
        yield f"{one.verdict}: {one.place} on {one.device} ({one.evidence})"
        yield f"  by {' > '.join(one.path)}" if len(one.path) > 1 else f"  as written: {one.device}"
        yield f"  {one.why}"
        yield f"  what to do: {one.do}"
    refused = len(report.refused)
    end = f"{refused} refused" if refused else "nothing that the boot needs is on iSCSI"
    yield f"looked at {report.looked_at} uses of storage: {end}"
