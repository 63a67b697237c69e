# SPDX-License-Identifier: Apache-2.0
"""Plain values that every rank may name: frozen records and nothing else.

No I/O, no rules, no imports from the rest of the package: `tests/model` imports this module and no other,
so what stands here must be obvious enough to need no test of its own.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import NamedTuple

DEFAULT_PORT = 3260
RESERVED_TAG = 0xFFFFFFFF  # ITT or TTT that names no task (RFC 7143 11.2.1.8, 11.7.4)


class Phase(enum.Enum):
    """The network phase of the host; DESIGN of the errno contract: docs/architecture.md."""

    PRE_NETWORK = "pre-network"
    NETWORK_ATTEMPTED = "network-attempted"


class Direction(enum.Enum):
    NONE = "none"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Portal:
    """A TCP address of a target: host is a name, an IPv4 address, or an IPv6 address without brackets."""

    host: str
    port: int = DEFAULT_PORT
    tpgt: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Target:
    """A target as SendTargets names it, with the portals that lead to it."""

    name: str
    portals: list[Portal] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LogicalUnit:
    """A logical unit by one path, as `swd.scan` found it. Sizes in bytes; None where it is no disk.

    `phase`: "live" (the path that is used), "standby" (another path to the same disk), "unreachable", "gone" (the
    target lists it no more), "skipped" (no disk, or one that cannot be used), "known" (nobody was asked); `reason` says
    why. `paths`: the DEVs of
    all paths to this disk, which only a strong identity joins.
    """

    hardware_path: str | None
    lun: str
    dev: str
    size: int | None
    block_size: int | None
    identity: str
    strong: bool
    target: str
    portal: str
    phase: str
    reason: str = ""
    paths: tuple[str, ...] = ()


class Chap:
    """CHAP credentials: who we are, and (mutual) who the target must prove to be. Secrets are str or bytes."""

    __slots__ = ("_secret", "_target_secret", "target_user", "user")

    def __init__(
        self,
        user: str,
        secret: str | bytes,
        *,
        target_user: str | None = None,
        target_secret: str | bytes | None = None,
    ) -> None:
        self.user = user
        self.target_user = target_user
        self._secret = _secret_bytes(secret)
        self._target_secret = None if target_secret is None else _secret_bytes(target_secret)

    @property
    def secret(self) -> bytes:
        return self._secret

    @property
    def target_secret(self) -> bytes | None:
        return self._target_secret

    @property
    def mutual(self) -> bool:
        return self._target_secret is not None

    def __repr__(self) -> str:
        mutual = f", target_user={self.target_user!r}, target_secret=***" if self.mutual else ""
        return f"Chap({self.user!r}, ***{mutual})"

    def __reduce__(self) -> str:
        raise TypeError("Chap is not pickled: a secret would be written out")


def _secret_bytes(secret: str | bytes) -> bytes:
    return secret.encode() if isinstance(secret, str) else bytes(secret)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What login agreed on: the first hand-over. The engine copies it to C once and never looks back.

    Lengths are in bytes, times in seconds; sequence numbers are those of the next PDU.
    """

    initiator_name: str = ""
    target_name: str = ""
    session_type: str = "Normal"
    isid: bytes = b"\x80\0\0\0\0\0"
    tsih: int = 0
    cid: int = 0
    cmd_sn: int = 1
    exp_stat_sn: int = 1
    max_cmd_sn: int = 1
    auth: str = "none"  # none, chap, chap-mutual
    chap_algorithm: str | None = None
    target_portal_group_tag: int | None = None
    target_alias: str = ""
    header_digest: bool = False
    data_digest: bool = False
    max_recv_data_segment_length: int = 8192  # ours: the most that the target may send in one PDU
    target_max_recv_data_segment_length: int = 8192
    max_burst_length: int = 262144
    first_burst_length: int = 65536
    initial_r2t: bool = True
    immediate_data: bool = True
    max_outstanding_r2t: int = 1
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    default_time2wait: int = 2
    default_time2retain: int = 20
    error_recovery_level: int = 0
    max_connections: int = 1


class Completion(NamedTuple):
    """How one SCSI command ended on the wire, as the engine saw it. Lengths in bytes.

    `data` is the raw data segment of the SCSI Response (SenseLength, sense, response data; RFC 7143 11.4.7).
    """

    itt: int
    response: int  # RFC 7143 11.4.3: 0 is "command completed at target"
    status: int  # SAM status
    underflow: bool
    overflow: bool
    residual: int
    received: int  # bytes placed in the read buffer
    data: bytes


class Event(NamedTuple):
    """A PDU that the engine does not judge, handed out once: opcode, the 48 header bytes, the data segment."""

    opcode: int
    bhs: bytes
    data: bytes


class OpenTask(NamedTuple):
    """A task that was alive when the connection died."""

    itt: int
    cmd_sn: int
    lun: int
    cdb: bytes
    received: int
    sent: int
    was_sent: bool = True
    replays: int = 0


class Leftover(NamedTuple):
    """What is left when a connection dies: the second hand-over."""

    reason: str
    cmd_sn: int
    exp_stat_sn: int
    max_cmd_sn: int
    tasks: tuple[OpenTask, ...]


@dataclass(frozen=True, slots=True)
class Sense:
    """SCSI sense data in fixed or descriptor format (SPC-4 4.5); raw holds the bytes as received."""

    key: int
    asc: int
    ascq: int
    information: int | None = None
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class ScsiResult:
    """The end of a SCSI command: SAM status, data read, sense (or None), residual in bytes.

    residual > 0: fewer bytes moved than expected; residual < 0: the target had that many more.
    """

    status: int
    data: bytes = b""
    sense: Sense | None = None
    residual: int = 0
    response: int = 0


@dataclass(frozen=True, slots=True)
class SgIo:
    """Argument of the SG_IO ioctl: a CDB, the bytes to send, how many to read, and a deadline in seconds."""

    cdb: bytes
    data_out: bytes = b""
    data_in: int = 0
    timeout: float = 30.0
