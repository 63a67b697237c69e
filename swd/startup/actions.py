# SPDX-License-Identifier: Apache-2.0
"""What a step does: the same entry points that the verbs go through, so that the network phase is theirs to judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from swd.driver import config, filesystems, login, plain, registry, volumes
from swd.driver.boot_order import BootOrder, Group
from swd.driver.login import Place, Proof
from swd.errors import NoSuchDevice, SwdError, Unsupported
from swd.proto.portal import parse_portal
from swd.startup.plan import DISCOVER, FILESYSTEM, GROUP, LOGIN, Step
from swd.volumes.filesystems.probe import unclean


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


def activate(group: Group, devices: Sequence[str]) -> str:
    """Activate a volume group that lies on these DEVs; none: on the units that the registry knows."""
    done = volumes.activate(
        group.name, devices=list(devices) or None, partial=group.partial, writable=group.rw
    )
    missing = f", {len(done.missing)} missing" if done.missing else ""
    return f"{len(done.devices)} physical volumes{missing}, {'for writing' if done.writable else 'for reading'}"


def check(dev: str) -> str:
    """Look at superblock and journal. A file system that is not clean is EBUSY: its own fsck, or a mount, mends it."""
    found = filesystems.check(dev)
    if found is None:
        raise Unsupported(f"{dev} holds no file system that swd knows")
    if found.dirty:
        raise unclean(dev, found)
    return f"{found.kind}, clean" if not found.unsupported else f"{found.kind}, which swd cannot check"


# One call a kind, for the first pass: it has nothing to wait for, and opens no registry to find ways in.
ATTEMPT: Final[dict[str, Callable[[Step, BootOrder], object]]] = {
    DISCOVER: lambda step, _order: discover(step.name),
    LOGIN: lambda step, _order: login.prove(step.name, {}),
    GROUP: lambda step, order: activate(step.group or Group(step.name), order.devices),
    FILESYSTEM: lambda step, _order: check(step.name),
}


def order() -> BootOrder:
    """[startup] of the configuration as it is now."""
    return config.load().startup
