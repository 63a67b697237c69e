# SPDX-License-Identifier: Apache-2.0
"""`phase show|begin|complete`: the network phase of this host, for people and for boot integration."""

from __future__ import annotations

from datetime import datetime, timezone

from swd.cli.call import Call
from swd.driver import phase


def show(_call: Call) -> dict[str, object]:
    """What the gate goes by now, and the story of it."""
    return _record(phase.show())


def begin(call: Call, *, force: bool) -> dict[str, object] | None:
    """Enter PRE_NETWORK. Says nothing in text: it runs at boot."""
    return _quiet(call, phase.begin(force, evidence="swdctl phase begin"))


def complete(call: Call) -> dict[str, object] | None:
    """The first attempt at network initialisation is over."""
    return _quiet(call, phase.complete(evidence="swdctl phase complete"))


def _quiet(call: Call, state: phase.State) -> dict[str, object] | None:
    return _record(state) if call.json or call.verbose else None


def _record(state: phase.State) -> dict[str, object]:
    record = state.record()
    if state.since is not None:
        record["since"] = datetime.fromtimestamp(state.since, timezone.utc).isoformat(timespec="seconds")
    return record
