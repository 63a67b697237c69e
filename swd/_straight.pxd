# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int64_t, uint64_t

from swd._fastpath cimport Pump
from swd._rangelock cimport RangeLock


cdef class Straight:
    cdef Pump pump
    cdef uint64_t lun
    cdef double timeout
    cdef object on_error, result_of
    cdef readonly bint open

    cdef RangeLock lock         # None: it takes no writes
    cdef object watch

    cdef object move(self, bint write, uint64_t lba, uint64_t blocks, char *buffer, Py_ssize_t length)


cdef class StraightIO:
    cdef Straight way
    cdef public int64_t _end
    cdef public int64_t _single
    cdef public int64_t _block_size
    cdef public bint writable
    cdef public object stable_writes
    cdef object _since
    cdef uint64_t mask          # block size - 1

    cdef bint is_straight(self, int64_t offset, Py_ssize_t length) noexcept
    cdef object write(self, Straight way, data, Py_buffer *view, uint64_t lba, uint64_t blocks)
