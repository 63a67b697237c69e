# SPDX-License-Identifier: Apache-2.0
"""What comes over open tasks from outside: a caller that no longer waits (`detach`), a new connection in place of the
lost one (`begin_again`, `let_loose`), a tape (`begin_tape`). A part of `_engine.pyx`. Here, and only here, both
directions are touched at once; no receive may be going on meanwhile.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from swd._task cimport ACTIVE, DONE, NO_SLOT, QUEUED, Queue, Task
from swd._watch cimport swd_tape_next_connection, swd_tape_pass


cdef int detach(Engine self, Task *task) noexcept nogil:
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
        release(self, task)
        return 0
    task.detached = True
    task.in_buf = NULL
    task.spares = NULL
    if self.body_slot == slot:
        self.dest = NULL
    if task.state == QUEUED and not task.control:
        unlink(&self.waiting, task)
        unlink(&self.replay, task)
        unlink(&self.urgent, task)
        release(self, task)
        return 0
    if self.fault_code != OK:
        return 0  # nothing is sent any more
    if task.out_len and task.own_out == NULL and (task.spans or task.out_done < task.out_len):
        copy = <uint8_t *>malloc(task.out_len)
        if copy == NULL:
            fail(self, NO_MEMORY, task.out_len, 0)
            return -1
        memcpy(copy, task.out_buf, task.out_len)
        for i in range(self.span_head, self.span_end):
            if self.span_slot[i] == slot:
                self.span[i].iov_base = copy + (<uint8_t *>self.span[i].iov_base - task.out_buf)
        task.out_buf = task.own_out = copy
    return 0

cdef void apply(Engine self, const Agreed *agreed) noexcept nogil:
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


cdef void begin_again(Engine self, const Agreed *agreed, const uint32_t *order, int count,
                      bint one_by_one) noexcept nogil:
    """Takes over a new connection: the tasks in `order` are sent again in that order, those that were never sent
    keep their place behind them, all others are lost. Nothing but what is urgent goes out until `held` is cleared.

    The old connection must be closed, and no receive may be going on.
    """
    cdef Queue unsent = self.waiting
    cdef Task *task
    cdef int i
    for i in range(self.slots):
        self.tasks[i].lost = self.tasks[i].state in (QUEUED, ACTIVE)
    forget_connection(self)
    swd_tape_next_connection(&self.tape)
    apply(self, agreed)
    self.held = True
    self.one_by_one = one_by_one
    self.fault_code = OK
    self.recovering = False
    for i in range(count):
        task = find(self, order[i])
        if task != NULL and task.lost and not (task.control or task.detached or task.ahead):
            queue_again(self, task)
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
            lose(self, &self.tasks[i])


cdef void let_loose(Engine self, double now) noexcept nogil:
    """Recovery is over: replay, then new commands. Their clocks begin when they are sent, but a target that opens
    no window for them is not waited for without end.
    """
    cdef int i
    self.held = False
    for i in range(self.slots):
        if self.tasks[i].state == QUEUED and not self.tasks[i].control:
            self.tasks[i].deadline = now + MOST_EXTENSION * self.tasks[i].timeout


cdef void forget_connection(Engine self) noexcept nogil:
    """Empties the queues of both directions; no span points anywhere afterwards."""
    cdef int i
    cdef Task *task
    for i in range(self.span_head, self.span_end):
        if self.span_slot[i] != NO_SLOT:
            task = &self.tasks[self.span_slot[i]]
            task.spans -= 1
            if task.spans == 0 and task.state == DONE:
                finish(self, task)
    self.span_head = self.span_end = 0
    self.queued_bytes = self.header_end = 0
    memset(&self.waiting, 0, sizeof(Queue))
    memset(&self.urgent, 0, sizeof(Queue))
    memset(&self.replay, 0, sizeof(Queue))
    memset(&self.data_out, 0, sizeof(Queue))
    self.replaying = 0
    self.shut_at = 0
    self.nop_count = 0
    self.ring_pos = self.ring_end = 0
    self.in_body = self.direct = self.last_big = False
    self.left = self.trailer = 0
    self.body_slot = NO_SLOT
    self.dest = NULL
    free(self.side)
    self.side = NULL


cdef void queue_again(Engine self, Task *task) noexcept nogil:
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


cdef void begin_tape(Engine self, uint8_t *bytes, size_t size) noexcept nogil:
    """From the next PDU of each direction on, all bytes go to the tape too."""
    cdef uint32_t waiting = self.ring_end - self.ring_pos
    self.tape.bytes = bytes
    self.tape.size = size
    self.tape.used = self.tape.lost = self.tape.at_in = self.tape.at_out = 0
    self.tape.skip_out = self.queued_bytes
    self.tape.skip_in = self.left + self.trailer - waiting if self.in_body else 0
    if not self.in_body:  # what is there of the next header
        swd_tape_pass(&self.tape, 0, self.ring + self.ring_pos, waiting, self.now)
