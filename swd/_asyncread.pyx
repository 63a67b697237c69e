# SPDX-License-Identifier: Apache-2.0
"""The straight way of a read in an event loop: `await disk.pread(...)` with nothing of Python between task and engine.

`AsyncDisk` inherits `pread` and `pread_into` from here. They return a `Read`, which is a coroutine in all but its type:
it may be awaited, made a task of, gathered, cancelled. Nothing happens before it is awaited. A read of whole blocks of
one command is then queued here, and its Awaited is what the task waits for; whatever else it is goes to the AsyncDisk's
own coroutines, and so does an answer that is not plainly good.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t

from swd._asyncqueue cimport FINISHED, AsyncQueue, Pending
from swd._straight cimport StraightReads

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


cdef class Read(Pending):
    """One read, to be awaited once."""

    cdef AsyncReads face
    cdef AsyncQueue queue   # where it waits: the disk may be closed, and have none, when it is cancelled
    cdef object buffer      # None: the bytes are wanted
    cdef object length
    cdef object offset
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
        elif phase == ROUNDABOUT:
            self.coroutine.close()

    cdef int advance(self, object value, PyObject **result) except -1:
        """As PyIter_Send."""
        if self.phase == FRESH:
            if self.begin():
                self.phase = WAITING
                self.future._asyncio_future_blocking = True
                Py_INCREF(self.future)
                result[0] = <PyObject *>self.future
                return PYGEN_NEXT
            if self.buffer is None:
                self.go_round(self.face._pread(self.length, self.offset))
            else:
                self.go_round(self.face._pread_into(self.buffer, self.offset))
        elif self.phase == WAITING:
            outcome = self.outcome()
            if type(outcome) is bytes or type(outcome) is int:
                self.phase = OVER
                Py_INCREF(outcome)
                result[0] = <PyObject *>outcome
                return PYGEN_RETURN
            self.go_round(self.face._settle_read(self.buffer, self.length, self.offset, outcome))
        elif self.phase == OVER:
            raise RuntimeError("this read has been awaited already")
        return PyIter_Send(self.coroutine, value, result)

    cdef object outcome(self):
        if self.future.ending == FINISHED:
            return self.future.outcome
        try:
            return self.future.result()
        except BaseException:
            self.close()
            raise

    cdef void go_round(self, coroutine):
        self.phase = ROUNDABOUT
        self.coroutine = coroutine

    cdef bint begin(self) except -1:
        """Queues it, if it can go straight."""
        cdef AsyncReads face = self.face
        cdef StraightReads disk = face.straight
        cdef int64_t at, length
        cdef uint8_t *place
        if face.queue is None or disk.way is None or not PyLong_CheckExact(self.offset):
            return False
        # get_running_loop() would ask the kernel for the process, for the sake of forks; the pump sees to those.
        # Where a flush is due this turn, the loop is at it.
        if PyThread_get_thread_ident() != face.thread or not (face.queue.flushing or face.loop.is_running()):
            return False
        try:
            at = self.offset
            if self.buffer is None:
                length = self.length
            else:
                PyObject_GetBuffer(self.buffer, &self.view, PyBUF_WRITABLE)
                self.pinned = True
                length = self.view.len
        except (BufferError, OverflowError, TypeError):
            return False  # the other way says what is wrong
        if not disk.is_straight(at, length):
            self.unpin()
            return False
        if self.buffer is None:
            self.result = PyBytes_FromStringAndSize(NULL, length)  # nobody sees it before it is whole
            place = <uint8_t *>PyBytes_AS_STRING(self.result)
        else:
            self.result = length
            place = <uint8_t *>self.view.buf
        begun = face.queue.start(
            self, False, disk.way.lun, at // disk._block_size, <uint32_t>(length // disk._block_size), place,
            <uint32_t>length, disk.way.timeout,
        )
        if begun is None:  # no slot is free
            self.unpin()
            return False
        self.queue = face.queue
        if not (face.queue.flushing and face.queue.ticking):
            face.arm()
        return True


cdef int step(PyObject *self, PyObject *value, PyObject **result) except -1:
    return (<Read>self).advance(<object>value, result)


# The interpreter sends through this slot without an exception for the end; a class in Cython can only name methods.
(<PyTypeObject *>Read).tp_as_async.am_send = step


cdef class AsyncReads:
    """What an AsyncDisk inherits. The way is open between `_go_straight` and `_stop`."""

    cdef AsyncQueue queue
    cdef StraightReads straight
    cdef object loop
    cdef unsigned long thread
    cdef object arm

    def _go_straight(self, StraightReads disk not None, AsyncQueue queue not None, loop, arm):
        """`arm` is called when something was queued and no flush or no tick is due."""
        self.straight = disk
        self.queue = queue
        self.loop = loop
        self.thread = PyThread_get_thread_ident()
        self.arm = arm

    def _stop(self):
        self.queue = None

    def pread(self, length, offset):
        """As `Disk.pread`, without a copy."""
        cdef Read read = Read.__new__(Read)
        read.face = self
        read.length = length
        read.offset = offset
        return read

    def pread_into(self, buffer, offset):
        """As `Disk.pread_into`."""
        cdef Read read = Read.__new__(Read)
        if buffer is None:
            raise TypeError("a writable buffer is wanted, not None")
        read.face = self
        read.buffer = buffer
        read.offset = offset
        return read
