# SPDX-License-Identifier: Apache-2.0
"""The straight way of a read: from the caller's buffer to the pump, compiled all along.

`Disk` inherits `pread` and `pread_into` from here. A read of whole blocks inside the disk, in one command of a
session's unit, is one call with nothing of Python in it; whatever else it is (no such unit, a cut block, an odd buffer,
the end of the disk, a closed disk) goes to the Disk's own methods, which know all cases and all errors; and so does an
answer that is not plainly good.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.long cimport PyLong_CheckExact
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from swd._fastpath cimport Pump, Request, read_or_write, run
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

    cdef object read(self, uint64_t lba, uint64_t blocks, char *into, Py_ssize_t length):
        """None, or the Completion of a read that did not end plainly GOOD."""
        cdef Request request
        memset(&request, 0, sizeof(Request))
        put64(request.lun, self.lun)
        read_or_write(request.cdb, False, lba, <uint32_t>blocks)
        request.timeout = self.timeout
        request.in_buf = <uint8_t *>into
        request.in_len = <uint32_t>length
        try:
            return run(self.pump, &request)
        except (DeadlineExceeded, ProtocolViolation) as error:
            self.on_error(error)
            raise


cdef class StraightReads:
    """What a Disk inherits: reads that go straight where they can. The sizes are in bytes; `_end` is -1 when closed."""

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
        outcome = self.way.read(at // self._block_size, size // self._block_size, PyBytes_AS_STRING(data), size)
        if outcome is None:
            return data
        buffer = bytearray(data)
        self._settle_read(buffer, at // self._block_size, self.way.result_of(outcome))
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
        except (OverflowError, BufferError, TypeError):
            return self._pread_into(buffer, offset)  # which says what is wrong
        try:
            length = view.len
            if not self.is_straight(at, length):
                return self._pread_into(buffer, offset)
            outcome = self.way.read(at // self._block_size, length // self._block_size, <char *>view.buf, length)
        finally:
            PyBuffer_Release(&view)
        if outcome is not None:
            self._settle_read(buffer, at // self._block_size, self.way.result_of(outcome))
        return length
