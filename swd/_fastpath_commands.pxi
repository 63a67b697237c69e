# SPDX-License-Identifier: Apache-2.0
"""One command or control PDU from beginning to end, with the GIL and without the lock; and what a waiting thread has
to see to now and then: signals, events, deadlines, a lost link. A part of `_fastpath.pyx`.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint32_t

from swd._engine cimport EventNode, OK, completion, death, events_of, find, steal_events
from swd._sys cimport pthread_mutex_lock, pthread_mutex_unlock, swd_fork_generation, swd_now
from swd._task cimport ACTIVE, QUEUED, Task

from swd.errors import BadDescriptor, DeadlineExceeded

cdef enum:
    NO_TAG = 0xFFFFFFFF


cdef int check(_Core self) except -1:
    """Raises if the pump cannot be used: the parent process's, closed, or dead."""
    if self.born != swd_fork_generation():
        raise BadDescriptor("opened before fork: the session is the parent process's; open it again in this one")
    if self.closing:
        raise BadDescriptor("the session is closed")
    if self.engine.fault_code != OK and not self.engine.recovering:
        raise death(self.engine)
    return 0


cdef int see_to_loss(_Core self) except -1:
    """Tells of a lost link, once."""
    cdef bint mine
    with nogil:
        pthread_mutex_lock(&self.lock)
        mine = self.engine.recovering and not self.told_down
        self.told_down = True
        pthread_mutex_unlock(&self.lock)
    if mine:
        self.on_down()
    return 0


cdef int look(_Core self, double deadline, double timeout, uint32_t itt) except -1:
    """Signals, events, deadline: what a waiting thread has to see to now and then."""
    PyErr_CheckSignals()
    if self.engine.event_count:
        see_to_events(self)
    if self.engine.recovering and not self.told_down:
        see_to_loss(self)
    if self.engine.tape.used > self.engine.tape.size // 2:
        self.on_tape()
    cdef double now = swd_now()
    if now >= deadline and self.engine.fault_code == OK and is_still_overdue(self, itt, now):
        self.engine.timeouts += 1
        text, tags = overdue(self, itt, timeout)
        error = DeadlineExceeded(text)
        error.tags = tags
        error.epoch = self.epoch
        raise error
    return 0


cdef bint is_still_overdue(_Core self, uint32_t itt, double now):
    """Another thread may have brought the link back since the deadline was read: the outage was no time of the
    command's.
    """
    cdef Task *task
    cdef bint due = True
    with nogil:
        pthread_mutex_lock(&self.lock)
        task = find(self.engine, itt) if itt != NO_TAG else NULL
        if task != NULL:
            due = task.deadline <= now
        pthread_mutex_unlock(&self.lock)
    return due


cdef tuple overdue(_Core self, uint32_t itt, double timeout):
    """What is said of a command past its deadline, and its tag, if the target may know it: (text, tags)."""
    cdef Task *task
    cdef bint progressed = False
    cdef bint unsent = False
    with nogil:
        pthread_mutex_lock(&self.lock)
        task = find(self.engine, itt)
        if task != NULL:
            progressed = task.state == ACTIVE and task.control == 0 and task.deadline >= task.limit
            unsent = task.state == QUEUED
        pthread_mutex_unlock(&self.lock)
    if unsent:
        return f"not sent: the target's command window stayed shut for {4 * timeout:g} s, four times the deadline", ()
    tags = () if itt == NO_TAG else (itt,)
    if progressed:
        return f"not complete after {4 * timeout:g} s, four times its deadline, though its data went on", tags
    return f"no answer within {timeout:g} s", tags


cdef int see_to_events(_Core self) except -1:
    cdef EventNode *node
    with nogil:
        pthread_mutex_lock(&self.lock)
        node = steal_events(self.engine)
        pthread_mutex_unlock(&self.lock)
    for event in events_of(node):
        if self.on_event is not None:
            self.on_event(event)
    return 0


cdef object run(_Core self, Request *request):
    """Runs one request to its end. None if it ended plainly GOOD, else its Completion or, of a control PDU, the
    answer.
    """
    cdef Waiter me
    cdef Task *task = NULL
    cdef int ended
    cdef bint left = False
    cdef double now = swd_now()
    cdef double give_up = now + request.timeout
    check(self)
    with nogil:
        pthread_mutex_lock(&self.lock)
        join(self, &me)
        ended = attempt(self, &me, request, &task, now)
        if ended == COMPLETE and task.plain:
            leave(self, &me)
            left = True
        pthread_mutex_unlock(&self.lock)
    if left:
        return None
    try:
        while ended == LOOK:
            if task != NULL:
                look(self, task.deadline, request.timeout, task.itt)
            elif self.engine.recovering or self.engine.held:
                give_up = swd_now() + request.timeout  # a lost link is no time of the command's
                look(self, give_up, request.timeout, NO_TAG)
            else:
                look(self, give_up, request.timeout, NO_TAG)
            with nogil:
                pthread_mutex_lock(&self.lock)
                ended = attempt(self, &me, request, &task, swd_now())
                pthread_mutex_unlock(&self.lock)
        if ended == DEAD:
            raise death(self.engine)
        return None if task.plain else raised(completion(self.engine, task))
    finally:
        with nogil:
            pthread_mutex_lock(&self.lock)
            leave(self, &me)
            pthread_mutex_unlock(&self.lock)
