# SPDX-License-Identifier: Apache-2.0
"""`startup --watch`: stays between the passes, ends the phase, runs pass 2, and again as long as something is missing.

    PRE_NETWORK ---- every portal has a route ------------------------.
        |----------- some have, and the others not for 5 s more ------|
        |----------- attempt_timeout is over: *not* successful -------+--> NETWORK_ATTEMPTED: pass 2, READY=1
        '----------- somebody else has ended the phase ---------------'        |        ^
                                                                               '--------'
                                        the network has changed, and the last pass left something to heal

The attempt is over once, however it ended; what comes later heals, and is no attempt.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

from swd.driver import config, holders, phase
from swd.driver.boot_order import BootOrder
from swd.errors import DeviceBusy
from swd.proto import names
from swd.proto.portal import parse_portal
from swd.proto.url import FaultDev, IscsiDev, parse_dev
from swd.startup import passes
from swd.startup.network import Network, View
from swd.startup.notify import notify
from swd.startup.plan import Report
from swd.values import Phase, Portal

WHAT: Final = "startup --watch"
SETTLE: Final = 5.0  # seconds that the last portals get when the first have a route
QUIET: Final = 0.5  # seconds without news, before a change of the network counts as done
_SLICE: Final = 1.0  # seconds between two looks at the phase file; and no signal waits longer
_MOST: Final = 10.0  # seconds that a network may go on changing before we look


def watch(told: Callable[[Report], None]) -> None:
    """Never returns: a signal ends it. `told` gets the report of each pass.

    Raises `Unsupported` without the extra `net`; `DeviceBusy` where another one watches; what `phase.complete` and the
    configuration raise.
    """
    order = config.load().startup
    with Network() as network, _alone():
        notify("STATUS=waiting for the first attempt at the network")
        try:
            evidence = attempt(order, network)
            if phase.current() is Phase.PRE_NETWORK:
                phase.complete(evidence=f"{WHAT}: {evidence}")
            for report in _passes(network):
                told(report)
                notify("READY=1", f"STATUS={_status(report)}")
        finally:
            notify("STOPPING=1")


def _alone() -> contextlib.AbstractContextManager[None]:
    for other in holders.living():
        if other.what == WHAT:
            raise DeviceBusy(f"process {other.pid} watches already: one is enough for a host")
    return holders.holding(WHAT, ())


def portals(order: BootOrder) -> list[Portal]:
    """The portals that the configuration names: what must have a route. The registry is not asked: it may lie on a
    file system that is not there yet.
    """
    found = [parse_portal(text) for text in order.discover]
    for text in (*order.login, *order.devices, *order.filesystems):
        dev = None if names.valid(text) else parse_dev(text)
        while isinstance(dev, FaultDev):
            dev = dev.on
        found += [dev.portal] if isinstance(dev, IscsiDev) else []
    return list(dict.fromkeys(found))


def attempt(order: BootOrder, network: Network) -> str:
    """Wait until the first attempt at the network is over; says by what evidence."""
    wanted = portals(order)
    end, some = time.monotonic() + order.attempt_timeout, None
    while phase.current() is Phase.PRE_NETWORK:
        seen, now = network.look(wanted), time.monotonic()
        if _complete(seen, wanted):
            return "there is a route to " + ", ".join(seen.reached) if wanted else "an address is up"
        some = (some or now) if seen.reached else None
        if some is not None and now - some >= SETTLE:
            return f"there is a route to {', '.join(seen.reached)}, and still none to {', '.join(seen.missing)}"
        if now >= end:
            return f"its time-out of {order.attempt_timeout:g} s is over, without a route to {_names(seen, wanted)}"
        network.wait(min(_SLICE, end - now))
    return phase.show().evidence


def _complete(seen: View, wanted: list[Portal]) -> bool:
    return not seen.missing if wanted else bool(seen.addresses)


def _names(seen: View, wanted: list[Portal]) -> str:
    return ", ".join(seen.missing) if wanted else "anything"


def _passes(network: Network) -> Iterator[Report]:
    """A pass now, and one after each change of the network as long as the last one left something to heal."""
    while True:
        order = config.load().startup
        seen = network.look(portals(order))  # before the pass: what changes meanwhile is news
        report = passes.second(order)
        yield report
        while report.whole or network.look(portals(order)) == seen:
            _settled(network)


def _settled(network: Network) -> None:
    """Wait for news of the network, and then until there are none for a moment."""
    while not network.wait(10 * _SLICE):
        pass
    end = time.monotonic() + _MOST
    while network.wait(QUIET) and time.monotonic() < end:
        pass


def _status(report: Report) -> str:
    if report.failure is not None:
        return f"pass 2: {report.failure.reason}"
    return "pass 2: all is there" if report.whole else "pass 2: all is there, by some of the portals"
