# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from swd._fastpath cimport Pump, Waiter
from swd._task cimport Task


cdef enum Ending:           # how what a task waits for has ended
    AWAITED
    FINISHED
    FAILED
    CANCELLED


cdef class Awaited:
    cdef public bint _asyncio_future_blocking   # a task that is given it sees that it was awaited
    cdef object loop
    cdef Ending ending
    cdef object outcome         # the result, the error, or the message of a cancellation
    cdef object callback        # the first; None: nobody waits
    cdef object context
    cdef list more              # the others: (callback, context)

    cdef list callbacks(self)
    cdef bint end(self, Ending ending, outcome) except -1
    cdef int hand_over(self) except -1
    cdef int wake(self, done) except -1


cdef class Pending:
    cdef readonly Awaited future
    cdef readonly uint64_t lun
    cdef object result
    cdef uint32_t itt
    cdef int slot
    cdef Py_buffer view
    cdef bint pinned

    cdef void unpin(self)


cdef class AsyncQueue:
    cdef Pump pump
    cdef object loop
    cdef object done            # a future of asyncio that has ended
    cdef Waiter me
    cdef bint joined
    cdef list entries
    cdef public bint flushing   # a flush is due this turn
    cdef public bint ticking    # a look at deadlines is due

    cdef void leave(self)
    cdef object start(
        self, Pending one, bint write, uint64_t lun, uint64_t lba, uint32_t blocks, uint8_t *buffer, uint32_t size,
        double timeout)
    cdef int check(self) except -1
    cdef void let_go(self, uint32_t itt) noexcept nogil
    cdef int complete(self, Task *ended) except -1
    cpdef drop(self, Pending one)
