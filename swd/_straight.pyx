# SPDX-License-Identifier: Apache-2.0
"""The straight way of a read or a write: between the caller's buffer and the pump, compiled all along.

`Disk` inherits `pread`, `pread_into` and `pwrite` from here. Whole blocks inside the disk, in one command of a
session's unit, are one call with nothing of Python in it; whatever else it is (no such unit, a cut block, an odd
buffer, the end of the disk, a closed disk, a write of blocks that somebody changes in part) goes to the Disk's own
methods, which know all cases and all errors; and so does an answer that is not plainly good.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_CheckExact
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from swd._fastpath cimport Pump, Request, read_or_write, run
from swd._rangelock cimport Entry, RangeLock
from swd._wire cimport put64

from swd.errors import DeadlineExceeded, ProtocolViolation


cdef class Straight:
    """Straight(pump, lun, timeout, on_error, result_of): the way to one unit (its SAM field) on one pump. `timeout` in
    seconds.

    `on_error` is told of a DeadlineExceeded or ProtocolViolation before it is raised; `result_of` makes of a Completion
    what the unit's policy takes. `shut` closes it for good.
    """

    def __cinit__(self, Pump pump not None, uint64_t lun, double timeout, on_error not None, result_of not None):
        self.pump = pump
        self.lun = lun
        self.timeout = timeout
        self.on_error = on_error
        self.result_of = result_of
        self.open = True

    def take_writes(self, RangeLock lock not None, watch not None):
        """From now on the way is one for writes, too: `lock` is that of the unit's ranges, and `watch.losses` how often
        the unit may have lost its cache.
        """
        self.lock = lock
        self.watch = watch

    def shut(self):
        self.open = False

    def stream(self, lbas, uint32_t blocks, uint32_t size, int queue_depth, settle not None):
        """A Stream of the unit's blocks; see `Pump.stream`. `settle(index, buffer, result)` gets what the unit's policy
        takes.
        """

        def settled(index, buffer, end):
            if isinstance(end, Exception):
                raise end
            settle(index, buffer, self.result_of(end))

        return self.pump.stream(self.lun, lbas, blocks, size, queue_depth, self.timeout, settled, self.on_error)

    cdef object move(self, bint write, uint64_t lba, uint64_t blocks, char *buffer, Py_ssize_t length):
        """None, or the Completion of a read or write that did not end plainly GOOD."""
        cdef Request request
        memset(&request, 0, sizeof(Request))
        put64(request.lun, self.lun)
        read_or_write(request.cdb, write, lba, <uint32_t>blocks)
        request.timeout = self.timeout
        if write:
            request.out_buf = <const uint8_t *>buffer
            request.out_len = <uint32_t>length
        else:
            request.in_buf = <uint8_t *>buffer
            request.in_len = <uint32_t>length
        try:
            return run(self.pump, &request)
        except (DeadlineExceeded, ProtocolViolation) as error:
            self.on_error(error)
            raise


cdef class StraightIO:
    """What a Disk inherits: reads and writes that go straight where they can. The sizes are in bytes; `_end` is -1 when
    closed. `_since`: the unit's cache losses when the oldest write began that is not flushed yet, or None.
    """

    def __cinit__(self, *_arguments, **_options):
        self._end = -1

    def _go_straight(self, Straight way):
        """From now on by this way, if there is one; `_end`, `_single` and `_block_size` are set."""
        cdef int64_t size = self._block_size
        self.way = None
        if size > 0 and size & (size - 1) == 0:
            self.mask = size - 1
            self.way = way

    cdef bint is_straight(self, int64_t offset, Py_ssize_t length) noexcept:
        return (
            offset >= 0
            and 0 < length <= self._single
            and offset <= self._end - length
            and (<uint64_t>offset | <uint64_t>length) & self.mask == 0
            and self.way.open
        )

    def _wrote(self, losses):
        """A write, or a raw command, has ended in whatever way; so often had the unit lost its cache when it began."""
        if self._since is None or losses < self._since:
            self._since = losses

    def _unflushed(self):
        """`_since`, which begins anew: a flush that begins now covers what has ended."""
        since, self._since = self._since, None
        return since

    def pread(self, length, offset):
        """Up to `length` bytes from `offset` on: fewer only at the end of the disk, b"" behind it."""
        cdef int64_t at, size
        cdef bytes data
        if self.way is None or not (PyLong_CheckExact(length) and PyLong_CheckExact(offset)):
            return self._pread(length, offset)
        try:
            at, size = offset, length
        except OverflowError:
            return self._pread(length, offset)
        if not self.is_straight(at, size):
            return self._pread(length, offset)
        data = PyBytes_FromStringAndSize(NULL, size)  # nobody else sees it before it is filled
        outcome = self.way.move(False, at // self._block_size, size // self._block_size, PyBytes_AS_STRING(data), size)
        if outcome is None:
            return data
        buffer = bytearray(data)
        self._settle(False, buffer, at // self._block_size, self.way.result_of(outcome))
        return bytes(buffer)

    def pread_into(self, buffer, offset):
        """Fill a writable, contiguous buffer; the number of bytes read, which is less only at the end of the disk."""
        cdef Py_buffer view
        cdef int64_t at
        cdef Py_ssize_t length
        if self.way is None or not PyLong_CheckExact(offset):
            return self._pread_into(buffer, offset)
        try:
            at = offset
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
        except (BufferError, OverflowError, TypeError, ValueError):  # ValueError: numpy
            return self._pread_into(buffer, offset)  # which says what is wrong
        try:
            length = view.len
            if not self.is_straight(at, length):
                return self._pread_into(buffer, offset)
            outcome = self.way.move(False, at // self._block_size, length // self._block_size, <char *>view.buf, length)
        finally:
            PyBuffer_Release(&view)
        if outcome is not None:
            self._settle(False, buffer, at // self._block_size, self.way.result_of(outcome))
        return length

    def pwrite(self, data, offset):
        """Write all of a contiguous buffer, which must not change meanwhile; the number of its bytes."""
        cdef Py_buffer view
        cdef int64_t at
        cdef Straight way = self.way
        if way is None or way.lock is None or not (self.writable and PyLong_CheckExact(offset)):
            return self._pwrite(data, offset)
        if self.stable_writes and type(data) is not bytes:
            return self._pwrite(data, offset)
        try:
            at = offset
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        except (BufferError, OverflowError, TypeError, ValueError):  # ValueError: numpy
            return self._pwrite(data, offset)
        try:
            if not self.is_straight(at, view.len):
                return self._pwrite(data, offset)
            return self.write(way, data, &view, at // self._block_size, view.len // self._block_size)
        finally:
            PyBuffer_Release(&view)

    cdef object write(self, Straight way, data, Py_buffer *view, uint64_t lba, uint64_t blocks):
        cdef Entry entry = way.lock.try_write(lba, blocks)
        if entry is None:   # somebody changes a part of one of these blocks just now
            return self._pwrite(data, <int64_t>lba * self._block_size)
        losses = way.watch.losses
        try:
            outcome = way.move(True, lba, blocks, <char *>view.buf, view.len)
            if outcome is not None:
                self._settle(True, data, lba, way.result_of(outcome))
        finally:
            entry.leave()
            self._wrote(losses)
        return view.len
