# SPDX-License-Identifier: Apache-2.0
"""`trace FILE -- VERB ...`: runs a verb in this process, and records what passes on its iSCSI connections."""

from __future__ import annotations

from collections.abc import Sequence

from swd.cli.call import Call, UsageProblem
from swd.driver import Driver


def trace(call: Call, *, file: str, words: Sequence[str], with_chap: bool) -> None:
    """The verb prints its own answer; what it raises passes through, and with it its exit status."""
    from swd.cli.main import application

    if not words:
        raise UsageProblem("trace takes FILE -- VERB [ARGS]..., e.g. `swdctl trace x.pcap -- discover 127.0.0.1`")
    switches = [f"--{name}" for name in ("json", "verbose", "debug") if getattr(call, name)]
    app = application()
    with Driver() as driver, app.make_context("swdctl", [*switches, *words]) as context:
        context.obj = lambda: driver.trace(file, with_chap=with_chap)
        app.invoke(context)
