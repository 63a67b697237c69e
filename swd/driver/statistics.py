# SPDX-License-Identifier: Apache-2.0
"""Statistics as rows: what the HP-UX driver counted, at its three levels, each with its class letter.

A row names the counters that it is the sum of (`Session.statistics`, `iscsi.tally`). Rows of the original that a
driver in user space cannot have are kept and say so: their value is None. Counters only rise; clearing remembers
where they stood, so nothing in the data path is touched.

`snapshot()` is what a process has counted, as a plain dict that JSON takes; `merge` adds such dicts up, also those
that other processes left behind; `report` makes the rows from one.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, NamedTuple

from swd.iscsi import keeper
from swd.iscsi.session import GAUGES, Session
from swd.iscsi.tally import LATENCIES, PROCESS, RETIRED, Histogram, plus

GLOBAL, SESSION, CONNECTION = "global", "session", "connection"

CLASSES: Final = {
    "I": "informational: an event, no fault; the profile of a fault that comes later",
    "T": "target error, seen from here: look in the target's own log, and take it to its vendor",
    "D": "transient lack of memory or wrong configuration on this host: I/O is retried, nothing is lost",
    "C": "connectivity: network or target was away; passes when the network is mended",
}


class Row(NamedTuple):
    """`cls`: letters of CLASSES, several with a slash. `sources` None: not applicable in user space."""

    name: str
    level: str
    cls: str
    label: str
    sources: tuple[str, ...] | None


_FAULTS_IN_DATA = ("fault_data_sn", "fault_data_offset", "fault_data_too_long", "fault_data_status", "fault_data_ack")
_FAULTS_IN_R2T = ("fault_r2t_sn", "fault_r2t_range", "fault_r2t_burst", "fault_r2t_too_many", "fault_r2t_tag")
_NONE = None  # stream buffers and kernel memory: a process that has none is killed, not delayed

ROWS: Final = (
    # The process, or the host
    Row("conn_open", GLOBAL, "I", "TCP connections begun", ("conn_open",)),
    Row("conn_close", GLOBAL, "I", "TCP connections ended", ("conn_close",)),
    Row("discovery_sessions", GLOBAL, "I", "discovery sessions", ("discovery_sessions",)),
    Row("sendtargets", GLOBAL, "I", "SendTargets questions", ("sendtargets",)),
    Row("sendtargets_fail", GLOBAL, "D", "SendTargets questions without a whole answer", ("sendtargets_fail",)),
    Row("sendtargets_parse", GLOBAL, "T", "SendTargets answers that could not be read", ("sendtargets_parse_fail",)),
    # Sessions
    Row("session_open", SESSION, "I", "sessions opened", ("session_open",)),
    Row("session_close", SESSION, "I", "sessions closed", ("session_close",)),
    Row("recovered", SESSION, "C", "lost sessions that came back", ("recoveries",)),
    Row("failovers", SESSION, "C", "lost sessions that went on by another path", ("failovers",)),
    Row("recovery_fail", SESSION, "C", "lost sessions that were given up", ("recovery_fail",)),
    Row("io_replayed", SESSION, "C", "commands sent again after a loss", ("replayed",)),
    Row("unit_attention", SESSION, "I", "unit attentions, retried", ("unit_attention",)),
    Row("busy", SESSION, "T", "BUSY and TASK SET FULL, retried", ("busy",)),
    Row("stale_identity", SESSION, "T", "units that were another disk after a new login", ("stale_identity",)),
    Row("task_management", SESSION, "I", "task management functions sent", ("task_management",)),
    # Connections: login, logout, TCP
    Row("login_ok", CONNECTION, "I", "logins that succeeded", ("login_ok",)),
    Row("login_fail", CONNECTION, "I/T", "logins with wrong keys, values or headers", ("login_fail",)),
    Row("login_bad_class", CONNECTION, "D", "logins refused by a status class", ("login_bad_class",)),
    Row("connect_fail", CONNECTION, "D/C", "connections that could not be opened", ("connect_fail",)),
    Row("connect_timeout", CONNECTION, "C", "connections that were not open in time", ("connect_timeout",)),
    Row("login_send_nomem", CONNECTION, "D", "login commands not sent for want of kernel memory", _NONE),
    Row("login_wait_fail", CONNECTION, "D", "logins that got no response in time", ("login_wait_fail",)),
    Row(
        "tcp_close_login",
        CONNECTION,
        "C",
        "connections closed while a login response was awaited",
        ("tcp_close_login",),
    ),
    Row("logout_wait_fail", CONNECTION, "D/C", "logouts that got no response", ("logout_wait_fail",)),
    Row(
        "tcp_close_active",
        CONNECTION,
        "C",
        "unexpected ends of TCP in full-feature phase",
        ("fault_end_of_stream", "fault_system_error"),
    ),
    Row("ping_unanswered", CONNECTION, "C", "connections cut because a ping was not answered", ("ping_unanswered",)),
    Row("fin_timeout", CONNECTION, "C", "FINs awaited in vain after logout: this side closes itself", _NONE),
    Row("auth_timeout", CONNECTION, "I/C", "authentications without an answer of RADIUS: not built", _NONE),
    Row("auth_fail", CONNECTION, "I/C", "authentications that failed, either way", ("auth_fail",)),
    Row("redirect_temp", CONNECTION, "I", "temporary redirects", ("redirect_temp",)),
    Row("redirect_perm", CONNECTION, "I", "permanent redirects", ("redirect_perm",)),
    # Connections: PDUs
    Row("pdus_in", CONNECTION, "I", "PDUs received", ("pdus_in",)),
    Row("pdus_out", CONNECTION, "I", "PDUs sent", ("pdus_out",)),
    Row("bytes_in", CONNECTION, "I", "bytes received", ("bytes_in",)),
    Row("bytes_out", CONNECTION, "I", "bytes sent", ("bytes_out",)),
    Row("nop_ins", CONNECTION, "I", "NOP-In PDUs, answers to pings included", ("nop_ins",)),
    Row("pdu_nomem", CONNECTION, "D", "PDUs for which there was no memory", ("fault_no_memory",)),
    Row("pdu_buf_nomem", CONNECTION, "D", "stream message allocations that failed", _NONE),
    Row("pdu_dup_fail", CONNECTION, "D", "stream message duplications that failed", _NONE),
    Row("pdu_tx_offline", CONNECTION, "D", "native commands tried on an offline connection", _NONE),
    Row("pdu_timeout", CONNECTION, "D/C/T", "exchanges without an answer in time", ("timeouts",)),
    Row("header_digest", CONNECTION, "C", "header digests that were wrong", ("fault_header_digest",)),
    Row("data_digest", CONNECTION, "C", "data digests that were wrong", ("fault_data_digest",)),
    Row("protocol_error", CONNECTION, "T", "sessions ended by a protocol error", ("protocol_error",)),
    Row("unknown_tag", CONNECTION, "T", "PDUs for tasks that are not open", ("fault_unknown_tag",)),
    Row(
        "header_invalid",
        CONNECTION,
        "T",
        "PDU headers that break the protocol",
        ("fault_unknown_opcode", "fault_ahs", "fault_segment_too_long", "fault_unexpected_data"),
    ),
    Row("window_ignored", CONNECTION, "T", "windows that contradict themselves or shrink", ("windows_ignored",)),
    Row("window_shut", CONNECTION, "T", "times that a target owed no answer and let nobody send", ("windows_shut",)),
    Row("flood", CONNECTION, "T", "floods of PDUs that nobody asked for", ("fault_flood",)),
    # Connections: SCSI I/O
    Row("io_issued", CONNECTION, "I", "commands issued", ("commands",)),
    Row("io_completed", CONNECTION, "I", "commands that the target answered", ("completed",)),
    Row("io_reads", CONNECTION, "I", "commands that read data", ("reads",)),
    Row("io_writes", CONNECTION, "I", "commands that write data", ("writes",)),
    Row("io_nomem", CONNECTION, "D", "I/O structures that could not be allocated", _NONE),
    Row("io_buf_nomem", CONNECTION, "D", "I/O buffers of streams that could not be allocated", _NONE),
    Row("io_delayed", CONNECTION, "D", "waits for a free task slot", ("slot_waits",)),
    Row("io_odd", CONNECTION, "I", "commands that did not end plainly GOOD", ("odd_completions",)),
    Row("datain_invalid", CONNECTION, "T", "Data-In PDUs out of order or out of range", _FAULTS_IN_DATA),
    Row("datain_empty", CONNECTION, "I", "Data-In PDUs without data", ("empty_data_ins",)),
    Row(
        "datain_on_write", CONNECTION, "T", "Data-In PDUs for a command that reads nothing", ("fault_data_not_wanted",)
    ),
    Row("datain_resid_bad", CONNECTION, "T", "Data-In PDUs with a wrong residual count", ("data_in_residuals",)),
    Row(
        "rsp_resid_bad",
        CONNECTION,
        "T",
        "statuses that do not agree with the bytes that moved",
        ("fault_residual", "fault_short_read", "fault_short_write"),
    ),
    Row("io_underflow", CONNECTION, "I", "commands that moved less than asked; many are normal", ("underflows",)),
    Row("io_overflow", CONNECTION, "I", "commands for which the target had more", ("overflows",)),
    Row("io_rsp_err", CONNECTION, "T", "iSCSI response codes other than complete", ("response_errors",)),
    Row("r2ts", CONNECTION, "I", "R2T PDUs received", ("r2ts",)),
    Row("r2t_invalid", CONNECTION, "T", "R2T PDUs with a wrong offset, length or number", _FAULTS_IN_R2T),
    Row("r2t_nomem", CONNECTION, "D", "R2Ts not answered for want of kernel memory", _NONE),
    Row("r2t_on_read", CONNECTION, "T", "R2T PDUs for a command that writes nothing", ("fault_r2t_not_wanted",)),
    Row("rx_concat_nomem", CONNECTION, "D", "stream message concatenations that failed", _NONE),
    Row("statsn_hole", CONNECTION, "D/T", "holes in the sequence of statuses", ("fault_stat_sn",)),
    # Connections: asynchronous messages and rejects
    Row("async_scsi", CONNECTION, "I", "asynchronous messages: SCSI event", ("async_scsi",)),
    Row("async_logout", CONNECTION, "I", "asynchronous messages: logout asked for", ("async_logout",)),
    Row(
        "async_drop_connection",
        CONNECTION,
        "I",
        "asynchronous messages: connection dropped",
        ("async_drop_connection",),
    ),
    Row(
        "async_drop_session", CONNECTION, "I", "asynchronous messages: all connections dropped", ("async_drop_session",)
    ),
    Row("async_renegotiate", CONNECTION, "I", "asynchronous messages: negotiation asked for", ("async_renegotiate",)),
    Row("async_vendor", CONNECTION, "I", "asynchronous messages: vendor's own", ("async_vendor", "async_other")),
    Row("rej_digest", CONNECTION, "C", "rejects: data digest", ("reject_02",)),
    Row("rej_snack", CONNECTION, "I", "rejects: SNACK", ("reject_03",)),
    Row("rej_protocol", CONNECTION, "D", "rejects: protocol error", ("reject_04",)),
    Row("rej_unsupported", CONNECTION, "D", "rejects: command not supported", ("reject_05",)),
    Row("rej_immediate", CONNECTION, "T", "rejects: too many immediate commands", ("reject_06",)),
    Row("rej_in_progress", CONNECTION, "T", "rejects: task in progress", ("reject_07",)),
    Row("rej_data_ack", CONNECTION, "D", "rejects: invalid data acknowledgement", ("reject_08",)),
    Row("rej_field", CONNECTION, "D", "rejects: invalid PDU field", ("reject_09",)),
    Row("rej_long_op", CONNECTION, "T", "rejects: out of resources", ("reject_0a",)),
    Row("rej_nego_reset", CONNECTION, "I", "rejects: negotiation reset", ("reject_0b",)),
    Row("rej_wait_logout", CONNECTION, "I", "rejects: waiting for logout", ("reject_0c",)),
    Row("rej_other", CONNECTION, "T", "rejects: reasons that RFC 7143 does not have", ("reject_other",)),
)

Snapshot = dict[
    str, Any
]  # {"cleared": epoch s, "taken": epoch s, "counts": {name: n}, "latency": {key: [n, us, buckets]}}
_Latency = dict[str, Histogram]

SAVED: Final[list[Callable[[], Iterable[Snapshot]]]] = []  # who keeps snapshots, e.g. the registry, adds itself

_began = time.time()
_lock = threading.Lock()
_cleared: weakref.WeakKeyDictionary[Session, Snapshot] = weakref.WeakKeyDictionary()
_cleared_here: Snapshot | None = None


def of_session(session: Session) -> Snapshot:
    """What one session has counted since it was opened or cleared."""
    with _lock:
        before = _cleared.get(session)
    return _since(_raw_session(session), before)


def snapshot() -> Snapshot:
    """What this process has counted since it began or was cleared, closed sessions included."""
    with _lock:
        before = _cleared_here
    return _since(_raw_process(), before)


def clear(session: Session | None = None) -> None:
    """Counts from here on: of one session, or (None) of the process and all its sessions."""
    global _cleared_here
    sessions = _sessions() if session is None else [session]
    with _lock:
        for each in sessions:
            _cleared[each] = _raw_session(each)
        if session is None:
            _cleared_here = _raw_process()


def saved() -> Iterable[Snapshot]:
    """What other processes left behind, from all sources that `SAVED` names."""
    return [each for source in SAVED for each in source()]


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum; `cleared` is the earliest, `taken` the latest. An empty sum was taken now."""
    counts: Counter[str] = Counter()
    latency: _Latency = {}
    cleared, taken = [], []
    for each in snapshots:
        counts.update(each["counts"])
        _add(latency, {key: (n, us, list(buckets)) for key, (n, us, buckets) in each["latency"].items()})
        cleared.append(each["cleared"])
        taken.append(each["taken"])
    now = time.time()
    return _made(min(cleared, default=now), max(taken, default=now), counts, latency)


def report(found: Snapshot, *, levels: Sequence[str] = (GLOBAL, SESSION, CONNECTION)) -> dict[str, Any]:
    """Rows, classes and latencies, ready for JSON: docs/schemas/stats.schema.json."""
    letters = {letter for row in ROWS for letter in row.cls.split("/")}
    return {
        "version": 1,
        "cleared": _moment(found["cleared"]),
        "taken": _moment(found["taken"]),
        "rows": [
            {
                "name": row.name,
                "level": row.level,
                "class": row.cls,
                "label": row.label,
                "value": None if row.sources is None else sum(found["counts"].get(name, 0) for name in row.sources),
            }
            for row in ROWS
            if row.level in levels
        ],
        "classes": {letter: CLASSES[letter] for letter in sorted(letters)},
        "latency": [_latency_row(key, histogram) for key, histogram in sorted(found["latency"].items())],
    }


def percentile(buckets: Sequence[int], share: float) -> int | None:
    """The upper bound, in microseconds, of the bucket in which that share (0..1) of all is reached; None: no data."""
    wanted, seen = share * sum(buckets), 0
    for number, count in enumerate(buckets):
        seen += count
        if count and seen >= wanted:
            return upper_bound(number)
    return None


def upper_bound(bucket: int) -> int:
    """Microseconds below which everything in that bucket lies (the last one also holds what is longer)."""
    return 1 << (bucket + 1)


def _latency_row(key: str, histogram: Histogram) -> dict[str, Any]:
    target, lun, direction = key.split(" ")
    count, total, buckets = histogram
    return {
        "target": target,
        "lun": lun,
        "direction": direction,
        "count": count,
        "sum_us": total,
        "mean_us": round(total / count, 1) if count else None,
        "p50_us": percentile(buckets, 0.5),
        "p99_us": percentile(buckets, 0.99),
        "max_us": percentile(buckets, 1.0),
        "buckets": list(buckets),
    }


def _sessions() -> list[Session]:
    return [kept for kept in keeper.sessions() if isinstance(kept, Session)]


def _raw_session(session: Session) -> Snapshot:
    counts = {name: count for name, count in session.statistics.items() if name not in GAUGES}
    return _made(session.opened, time.time(), counts, _named(session.parameters.target_name, session.latencies()))


def _raw_process() -> Snapshot:
    counts = Counter(PROCESS.counts())
    counts.update(RETIRED.counts())
    latency: _Latency = {_key(*place): histogram for place, histogram in LATENCIES.found().items()}
    for session in _sessions():
        own = session.tally.counts()  # these are in PROCESS already
        counts.update({name: n for name, n in session.statistics.items() if name not in GAUGES and name not in own})
        _add(latency, _named(session.parameters.target_name, session.latencies()))
    return _made(_began, time.time(), counts, latency)


def _made(cleared: float, taken: float, counts: Mapping[str, int], latency: _Latency) -> Snapshot:
    return {"cleared": cleared, "taken": taken, "counts": dict(counts), "latency": latency}


def _since(now: Snapshot, before: Snapshot | None) -> Snapshot:
    if before is None:
        return now
    counts = {name: count - before["counts"].get(name, 0) for name, count in now["counts"].items()}
    latency = {key: _minus(histogram, before["latency"].get(key)) for key, histogram in now["latency"].items()}
    return _made(before["taken"], now["taken"], counts, {key: found for key, found in latency.items() if found[0]})


def _minus(a: Histogram, b: Histogram | None) -> Histogram:
    return a if b is None else (a[0] - b[0], a[1] - b[1], [x - y for x, y in zip(a[2], b[2], strict=True)])


def _add(to: _Latency, more: Mapping[str, Histogram]) -> None:
    for key, histogram in more.items():
        to[key] = plus(to[key], histogram) if key in to else histogram


def _named(target: str, found: Mapping[tuple[int | None, str], Histogram]) -> _Latency:
    return {_key(target, lun, direction): histogram for (lun, direction), histogram in found.items()}


def _key(target: str, lun: int | None, direction: str) -> str:
    from swd.proto.lun import text

    return f"{target or 'discovery'} {'others' if lun is None else text(lun)} {direction}"


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, timezone.utc).isoformat(timespec="seconds")
