# SPDX-License-Identifier: Apache-2.0
"""What goes out on one connection, and in which order: the spans to send, the PDUs that are built into them, and the
units to which nothing is sent any more. A part of `_engine.pyx`. It knows no socket: `fill` says what waits, `sent`
hears how much of it went.

Headers, digests and padding stand side by side in one buffer; a caller's data is sent from where it lies.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport malloc
from libc.string cimport memcmp, memcpy, memset
from posix.uio cimport iovec

from swd._serial cimport serial_after
from swd._task cimport ACTIVE, BHS, DONE, MAX_R2T, MAX_SPANS, NO_SLOT, Queue, R2T, Task
from swd._watch cimport swd_heads_add, swd_tape_pass
from swd._wire cimport OP_DATA_OUT, OP_NOP_OUT, OP_SCSI_COMMAND, RESERVED, put24, put32, put64, put_digest

cdef enum:
    HEADER_SPACE = 1 << 16          # headers and trailers that may wait to be sent
    QUEUE_GOAL = 1 << 20            # bytes that are worth preparing ahead of the socket
    MAX_NOPS = 32                   # pings of the target that may wait for their answer
    SYNCHRONIZE_10 = 0x35           # the two opcodes whose order matters to replay
    SYNCHRONIZE_16 = 0x91


cdef bint is_barred(Engine self, const uint8_t *lun) noexcept nogil:
    """Whether another disk answers under this LUN than the one that was opened: nothing is sent to it."""
    cdef int i
    for i in range(self.barred_count):
        if memcmp(self.barred + 8 * i, lun, 8) == 0:
            return True
    return False


cdef void lose_barred(Engine self, Queue *queue) noexcept nogil:
    while queue.head != NULL and not queue.head.control and is_barred(self, queue.head.lun):
        lose(self, pop(queue))


cdef uint8_t *list_barred(Engine self, dict units) except NULL:
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


cdef uint8_t *bar(Engine self, uint8_t *barred, int count) noexcept nogil:
    """From now on no new and no replayed command goes to these units. Returns the list before, to be freed."""
    cdef uint8_t *before = self.barred
    self.barred = barred
    self.barred_count = count
    return before

cdef uint8_t *new_header(Engine self) noexcept nogil:
    cdef uint8_t *header = self.headers + self.header_end
    memset(header, 0, BHS)
    return header


cdef void add_span(Engine self, const uint8_t *base, size_t length, int slot) noexcept nogil:
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


cdef void add_pdu(Engine self, uint8_t *header, const uint8_t *data, uint32_t length, Task *owner) noexcept nogil:
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
    add_span(self, header, head, NO_SLOT)
    self.pdus_out += 1
    if length == 0:
        return
    owner.spans += 1
    add_span(self, data, length, <int>(owner - self.tasks))
    trailer = self.headers + self.header_end
    memset(trailer, 0, pad)
    if self.data_digest:
        crc = self.crc(0xFFFFFFFF, data, length)
        put_digest(trailer + pad, ~self.crc(crc, trailer, pad))
        tail += 4
    if tail:
        self.header_end += tail
        add_span(self, trailer, tail, NO_SLOT)


cdef bint room(Engine self) noexcept nogil:
    """Room for one more PDU: 48 + 4 + 3 + 4 bytes beside its data, three spans."""
    if self.span_head == self.span_end:
        self.span_head = self.span_end = 0
        self.header_end = 0
    return self.header_end + 64 <= HEADER_SPACE and self.span_end + 3 <= MAX_SPANS


cdef int fill(Engine self, double now) noexcept nogil:
    """Builds PDUs until the queue is worth a system call; returns the number of spans that wait.

    Commands go in the order in which they were queued, as far as the window is open (RFC 7143 4.2.2.1); immediate
    PDUs and answers to the target's NOP-In go ahead of them; Data-Out is built last, and never more than fits.
    """
    cdef Task *task
    self.now = now
    if self.fault_code != OK:
        return 0
    while room(self) and self.queued_bytes < QUEUE_GOAL:
        if self.nop_count:
            build_nop_answer(self)
            continue
        task = next_command(self)
        if task != NULL:
            if task.control:
                build_control(self, task, now)
            else:
                build_command(self, task, now)
        elif self.data_out.head != NULL:
            build_data_out(self, self.data_out.head)
        else:
            break
    return self.span_end - self.span_head


cdef Task *next_command(Engine self) noexcept nogil:
    """The command that may go now, taken from its queue: first what is urgent, then what is replayed, then the new.

    A replayed flush waits for all that was replayed before it, and new commands wait until replay is over.
    """
    cdef bint window_open = not serial_after(self.cmd_sn, self.max_cmd_sn)
    cdef Task *task = self.urgent.head
    if task != NULL and (task.immediate or window_open):
        return pop(&self.urgent)
    if self.held:
        return NULL
    if not window_open:
        mind_shut_window(self)
        return NULL
    if self.barred_count:
        lose_barred(self, &self.replay)
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
        lose_barred(self, &self.waiting)
    return pop(&self.waiting)


cdef void build_nop_answer(Engine self) noexcept nogil:
    """RFC 7143 11.18: ITT reserved, LUN and TTT copied, immediate so that it takes no place in the window."""
    cdef uint8_t *header = new_header(self)
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
    add_pdu(self, header, NULL, 0, NULL)


cdef void build_control(Engine self, Task *task, double now) noexcept nogil:
    cdef uint8_t *header = new_header(self)
    memcpy(header, task.bhs, BHS)
    put32(header + 16, task.itt)
    put32(header + 24, self.cmd_sn)
    put32(header + 28, self.exp_stat_sn)
    task.cmd_sn = self.cmd_sn
    if not task.immediate:
        self.cmd_sn += 1
    task.state = ACTIVE
    task.deadline = now + task.timeout
    add_pdu(self, header, task.out_buf, task.out_len, task)


cdef uint32_t immediate_most(Engine self) noexcept nogil:
    """Bytes of a write that may go in its command PDU."""
    return min(self.first_burst, self.max_send) if self.immediate_data else 0


cdef uint32_t unsolicited_most(Engine self) noexcept nogil:
    """Bytes of a write that may go without an R2T (RFC 7143 13.10, 13.14)."""
    return immediate_most(self) if self.initial_r2t else self.first_burst


cdef void build_command(Engine self, Task *task, double now) noexcept nogil:
    """The command, with immediate data as far as was agreed; what may follow unsolicited is queued (RFC 7143
    4.2.5.2).
    """
    cdef uint8_t *header = new_header(self)
    cdef uint32_t immediate = min(task.out_len, immediate_most(self))
    header[0] = OP_SCSI_COMMAND
    header[1] = 0x80 | 0x01  # F, SIMPLE
    if task.in_len:
        header[1] |= 0x40
    elif task.out_len:
        header[1] |= 0x20
        task.unsolicited_end = min(task.out_len, unsolicited_most(self))
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
    add_pdu(self, header, task.out_buf, immediate, task)
    if task.unsolicited_end > immediate:
        task.sending = True
        push(&self.data_out, task)


cdef void build_data_out(Engine self, Task *task) noexcept nogil:
    """One Data-Out: of the unsolicited burst first, then of the R2Ts in their order (RFC 7143 11.7)."""
    cdef uint8_t *header = new_header(self)
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
    add_pdu(self, header, task.out_buf + offset, length, task)
    if offset + length == end:
        pop(&self.data_out)
        task.sending = task.r2t_count > 0
        if task.sending:
            push(&self.data_out, task)  # others take their turn between two bursts


cdef void sent(Engine self, size_t n) noexcept nogil:
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
                finish(self, task)
        self.span_head += 1
