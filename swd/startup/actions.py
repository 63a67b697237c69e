# SPDX-License-Identifier: Apache-2.0
"""What a step does: the same entry points that the verbs go through, so that the network phase is theirs to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from swd.driver import config, login, plain, registry
from swd.driver.boot_order import BootOrder
from swd.driver.login import Place, Proof
from swd.errors import NoSuchDevice, SwdError, Unsupported
from swd.proto.portal import parse_portal
from swd.startup.plan import DISCOVER, FILESYSTEM, GROUP, LOGIN, Step


def discover(portal: str) -> str:
    """Ask a portal for its targets, and remember the ways to them."""
    found, asked, memory = plain.discover(portal), parse_portal(portal), registry.host()
    memory.asked(asked)
    for target in found:
        for way in target.portals or [asked]:
            memory.instance(target.name, way)
    return f"{len(found)} targets" if len(found) != 1 else "1 target"


def ways(name: str) -> Sequence[Place]:
    """The ways to a target that are known by now; none is no error, for a portal may still tell of one."""
    try:
        return login.places(name, registry.host())
    except NoSuchDevice:
        return ()


def unknown(name: str) -> SwdError:
    """Why there is no way to a target."""
    try:
        login.places(name, registry.host())
    except SwdError as error:
        return error
    return NoSuchDevice(f"{name}: the way to it became known too late: run the pass again")


def prove(place: Place) -> Proof:
    return login.prove_at(place, {})


def note(target: str, error: SwdError | None) -> None:
    """Keep the last error of a target for `swdctl list`."""
    registry.host().note_error(target, error)


def wanted() -> list[str]:
    """The targets that `swdctl login` recorded."""
    return registry.host().wanted()


def activate(step: Step) -> str:
    raise Unsupported(f"{step.name}: volume groups are not built yet")


def check(step: Step) -> str:
    """Look at superblock and journal. A file system that is not clean is EBUSY: its own fsck, or a mount, mends it."""
    from swd.driver import filesystems
    from swd.volumes.filesystems.probe import unclean

    found = filesystems.check(step.name)
    if found is None:
        raise Unsupported(f"{step.name} holds no file system that swd knows")
    if found.dirty:
        raise unclean(step.name, found)
    return f"{found.kind}, clean" if not found.unsupported else f"{found.kind}, which swd cannot check"


# One call a kind, for the first pass: it has nothing to wait for, and opens no registry to find ways in.
ATTEMPT: Final[dict[str, Callable[[Step], object]]] = {
    DISCOVER: lambda step: discover(step.name),
    LOGIN: lambda step: login.prove(step.name, {}),
    GROUP: activate,
    FILESYSTEM: check,
}


def order() -> BootOrder:
    """[startup] of the configuration as it is now."""
    return config.load().startup
