# SPDX-License-Identifier: Apache-2.0
"""Those who wait on a pump, and their tasks: joining and leaving, letting go of a task, the wait itself. A part of
`_fastpath.pyx`. The lock is held; nothing here calls Python.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memset

from swd._engine cimport OK, detach, find, go_ahead, release, start, start_control
from swd._sys cimport close, pthread_cond_destroy, pthread_cond_signal, swd_cond_init, swd_cond_wait, swd_now
from swd._task cimport FREE, Task


cdef void join(_Core self, Waiter *me) noexcept nogil:
    memset(me, 0, sizeof(Waiter))
    swd_cond_init(&me.cond)
    me.next = self.waiters
    if me.next != NULL:
        me.next.before = me
    self.waiters = me
    self.users += 1


cdef void leave(_Core self, Waiter *me) noexcept nogil:
    """Lets go of what has not ended, hands the reader role on, and closes the descriptor if the pump was closed
    meanwhile.
    """
    cdef Task *task
    if me.pending:
        abandon(self, me)
    while me.done != NULL:
        task = me.done
        me.done = task.next
        release(self.engine, task)
    if me.next != NULL:
        me.next.before = me.before
    if me.before != NULL:
        me.before.next = me.next
    else:
        self.waiters = me.next
    pass_role(self)
    pthread_cond_destroy(&me.cond)
    part(self)


cdef void part(_Core self) noexcept nogil:
    self.users -= 1
    if self.closing and self.users == 0 and self.fd >= 0:
        close(self.fd)
        self.fd = -1


cdef void abandon(_Core self, Waiter *me) noexcept nogil:
    """Lets go of every task of a waiter that will not wait any longer: its buffers are free afterwards."""
    cdef int slot
    for slot in range(self.engine.slots):
        if self.engine.tasks[slot].waiter == <void *>me and self.engine.tasks[slot].state != FREE:
            if not has_ended(self, me, &self.engine.tasks[slot]):
                let_go(self, &self.engine.tasks[slot])
    me.pending = 0


cdef bint has_ended(_Core self, Waiter *me, Task *task) noexcept nogil:
    cdef Task *done = me.done
    while done != NULL:
        if done == task:
            return True
        done = done.next
    return False


cdef void let_go(_Core self, Task *task) noexcept nogil:
    """Detaches a task, once the reader is out of its buffer."""
    cdef int slot = <int>(task - self.engine.tasks)
    cdef uint32_t itt = task.itt
    task.evicting = True
    while self.receiving_slot == slot:
        swd_cond_wait(&self.moved, &self.lock, SLICE)
    task.evicting = False
    if find(self.engine, itt) != task:
        return
    # Its last byte may have come while we waited for the reader.
    if task.waiter == NULL and task.claimable:
        release(self.engine, task)
    elif task.waiter != NULL and has_ended(self, <Waiter *>task.waiter, task):
        return
    elif detach(self.engine, task) < 0:
        die(self, OK, 0)


cdef Task *adopt(_Core self, Waiter *me, uint32_t itt) noexcept nogil:
    """Makes a submitted task the waiter's. NULL if it is gone, or if somebody else waits for it."""
    cdef Task *task = find(self.engine, itt)
    if task == NULL or task.waiter != NULL:
        return NULL
    task.waiter = me
    if task.claimable:
        task.claimable = False
        task.next = NULL
        me.done = task
    else:
        me.pending = 1
    return task


cdef void give_back(_Core self, Waiter *me, Task *task) noexcept nogil:
    """The wait for an adopted task breaks off: it goes on alone, or keeps its outcome for the next who waits."""
    if me.done != NULL:
        me.done = NULL
        task.claimable = True
        task.waiter = NULL
    elif me.pending:
        me.pending = 0
        task.waiter = NULL


cdef void drop(_Core self, uint32_t itt) noexcept nogil:
    """Lets go of a submitted task, and sends away the thread that waits for it, unless that has its end already."""
    cdef Task *task = find(self.engine, itt)
    cdef Waiter *waiter
    if task == NULL:
        return
    waiter = <Waiter *>task.waiter
    if waiter != NULL:
        if has_ended(self, waiter, task):
            return
        waiter.pending = 0
        task.waiter = NULL
        pthread_cond_signal(&waiter.cond)
    let_go(self, task)


cdef int wait(_Core self, Waiter *me, double now, double until, Task *task) noexcept nogil:
    """Turns until all of the waiter's tasks have ended, or something wants the GIL: the deadline of `task`, say."""
    cdef double look_at = now + SLICE
    while me.pending:
        if is_dead_for(self, me):
            return DEAD
        if (now >= min(until, task.deadline) and self.engine.fault_code == OK) or now >= look_at or wants_look(self):
            return LOOK
        if not turn(self, me, now, until, task):
            return LOOK if me.pending else COMPLETE
        if me.pending:  # a clock that nobody reads is a tenth of a short command's own costs
            now = swd_now()
    return COMPLETE


cdef bint is_dead_for(_Core self, Waiter *me) noexcept nogil:
    return self.engine.fault_code != OK and (me.ahead or not self.engine.recovering)


cdef bint wants_look(_Core self) noexcept nogil:
    return (
        self.engine.event_count != 0
        or (self.engine.recovering and not self.told_down)
        or self.engine.tape.used > self.engine.tape.size // 2
    )


cdef Task *begin(_Core self, Waiter *me, Request *request, double now) noexcept nogil:
    cdef Task *task
    if request.bhs != NULL:
        task = start_control(
            self.engine, request.bhs, request.out_buf, request.out_len, request.answer, request.itt, request.timeout,
            now,
        )
    else:
        task = start(
            self.engine, request.lun, request.cdb, request.out_buf, request.out_len, request.in_buf, request.in_len,
            request.timeout, now,
        )
    if task != NULL and request.ahead:
        go_ahead(self.engine, task)
    if task != NULL and me != NULL:
        task.waiter = me
        me.pending = 1
    return task


cdef int attempt(_Core self, Waiter *me, Request *request, Task **task, double now) noexcept nogil:
    """Begins if there is a free slot, waits, and reports."""
    me.ahead = request.ahead or request.bhs != NULL  # a ping or a logout means this connection, not the next
    if task[0] == NULL:
        task[0] = begin(self, me, request, now)
    if is_dead_for(self, me):
        return DEAD
    if task[0] == NULL:
        self.engine.slot_waits += 1
        turn(self, me, now, now + SEND_SLICE, NULL)  # all slots are taken: others must end first
        return LOOK
    return wait(self, me, now, FAR_AWAY, task[0])
