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

An Initiator Task Tag is generation << 12 | slot: finding a task is one array access, and the tag of a task that has
ended matches nothing. A caller's buffer is written only between `start` and the end of its task or `detach`.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

from swd._crc32c cimport active_kernel
from swd._serial cimport serial_after, serial_before
from swd._wire cimport get24, get32, get_digest, put24, put32, put64, put_digest

from swd.errors import BadDescriptor, ConnectionLost, DigestMismatch, ProtocolViolation
from swd.values import Completion, Event, Leftover, OpenTask

cdef double FAR_FUTURE = 1e300
cdef double MOST_EXTENSION = 4.0    # progress prolongs a command up to so many times its deadline

cdef enum:
    RESERVED = 0xFFFFFFFF
    HEADER_SPACE = 1 << 16          # headers and trailers that may wait to be sent
    QUEUE_GOAL = 1 << 20            # bytes that are worth preparing ahead of the socket
    DIRECT_FROM = 1 << 16           # after a segment this long another is expected: receive its header alone
    MAX_EVENTS = 64                 # PDUs nobody asked for that may wait; more is a flood
    MAX_NOPS = 32

    SYNCHRONIZE_10 = 0x35           # the two opcodes whose order matters to replay
    SYNCHRONIZE_16 = 0x91

    OP_NOP_OUT = 0x00
    OP_SCSI_COMMAND = 0x01
    OP_DATA_OUT = 0x05
    OP_NOP_IN = 0x20
    OP_SCSI_RESPONSE = 0x21
    OP_TASK_MANAGEMENT_RESPONSE = 0x22
    OP_TEXT_RESPONSE = 0x24
    OP_DATA_IN = 0x25
    OP_LOGOUT_RESPONSE = 0x26
    OP_R2T = 0x31
    OP_ASYNC = 0x32
    OP_REJECT = 0x3F

# What each fault means: whose error it is, the clause of RFC 7143, the words. {0} and {1} are its two numbers.
FAULTS = {
    CLOSED: (BadDescriptor, "", "the session is closed"),
    END_OF_STREAM: (ConnectionLost, "", "the target closed the connection"),
    SYSTEM_ERROR: (ConnectionLost, "", "the connection broke"),
    HEADER_DIGEST: (DigestMismatch, "7.8", "the header digest is 0x{0:08x} but 0x{1:08x} was sent with it"),
    DATA_DIGEST: (DigestMismatch, "7.8", "the data digest is 0x{0:08x} but 0x{1:08x} was sent with it"),
    UNKNOWN_OPCODE: (ProtocolViolation, "11.2.1.2", "the target sent a PDU of unknown opcode 0x{0:02x}"),
    AHS: (ProtocolViolation, "11.2.2", "the target sent an additional header segment with opcode 0x{0:02x}"),
    SEGMENT_TOO_LONG: (ProtocolViolation, "13.12", "a data segment of {0} bytes is over the {1} that were agreed"),
    UNKNOWN_TAG: (ProtocolViolation, "11.2.1.8", "opcode 0x{0:02x} names task 0x{1:08x}, which is not open"),
    STAT_SN: (ProtocolViolation, "4.2.2.2", "StatSN is {0}, expected {1}: a status was lost or repeated"),
    DATA_SN: (ProtocolViolation, "11.7.5", "DataSN is {0}, expected {1}: a Data-In PDU was lost or repeated"),
    DATA_OFFSET: (ProtocolViolation, "11.7.6", "Data-In for offset {0}, expected offset {1}"),
    DATA_TOO_LONG: (ProtocolViolation, "11.7", "Data-In up to byte {0} of a transfer of {1} bytes"),
    DATA_NOT_WANTED: (ProtocolViolation, "11.7", "Data-In for task 0x{0:08x}, which reads nothing"),
    DATA_STATUS: (ProtocolViolation, "11.7.3", "Data-In carries status 0x{0:02x} with flags 0x{1:02x}"),
    DATA_ACK: (ProtocolViolation, "11.7.2", "the target asks for a DataACK at recovery level 0"),
    R2T_NOT_WANTED: (ProtocolViolation, "11.8", "R2T for task 0x{0:08x}, which writes nothing"),
    R2T_SN: (ProtocolViolation, "11.8.3", "R2TSN is {0}, expected {1}"),
    R2T_RANGE: (ProtocolViolation, "11.8.4", "R2T asks for bytes {0} to {1}, outside what is left to send"),
    R2T_BURST: (ProtocolViolation, "11.8.4", "R2T asks for {0} bytes at once; MaxBurstLength is {1}"),
    R2T_TOO_MANY: (ProtocolViolation, "13.17", "more than {0} R2Ts are outstanding"),
    R2T_TAG: (ProtocolViolation, "11.8.5", "R2T without a Target Transfer Tag"),
    RESIDUAL: (ProtocolViolation, "11.4.5", "the residual count says {0} bytes are missing, but {1} are"),
    SHORT_READ: (ProtocolViolation, "11.4.5", "GOOD status after {0} of {1} bytes, and no residual count"),
    SHORT_WRITE: (ProtocolViolation, "11.4.5", "GOOD status for a write of {1} bytes of which the target took {0}"),
    UNEXPECTED_DATA: (ProtocolViolation, "11.8", "opcode 0x{0:02x} with a data segment of {1} bytes"),
    FLOOD: (ProtocolViolation, "11.2.1", "more than {0} PDUs of opcode 0x{1:02x} that nobody asked for are waiting"),
    NO_MEMORY: (ConnectionLost, "", "no memory for {0} bytes of a PDU: the connection is closed"),
}

# Their names in statistics.
FAULT_NAMES = {
    TOLD: "told",
    DROPPED: "dropped",
    CLOSED: "closed",
    END_OF_STREAM: "end_of_stream",
    SYSTEM_ERROR: "system_error",
    HEADER_DIGEST: "header_digest",
    DATA_DIGEST: "data_digest",
    UNKNOWN_OPCODE: "unknown_opcode",
    AHS: "ahs",
    SEGMENT_TOO_LONG: "segment_too_long",
    UNKNOWN_TAG: "unknown_tag",
    STAT_SN: "stat_sn",
    DATA_SN: "data_sn",
    DATA_OFFSET: "data_offset",
    DATA_TOO_LONG: "data_too_long",
    DATA_NOT_WANTED: "data_not_wanted",
    DATA_STATUS: "data_status",
    DATA_ACK: "data_ack",
    R2T_NOT_WANTED: "r2t_not_wanted",
    R2T_SN: "r2t_sn",
    R2T_RANGE: "r2t_range",
    R2T_BURST: "r2t_burst",
    R2T_TOO_MANY: "r2t_too_many",
    R2T_TAG: "r2t_tag",
    RESIDUAL: "residual",
    SHORT_READ: "short_read",
    SHORT_WRITE: "short_write",
    UNEXPECTED_DATA: "unexpected_data",
    FLOOD: "flood",
    NO_MEMORY: "no_memory",
}

cdef inline void push(Queue *queue, Task *task) noexcept nogil:
    task.next = NULL
    if queue.tail == NULL:
        queue.head = task
    else:
        queue.tail.next = task
    queue.tail = task


cdef inline Task *pop(Queue *queue) noexcept nogil:
    cdef Task *task = queue.head
    if task != NULL:
        queue.head = task.next
        if queue.head == NULL:
            queue.tail = NULL
        task.next = NULL
    return task


cdef void unlink(Queue *queue, Task *task) noexcept nogil:
    cdef Task *at = queue.head
    cdef Task *before = NULL
    while at != NULL and at != task:
        before = at
        at = at.next
    if at == NULL:
        return
    if before == NULL:
        queue.head = task.next
    else:
        before.next = task.next
    if queue.tail == task:
        queue.tail = before
    task.next = NULL


cdef inline void put_off(Task *task, double now) noexcept nogil:
    """Data moved, or is asked for: the target works on it, and gets its whole deadline again, within the limit."""
    task.deadline = min(now + task.timeout, task.limit)


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


@cython.final
cdef class Engine:
    """Engine(negotiated, slots=256, ring=262144): the machine of one connection after login.

    `slots` is the most commands that may be open at once (1 to 4096), `ring` the receive buffer in bytes.
    What is `cdef` is for the pump; the methods below are its Python face: they copy, and serve tests, fuzzing and
    tools.
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
        self.apply(&agreed)
        self.crc = active_kernel().update
        self.crc_copy = active_kernel().copy

    def __dealloc__(self):
        cdef int slot
        if self.tasks != NULL:
            for slot in range(self.slots):
                free(self.tasks[slot].own_out)
                free(self.tasks[slot].tail)
        events_of(self.steal_events())
        free(self.side)
        free(self.tape.bytes)
        free(self.barred)
        free(self.tasks)
        free(self.free_slots)
        free(self.headers)
        free(self.ring)

    # ---- tasks --------------------------------------------------------------------------------------------------

    cdef Task *allocate(self, uint32_t itt, double timeout, double now) noexcept nogil:
        """A fresh task with a tag of its own, or with `itt` if that is given and its slot is free."""
        cdef int at = self.free_count - 1
        if at < 0 or (self.fault_code != OK and not self.recovering):
            return NULL
        while itt != RESERVED and at >= 0 and self.free_slots[at] != <int>(itt & (MAX_SLOTS - 1)):
            at -= 1
        if at < 0:
            return NULL
        cdef int slot = self.free_slots[at]
        cdef Task *task = &self.tasks[slot]
        self.free_count -= 1
        self.free_slots[at] = self.free_slots[self.free_count]
        memset(task, 0, <size_t>(<uint8_t *>task.bhs - <uint8_t *>task))
        while itt == RESERVED:
            self.generation += 1
            itt = (self.generation << SLOT_BITS) | <uint32_t>slot
        task.itt = itt
        task.state = QUEUED
        task.timeout = timeout
        task.begun = now
        task.deadline = task.limit = now + timeout
        return task

    cdef Task *find(self, uint32_t itt) noexcept nogil:
        """The open task of that tag, or NULL. The reserved tag has a slot number like any other: its generation never
        lives.
        """
        cdef uint32_t slot = itt & (MAX_SLOTS - 1)
        if slot >= <uint32_t>self.slots or self.tasks[slot].itt != itt or self.tasks[slot].state == FREE:
            return NULL
        return &self.tasks[slot]

    cdef Task *start(self, const uint8_t *lun, const uint8_t *cdb, const uint8_t *out_buf, uint32_t out_len,
                     uint8_t *in_buf, uint32_t in_len, double timeout, double now) noexcept nogil:
        """Queues a SCSI command; NULL if no slot is free. At most one of out_len and in_len is non-zero."""
        cdef Task *task = self.allocate(RESERVED, timeout, now)
        if task == NULL:
            return NULL
        memcpy(task.lun, lun, 8)
        memcpy(task.cdb, cdb, 16)
        task.out_buf = out_buf
        task.out_len = out_len
        task.in_buf = in_buf
        task.in_len = in_len
        if self.recovering or self.held:
            task.deadline = FAR_FUTURE  # recovery has bounds of its own; see `let_loose`
        push(&self.waiting, task)
        self.commands += 1
        self.reads += in_len > 0
        self.writes += out_len > 0
        return task

    cdef Task *start_control(self, const uint8_t *bhs, const uint8_t *data, uint32_t length, uint8_t answer,
                             uint32_t itt, double timeout, double now) noexcept nogil:
        """Queues a PDU whose header is given but for tag and numbers; it ends with a PDU of opcode `answer`.

        `itt` is the tag to use again (a text sequence keeps its tag, RFC 7143 11.10.4), or RESERVED for a new one.
        """
        cdef Task *task = self.allocate(itt, timeout, now)
        if task == NULL:
            return NULL
        memcpy(task.bhs, bhs, BHS)
        task.control = answer
        task.immediate = (bhs[0] & 0x40) != 0
        if length:
            task.own_out = <uint8_t *>malloc(length)
            if task.own_out == NULL:
                self.release(task)
                return NULL
            memcpy(task.own_out, data, length)
            task.out_buf = task.own_out
            task.out_len = length
        push(&self.urgent if task.immediate else &self.waiting, task)
        return task

    cdef void go_ahead(self, Task *task) noexcept nogil:
        """A command that was just started goes before replay and new commands."""
        task.deadline = task.limit
        unlink(&self.waiting, task)
        push(&self.urgent, task)
        task.ahead = True

    cdef Task *take_done(self) noexcept nogil:
        return pop(&self.done)

    cdef void release(self, Task *task) noexcept nogil:
        free(task.own_out)
        free(task.tail)
        task.own_out = NULL
        task.tail = NULL
        task.state = FREE
        self.free_slots[self.free_count] = <int>(task - self.tasks)
        self.free_count += 1

    cdef void end(self, Task *task) noexcept nogil:
        """The answer is complete. While spans still point into its buffer, `sent` finishes the job."""
        task.state = DONE
        if task.replaying:
            task.replaying = False
            self.replaying -= 1
        if task.sending:
            unlink(&self.data_out, task)
            task.sending = False
        if task.spans == 0:
            self.finish(task)

    cdef void finish(self, Task *task) noexcept nogil:
        if task.detached:
            self.release(task)
        else:
            push(&self.done, task)

    cdef int detach(self, Task *task) noexcept nogil:
        """Nobody waits any more: from here on no byte of a caller's buffer is touched. What is still to be sent is
        copied.

        The caller must see to it that no receive into the task's buffer is going on. Returns -1 if the copy found no
        memory; then the connection is failed.
        """
        cdef int slot = <int>(task - self.tasks)
        cdef int i
        cdef uint8_t *copy
        task.waiter = NULL
        if task.state == DONE and task.spans == 0:
            unlink(&self.done, task)
            self.release(task)
            return 0
        task.detached = True
        task.in_buf = NULL
        if self.body_slot == slot:
            self.dest = NULL
        if task.state == QUEUED and not task.control:
            unlink(&self.waiting, task)
            unlink(&self.replay, task)
            unlink(&self.urgent, task)
            self.release(task)
            return 0
        if self.fault_code != OK:
            return 0  # nothing is sent any more
        if task.out_len and task.own_out == NULL and (task.spans or task.out_done < task.out_len):
            copy = <uint8_t *>malloc(task.out_len)
            if copy == NULL:
                self.fail(NO_MEMORY, task.out_len, 0)
                return -1
            memcpy(copy, task.out_buf, task.out_len)
            for i in range(self.span_head, self.span_end):
                if self.span_slot[i] == slot:
                    self.span[i].iov_base = copy + (<uint8_t *>self.span[i].iov_base - task.out_buf)
            task.out_buf = task.own_out = copy
        return 0

    cdef void fail(self, int code, int64_t a, int64_t b) noexcept nogil:
        """The connection is dead. The first fault is the one that counts."""
        if self.fault_code == OK:
            self.faults[code] += 1
            self.fault_code = code
            self.fault_a = a
            self.fault_b = b

    # ---- a new connection under the same tasks -----------------------------------------------------------------------

    cdef void apply(self, const Agreed *agreed) noexcept nogil:
        self.header_digest = agreed.header_digest
        self.data_digest = agreed.data_digest
        self.initial_r2t = agreed.initial_r2t
        self.immediate_data = agreed.immediate_data
        self.max_recv = agreed.max_recv
        self.max_send = agreed.max_send
        self.max_burst = agreed.max_burst
        self.first_burst = agreed.first_burst
        self.max_r2t = agreed.max_r2t
        self.cmd_sn = agreed.cmd_sn
        self.exp_stat_sn = agreed.exp_stat_sn
        self.max_cmd_sn = agreed.max_cmd_sn

    cdef void begin_again(self, const Agreed *agreed, const uint32_t *order, int count, bint one_by_one) noexcept nogil:
        """Takes over a new connection: the tasks in `order` are sent again in that order, those that were never sent
        keep their place behind them, all others are lost. Nothing but what is urgent goes out until `held` is cleared.

        The old connection must be closed, and no receive may be going on.
        """
        cdef Queue unsent = self.waiting
        cdef Task *task
        cdef int i
        for i in range(self.slots):
            self.tasks[i].lost = self.tasks[i].state in (QUEUED, ACTIVE)
        self.forget_connection()
        swd_tape_next_connection(&self.tape)
        self.apply(agreed)
        self.held = True
        self.one_by_one = one_by_one
        self.fault_code = OK
        self.recovering = False
        for i in range(count):
            task = self.find(order[i])
            if task != NULL and task.lost and not (task.control or task.detached or task.ahead):
                self.queue_again(task)
                push(&self.replay, task)
        task = pop(&unsent)
        while task != NULL:
            if not task.control:
                task.lost = False
                task.deadline = FAR_FUTURE
                push(&self.waiting, task)
            task = pop(&unsent)
        for i in range(self.slots):
            if self.tasks[i].lost and self.tasks[i].state in (QUEUED, ACTIVE):
                self.lose(&self.tasks[i])

    cdef void let_loose(self, double now) noexcept nogil:
        """Recovery is over: replay, then new commands. Their clocks begin when they are sent, but a target that opens
        no window for them is not waited for without end.
        """
        cdef int i
        self.held = False
        for i in range(self.slots):
            if self.tasks[i].state == QUEUED and not self.tasks[i].control:
                self.tasks[i].deadline = now + MOST_EXTENSION * self.tasks[i].timeout

    cdef void forget_connection(self) noexcept nogil:
        """Empties the queues of both directions; no span points anywhere afterwards."""
        cdef int i
        cdef Task *task
        for i in range(self.span_head, self.span_end):
            if self.span_slot[i] != NO_SLOT:
                task = &self.tasks[self.span_slot[i]]
                task.spans -= 1
                if task.spans == 0 and task.state == DONE:
                    self.finish(task)
        self.span_head = self.span_end = 0
        self.queued_bytes = self.header_end = 0
        memset(&self.waiting, 0, sizeof(Queue))
        memset(&self.urgent, 0, sizeof(Queue))
        memset(&self.replay, 0, sizeof(Queue))
        memset(&self.data_out, 0, sizeof(Queue))
        self.replaying = 0
        self.nop_count = 0
        self.ring_pos = self.ring_end = 0
        self.in_body = self.direct = self.last_big = False
        self.left = self.trailer = 0
        self.body_slot = NO_SLOT
        self.dest = NULL
        free(self.side)
        self.side = NULL

    cdef void queue_again(self, Task *task) noexcept nogil:
        """As if it had never been sent; its tag stays, for the new session knows no other."""
        task.state = QUEUED
        task.lost = False
        task.replaying = False
        task.sending = False
        task.in_done = task.data_sn = 0
        task.out_done = task.unsolicited_end = task.unsolicited_sn = 0
        task.r2t_sn = task.r2t_next = 0
        task.r2t_head = task.r2t_count = 0
        task.deadline = FAR_FUTURE

    cdef void begin_tape(self, uint8_t *bytes, size_t size) noexcept nogil:
        """From the next PDU of each direction on, all bytes go to the tape too."""
        cdef uint32_t waiting = self.ring_end - self.ring_pos
        self.tape.bytes = bytes
        self.tape.size = size
        self.tape.used = self.tape.lost = self.tape.at_in = self.tape.at_out = 0
        self.tape.skip_out = self.queued_bytes
        self.tape.skip_in = self.left + self.trailer - waiting if self.in_body else 0
        if not self.in_body:  # what is there of the next header
            swd_tape_pass(&self.tape, 0, self.ring + self.ring_pos, waiting, self.now)

    cdef bint is_barred(self, const uint8_t *lun) noexcept nogil:
        """Whether another disk answers under this LUN than the one that was opened: nothing is sent to it."""
        cdef int i
        for i in range(self.barred_count):
            if memcmp(self.barred + 8 * i, lun, 8) == 0:
                return True
        return False

    cdef void lose_barred(self, Queue *queue) noexcept nogil:
        while queue.head != NULL and not queue.head.control and self.is_barred(queue.head.lun):
            self.lose(pop(queue))

    cdef uint8_t *list_barred(self, dict units) except NULL:
        """A new list for `barred`; made without the lock, for it may run the garbage collector."""
        cdef uint8_t *barred = <uint8_t *>malloc(8 * (len(units) + 1))
        if barred == NULL:
            raise MemoryError
        cdef Py_ssize_t at = 0
        for lun in units:
            put64(barred + 8 * at, lun)
            at += 1
        self.barred_errors = units
        return barred

    cdef uint8_t *bar(self, uint8_t *barred, int count) noexcept nogil:
        """From now on no new and no replayed command goes to these units. Returns the list before, to be freed."""
        cdef uint8_t *before = self.barred
        self.barred = barred
        self.barred_count = count
        return before

    cdef void lose(self, Task *task) noexcept nogil:
        task.lost = True
        task.replaying = False
        task.sending = False
        task.state = DONE
        if task.spans == 0:
            self.finish(task)

    # ---- sending ------------------------------------------------------------------------------------------------

    cdef uint8_t *new_header(self) noexcept nogil:
        cdef uint8_t *header = self.headers + self.header_end
        memset(header, 0, BHS)
        return header

    cdef void add_span(self, const uint8_t *base, size_t length, int slot) noexcept nogil:
        cdef iovec *last
        if slot == NO_SLOT and self.span_end > self.span_head:
            last = &self.span[self.span_end - 1]
            if self.span_slot[self.span_end - 1] == NO_SLOT and <uint8_t *>last.iov_base + last.iov_len == base:
                last.iov_len += length
                self.queued_bytes += length
                return
        self.span[self.span_end].iov_base = <void *>base
        self.span[self.span_end].iov_len = length
        self.span_slot[self.span_end] = slot
        self.span_end += 1
        self.queued_bytes += length

    cdef void add_pdu(self, uint8_t *header, const uint8_t *data, uint32_t length, Task *owner) noexcept nogil:
        """Header, its digest, the data in place, padding, the data's digest: at most three spans."""
        cdef uint32_t head = BHS
        cdef uint32_t pad = (-length) & 3
        cdef uint32_t tail = pad
        cdef uint32_t crc
        cdef uint8_t *trailer
        put24(header + 5, length)
        if self.header_digest:
            put_digest(header + BHS, ~self.crc(0xFFFFFFFF, header, BHS))
            head += 4
        swd_heads_add(&self.heads, header, 1, self.now)
        self.header_end += head
        self.add_span(header, head, NO_SLOT)
        self.pdus_out += 1
        if length == 0:
            return
        owner.spans += 1
        self.add_span(data, length, <int>(owner - self.tasks))
        trailer = self.headers + self.header_end
        memset(trailer, 0, pad)
        if self.data_digest:
            crc = self.crc(0xFFFFFFFF, data, length)
            put_digest(trailer + pad, ~self.crc(crc, trailer, pad))
            tail += 4
        if tail:
            self.header_end += tail
            self.add_span(trailer, tail, NO_SLOT)

    cdef bint room(self) noexcept nogil:
        """Room for one more PDU: 48 + 4 + 3 + 4 bytes beside its data, three spans."""
        if self.span_head == self.span_end:
            self.span_head = self.span_end = 0
            self.header_end = 0
        return self.header_end + 64 <= HEADER_SPACE and self.span_end + 3 <= MAX_SPANS

    cdef int fill(self, double now) noexcept nogil:
        """Builds PDUs until the queue is worth a system call; returns the number of spans that wait.

        Commands go in the order in which they were queued, as far as the window is open (RFC 7143 4.2.2.1); immediate
        PDUs and answers to the target's NOP-In go ahead of them; Data-Out is built last, and never more than fits.
        """
        cdef Task *task
        self.now = now
        if self.fault_code != OK:
            return 0
        while self.room() and self.queued_bytes < QUEUE_GOAL:
            if self.nop_count:
                self.build_nop_answer()
                continue
            task = self.next_command()
            if task != NULL:
                if task.control:
                    self.build_control(task, now)
                else:
                    self.build_command(task, now)
            elif self.data_out.head != NULL:
                self.build_data_out(self.data_out.head)
            else:
                break
        return self.span_end - self.span_head

    cdef Task *next_command(self) noexcept nogil:
        """The command that may go now, taken from its queue: first what is urgent, then what is replayed, then the new.

        A replayed flush waits for all that was replayed before it, and new commands wait until replay is over.
        """
        cdef bint window_open = not serial_after(self.cmd_sn, self.max_cmd_sn)
        cdef Task *task = self.urgent.head
        if task != NULL and (task.immediate or window_open):
            return pop(&self.urgent)
        if self.held or not window_open:
            return NULL
        if self.barred_count:
            self.lose_barred(&self.replay)
        task = self.replay.head
        if task != NULL:
            if self.replaying and (self.one_by_one or task.cdb[0] == SYNCHRONIZE_10 or task.cdb[0] == SYNCHRONIZE_16):
                return NULL
            task.replaying = True
            task.replays += 1
            self.replayed += 1
            self.replaying += 1
            return pop(&self.replay)
        if self.replaying:
            return NULL
        if self.barred_count:
            self.lose_barred(&self.waiting)
        return pop(&self.waiting)

    cdef void build_nop_answer(self) noexcept nogil:
        """RFC 7143 11.18: ITT reserved, LUN and TTT copied, immediate so that it takes no place in the window."""
        cdef uint8_t *header = self.new_header()
        cdef uint32_t at = self.nop_head % MAX_NOPS
        self.nop_head += 1
        self.nop_count -= 1
        header[0] = 0x40 | OP_NOP_OUT
        header[1] = 0x80
        memcpy(header + 8, self.nop_lun[at], 8)
        put32(header + 16, RESERVED)
        put32(header + 20, self.nop_ttt[at])
        put32(header + 24, self.cmd_sn)
        put32(header + 28, self.exp_stat_sn)
        self.add_pdu(header, NULL, 0, NULL)

    cdef void build_control(self, Task *task, double now) noexcept nogil:
        cdef uint8_t *header = self.new_header()
        memcpy(header, task.bhs, BHS)
        put32(header + 16, task.itt)
        put32(header + 24, self.cmd_sn)
        put32(header + 28, self.exp_stat_sn)
        task.cmd_sn = self.cmd_sn
        if not task.immediate:
            self.cmd_sn += 1
        task.state = ACTIVE
        task.deadline = now + task.timeout
        self.add_pdu(header, task.out_buf, task.out_len, task)

    cdef uint32_t immediate_most(self) noexcept nogil:
        """Bytes of a write that may go in its command PDU."""
        return min(self.first_burst, self.max_send) if self.immediate_data else 0

    cdef uint32_t unsolicited_most(self) noexcept nogil:
        """Bytes of a write that may go without an R2T (RFC 7143 13.10, 13.14)."""
        return self.immediate_most() if self.initial_r2t else self.first_burst

    cdef void build_command(self, Task *task, double now) noexcept nogil:
        """The command, with immediate data as far as was agreed; what may follow unsolicited is queued (RFC 7143
        4.2.5.2).
        """
        cdef uint8_t *header = self.new_header()
        cdef uint32_t immediate = min(task.out_len, self.immediate_most())
        header[0] = OP_SCSI_COMMAND
        header[1] = 0x80 | 0x01  # F, SIMPLE
        if task.in_len:
            header[1] |= 0x40
        elif task.out_len:
            header[1] |= 0x20
            task.unsolicited_end = min(task.out_len, self.unsolicited_most())
            if task.unsolicited_end > immediate:
                header[1] &= 0x7F  # unsolicited Data-Out follows
        memcpy(header + 8, task.lun, 8)
        put32(header + 16, task.itt)
        put32(header + 20, task.out_len if task.out_len else task.in_len)
        put32(header + 24, self.cmd_sn)
        put32(header + 28, self.exp_stat_sn)
        memcpy(header + 32, task.cdb, 16)
        task.cmd_sn = self.cmd_sn
        self.cmd_sn += 1
        task.state = ACTIVE
        task.deadline = now + task.timeout
        task.limit = now + MOST_EXTENSION * task.timeout
        task.out_done = immediate
        task.r2t_next = task.unsolicited_end
        self.add_pdu(header, task.out_buf, immediate, task)
        if task.unsolicited_end > immediate:
            task.sending = True
            push(&self.data_out, task)

    cdef void build_data_out(self, Task *task) noexcept nogil:
        """One Data-Out: of the unsolicited burst first, then of the R2Ts in their order (RFC 7143 11.7)."""
        cdef uint8_t *header = self.new_header()
        cdef R2T *r2t = &task.r2t[task.r2t_head]
        cdef bint unsolicited = task.out_done < task.unsolicited_end
        cdef uint32_t offset, end, length
        if unsolicited:
            offset, end = task.out_done, task.unsolicited_end
        else:
            offset, end = r2t.next, r2t.end
        length = min(end - offset, self.max_send)
        header[0] = OP_DATA_OUT
        header[1] = 0x80 if offset + length == end else 0
        memcpy(header + 8, task.lun, 8)
        put32(header + 16, task.itt)
        put32(header + 20, RESERVED if unsolicited else r2t.ttt)
        put32(header + 28, self.exp_stat_sn)
        put32(header + 36, task.unsolicited_sn if unsolicited else r2t.data_sn)
        put32(header + 40, offset)
        task.out_done += length
        put_off(task, self.now)
        if unsolicited:
            task.unsolicited_sn += 1
        else:
            r2t.next += length
            r2t.data_sn += 1
            if r2t.next == r2t.end:
                task.r2t_head = (task.r2t_head + 1) % MAX_R2T
                task.r2t_count -= 1
        self.add_pdu(header, task.out_buf + offset, length, task)
        if offset + length == end:
            pop(&self.data_out)
            task.sending = task.r2t_count > 0
            if task.sending:
                push(&self.data_out, task)  # others take their turn between two bursts

    cdef void sent(self, size_t n) noexcept nogil:
        """The first n bytes of the waiting spans have gone out."""
        cdef iovec *span
        cdef Task *task
        self.bytes_out += n
        self.queued_bytes -= n
        while n:
            span = &self.span[self.span_head]
            if self.tape.bytes != NULL:
                swd_tape_pass(&self.tape, 1, <uint8_t *>span.iov_base, min(n, span.iov_len), self.now)
            if n < span.iov_len:
                span.iov_base = <uint8_t *>span.iov_base + n
                span.iov_len -= n
                return
            n -= span.iov_len
            if self.span_slot[self.span_head] != NO_SLOT:
                task = &self.tasks[self.span_slot[self.span_head]]
                task.spans -= 1
                if task.spans == 0 and task.state == DONE:
                    self.finish(task)
            self.span_head += 1

    # ---- receiving ----------------------------------------------------------------------------------------------

    cdef int where(self, iovec *place) noexcept nogil:
        """Where the next bytes go: one or two places, the second of them the ring. Returns how many."""
        cdef uint32_t waiting = self.ring_end - self.ring_pos
        cdef uint32_t head = BHS + (4 if self.header_digest else 0)
        cdef uint32_t limit
        if waiting == 0:
            self.ring_pos = self.ring_end = 0
        elif self.ring_pos:
            memmove(self.ring, self.ring + self.ring_pos, waiting)
            self.ring_pos = 0
            self.ring_end = waiting
        self.direct = self.in_body and self.left > 0 and self.dest != NULL
        if self.direct and self.body_slot != NO_SLOT and self.tasks[self.body_slot].evicting:
            self.direct = False
        if self.direct:
            place[0].iov_base = self.dest
            place[0].iov_len = self.left
            place[1].iov_base = self.ring
            place[1].iov_len = self.trailer + head if self.last_big else self.ring_size
            return 2
        limit = self.ring_size - self.ring_end
        if self.last_big and not self.in_body and limit > 4096:
            limit = 4096
        place[0].iov_base = self.ring + self.ring_end
        place[0].iov_len = limit
        return 1

    cdef int received(self, size_t n) noexcept nogil:
        """n bytes came into the places that `where` named. Returns -1 if the connection is dead."""
        cdef uint32_t placed
        self.bytes_in += n
        if self.direct:
            self.direct = False
            placed = <uint32_t>min(n, self.left)
            if self.tape.bytes != NULL:
                swd_tape_pass(&self.tape, 0, self.dest, placed, self.now)
            if self.data_digest:
                self.body_crc = self.crc(self.body_crc, self.dest, placed)
            self.dest += placed
            self.left -= placed
            n -= placed
            if self.body_slot != NO_SLOT:
                put_off(&self.tasks[self.body_slot], self.now)
        if self.tape.bytes != NULL:
            swd_tape_pass(&self.tape, 0, self.ring + self.ring_end, n, self.now)
        self.ring_end += <uint32_t>n
        while self.fault_code == OK:
            if self.in_body:
                if not self.take_body():
                    break
            elif not self.take_header():
                break
        return -1 if self.fault_code != OK else 0

    cdef bint take_header(self) noexcept nogil:
        cdef uint32_t head = BHS + (4 if self.header_digest else 0)
        cdef uint8_t *bhs = self.ring + self.ring_pos
        cdef uint32_t length, crc
        if self.ring_end - self.ring_pos < head:
            return False
        swd_heads_add(&self.heads, bhs, 0, self.now)
        if self.header_digest:
            crc = ~self.crc(0xFFFFFFFF, bhs, BHS)
            if crc != get_digest(bhs + BHS):
                self.fail(HEADER_DIGEST, crc, get_digest(bhs + BHS))
                return False
        length = get24(bhs + 5)
        if bhs[4]:
            self.fail(AHS, bhs[0] & 0x3F, 0)
            return False
        if length > self.max_recv:
            self.fail(SEGMENT_TOO_LONG, length, self.max_recv)
            return False
        memcpy(self.bhs, bhs, BHS)
        self.ring_pos += head
        self.pdus_in += 1
        if not self.prepare(length):
            return False
        if length == 0:
            self.finish_pdu(0)
            return True
        self.in_body = True
        self.left = length
        self.trailer = ((-length) & 3) + (4 if self.data_digest else 0)
        self.body_crc = 0xFFFFFFFF
        self.last_big = length >= DIRECT_FROM
        return True

    cdef bint take_body(self) noexcept nogil:
        """Moves what the ring holds of the data segment, checksumming in the same pass; then the trailer."""
        cdef uint32_t waiting = self.ring_end - self.ring_pos
        cdef uint8_t *source = self.ring + self.ring_pos
        cdef uint32_t n = min(self.left, waiting)
        cdef uint32_t pad, crc
        if n:
            if self.data_digest:
                if self.dest != NULL:
                    self.body_crc = self.crc_copy(self.body_crc, self.dest, source, n)
                else:
                    self.body_crc = self.crc(self.body_crc, source, n)
            elif self.dest != NULL:
                memcpy(self.dest, source, n)
            if self.dest != NULL:
                self.dest += n
            self.left -= n
            self.ring_pos += n
        if self.left or self.ring_end - self.ring_pos < self.trailer:
            return False
        source = self.ring + self.ring_pos
        self.ring_pos += self.trailer
        self.in_body = False
        if self.data_digest:
            pad = self.trailer - 4
            crc = ~self.crc(self.body_crc, source, pad)
            if crc != get_digest(source + pad):
                self.fail(DATA_DIGEST, crc, get_digest(source + pad))
                return False
        self.finish_pdu(get24(self.bhs + 5))
        return True

    cdef bint prepare(self, uint32_t length) noexcept nogil:
        """Judges a header before a byte of its data is placed, and says where that data goes."""
        cdef int opcode = self.bhs[0] & 0x3F
        if opcode == OP_DATA_IN:
            return self.prepare_data_in(length)
        self.body_slot = NO_SLOT
        self.dest = NULL
        if length == 0:
            return True
        if opcode == OP_R2T or opcode == OP_TASK_MANAGEMENT_RESPONSE or opcode == OP_LOGOUT_RESPONSE:
            self.fail(UNEXPECTED_DATA, opcode, length)
            return False
        self.side = <uint8_t *>malloc(length)
        if self.side == NULL:
            self.fail(NO_MEMORY, length, 0)
            return False
        self.dest = self.side
        return True

    cdef bint prepare_data_in(self, uint32_t length) noexcept nogil:
        cdef uint8_t *bhs = self.bhs
        cdef uint32_t itt = get32(bhs + 16)
        cdef uint32_t offset = get32(bhs + 40)
        cdef Task *task = self.find(itt)
        if task == NULL or task.state != ACTIVE or task.control:
            self.fail(UNKNOWN_TAG, OP_DATA_IN, itt)
        elif task.in_len == 0:
            self.fail(DATA_NOT_WANTED, itt, 0)
        elif get32(bhs + 36) != task.data_sn:
            self.fail(DATA_SN, get32(bhs + 36), task.data_sn)
        elif offset != task.in_done and length:
            self.fail(DATA_OFFSET, offset, task.in_done)
        elif <uint64_t>task.in_done + length > task.in_len:
            self.fail(DATA_TOO_LONG, <int64_t>task.in_done + length, task.in_len)
        elif bhs[1] & 0x40:
            self.fail(DATA_ACK, 0, 0)
        elif bhs[1] & 1 and (not bhs[1] & 0x80 or bhs[3] & ~0x14):  # GOOD, CONDITION MET, INTERMEDIATE; S with F
            self.fail(DATA_STATUS, bhs[3], bhs[1])
        else:
            self.body_slot = <int>(task - self.tasks)
            self.dest = NULL if task.in_buf == NULL else task.in_buf + task.in_done
            return True
        return False

    cdef void finish_pdu(self, uint32_t length) noexcept nogil:
        """A PDU is complete and its digests are good."""
        cdef int opcode = self.bhs[0] & 0x3F
        cdef uint32_t max_cmd_sn = get32(self.bhs + 32)
        # RFC 7143 4.2.2.1: a pair that contradicts itself is ignored, and the window never shrinks.
        if not serial_before(max_cmd_sn, get32(self.bhs + 28) - 1) and serial_after(max_cmd_sn, self.max_cmd_sn):
            self.max_cmd_sn = max_cmd_sn
        if opcode == OP_DATA_IN:
            self.on_data_in(length)
        elif opcode == OP_SCSI_RESPONSE:
            self.on_response(length)
        elif opcode == OP_R2T:
            self.on_r2t()
        elif opcode == OP_NOP_IN:
            self.on_nop_in(length)
        elif opcode == OP_TEXT_RESPONSE or opcode == OP_TASK_MANAGEMENT_RESPONSE or opcode == OP_LOGOUT_RESPONSE:
            self.on_control_answer(opcode, length)
        elif opcode == OP_ASYNC or opcode == OP_REJECT:
            if self.take_stat_sn():
                self.add_event(opcode, length)
        else:
            self.fail(UNKNOWN_OPCODE, opcode, 0)
        free(self.side)
        self.side = NULL

    cdef bint take_stat_sn(self) noexcept nogil:
        cdef uint32_t stat_sn = get32(self.bhs + 24)
        if stat_sn != self.exp_stat_sn:
            self.fail(STAT_SN, stat_sn, self.exp_stat_sn)
            return False
        self.exp_stat_sn += 1
        return True

    cdef void on_data_in(self, uint32_t length) noexcept nogil:
        cdef uint32_t itt = get32(self.bhs + 16)
        cdef Task *task = self.find(itt)
        self.body_slot = NO_SLOT
        if task == NULL:  # the pump was told to forget it since its header came
            self.fail(UNKNOWN_TAG, OP_DATA_IN, itt)
            return
        task.data_sn += 1
        task.in_done += length
        self.empty_data_ins += length == 0
        if length:
            put_off(task, self.now)
        if self.bhs[1] & 1 and self.take_stat_sn():
            self.take_status(task)

    cdef void on_response(self, uint32_t length) noexcept nogil:
        cdef uint32_t itt = get32(self.bhs + 16)
        cdef Task *task = self.find(itt)
        if task == NULL or task.state != ACTIVE or task.control:
            self.fail(UNKNOWN_TAG, OP_SCSI_RESPONSE, itt)
        elif self.take_stat_sn():
            task.response = self.bhs[2]
            self.keep_tail(task, length)
            self.take_status(task)

    cdef void keep_tail(self, Task *task, uint32_t length) noexcept nogil:
        task.tail = self.side
        task.tail_len = length
        self.side = NULL

    cdef void take_status(self, Task *task) noexcept nogil:
        """The end of a SCSI command: GOOD must agree with what was really moved (RFC 7143 11.4.5)."""
        cdef uint8_t *bhs = self.bhs
        cdef uint32_t missing = 0
        task.status = bhs[3]
        task.overflow = (bhs[1] & 0x04) != 0
        task.underflow = (bhs[1] & 0x02) != 0
        if task.overflow or task.underflow:
            task.residual = get32(bhs + 44)
        self.overflows += task.overflow
        self.underflows += task.underflow
        self.response_errors += task.response != 0
        if task.response == 0 and task.status == 0:
            if task.in_len:
                missing = task.in_len - task.in_done
                if task.underflow and task.residual != missing:
                    self.data_in_residuals += (bhs[0] & 0x3F) == OP_DATA_IN
                    self.fail(RESIDUAL, task.residual, missing)
                    return
                if missing and not task.underflow:
                    self.fail(SHORT_READ, task.in_done, task.in_len)
                    return
            elif task.out_done < task.out_len:
                missing = task.out_len - task.out_done
                if not task.underflow or task.residual < missing:
                    self.fail(SHORT_WRITE, task.out_done, task.out_len)
                    return
            task.plain = task.residual == 0
        else:
            # After any other status the residual count is not the target's word alone: what did not move is missing.
            missing = task.in_len - task.in_done if task.in_len else task.out_len - min(task.out_done, task.out_len)
            if missing > task.residual or task.overflow:
                task.residual = missing
                task.underflow = missing > 0
                task.overflow = False
        if not task.plain:
            self.completions_odd += 1
        self.completed += 1
        swd_latencies_add(
            &self.latencies, task.lun, 1 if task.in_len else 2 if task.out_len else 0, self.now - task.begun
        )
        self.end(task)

    cdef void on_r2t(self) noexcept nogil:
        """RFC 7143 11.8. Offsets only ever rise, so that a target can make us send each byte once at most."""
        cdef uint8_t *bhs = self.bhs
        cdef uint32_t itt = get32(bhs + 16)
        cdef uint32_t offset = get32(bhs + 40)
        cdef uint32_t length = get32(bhs + 44)
        cdef Task *task = self.find(itt)
        cdef R2T *r2t
        if task == NULL or task.state != ACTIVE or task.control:
            self.fail(UNKNOWN_TAG, OP_R2T, itt)
        elif task.out_len == 0:
            self.fail(R2T_NOT_WANTED, itt, 0)
        elif get32(bhs + 36) != task.r2t_sn:
            self.fail(R2T_SN, get32(bhs + 36), task.r2t_sn)
        elif get32(bhs + 20) == RESERVED:
            self.fail(R2T_TAG, 0, 0)
        elif length == 0 or offset < task.r2t_next or <uint64_t>offset + length > task.out_len:
            self.fail(R2T_RANGE, offset, <int64_t>offset + length)
        elif length > self.max_burst:
            self.fail(R2T_BURST, length, self.max_burst)
        elif task.r2t_count >= self.max_r2t:
            self.fail(R2T_TOO_MANY, self.max_r2t, 0)
        else:
            r2t = &task.r2t[(task.r2t_head + task.r2t_count) % MAX_R2T]
            r2t.ttt = get32(bhs + 20)
            r2t.next = offset
            r2t.end = offset + length
            r2t.data_sn = 0
            task.r2t_sn += 1
            task.r2t_count += 1
            task.r2t_next = offset + length
            put_off(task, self.now)
            self.r2ts += 1
            if not task.sending:
                task.sending = True
                push(&self.data_out, task)

    cdef void on_nop_in(self, uint32_t length) noexcept nogil:
        """RFC 7143 11.19: the answer to our ping, or the target's ping, which wants its TTT back."""
        cdef uint32_t at
        self.nops += 1
        if get32(self.bhs + 16) != RESERVED:
            self.on_control_answer(OP_NOP_IN, length)
            return
        if get32(self.bhs + 20) == RESERVED:
            return
        if self.nop_count == MAX_NOPS:
            self.fail(FLOOD, MAX_NOPS, OP_NOP_IN)
            return
        at = (self.nop_head + self.nop_count) % MAX_NOPS
        memcpy(self.nop_lun[at], self.bhs + 8, 8)
        self.nop_ttt[at] = get32(self.bhs + 20)
        self.nop_count += 1

    cdef void on_control_answer(self, int opcode, uint32_t length) noexcept nogil:
        cdef uint32_t itt = get32(self.bhs + 16)
        cdef Task *task = self.find(itt)
        if task == NULL or task.state != ACTIVE or task.control != opcode:
            self.fail(UNKNOWN_TAG, opcode, itt)
        elif self.take_stat_sn():
            memcpy(task.bhs, self.bhs, BHS)
            self.keep_tail(task, length)
            self.end(task)

    cdef void add_event(self, int opcode, uint32_t length) noexcept nogil:
        cdef EventNode *node
        if self.event_count == MAX_EVENTS:
            self.fail(FLOOD, MAX_EVENTS, opcode)
            return
        node = <EventNode *>malloc(sizeof(EventNode))
        if node == NULL:
            self.fail(NO_MEMORY, sizeof(EventNode), 0)
            return
        memcpy(node.bhs, self.bhs, BHS)
        node.next = NULL
        node.length = length
        node.data = self.side
        self.side = NULL
        if self.events_tail == NULL:
            self.events = node
        else:
            self.events_tail.next = node
        self.events_tail = node
        self.event_count += 1

    # ---- values for Python --------------------------------------------------------------------------------------

    cdef object completion(self, Task *task):
        if task.lost:
            error = self.losses.pop(task.itt, None) or self.barred_errors.get(int.from_bytes(task.lun[:8], "big"))
            return error or ConnectionLost("the connection was lost before this was answered")
        data = PyBytes_FromStringAndSize(<char *>task.tail, task.tail_len) if task.tail_len else b""
        if task.control:
            return Event(task.control, PyBytes_FromStringAndSize(<char *>task.bhs, BHS), data)
        return Completion(
            task.itt, task.response, task.status, bool(task.underflow), bool(task.overflow), task.residual,
            task.in_done, data,
        )

    cdef object death(self):
        """The exception that says why the connection is dead, or None."""
        if self.fault_code == OK:
            return None
        if self.fault_code == TOLD or self.fault_code == DROPPED:
            return self.told or ConnectionLost("the connection was cut")
        kind, clause, words = FAULTS[self.fault_code]
        reason = words.format(self.fault_a, self.fault_b)
        if self.fault_code == SYSTEM_ERROR:
            from os import strerror
            reason = f"{reason}: {strerror(self.fault_a)}"
        if kind is ProtocolViolation:
            return kind(f"{reason} (RFC 7143 {clause})", clause=clause)
        return kind(reason)

    cdef EventNode *steal_events(self) noexcept nogil:
        """The whole list; it belongs to the caller, who gives it to `events_of`."""
        cdef EventNode *node = self.events
        self.events = self.events_tail = NULL
        self.event_count = 0
        return node

    def take_events(self):
        """The PDUs that nobody asked for, each once."""
        return events_of(self.steal_events())

    cdef object left_open(self, Task *task, bint was_sent):
        return OpenTask(
            task.itt, task.cmd_sn, int.from_bytes(task.lun[:8], "big"), bytes(task.cdb[:16]),
            task.in_done, task.out_done, was_sent, task.replays,
        )

    def leftover(self):
        """What was open when the connection died (or is open now), in the order of CmdSN."""
        cdef int slot
        cdef Task *task
        tasks = []
        for slot in range(self.slots):
            task = &self.tasks[slot]
            if task.state == ACTIVE and not task.control and not task.ahead:
                tasks.append(self.left_open(task, True))
        tasks.sort(key=lambda left: (left.cmd_sn - self.cmd_sn) & 0xFFFFFFFF)
        # Those that wait have no CmdSN on this connection: first those that were sent on an earlier one, then the new
        # ones, in the order in which they will get one.
        task = self.replay.head
        while task != NULL:
            tasks.append(self.left_open(task, True))
            task = task.next
        task = self.waiting.head
        while task != NULL:
            if not task.control:
                tasks.append(self.left_open(task, False))
            task = task.next
        error = self.death()
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
        return self.death()

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
        task = self.start(
            <const uint8_t *>lun, command,
            <const uint8_t *>out_view.buf if has_out else NULL, <uint32_t>out_view.len if has_out else 0,
            <uint8_t *>in_view.buf if has_in else NULL, <uint32_t>in_view.len if has_in else 0, timeout, now,
        )
        if has_out:
            PyBuffer_Release(&out_view)
        if has_in:
            PyBuffer_Release(&in_view)
        if task == NULL:
            raise self.death() or BlockingIOError("no task slot is free")
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
        cdef Task *task = self.start_control(
            <const uint8_t *>bhs, <const uint8_t *>data, <uint32_t>len(data), answer, itt, timeout, now
        )
        if task == NULL:
            raise self.death() or BlockingIOError("no task slot is free")
        return task.itt

    def deadline(self, uint32_t itt):
        """When a command is overdue, on the caller's clock. KeyError if there is none of that tag."""
        cdef Task *task = self.find(itt)
        if task == NULL:
            raise KeyError(itt)
        return task.deadline

    def restart(self, negotiated, order=(), losses=None, bint one_by_one=False, double now=0.0):
        """As the pump does on a new connection; nothing is held back afterwards. See `begin_again`."""
        cdef Agreed agreed = agreed_from(negotiated)
        cdef uint32_t tags[MAX_SLOTS]
        cdef int count = 0
        for itt in order:
            tags[count] = itt
            count += 1
        self.losses.update(losses or {})
        self.begin_again(&agreed, tags, count, one_by_one)
        self.let_loose(now)

    def let_go(self, uint32_t itt):
        """Detaches a task: its buffers are free at once. What the target still sends for it is dropped."""
        cdef Task *task = self.find(itt)
        if task == NULL:
            raise KeyError(itt)
        self.detach(task)
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
            count = self.where(place)
            n = 0
            for i in range(count):
                part = min(place[i].iov_len, length - at - n)
                memcpy(place[i].iov_base, &view[at + n], part)
                n += part
            at += n
            self.received(n)
        if self.fault_code != OK:
            raise self.death()

    def output(self, Py_ssize_t limit=-1, double now=0.0):
        """The bytes to send now, at most `limit` of them; they count as sent."""
        cdef bytearray out = bytearray()
        cdef iovec *span
        cdef size_t n
        while self.fill(now) and (limit < 0 or len(out) < limit):
            span = &self.span[self.span_head]
            n = span.iov_len if limit < 0 else min(span.iov_len, <size_t>(limit - len(out)))
            out += PyBytes_FromStringAndSize(<char *>span.iov_base, n)
            self.sent(n)
        return bytes(out)

    def completions(self):
        """The tasks that have ended, in that order: Completion for a SCSI command, Event (the answer) for another
        PDU.
        """
        cdef Task *task
        ended = []
        while True:
            task = self.take_done()
            if task == NULL:
                return ended
            ended.append((task.itt, self.completion(task)))
            self.pins.pop(task.itt, None)
            self.release(task)
