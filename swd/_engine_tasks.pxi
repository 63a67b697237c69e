# SPDX-License-Identifier: Apache-2.0
"""The task table of one connection: tags, the queues a task waits in, its beginning and its end; the first fault. A
part of `_engine.pyx`. It knows no byte of a PDU.

An Initiator Task Tag is generation << 12 | slot: finding a task is one array access, and the tag of a task that has
ended matches nothing.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from swd._task cimport ACTIVE, BHS, DONE, FREE, MAX_SLOTS, QUEUED, Queue, SLOT_BITS, Task
from swd._wire cimport RESERVED

cdef double FAR_FUTURE = 1e300
cdef double MOST_EXTENSION = 4.0    # progress prolongs a command up to so many times its deadline


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


cdef Task *allocate(Engine self, uint32_t itt, double timeout, double now) noexcept nogil:
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


cdef Task *find(Engine self, uint32_t itt) noexcept nogil:
    """The open task of that tag, or NULL. The reserved tag has a slot number like any other: its generation never
    lives.
    """
    cdef uint32_t slot = itt & (MAX_SLOTS - 1)
    if slot >= <uint32_t>self.slots or self.tasks[slot].itt != itt or self.tasks[slot].state == FREE:
        return NULL
    return &self.tasks[slot]


cdef Task *start(Engine self, const uint8_t *lun, const uint8_t *cdb, const uint8_t *out_buf, uint32_t out_len,
                 uint8_t *in_buf, uint32_t in_len, double timeout, double now) noexcept nogil:
    """Queues a SCSI command; NULL if no slot is free. At most one of out_len and in_len is non-zero."""
    cdef Task *task = allocate(self, RESERVED, timeout, now)
    if task == NULL:
        return NULL
    memcpy(task.lun, lun, 8)
    memcpy(task.cdb, cdb, 16)
    task.out_buf = out_buf
    task.out_len = out_len
    task.in_buf = in_buf
    task.in_len = in_len
    # Its clock begins when it is sent (`build_command`); a window that stays shut is not waited for without end.
    task.deadline = task.limit = now + MOST_EXTENSION * timeout
    if self.recovering or self.held:
        task.deadline = FAR_FUTURE  # recovery has bounds of its own; see `let_loose`
    push(&self.waiting, task)
    self.commands += 1
    self.reads += in_len > 0
    self.writes += out_len > 0
    return task


cdef Task *start_control(Engine self, const uint8_t *bhs, const uint8_t *data, uint32_t length, uint8_t answer,
                         uint32_t itt, double timeout, double now) noexcept nogil:
    """Queues a PDU whose header is given but for tag and numbers; it ends with a PDU of opcode `answer`.

    `itt` is the tag to use again (a text sequence keeps its tag, RFC 7143 11.10.4), or RESERVED for a new one.
    """
    cdef Task *task = allocate(self, itt, timeout, now)
    if task == NULL:
        return NULL
    memcpy(task.bhs, bhs, BHS)
    task.control = answer
    task.immediate = (bhs[0] & 0x40) != 0
    if length:
        task.own_out = <uint8_t *>malloc(length)
        if task.own_out == NULL:
            release(self, task)
            return NULL
        memcpy(task.own_out, data, length)
        task.out_buf = task.own_out
        task.out_len = length
    push(&self.urgent if task.immediate else &self.waiting, task)
    return task


cdef void go_ahead(Engine self, Task *task) noexcept nogil:
    """A command that was just started goes before replay and new commands."""
    task.deadline = task.limit
    unlink(&self.waiting, task)
    push(&self.urgent, task)
    task.ahead = True


cdef inline bint is_owed(const Task *task) noexcept nogil:
    """Whether the target owes it an answer, with which it may open the window."""
    return task.state == ACTIVE and not task.immediate


cdef void mind_shut_window(Engine self) noexcept nogil:
    """Counts, once each time, that something waits for the window though the target has answered all that took a place
    in it: nothing but the target keeps it shut. A window that is as full as it may be costs a look at one task.
    """
    cdef int i
    if self.urgent.head == NULL and self.replay.head == NULL and self.waiting.head == NULL:
        return
    if self.shut_at == <uint64_t>self.cmd_sn + 1 or is_owed(&self.tasks[self.owed_slot]):
        return
    for i in range(self.slots):
        if is_owed(&self.tasks[i]):
            self.owed_slot = i
            return
    self.shut_at = <uint64_t>self.cmd_sn + 1
    self.windows_shut += 1


cdef Task *take_done(Engine self) noexcept nogil:
    return pop(&self.done)


cdef void release(Engine self, Task *task) noexcept nogil:
    free(task.own_out)
    free(task.tail)
    task.own_out = NULL
    task.tail = NULL
    task.state = FREE
    self.free_slots[self.free_count] = <int>(task - self.tasks)
    self.free_count += 1


cdef void end(Engine self, Task *task) noexcept nogil:
    """The answer is complete. While spans still point into its buffer, `sent` finishes the job."""
    task.state = DONE
    if task.replaying:
        task.replaying = False
        self.replaying -= 1
    if task.sending:
        unlink(&self.data_out, task)
        task.sending = False
    if task.spans == 0:
        finish(self, task)


cdef void finish(Engine self, Task *task) noexcept nogil:
    if task.detached:
        release(self, task)
    else:
        push(&self.done, task)

cdef void fail(Engine self, int code, int64_t a, int64_t b) noexcept nogil:
    """The connection is dead. The first fault is the one that counts."""
    if self.fault_code == OK:
        self.faults[code] += 1
        self.fault_code = code
        self.fault_a = a
        self.fault_b = b

cdef void lose(Engine self, Task *task) noexcept nogil:
    task.lost = True
    task.replaying = False
    task.sending = False
    task.state = DONE
    if task.spans == 0:
        finish(self, task)
