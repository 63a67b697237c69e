# SPDX-License-Identifier: Apache-2.0
"""What the engine keeps in C as values for Python, and what login agreed on the other way: headers, latencies, events,
the end of a task and of the connection. A part of `_engine.pyx`. All of it needs the GIL; none of it is in the hot
path.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t
from libc.stdlib cimport free

from swd._task cimport BHS, MAX_R2T, Task
from swd._watch cimport SWD_BUCKETS, SWD_HEADS, SWD_UNITS, swd_head, swd_heads, swd_histogram, swd_latencies

from copy import copy

from swd.errors import ConnectionLost, ProtocolViolation
from swd.values import Completion, Event, OpenTask


cdef list headers_of(swd_heads *heads):
    """The last headers, oldest first: ("in" or "out", monotonic seconds, the 48 bytes)."""
    cdef uint64_t first = heads.count - SWD_HEADS if heads.count > SWD_HEADS else 0
    cdef swd_head *head
    found = []
    for number in range(first, heads.count):
        head = &heads.head[<uint64_t>number % SWD_HEADS]
        found.append(("out" if head.out else "in", head.at, PyBytes_FromStringAndSize(<char *>head.bhs, BHS)))
    return found


cdef dict latencies_of(swd_latencies *latencies):
    """(SAM field or None: further units, "none"|"read"|"write") -> (count, sum in us, counts of the log2 buckets)."""
    cdef int unit, direction, bucket
    cdef swd_histogram *histogram
    found = {}
    for unit in range(SWD_UNITS + 1):
        for direction, name in enumerate(("none", "read", "write")):
            histogram = &latencies.of[unit][direction]
            if histogram.count:
                lun = int.from_bytes(latencies.lun[unit][:8], "big") if unit < SWD_UNITS else None
                buckets = [histogram.bucket[bucket] for bucket in range(SWD_BUCKETS)]
                found[lun, name] = (histogram.count, histogram.microseconds, buckets)
    return found


cdef list events_of(EventNode *node):
    """Turns a stolen list into Events, and frees it."""
    cdef EventNode *after
    events = []
    while node != NULL:
        data = PyBytes_FromStringAndSize(<char *>node.data, node.length) if node.length else b""
        events.append(Event(node.bhs[0] & 0x3F, PyBytes_FromStringAndSize(<char *>node.bhs, BHS), data))
        after = node.next
        free(node.data)
        free(node)
        node = after
    return events


cdef Agreed agreed_from(negotiated):
    """The C record of a Negotiated."""
    cdef Agreed agreed
    agreed.header_digest = negotiated.header_digest
    agreed.data_digest = negotiated.data_digest
    agreed.initial_r2t = negotiated.initial_r2t
    agreed.immediate_data = negotiated.immediate_data
    agreed.max_recv = negotiated.max_recv_data_segment_length
    agreed.max_send = negotiated.target_max_recv_data_segment_length
    agreed.max_burst = negotiated.max_burst_length
    agreed.first_burst = min(negotiated.first_burst_length, negotiated.max_burst_length)
    agreed.max_r2t = min(negotiated.max_outstanding_r2t, MAX_R2T)
    agreed.cmd_sn = negotiated.cmd_sn
    agreed.exp_stat_sn = negotiated.exp_stat_sn
    agreed.max_cmd_sn = negotiated.max_cmd_sn
    return agreed


cdef EventNode *steal_events(Engine self) noexcept nogil:
    """The whole list; it belongs to the caller, who gives it to `events_of`."""
    cdef EventNode *node = self.events
    self.events = self.events_tail = NULL
    self.event_count = 0
    return node

cdef object completion(Engine self, Task *task):
    if task.lost:
        error = self.losses.pop(task.itt, None) or anew(self.barred_errors.get(int.from_bytes(task.lun[:8], "big")))
        return error or ConnectionLost("the connection was lost before this was answered")
    data = PyBytes_FromStringAndSize(<char *>task.tail, task.tail_len) if task.tail_len else b""
    if task.control:
        return Event(task.control, PyBytes_FromStringAndSize(<char *>task.bhs, BHS), data)
    return Completion(
        task.itt, task.response, task.status, bool(task.underflow), bool(task.overflow), task.residual,
        task.in_done, data,
    )


cdef object anew(error):
    """An exception that is kept, for one who is to raise it: each time that one is raised it takes the frames that it
    passes, and all that they hold, to those that it has.
    """
    if error is None:
        return None
    fresh = copy(error)
    if error.__cause__ is not None:
        fresh.__cause__ = error.__cause__
    return fresh


cdef object death(Engine self):
    """The exception that says why the connection is dead, or None."""
    if self.fault_code == OK:
        return None
    if self.fault_code == TOLD or self.fault_code == DROPPED:
        return anew(self.told) or ConnectionLost("the connection was cut")
    kind, clause, words = FAULTS[self.fault_code]
    reason = words.format(self.fault_a, self.fault_b)
    if self.fault_code == SYSTEM_ERROR:
        from os import strerror
        reason = f"{reason}: {strerror(self.fault_a)}"
    if kind is ProtocolViolation:
        return kind(f"{reason} (RFC 7143 {clause})", clause=clause)
    return kind(reason)

cdef object left_open(Engine self, Task *task, bint was_sent):
    return OpenTask(
        task.itt, task.cmd_sn, int.from_bytes(task.lun[:8], "big"), bytes(task.cdb[:16]),
        task.in_done, task.out_done, was_sent, task.replays,
    )
