# SPDX-License-Identifier: Apache-2.0
"""The straight way of a read or a write in an event loop: `await disk.pread(...)` with nothing of Python between task
and engine.

`AsyncDisk` inherits `pread`, `pread_into` and `pwrite` from here. They return a `Transfer`, which is a coroutine in all
but its type: it may be awaited, made a task of, gathered, cancelled. Nothing happens before it is awaited. Whole blocks
of one command are then queued here, and the Transfer's Awaited is what the task waits for; whatever else it is goes to
the AsyncDisk's own coroutines, and so does an answer that is not plainly good.

A write has its place in the lock of the unit's ranges from the moment when it is queued until it ends, in whatever way:
somebody who changes a part of one of its blocks waits for it.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from swd._asyncqueue cimport AWAITED, FINISHED, AsyncQueue, Pending
from swd._rangelock cimport Entry
from swd._straight cimport Straight, StraightIO

from warnings import warn

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT
    PySendResult PyIter_Send(object iterator, object value, PyObject **result) except PYGEN_ERROR
    ctypedef int (*sendfunc)(PyObject *, PyObject *, PyObject **) except -1
    ctypedef struct PyAsyncMethods:
        sendfunc am_send
    ctypedef struct PyTypeObject:
        PyAsyncMethods *tp_as_async


cdef enum Phase:
    FRESH
    WAITING         # for its own future
    ROUNDABOUT      # in a coroutine of the AsyncDisk
    OVER


cdef class Transfer(Pending):
    """One read or write, to be awaited once."""

    cdef AsyncStraight face
    cdef AsyncQueue queue   # where it waits: the disk may be closed, and have none, when it is cancelled
    cdef bint write
    cdef object buffer      # None, of a read: the bytes are wanted
    cdef object length      # of these
    cdef object offset
    cdef Entry entry        # a write's in the lock of the unit's ranges, while it is held here
    cdef object losses      # the unit's cache losses before the write
    cdef object coroutine
    cdef Phase phase

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject *result = NULL
        cdef int status = step(<PyObject *>self, <PyObject *>value, &result)
        found = <object>result
        Py_DECREF(found)
        if status == PYGEN_NEXT:
            return found
        raise StopIteration(found)

    def throw(self, kind, value=None, trace=None):
        cdef Phase phase = self.phase
        if phase == ROUNDABOUT:
            return self.coroutine.throw(kind) if value is None else self.coroutine.throw(kind, value, trace)
        self.close()
        error = kind if value is None else value
        raise error if isinstance(error, BaseException) else error()

    def close(self):
        """Nobody wants it any more: its buffer is free."""
        cdef Phase phase = self.phase
        self.phase = OVER
        if phase == WAITING:
            self.queue.drop(self)
            self.leave()
        elif phase == ROUNDABOUT:
            self.coroutine.close()

    def __del__(self):
        if self.phase == FRESH:
            what = "pwrite" if self.write else "pread" if self.buffer is None else "pread_into"
            warn(f"{what} of an AsyncDisk was never awaited: nothing was done", RuntimeWarning)
        elif self.phase == WAITING:     # its task is gone
            self.close()

    cdef int advance(self, object value, PyObject **result) except -1:
        """As PyIter_Send."""
        if self.phase == FRESH:
            self.phase = OVER   # should it not even begin
            if self.begin():
                self.future._asyncio_future_blocking = True
                Py_INCREF(self.future)
                result[0] = <PyObject *>self.future
                return PYGEN_NEXT
            self.go_round(self.other_way())
        elif self.phase == WAITING:
            outcome = self.outcome()
            if type(outcome) is bytes or type(outcome) is int:
                self.phase = OVER
                self.leave()
                Py_INCREF(outcome)
                result[0] = <PyObject *>outcome
                return PYGEN_RETURN
            self.go_round(self.settled(outcome))
        elif self.phase == OVER:
            raise RuntimeError("this has been awaited already")
        return PyIter_Send(self.coroutine, value, result)

    cdef object outcome(self):
        if self.future.ending == FINISHED:
            return self.future.outcome
        if self.future.ending == AWAITED:   # by another task: it is not for this one to end it
            raise RuntimeError("this is awaited already")
        try:
            return self.future.result()
        except BaseException:
            self.close()
            raise

    cdef void go_round(self, coroutine):
        self.phase = ROUNDABOUT
        self.coroutine = coroutine

    cdef object other_way(self):
        if self.write:
            return self.face._pwrite(self.buffer, self.offset)
        if self.buffer is None:
            return self.face._pread(self.length, self.offset)
        return self.face._pread_into(self.buffer, self.offset)

    cdef object settled(self, outcome):
        if not self.write:
            return self.face._settle_read(self.buffer, self.length, self.offset, outcome)
        self.leave()
        return self.face._settle_write(self.buffer, self.offset, outcome, self.losses)

    cdef bint begin(self) except -1:
        """Queues it, if it can go straight."""
        cdef AsyncStraight face = self.face
        cdef StraightIO disk = face.straight
        cdef int64_t at, length
        if face.queue is None or disk.way is None or not PyLong_CheckExact(self.offset):
            return False
        if self.buffer is None and not PyLong_CheckExact(self.length):
            return False
        # get_running_loop() would ask the kernel for the process, for the sake of forks; the pump sees to those.
        # Where a flush is due this turn, the loop is at it.
        if PyThread_get_thread_ident() != face.thread or not (face.queue.flushing or face.loop.is_running()):
            return False
        try:
            at = self.offset
            length = self.pin()
        except (BufferError, OverflowError, TypeError, ValueError):
            return False  # the other way says what is wrong
        if not disk.is_straight(at, length) or (self.write and not face.takes_writes()):
            self.unpin()
            return False
        try:
            if not self.queued(at // disk._block_size, <uint32_t>(length // disk._block_size), <uint32_t>length):
                self.unpin()
                return False
            if not (face.queue.flushing and face.queue.ticking):
                face.arm()
        except BaseException:   # a dead session, or Ctrl-C
            self.close()
            self.unpin()
            raise
        return True

    cdef bint queued(self, uint64_t lba, uint32_t blocks, uint32_t size) except -1:
        cdef uint8_t *place = self.place(size)
        if self.start(lba, blocks, place, size) is None:
            return False
        self.queue = self.face.queue
        self.phase = WAITING
        return True

    cdef int64_t pin(self) except? -1:
        """How many bytes they are; the buffer, if there is one, stays where it is."""
        if self.buffer is None:
            return self.length
        PyObject_GetBuffer(self.buffer, &self.view, PyBUF_SIMPLE if self.write else PyBUF_WRITABLE)
        self.pinned = True
        return self.view.len

    cdef uint8_t *place(self, int64_t length) except NULL:
        """Where the bytes are, or are to go; `result` is what the task is given in the end."""
        if self.buffer is None:
            self.result = PyBytes_FromStringAndSize(NULL, length)  # nobody sees it before it is whole
            return <uint8_t *>PyBytes_AS_STRING(self.result)
        if self.write and self.face._copies and type(self.buffer) is not bytes:
            self.buffer = PyBytes_FromStringAndSize(<char *>self.view.buf, length)
            self.unpin()
            PyObject_GetBuffer(self.buffer, &self.view, PyBUF_SIMPLE)
            self.pinned = True
        self.result = length
        return <uint8_t *>self.view.buf

    cdef object start(self, uint64_t lba, uint32_t blocks, uint8_t *place, uint32_t size):
        """None where there is no slot, or where somebody changes a part of one of these blocks just now."""
        cdef AsyncQueue queue = self.face.queue
        cdef Straight way = self.face.straight.way
        if not self.write:
            return queue.start(self, False, way.lun, lba, blocks, place, size, way.timeout)
        self.entry = way.lock.try_write(lba, blocks)
        if self.entry is None:
            return None
        self.losses = way.watch.losses
        begun = None
        try:
            begun = queue.start(self, True, way.lun, lba, blocks, place, size, way.timeout)
        finally:
            if begun is None:
                self.leave()
        return begun

    cdef int leave(self) except -1:
        """A write has ended, in whatever way."""
        cdef Entry entry = self.entry
        if entry is not None:
            self.entry = None
            entry.leave()
            self.face.straight._wrote(self.losses)
        return 0


cdef int step(PyObject *self, PyObject *value, PyObject **result) except -1:
    return (<Transfer>self).advance(<object>value, result)


# The interpreter sends through this slot without an exception for the end; a class in Cython can only name methods.
(<PyTypeObject *>Transfer).tp_as_async.am_send = step


cdef class AsyncStraight:
    """What an AsyncDisk inherits. The way is open between `_go_straight` and `_stop`."""

    cdef public bint _copies    # what is written is copied first
    cdef AsyncQueue queue
    cdef StraightIO straight
    cdef object loop
    cdef unsigned long thread
    cdef object arm

    def _go_straight(self, StraightIO disk not None, AsyncQueue queue not None, loop, arm):
        """`arm` is called when something was queued and no flush or no tick is due."""
        self.straight = disk
        self.queue = queue
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.arm = arm

    def _stop(self):
        self.queue = None

    cdef bint takes_writes(self):
        return self.straight.writable and self.straight.way.lock is not None

    def pread(self, length, offset):
        """As `Disk.pread`, without a copy."""
        cdef Transfer read = Transfer.__new__(Transfer)
        read.face = self
        read.length = length
        read.offset = offset
        return read

    def pread_into(self, buffer, offset):
        """As `Disk.pread_into`."""
        cdef Transfer read
        if buffer is None:
            raise TypeError("a writable buffer is wanted, not None")
        read = Transfer.__new__(Transfer)
        read.face = self
        read.buffer = buffer
        read.offset = offset
        return read

    def pwrite(self, data, offset):
        """As `Disk.pwrite`; the data is copied first, so that the caller may change it, unless stable_writes="none"."""
        cdef Transfer write
        if data is None:
            raise TypeError("a buffer is wanted, not None")
        write = Transfer.__new__(Transfer)
        write.face = self
        write.write = True
        write.buffer = data
        write.offset = offset
        return write
