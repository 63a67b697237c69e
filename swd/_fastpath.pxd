# SPDX-License-Identifier: Apache-2.0
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from swd._engine cimport Engine
from swd._sys cimport pthread_cond_t, pthread_mutex_t
from swd._task cimport Task


# How a stretch of waiting ends.
cdef enum Ended:
    COMPLETE
    DEAD
    LOOK                        # somebody with the GIL should look at signals, events and deadlines


cdef struct Waiter:
    pthread_cond_t cond
    Waiter *next
    Waiter *before
    int64_t pending             # its tasks that have not ended
    bint ahead                  # its commands belong to recovery: it does not sleep through a loss
    int64_t low                 # it is woken when no more than this many are pending
    bint looped                 # not a thread but an event loop: it is woken by a byte to `wake_fd`
    int wake_fd
    bint idle                   # not waiting just now: it does not take the reader role
    bint told                   # that byte is on its way, or the loop is looking just now
    uint32_t low_water          # bytes without which its receive need not return; 0: any
    uint32_t patience           # bytes that it waits for when there is nothing; 0: any
    uint32_t most               # bytes that its receive brings at most, where another CPU feeds the socket; 0: any
    uint32_t drip               # fewer bytes than this in one receive are a drip
    Task *done                  # its tasks that have ended


cdef struct Request:
    # A command or a control PDU before it has a task.
    uint8_t lun[8]
    uint8_t cdb[16]
    const uint8_t *out_buf
    uint8_t *in_buf
    uint32_t out_len, in_len
    const uint8_t *bhs          # a control PDU, else NULL
    uint8_t answer
    bint ahead
    uint32_t itt
    double timeout


cdef struct Batch:
    bint write
    uint8_t lun[8]
    const int64_t *lbas
    uint8_t *place              # of the next I/O's data,
    uint8_t *row                # in a row of `columns` places that lie a `step` apart; the next row a `row_step`
    int64_t column, columns
    Py_ssize_t step, row_step
    int64_t count, next
    uint32_t blocks, size       # of one I/O: blocks, bytes
    int queue_depth
    double timeout
    Task *odd                   # ended, but not plainly GOOD
    int odd_count


cdef class _Core:
    cdef Engine engine
    cdef object on_event, on_down, on_tape
    cdef bint told_down
    cdef int fd
    cdef pthread_mutex_t lock
    cdef pthread_cond_t moved   # the reader came out of a caller's buffer
    cdef Waiter *waiters
    cdef bint reading, blocked, closing, can_recover
    cdef int receiving_slot
    cdef int users
    cdef unsigned born
    cdef readonly unsigned epoch    # counts the connections of this pump
    cdef uint64_t sends, receives
    cdef double spin            # seconds that a receive is tried again before it sleeps
    cdef unsigned waits         # counts receives
    cdef bint fed_elsewhere
    cdef bint coalesces
    cdef uint32_t half_refill
    cdef uint32_t low_water     # of the socket, as set; above 1 only while a batch has it to itself
    cdef int drips              # receives in a row that brought little; negative: not looked at yet


cdef class _Links(_Core):
    pass


@cython.final
cdef class Pump(_Links):
    pass


# For the queues over a pump; the rest is the module's own.
cdef bint is_ours(_Core self) noexcept nogil
cdef void flush(_Core self, double now) noexcept nogil
cdef bint receive(_Core self, Waiter *me, double wait) noexcept nogil
cdef void share(_Core self, Waiter *me, uint32_t length) noexcept nogil
cdef void pass_role(_Core self) noexcept nogil
cdef void join(_Core self, Waiter *me) noexcept nogil
cdef void leave(_Core self, Waiter *me) noexcept nogil
cdef void part(_Core self) noexcept nogil
cdef bint has_ended(_Core self, Waiter *me, Task *task) noexcept nogil
cdef void let_go(_Core self, Task *task) noexcept nogil
cdef int check(_Core self) except -1
cdef int see_to_loss(_Core self) except -1
cdef tuple overdue(_Core self, uint32_t itt, double timeout)
cdef object run(_Core self, Request *request)
cdef void read_or_write(uint8_t *cdb, bint write, uint64_t lba, uint32_t blocks) noexcept nogil
