# SPDX-License-Identifier: Apache-2.0
"""What may not live on iSCSI, and why: the rules, as tables over facts that `layout` and `follow` gathered.

The original forbade five things: /var, because network initialisation uses it, boot, root, primary swap, and dump. All
of them are asked for while no session can exist: before the network, or after the last program has died. The rules
here say the same for a Linux host. Storage of the kernel's own initiator is only remarked on: an initramfs can log in
to that before any program of the host runs, and swd neither helps nor harms it.

`judge` and what it calls are pure; `check` gathers the facts and judges them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from swd.errors import InvalidArgument
from swd.startup import layout
from swd.startup.follow import End, Follower
from swd.startup.layout import IN_USE, Role, Use
from swd.startup.tree import Tree

Verdict = Literal["refused", "warning", "unknown"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What stands at one of `places` is needed `why`; `do` is the way out."""

    places: tuple[str, ...]
    why: str
    do: str


_LOCAL: Final = "keep it on a disk of this host"

PLACES: Final[tuple[Rule, ...]] = (
    Rule(
        ("/",),
        "the root file system is mounted before any program of this host, swd included, can run",
        f"{_LOCAL}, or boot by the kernel's own initiator (netroot=iscsi:)",
    ),
    Rule(
        ("/boot", "/boot/efi", "/boot/firmware", "/boot/grub", "/boot/grub2", "/boot/loader", "/efi"),
        "firmware and boot loader read it, and they know no session of swd",
        f"{_LOCAL} that the firmware can read",
    ),
    Rule(
        ("/etc", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
        "the first programs of the boot and their configuration are in it",
        "keep it in the root file system",
    ),
    Rule(
        ("/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/share"),
        "the boot runs programs from /usr before the network is there",
        "keep it in the root file system, or on a disk that the initramfs mounts",
    ),
    Rule(
        ("/var", "/var/lib", "/var/db", "/var/run", "/var/lock"),
        "network initialisation uses it: it would wait for the network that waits for it",
        "keep it on a disk of this host; folders of services that start after the network, as /var/lib/postgresql, "
        "may be mounts of their own on iSCSI",
    ),
    Rule(
        (
            *("/var/lib/dhcp", "/var/lib/dhclient", "/var/lib/dhcpcd", "/var/lib/NetworkManager", "/var/lib/systemd"),
            *("/var/lib/wicked", "/var/lib/connman", "/var/lib/ifupdown", "/var/lib/iwd", "/var/lib/iscsi"),
        ),
        "network initialisation keeps its leases and its state in it",
        "leave it where /var/lib is",
    ),
    Rule(
        ("/var/lib/swd",),
        "swd keeps its registry in it, which says what the second pass logs in to",
        "leave it where /var/lib is, or set SWD_STATE_DIR",
    ),
)
USR: Final = next(rule for rule in PLACES if "/usr" in rule.places)

DISCOURAGED: Final[tuple[Rule, ...]] = (
    Rule(
        ("/var/log", "/var/log/journal"),
        "the log of the boot is written before the network is there: what comes first is lost or waits",
        "keep it with /var, and send logs over the network by a log daemon",
    ),
)

OTHERS: Final[dict[Role, Rule]] = {
    "swap": Rule(
        (),
        "primary swap is needed while memory is short, and the session that would bring it needs memory itself",
        "give a local swap space a higher priority (pri=), or use zram",
    ),
    "dump": Rule(
        (),
        "a crashed kernel dumps when no program, and no session, is alive any more",
        "dump to a local disk, or let kdump send it by itself (nfs, ssh)",
    ),
    "resume": Rule(
        (),
        "the kernel reads the image of a hibernated host before any program runs",
        "resume from a local swap space",
    ),
    "mount": Rule((), "", ""),
}
SECONDARY_SWAP: Final = Rule(
    (),
    "swap over a session in user space can stall when memory is short",
    "keep its priority the lowest, and prefer local swap space",
)
OWN: Final = Rule(
    (),
    "swd's own program lies below it, and must run before any session can bring it",
    "install swd on a local disk",
)
KERNEL: Final = Rule(
    (),
    "it is a disk of the kernel's initiator (open-iscsi), which swd does not manage",
    "see that the initramfs logs in to it (iBFT, netroot=iscsi:), not iscsid after the network",
)
PLANNED: Final = "to be mounted"
NETDEV: Final = "its options say that it needs the network, and what it leads to is not there now"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the rules go by: each use with its ends, whether the boot needs /usr, and where swd itself lies."""

    uses: tuple[tuple[Use, tuple[End, ...]], ...]
    boot_needs_usr: bool = True
    own: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A use that is not plainly in order. `path` leads from what is written to what it ends on."""

    verdict: Verdict
    place: str
    device: str
    path: tuple[str, ...]
    evidence: str
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class Report:
    """The findings, refusals first, and how many uses were looked at."""

    ok: bool
    looked_at: int
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.verdict == "refused")

    def require(self) -> None:
        """Raise InvalidArgument (EINVAL) for the first refusal, which also says how many there are."""
        if self.ok:
            return
        first, more = self.refused[0], len(self.refused) - 1
        others = f" (and {more} more: `swdctl placement check` lists them)" if more else ""
        raise InvalidArgument(
            f"{first.place} may not be on {first.device} ({first.evidence}): {first.why}\n{first.do}{others}"
        )


def check(root: str = "/", fstab: str | None = None, *, adding: Sequence[tuple[str, str]] = ()) -> Report:
    """Look at the host below `root` (or at an image of one; "/" is this host) and judge it.

    `fstab`: this file instead of its /etc/fstab. `adding`: mounts to be, as (place, DEV), judged like the others.
    Raises InvalidArgument if `root` is no folder, or `fstab` no file that can be read.
    """
    if not os.path.isdir(root):
        raise InvalidArgument(f"{root} is no folder: --root names the top of a host's files")
    if fstab is not None and not (os.path.isfile(fstab) and os.access(fstab, os.R_OK)):
        raise InvalidArgument(f"{fstab} is no file that can be read")
    tree = Tree(root)
    planned = [Use("mount", place, dev, "fuse.swd", evidence=PLANNED) for place, dev in adding]
    found = (*layout.uses(tree, fstab), *planned)
    follower = Follower(tree, found)
    return judge(Facts(tuple((use, follower.ends(use)) for use in found), _boot_needs_usr(tree), _own_places(tree)))


def _boot_needs_usr(tree: Tree) -> bool:
    """On a host with merged /usr, or whose init lies in it; one with an /sbin/init of its own can do without."""
    merged = any(tree.is_link(folder) for folder in ("/bin", "/sbin", "/lib"))
    own_init = tree.exists("/sbin/init") and not tree.resolve("/sbin/init").startswith("/usr/")
    return merged or not own_init


def _own_places(tree: Tree) -> tuple[str, ...]:
    """Where swd lies: what runs now, on this host; in an image, where a package puts it."""
    if tree.is_host:
        here = (os.path.dirname(os.path.abspath(__file__)), sys.prefix, sys.base_prefix, "/etc/swd")
        return tuple(dict.fromkeys(os.path.realpath(path) for path in here))
    return tuple(path for path in ("/usr/bin/swdctl", "/usr/local/bin/swdctl", "/etc/swd") if tree.exists(path))


def judge(facts: Facts) -> Report:
    """The verdict on all uses. One that is written in two places is one finding with both as evidence."""
    primary = _primary_swap([use for use, _ in facts.uses if use.role == "swap"])
    findings: dict[tuple[str, str, str], Finding] = {}
    for use, ends in facts.uses:
        for end in ends:
            found = _finding(facts, use, end, use in primary)
            if found is None:
                continue
            key = (found.verdict, found.place, found.device)
            before = findings.get(key)
            findings[key] = found if before is None else _joined(before, found)
    order = {"refused": 0, "warning": 1, "unknown": 2}
    ranked = sorted(findings.values(), key=lambda one: order[one.verdict])
    return Report(all(one.verdict != "refused" for one in ranked), len(facts.uses), tuple(ranked))


def _joined(one: Finding, other: Finding) -> Finding:
    return one if other.evidence in one.evidence else replace(one, evidence=f"{one.evidence}; {other.evidence}")


def _finding(facts: Facts, use: Use, end: End, is_primary: bool) -> Finding | None:
    rule, verdict = _rule(facts, use, is_primary)
    if rule is None or end.kind in {"disk", "other", "network"}:
        return None
    if end.kind == "swd":
        return Finding(verdict, use.place, end.name, (*end.steps, end.name), use.evidence, rule.why, rule.do)
    if end.kind == "kernel-iscsi":
        return Finding("warning", use.place, end.name, end.steps, use.evidence, KERNEL.why, KERNEL.do)
    if _needs_network(use):
        return Finding(verdict, use.place, end.name, end.steps, use.evidence, f"{NETDEV}; {rule.why}", rule.do)
    why = "it cannot be followed to a device now"
    return Finding("unknown", use.place, end.name, end.steps, use.evidence, why, "check again when it is there")


def _rule(facts: Facts, use: Use, is_primary: bool) -> tuple[Rule | None, Verdict]:
    """What forbids this use of a device of swd, if anything, and how strongly."""
    if use.role == "swap":
        return (OTHERS["swap"], "refused") if is_primary else (SECONDARY_SWAP, "warning")
    if use.role != "mount":
        return OTHERS[use.role], "refused"
    rule = _among(PLACES, use.place)
    if rule is not None and (rule is not USR or facts.boot_needs_usr):
        return rule, "refused"
    if any(own == use.place or own.startswith(use.place + "/") for own in facts.own):
        return OWN, "refused"
    return _among(DISCOURAGED, use.place), "warning"


def _among(rules: Iterable[Rule], place: str) -> Rule | None:
    return next((rule for rule in rules if place in rule.places), None)


def _needs_network(use: Use) -> bool:
    return any(
        option == "_netdev" or option.startswith(("x-systemd.requires=swd", "x-systemd.after=swd"))
        for option in use.options
    )


def _primary_swap(swaps: list[Use]) -> list[Use]:
    """What the kernel fills first: of what is in use, and of fstab, the one with the highest priority.

    Without `pri=` swapon gives each a lower priority than the one before (swapon(2)): of those the first counts. What
    stands first in fstab is not the first where something else that is in use, such as zram, comes before it.
    """
    now = max((use for use in swaps if use.evidence == IN_USE), key=_priority, default=None)
    table = max((use for use in swaps if use.evidence != IN_USE), key=_priority, default=None)
    if now is not None and table is not None and _priority(table) < _priority(now):
        table = None
    return [use for use in (now, table) if use is not None]


def _priority(use: Use) -> int:
    return -1 if use.priority is None else use.priority
