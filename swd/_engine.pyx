# SPDX-License-Identifier: Apache-2.0
"""The full-feature phase of one connection, at recovery level 0, without descriptor, clock or lock.

An `Engine` says where the next received bytes go and how many (`where`), takes note that they came (`received`), and
keeps the spans to send (`fill`, `sent`). It owns the task table, the command window and the sequence numbers. It knows
SCSI Command, Data-Out, Data-In, R2T, SCSI Response and NOP; all other PDUs leave once, as an `Event` or as the answer
of a control task. The pump (`_fastpath.pyx`) adds the socket and the threads, and holds the lock under which all this
runs.

Trust. Nothing that the target says is used before it is checked: a header before its digest is good, a tag before its
generation matches, an offset before it is the next one. A rule that is broken ends the connection (`fail`): at level 0
there is nothing to mend, and every open task is left over once.

A caller's buffer is written only between `start` and the end of its task or `detach`.

All of it is one compiled module, whose calls are direct; the parts are included below, each a file of functions over
an `Engine`. Here is its Python face, which copies, and serves tests, fuzzing and tools.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from posix.uio cimport iovec

from swd._crc32c cimport active_kernel
from swd._task cimport ACTIVE, BHS, MAX_SLOTS, NO_SLOT, Task
from swd._wire cimport RESERVED

from swd.values import Leftover

include "_engine_faults.pxi"
include "_engine_records.pxi"
include "_engine_tasks.pxi"
include "_engine_sending.pxi"
include "_engine_answers.pxi"
include "_engine_receiving.pxi"
include "_engine_changes.pxi"


@cython.final
cdef class Engine:
    """Engine(negotiated, slots=256, ring=262144): the machine of one connection after login.

    `slots` is the most commands that may be open at once (1 to 4096), `ring` the receive buffer in bytes.
    The pump calls the functions of the parts; the methods here copy.
    """

    def __cinit__(self, negotiated, int slots=256, uint32_t ring=262144):
        if not 1 <= slots <= MAX_SLOTS or ring < 4096:
            raise ValueError(f"slots is 1 to {MAX_SLOTS}, ring at least 4096 bytes")
        self.tasks = <Task *>calloc(slots, sizeof(Task))
        self.free_slots = <int32_t *>malloc(slots * sizeof(int32_t))
        self.headers = <uint8_t *>malloc(HEADER_SPACE)
        self.ring = <uint8_t *>malloc(ring)
        if not (self.tasks and self.free_slots and self.headers and self.ring):
            raise MemoryError
        self.slots = self.free_count = slots
        for slot in range(slots):
            self.free_slots[slot] = slots - 1 - slot
        self.ring_size = ring
        self.body_slot = NO_SLOT
        self.pins = {}
        self.losses = {}
        self.barred_errors = {}

    def __init__(self, negotiated, int slots=256, uint32_t ring=262144):
        cdef Agreed agreed = agreed_from(negotiated)
        apply(self, &agreed)
        self.crc = active_kernel().update
        self.crc_copy = active_kernel().copy

    def __dealloc__(self):
        cdef int slot
        if self.tasks != NULL:
            for slot in range(self.slots):
                free(self.tasks[slot].own_out)
                free(self.tasks[slot].tail)
        events_of(steal_events(self))
        free(self.side)
        free(self.tape.bytes)
        free(self.barred)
        free(self.tasks)
        free(self.free_slots)
        free(self.headers)
        free(self.ring)

    def take_events(self):
        """The PDUs that nobody asked for, each once."""
        return events_of(steal_events(self))

    def leftover(self):
        """What was open when the connection died (or is open now), in the order of CmdSN."""
        cdef int slot
        cdef Task *task
        tasks = []
        for slot in range(self.slots):
            task = &self.tasks[slot]
            if task.state == ACTIVE and not task.control and not task.ahead:
                tasks.append(left_open(self, task, True))
        tasks.sort(key=lambda left: (left.cmd_sn - self.cmd_sn) & 0xFFFFFFFF)
        # Those that wait have no CmdSN on this connection: first those that were sent on an earlier one, then the new
        # ones, in the order in which they will get one.
        task = self.replay.head
        while task != NULL:
            tasks.append(left_open(self, task, True))
            task = task.next
        task = self.waiting.head
        while task != NULL:
            if not task.control:
                tasks.append(left_open(self, task, False))
            task = task.next
        error = death(self)
        return Leftover(str(error) if error else "", self.cmd_sn, self.exp_stat_sn, self.max_cmd_sn, tuple(tasks))

    def statistics(self):
        """Counters since login: PDUs and bytes each way, commands, R2Ts, NOP-Ins, ends that were not plainly GOOD."""
        return {
            "pdus_in": self.pdus_in,
            "pdus_out": self.pdus_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "commands": self.commands,
            "r2ts": self.r2ts,
            "nop_ins": self.nops,
            "odd_completions": self.completions_odd,
            "completed": self.completed,
            "open_tasks": self.slots - self.free_count,
            "window": <int>(self.max_cmd_sn - self.cmd_sn) + 1,
            "reads": self.reads,
            "writes": self.writes,
            "underflows": self.underflows,
            "overflows": self.overflows,
            "response_errors": self.response_errors,
            "empty_data_ins": self.empty_data_ins,
            "data_in_residuals": self.data_in_residuals,
            "replayed": self.replayed,
            "windows_ignored": self.windows_ignored,
            "windows_shut": self.windows_shut,
            "slot_waits": self.slot_waits,
            "timeouts": self.timeouts,
        }

    def faults_seen(self):
        """Fault code (a key of FAULTS) to how often it ended a connection; those that did not happen are left out."""
        return {code: self.faults[code] for code in range(1, FAULT_CODES) if self.faults[code]}

    def last_headers(self):
        """The last 64 headers of both directions, oldest first: ("in" or "out", the caller's clock, 48 bytes)."""
        return headers_of(&self.heads)

    def latencies_seen(self):
        """(SAM field or None: further units, "none", "read" or "write") -> (count, sum in us, 32 log2 buckets)."""
        return latencies_of(&self.latencies)

    @property
    def fault(self):
        """The exception that ended the connection, or None while it lives."""
        return death(self)

    def submit(self, bytes lun, bytes cdb, data_out=None, data_in=None, double timeout=30.0, double now=0.0):
        """Queues a SCSI command; returns its ITT. `lun` is the 8-byte field; `data_in` is a writable buffer, kept
        until the end.
        """
        cdef Py_buffer out_view, in_view
        cdef bint has_out = data_out is not None
        cdef bint has_in = data_in is not None
        cdef uint8_t command[16]
        cdef Task *task
        if len(lun) != 8 or not 1 <= len(cdb) <= 16 or (has_out and has_in):
            raise ValueError("lun is 8 bytes, cdb 1 to 16, and data moves one way")
        memset(command, 0, 16)
        memcpy(command, <const uint8_t *>cdb, len(cdb))
        if has_out:
            PyObject_GetBuffer(data_out, &out_view, PyBUF_SIMPLE)
        if has_in:
            PyObject_GetBuffer(data_in, &in_view, PyBUF_WRITABLE)
        task = start(
            self, <const uint8_t *>lun, command,
            <const uint8_t *>out_view.buf if has_out else NULL, <uint32_t>out_view.len if has_out else 0,
            <uint8_t *>in_view.buf if has_in else NULL, <uint32_t>in_view.len if has_in else 0, timeout, now,
        )
        if has_out:
            PyBuffer_Release(&out_view)
        if has_in:
            PyBuffer_Release(&in_view)
        if task == NULL:
            raise death(self) or BlockingIOError("no task slot is free")
        # A memoryview keeps the buffer exported: a bytearray cannot be resized under the engine.
        self.pins[task.itt] = (memoryview(data_out) if has_out else None, memoryview(data_in) if has_in else None)
        return task.itt

    def control(
        self, bytes bhs, bytes data=b"", *, int answer, uint32_t itt=RESERVED, double timeout=30.0, double now=0.0
    ):
        """Queues any other PDU, its tag and numbers filled in here; returns its ITT. It ends with a PDU of opcode
        `answer`.
        """
        if len(bhs) != BHS:
            raise ValueError("a header is 48 bytes")
        cdef Task *task = start_control(
            self, <const uint8_t *>bhs, <const uint8_t *>data, <uint32_t>len(data), answer, itt, timeout, now
        )
        if task == NULL:
            raise death(self) or BlockingIOError("no task slot is free")
        return task.itt

    def deadline(self, uint32_t itt):
        """When a command is overdue, on the caller's clock. KeyError if there is none of that tag."""
        cdef Task *task = find(self, itt)
        if task == NULL:
            raise KeyError(itt)
        return task.deadline

    def restart(self, negotiated, order=(), losses=None, bint one_by_one=False, double now=0.0):
        """As the pump does on a new connection; nothing is held back afterwards. See `begin_again`."""
        cdef Agreed agreed = agreed_from(negotiated)
        cdef uint32_t tags[MAX_SLOTS]
        cdef int count = 0
        for itt in order:
            if count == MAX_SLOTS:
                raise ValueError(f"order: more than {MAX_SLOTS} tags")
            tags[count] = itt
            count += 1
        self.losses.update(losses or {})
        begin_again(self, &agreed, tags, count, one_by_one)
        let_loose(self, now)

    def let_go(self, uint32_t itt):
        """Detaches a task: its buffers are free at once. What the target still sends for it is dropped."""
        cdef Task *task = find(self, itt)
        if task == NULL:
            raise KeyError(itt)
        detach(self, task)
        self.pins.pop(itt, None)

    def feed(self, data, double now=0.0):
        """Receives bytes, as if they had come from the socket; raises what `fault` says when the connection dies."""
        cdef const uint8_t[::1] view = data
        cdef size_t length = view.shape[0]
        cdef size_t at = 0, n, part
        cdef iovec place[2]
        cdef int count, i
        self.now = now
        while at < length and self.fault_code == OK:
            count = where(self, place)
            n = 0
            for i in range(count):
                part = min(place[i].iov_len, length - at - n)
                memcpy(place[i].iov_base, &view[at + n], part)
                n += part
            at += n
            received(self, n)
        if self.fault_code != OK:
            raise death(self)

    def output(self, Py_ssize_t limit=-1, double now=0.0):
        """The bytes to send now, at most `limit` of them; they count as sent."""
        cdef bytearray out = bytearray()
        cdef iovec *span
        cdef size_t n
        while fill(self, now) and (limit < 0 or len(out) < limit):
            span = &self.span[self.span_head]
            n = span.iov_len if limit < 0 else min(span.iov_len, <size_t>(limit - len(out)))
            out += PyBytes_FromStringAndSize(<char *>span.iov_base, n)
            sent(self, n)
        return bytes(out)

    def completions(self):
        """The tasks that have ended, in that order: Completion for a SCSI command, Event (the answer) for another
        PDU.
        """
        cdef Task *task
        ended = []
        while True:
            task = take_done(self)
            if task == NULL:
                return ended
            ended.append((task.itt, completion(self, task)))
            self.pins.pop(task.itt, None)
            release(self, task)
