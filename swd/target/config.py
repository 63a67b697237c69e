# SPDX-License-Identifier: Apache-2.0
"""What a target is to be: frozen records that a test or the command line fills in. No rules of the wire live here."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from swd.errors import InvalidArgument
from swd.target.media import Medium
from swd.target.portgroups import PortGroups
from swd.target.script import Script
from swd.target.scsi.state import UnitState
from swd.values import Chap

BLOCK_SIZES = (512, 4096)
CHAP_ALGORITHMS = ("sha3-256", "sha256", "sha1", "md5")


@dataclass(frozen=True)
class Lun:
    """One logical unit. Sizes in bytes; a medium that is no multiple of the block size is rounded down.

    `serial` (default: made from target name and LUN) decides the NAA identity, so two paths to one medium need one
    serial. `thin` turns on UNMAP and zeros after it (LBPME, LBPRZ). `removable`: its medium can be ejected and loaded.
    `script`: what a test can make it do. `state`: what initiators made of it, one for all targets that serve it.
    """

    medium: Medium
    block_size: int = 512
    physical_block_size: int | None = None
    read_only: bool = False
    thin: bool = True
    removable: bool = False
    serial: str = ""
    vendor: str = "SWD"
    product: str = "EMBEDDED DISK"
    script: Script = field(default_factory=Script, compare=False, repr=False)
    state: UnitState = field(default_factory=UnitState, compare=False, repr=False)

    def attention(self, asc: int, ascq: int = 0) -> None:
        """Establish a unit attention for every I_T nexus, while the unit is being served."""
        self.script.attention(asc, ascq)

    def __post_init__(self) -> None:
        if self.block_size not in BLOCK_SIZES:
            raise InvalidArgument(f"block size {self.block_size} is not served: use one of {BLOCK_SIZES}")
        physical = self.physical_block_size
        if physical is not None and (physical < self.block_size or physical & (physical - 1)):
            raise InvalidArgument(f"physical block size {physical} is no power of two of at least {self.block_size}")


@dataclass(frozen=True)
class Limits:
    """What the target grants in the operational stage (RFC 7143 section 13), in bytes and seconds.

    Not settable: data comes in order, one connection a session, recovery level 0.
    """

    max_recv_data_segment_length: int = 1 << 20
    max_burst_length: int = 1 << 20
    first_burst_length: int = 262144
    initial_r2t: bool = False
    immediate_data: bool = True
    max_outstanding_r2t: int = 8
    default_time2wait: int = 2
    default_time2retain: int = 0


class Redirection:
    """Where a target's logins are sent instead; may be changed at any time while it is served."""

    def __init__(self) -> None:
        self.address: str | None = None
        self.permanent = False

    def to(self, address: str, *, permanent: bool = False) -> None:
        """Answer logins with "moved": temporarily or for good, to "host:port" or "host:port,group"."""
        self.address, self.permanent = address, permanent

    def end(self) -> None:
        """Take logins again."""
        self.address = None


@dataclass(frozen=True)
class TargetConfig:
    """One target node: name, units, who may log in, and what it negotiates.

    chap: `user` and `secret` are what the initiator must prove, `target_user` and `target_secret` what the target
    proves when the initiator asks for it (mutual). None: no authentication.
    header_digest, data_digest: what the target accepts, of "none" and "crc32c"; ("crc32c",) requires it.
    portal_group: the group of portals that have none of their own. portal_groups: the groups by which this target can
    be reached; empty: by all. alua: access states of the groups; None: all ports are equal.
    initiators: names, or patterns with *, of those who may log in and who see the target in discovery; empty: all.
    redirection: where logins are sent instead.
    attended: sessions can be spoken to while they wait: asynchronous messages, pings, a SANITIZE that goes on. They do
    without the compiled data path. nop_interval: seconds without a word from the initiator after which it is pinged
    (0: never); nop_timeout: seconds after which one that does not answer is gone. Pings need `attended`.
    queue_depth: commands that one session may have open; the command window shrinks with those that are.
    """

    name: str
    luns: dict[int, Lun] = field(default_factory=dict)
    chap: Chap | None = None
    chap_algs: tuple[str, ...] = CHAP_ALGORITHMS
    header_digest: tuple[str, ...] = ("none", "crc32c")
    data_digest: tuple[str, ...] = ("none", "crc32c")
    limits: Limits = Limits()
    alias: str = ""
    portal_group: int = 1
    portal_groups: tuple[int, ...] = ()
    alua: PortGroups | None = None
    initiators: tuple[str, ...] = ()
    redirection: Redirection = field(default_factory=Redirection, compare=False, repr=False)
    queue_depth: int = 128
    attended: bool = False
    nop_interval: float = 0.0
    nop_timeout: float = 5.0

    def __post_init__(self) -> None:
        if self.nop_interval < 0 or self.nop_timeout <= 0:
            raise InvalidArgument("pings have an interval of 0 seconds (none) or more, and a timeout of more than 0")
        if not 1 <= self.queue_depth <= 65536:
            raise InvalidArgument(f"queue_depth is {self.queue_depth}: 1 to 65536 commands may be open")
        if self.nop_interval and not self.attended:
            raise InvalidArgument("pings (nop_interval) need attended=True")

    def group(self, of_portal: int | None) -> int:
        """The portal group that a portal belongs to for this target."""
        return self.portal_group if of_portal is None else of_portal

    def reached_by(self, of_portal: int | None) -> bool:
        """Whether a portal of that group leads to this target."""
        return not self.portal_groups or self.group(of_portal) in self.portal_groups

    def admits(self, initiator_name: str) -> bool:
        """Whether an initiator may use this target, by its name alone."""
        name = initiator_name.lower()
        return not self.initiators or any(fnmatchcase(name, one.lower()) for one in self.initiators)
