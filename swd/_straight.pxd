# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport int64_t, uint64_t

from swd._fastpath cimport Pump


cdef class Straight:
    cdef Pump pump
    cdef uint64_t lun
    cdef double timeout
    cdef object on_error, result_of
    cdef readonly bint open

    cdef object read(self, uint64_t lba, uint64_t blocks, char *into, Py_ssize_t length)


cdef class StraightReads:
    cdef Straight way
    cdef public int64_t _end
    cdef public int64_t _single
    cdef public int64_t _block_size
    cdef uint64_t mask          # block size - 1

    cdef bint is_straight(self, int64_t offset, Py_ssize_t length) noexcept
