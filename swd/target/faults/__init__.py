# SPDX-License-Identifier: Apache-2.0
"""Fault plans: an embedded target that misbehaves as it is told, and counts how often it did.

    from swd.target.faults import Fault, Plan

    plan = Plan([Fault("reset", pdu="DATA_IN", nth=3), Fault("busy", command="WRITE", every=10)], seed=7)
    with TargetServer(targets, faults=plan) as server:
        ...
        print(server.statistics["faults"])                # {"reset": 1, "busy": 4}

`kinds` is the table of what can go wrong, `conditions` says when, `plan` reads and checks, `injector` decides whose
turn it is; `judge` knows what each PDU of a connection is. `connection`, `sending`, `answers`, `session`, `requests`
and `login_faults` do it. For people: `docs/faults.md`.
"""

from __future__ import annotations

from swd.target.faults.conditions import CONDITIONS, When
from swd.target.faults.injector import Injector
from swd.target.faults.kinds import KINDS, Kind
from swd.target.faults.plan import Fault, Plan

__all__ = ["CONDITIONS", "KINDS", "Fault", "Injector", "Kind", "Plan", "When"]
