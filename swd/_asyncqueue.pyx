# SPDX-License-Identifier: Apache-2.0
"""The I/O of one event loop on one pump: a future for each, completed here when the answer has come.

The loop is a waiter that never sleeps. `read`, `read_into` and `write` only queue; `flush`, called once a turn of the
loop, sends what all of them queued in one system call; `poll`, called when the descriptor is readable, receives once
and completes the futures. Where a thread has the reader role, that thread receives, and a byte to the wake-up
descriptor calls the loop.

A future ends with the bytes, or their number, if the command ended plainly GOOD; else with what there is to look at (a
Completion, or the error of a command that was not sent again), which is for the policy above. A command past its
deadline is let go of: its future has the error, and `overdue` returns it, because somebody has to see that the target
forgets the command.

All methods belong to the loop's thread. A buffer is pinned until its command has ended or is dropped.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport strerror

from swd._engine cimport OK, completion, find, release, start as start_task
from swd._fastpath cimport (
    Pump,
    check as check_pump,
    flush,
    has_ended,
    is_ours,
    join,
    leave as leave_pump,
    let_go as let_go_of,
    overdue,
    part,
    pass_role,
    read_or_write,
    receive,
    share,
    see_to_loss,
)
from swd._sys cimport errno, pthread_mutex_lock, pthread_mutex_unlock, swd_now
from swd._task cimport DONE, FREE, Task
from swd._wire cimport put64

from contextvars import copy_context

from swd.errors import BadDescriptor, DeadlineExceeded, InvalidArgument


cdef extern from "<fcntl.h>" nogil:
    int F_DUPFD_CLOEXEC
    int fcntl(int fd, int command, int argument)

cdef extern from "Python.h":
    int PyContext_Enter(object) except -1
    int PyContext_Exit(object) except -1
    bint PyCFunction_Check(object)
    PyObject *PyCFunction_GetSelf(object)


include "_asyncqueue_awaited.pxi"


@cython.freelist(256)
cdef class Pending:
    """One I/O under way: its `future`, and what must stay where it is until it ends."""

    cdef void unpin(self):
        self.result = None
        if self.pinned:
            self.pinned = False
            PyBuffer_Release(&self.view)

    def __dealloc__(self):
        if self.pinned:
            PyBuffer_Release(&self.view)


@cython.no_gc_clear  # __dealloc__ needs the pump: it has a pointer to the waiter
cdef class AsyncQueue:
    """AsyncQueue(pump, loop, wake_fd): `wake_fd` is written to when another thread has ended an I/O of this queue, or
    the connection has changed.
    """

    def __cinit__(self, Pump pump not None, loop not None, int wake_fd):
        global TASK
        from asyncio import Future, Task

        check_pump(pump)
        TASK = Task
        self.pump = pump
        self.loop = loop
        self.done = Future(loop=loop)
        self.done.set_result(None)
        self.entries = [None] * pump.engine.slots
        with nogil:
            pthread_mutex_lock(&pump.lock)
            join(pump, &self.me)
            self.me.looped = True
            self.me.wake_fd = wake_fd
            self.me.low = 1 << 40  # it is woken at each end
            pthread_mutex_unlock(&pump.lock)
        self.joined = True

    def __del__(self):  # before the collector takes a circle apart, and the buffers of `entries` with it
        if self.joined:
            self.leave()

    def __dealloc__(self):
        if self.joined:
            self.leave()

    cdef void leave(self):
        cdef Pump pump = self.pump
        self.joined = False
        if not is_ours(pump):
            return
        with nogil:
            pthread_mutex_lock(&pump.lock)
            leave_pump(pump, &self.me)
            pthread_mutex_unlock(&pump.lock)

    # ---- submitting ---------------------------------------------------------------------------------------------

    def read(self, uint64_t lun, uint64_t lba, uint32_t blocks, uint32_t size, double timeout):
        """Queues a READ of `size` bytes; its Pending, or None if every slot of the engine is taken."""
        cdef Pending one = Pending.__new__(Pending)
        one.result = PyBytes_FromStringAndSize(NULL, size)  # nobody sees it before it is whole
        return self.start(one, False, lun, lba, blocks, <uint8_t *>PyBytes_AS_STRING(one.result), size, timeout)

    def read_into(self, uint64_t lun, uint64_t lba, uint32_t blocks, buffer, double timeout):
        """As `read`, into a writable buffer of exactly that many blocks."""
        cdef Pending one = Pending.__new__(Pending)
        PyObject_GetBuffer(buffer, &one.view, PyBUF_WRITABLE)
        one.pinned = True
        one.result = one.view.len
        return self.start(one, False, lun, lba, blocks, <uint8_t *>one.view.buf, length_of(one), timeout)

    def write(self, uint64_t lun, uint64_t lba, uint32_t blocks, data, double timeout):
        """Queues a WRITE of a buffer of exactly that many blocks, which must not change until it has ended."""
        cdef Pending one = Pending.__new__(Pending)
        PyObject_GetBuffer(data, &one.view, PyBUF_SIMPLE)
        one.pinned = True
        one.result = one.view.len
        return self.start(one, True, lun, lba, blocks, <uint8_t *>one.view.buf, length_of(one), timeout)

    cdef object start(
        self, Pending one, bint write, uint64_t lun, uint64_t lba, uint32_t blocks, uint8_t *buffer, uint32_t size,
        double timeout,
    ):
        cdef Pump pump = self.pump
        cdef Task *task
        cdef uint8_t cdb[16]
        cdef uint8_t field[8]
        self.check()
        one.lun = lun
        one.future = Awaited.__new__(Awaited)  # first: once the task has begun, nothing may fail
        one.future.loop = self.loop
        put64(field, lun)
        read_or_write(cdb, write, lba, blocks)
        # The lock is never held in a wait, nor by anybody who waits for the GIL: the GIL may be kept.
        pthread_mutex_lock(&pump.lock)
        if write:
            task = start_task(pump.engine, field, cdb, buffer, size, NULL, 0, timeout, swd_now())
        else:
            task = start_task(pump.engine, field, cdb, NULL, 0, buffer, size, timeout, swd_now())
        if task != NULL:
            task.waiter = &self.me
            self.me.pending += 1
            share(pump, &self.me, 0 if write else size)
            one.itt = task.itt
            one.slot = <int>(task - pump.engine.tasks)
        else:
            pump.engine.slot_waits += 1
        pthread_mutex_unlock(&pump.lock)
        if task == NULL:
            return None
        self.entries[one.slot] = one
        return one

    cdef int check(self) except -1:
        """Raises if the pump cannot be used, or no longer by this queue: a task without a waiter on the pump's list
        would outlive it.
        """
        check_pump(self.pump)
        if not self.joined:
            raise BadDescriptor("the event loop's use of the session has ended")
        return 0

    cpdef drop(self, Pending one):
        """Nobody wants its outcome: the buffer is free on return. The target is not told."""
        cdef Pump pump = self.pump
        if self.entries[one.slot] is not one:
            return
        self.entries[one.slot] = None
        if is_ours(pump):
            with nogil:
                pthread_mutex_lock(&pump.lock)
                self.let_go(one.itt)
                pthread_mutex_unlock(&pump.lock)
        one.unpin()

    cdef void let_go(self, uint32_t itt) noexcept nogil:
        cdef Task *task = find(self.pump.engine, itt)
        if task == NULL or task.waiter != <void *>&self.me or has_ended(self.pump, &self.me, task):
            return
        let_go_of(self.pump, task)
        if find(self.pump.engine, itt) != task or not has_ended(self.pump, &self.me, task):
            self.me.pending -= 1

    # ---- the loop's turns ---------------------------------------------------------------------------------------

    def flush(self):
        """Sends what is queued, as far as the socket takes it. True if it took all."""
        cdef Pump pump = self.pump
        cdef bint all_of_it
        check_pump(pump)
        with nogil:
            pthread_mutex_lock(&pump.lock)
            pump.users += 1
            flush(pump, swd_now())
            all_of_it = not pump.blocked
            part(pump)
            pthread_mutex_unlock(&pump.lock)
        return all_of_it

    def poll(self):
        """Receives once if no thread is at it, sends what that asks for, completes what has ended and wakes who waits
        for it; how many that were. To be called by the loop, not by a task of it.
        """
        cdef Pump pump = self.pump
        cdef Task *ended
        if not is_ours(pump):
            check_pump(pump)
        with nogil:
            pthread_mutex_lock(&pump.lock)
            pump.users += 1
            self.me.told = True  # what ends from here on is seen below
            if not pump.reading and pump.engine.fault_code == OK and not pump.closing:
                receive(pump, &self.me, 0)
                pass_role(pump)  # that sends the data that an R2T wants, commands that a wider window lets go
            self.me.told = False
            ended = self.me.done
            self.me.done = NULL
            part(pump)
            pthread_mutex_unlock(&pump.lock)
        return self.complete(in_order(ended)) if ended != NULL else 0

    cdef int complete(self, Task *ended) except -1:
        cdef Pump pump = self.pump
        cdef Task *task = ended
        cdef Pending one
        cdef int count = 0
        cdef list awake = []
        try:
            while task != NULL:
                slot = task - pump.engine.tasks
                one = self.entries[slot]
                if one is not None:
                    self.entries[slot] = None
                    outcome = one.result if task.plain else completion(pump.engine, task)
                    one.unpin()
                    if one.future.ending == AWAITED:
                        one.future.ending = FINISHED
                        one.future.outcome = outcome
                        if one.future.callback is not None:
                            awake.append(one.future)
                    count += 1
                task = task.next
        finally:
            pthread_mutex_lock(&pump.lock)
            while ended != NULL:
                task = ended
                ended = task.next
                release(pump.engine, task)
            pthread_mutex_unlock(&pump.lock)
        wake_all(awake, self.done)
        return count

    def overdue(self):
        """Lets go of the commands past their deadline; [(LUN, DeadlineExceeded), ...], as their futures have it."""
        cdef Pump pump = self.pump
        cdef Task *task
        cdef Pending one
        cdef double now = swd_now()
        cdef double allowed = 0
        cdef bint late
        found = []
        for entry in self.entries:
            one = entry
            if one is None:
                continue
            pthread_mutex_lock(&pump.lock)
            task = &pump.engine.tasks[one.slot]
            late = (
                task.itt == one.itt and task.state != FREE and task.state != DONE and task.deadline <= now
                and pump.engine.fault_code == OK
            )
            if late:
                pump.engine.timeouts += 1
                allowed = task.timeout
            pthread_mutex_unlock(&pump.lock)
            if late:
                text, tags = overdue(pump, one.itt, allowed)
                error = DeadlineExceeded(text)
                error.tags = tags
                error.epoch = pump.epoch
                self.drop(one)
                one.future.end(FAILED, error)
                found.append((one.lun, error))
        return found

    def fail_all(self, error not None):
        """The connection will not come back: every future has `error`."""
        cdef Pending one
        for entry in list(self.entries):
            if entry is not None:
                one = entry
                self.drop(one)
                one.future.end(FAILED, error)

    def look(self):
        """Tells of a lost link, so that its recovery begins; whether the link is there."""
        cdef Pump pump = self.pump
        if pump.engine.recovering and not pump.told_down and is_ours(pump):
            see_to_loss(pump)
        return pump.engine.fault_code == OK

    def watched(self):
        """(a duplicate of the descriptor of the connection in use, or -1 if the pump is closed; its epoch): both of
        one connection. Raises OSError if the process may have no more descriptors.
        """
        cdef Pump pump = self.pump
        cdef int fd = -1
        cdef int error = 0
        cdef unsigned epoch
        pthread_mutex_lock(&pump.lock)
        epoch = pump.epoch
        if pump.fd >= 0:
            fd = fcntl(pump.fd, F_DUPFD_CLOEXEC, 0)
            error = errno if fd < 0 else 0
        pthread_mutex_unlock(&pump.lock)
        if error:
            raise OSError(error, strerror(error).decode())
        return fd, epoch

    @property
    def blocked(self):
        """The socket took not all that was to be sent."""
        return bool(self.pump.blocked)

    def close(self):
        """Drops what is under way, and lets go of the pump; the futures, for the caller to cancel."""
        dropped = [entry for entry in self.entries if entry is not None]
        for entry in dropped:
            self.drop(entry)
        if self.joined:
            self.leave()
        return [entry.future for entry in dropped]

    @property
    def pending(self):
        """How many I/Os are under way."""
        return self.me.pending


cdef uint32_t length_of(Pending one) except? 0xFFFFFFFF:
    if one.view.len >> 32:
        raise InvalidArgument("one command moves less than 4 GiB")
    return <uint32_t>one.view.len


cdef Task *in_order(Task *last) noexcept nogil:
    """The same list, the first that ended first."""
    cdef Task *first = NULL
    cdef Task *task
    while last != NULL:
        task = last
        last = task.next
        task.next = first
        first = task
    return first
