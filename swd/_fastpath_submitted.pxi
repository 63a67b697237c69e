# SPDX-License-Identifier: Apache-2.0
"""A submitted command, which somebody waits for later, or cancels. A part of `_fastpath.pyx`, whose `Pump.submit`
makes it.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from libc.stdint cimport uint32_t, uint64_t

from swd._engine cimport completion, death
from swd._sys cimport EAGAIN, pthread_mutex_lock, pthread_mutex_unlock, swd_fork_generation, swd_now
from swd._task cimport Task

from swd.errors import InvalidArgument


@cython.no_gc_clear  # __dealloc__ needs the pump: the engine must not keep a pointer into a buffer that is let go
cdef class Command:
    """A submitted SCSI command: `wait` for its end, or `cancel` it. Its buffer stays pinned until then.

    One thread may wait for it at a time; any may cancel it, and the one that waits then gets InvalidArgument, as does
    every later `wait`.
    """

    cdef Pump pump
    cdef readonly uint32_t itt
    cdef Py_buffer view
    cdef bint pinned
    cdef readonly bint ended
    cdef bint cancelled
    cdef object outcome

    def __cinit__(self, Pump pump not None, uint64_t lun, bytes cdb not None, data_out, data_in, double timeout):
        cdef Request request
        cdef Task *task
        self.pump = pump
        check(pump)
        if data_out is not None and data_in is not None:
            raise InvalidArgument("a command moves data one way")
        fill_request(&request, lun, cdb, timeout)
        if data_out is not None or data_in is not None:
            pin(&request, &self.view, data_out, data_in)
            self.pinned = True
        with nogil:
            pthread_mutex_lock(&pump.lock)
            task = begin(pump, NULL, &request, swd_now())
            if task != NULL:
                self.itt = task.itt
                pump.users += 1
                flush(pump, swd_now())
                part(pump)
            pthread_mutex_unlock(&pump.lock)
        if task == NULL:
            self.ended = True
            raise death(pump.engine) or BlockingIOError(EAGAIN, "too many commands are open on this session")

    def wait(self, timeout=None):
        """As `Pump.command`, for a command that is under way; TimeoutError if it has not ended after `timeout`
        seconds.
        """
        cdef Waiter me
        cdef Task *task
        cdef bint taken = False
        cdef Pump pump = self.pump
        if self.ended:
            return self.result()
        check(pump)
        with nogil:
            pthread_mutex_lock(&pump.lock)
            join(pump, &me)
            task = adopt(pump, &me, self.itt)
            pthread_mutex_unlock(&pump.lock)
        try:
            if task == NULL and self.ended:
                return self.result()  # it ended while we waited for the lock
            if task == NULL:
                raise InvalidArgument("another thread waits for this command")
            self.wait_for(&me, task, timeout)
            if me.done == NULL:
                return self.result()  # cancelled meanwhile
            self.outcome = None if task.plain else completion(pump.engine, task)
            taken = True
            self.unpin()
            return raised(self.outcome)
        finally:
            with nogil:
                pthread_mutex_lock(&pump.lock)
                if not taken:
                    give_back(pump, &me, task)
                leave(pump, &me)
                pthread_mutex_unlock(&pump.lock)

    cdef int wait_for(self, Waiter *me, Task *task, timeout) except -1:
        """Until the task has ended (it is in `me.done`), or was cancelled (it is not, and must not be touched)."""
        cdef Pump pump = self.pump
        cdef double until = swd_now() + (1e9 if timeout is None else <double>timeout)
        cdef double deadline
        cdef double allowed = task.timeout
        cdef int ended = LOOK
        while ended == LOOK:
            with nogil:
                pthread_mutex_lock(&pump.lock)
                deadline = task.deadline
                ended = wait(pump, me, swd_now(), until, task)
                if me.pending:
                    deadline = task.deadline  # it may have been sent meanwhile
                pthread_mutex_unlock(&pump.lock)
            if ended == LOOK:
                look(pump, deadline, allowed, self.itt)
                if swd_now() >= until:
                    raise TimeoutError(f"the command has not ended after {timeout} s")
        if ended == DEAD:
            raise death(pump.engine)
        return 0

    cdef object result(self):
        if self.cancelled:
            raise InvalidArgument("the command was cancelled: it has no outcome")
        return raised(self.outcome)

    def cancel(self):
        """Nobody wants the outcome: the buffer is free on return. The target is not told; `Session.abort` does that."""
        if self.ended:
            return
        self.cancelled = True
        self.drop()
        self.unpin()

    cdef void drop(self):
        cdef Pump pump = self.pump
        if pump.born == swd_fork_generation():
            with nogil:
                pthread_mutex_lock(&pump.lock)
                drop(pump, self.itt)
                pthread_mutex_unlock(&pump.lock)

    cdef void unpin(self):
        self.ended = True
        if self.pinned:
            PyBuffer_Release(&self.view)
            self.pinned = False

    def __dealloc__(self):
        if not self.ended and self.pump is not None:
            self.drop()
        if self.pinned:
            PyBuffer_Release(&self.view)
