# SPDX-License-Identifier: Apache-2.0
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from swd._engine cimport Engine, Task, iovec
from swd._sys cimport pthread_cond_t, pthread_mutex_t


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
    bint told                   # that byte is on its way, or the loop is looking just now
    uint32_t low_water          # bytes without which its receive need not return; 0: any
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
    uint8_t *buffer
    int64_t count, next
    uint32_t blocks, size       # of one I/O: blocks, bytes
    int queue_depth
    double timeout
    Task *odd                   # ended, but not plainly GOOD
    int odd_count


@cython.final
cdef class Pump:
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
    cdef unsigned spins         # counts them
    cdef bint fed_elsewhere
    cdef bint coalesces
    cdef uint32_t half_refill
    cdef uint32_t low_water     # of the socket, as set; above 1 only while a batch has it to itself
    cdef int drips              # receives in a row that brought little; negative: not looked at yet

    cdef void flush(self, double now) noexcept nogil
    cdef bint turn(self, Waiter *me, double now, double wait) noexcept nogil
    cdef bint receive(self, Waiter *me, double wait) noexcept nogil
    cdef ssize_t receive_into(self, iovec *place, int count, bint block, uint32_t low_water) noexcept nogil
    cdef void set_low_water(self, uint32_t low_water) noexcept nogil
    cdef void mind_drips(self, Waiter *me, ssize_t n) noexcept nogil
    cdef void distribute(self) noexcept nogil
    cdef void die(self, int code, int64_t detail) noexcept nogil
    cdef void wake_all(self) noexcept nogil
    cdef void wake(self, Waiter *waiter) noexcept nogil
    cdef void pass_role(self) noexcept nogil
    cdef void join(self, Waiter *me) noexcept nogil
    cdef void leave(self, Waiter *me) noexcept nogil
    cdef void part(self) noexcept nogil
    cdef void abandon(self, Waiter *me) noexcept nogil
    cdef bint has_ended(self, Waiter *me, Task *task) noexcept nogil
    cdef void let_go(self, Task *task) noexcept nogil
    cdef Task *adopt(self, Waiter *me, uint32_t itt) noexcept nogil
    cdef void give_back(self, Waiter *me, Task *task) noexcept nogil
    cdef void drop(self, uint32_t itt) noexcept nogil
    cdef int wait(self, Waiter *me, double now, double deadline) noexcept nogil
    cdef bint is_dead_for(self, Waiter *me) noexcept nogil
    cdef bint wants_look(self) noexcept nogil
    cdef Task *begin(self, Waiter *me, Request *request, double now) noexcept nogil
    cdef int attempt(self, Waiter *me, Request *request, Task **task, double now) noexcept nogil
    cdef int check(self) except -1
    cdef int see_to_loss(self) except -1
    cdef int look(self, double deadline, double timeout, uint32_t itt) except -1
    cdef str overdue(self, uint32_t itt, double timeout, double now)
    cdef int see_to_events(self) except -1
    cdef object run(self, Request *request)
    cdef void harvest(self, Waiter *me, Batch *batch) noexcept nogil
    cdef void refill(self, Waiter *me, Batch *batch, double now) noexcept nogil
    cdef uint32_t worth_waiting_for(self, Waiter *me, Batch *batch) noexcept nogil
    cdef int run_batch(self, Waiter *me, Batch *batch) noexcept nogil
    cdef int keep_full(self, Waiter *me, Batch *batch) noexcept nogil
    cdef double first_deadline(self, Waiter *me, uint32_t *itt) noexcept nogil
    cdef tuple tags_of(self, Waiter *me)
    cdef list odd_ones(self, Batch *batch)
    cdef void drop_odd(self, Batch *batch) noexcept nogil
    cdef list pump_batch(self, Batch *batch)


cdef void read_or_write(uint8_t *cdb, bint write, uint64_t lba, uint32_t blocks) noexcept nogil
