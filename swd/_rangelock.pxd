# SPDX-License-Identifier: Apache-2.0
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t


cdef class Entry:
    cdef RangeLock lock
    cdef uint64_t first, end
    cdef bint modifies
    cdef bint stands            # in the queue
    cdef bint waits             # for those before it
    cdef unsigned born          # the count of forks when it came into the queue
    cdef object gate            # a lock that is let go of when it need not wait any longer
    cdef PyObject *before       # in the queue, which owns what stands in it
    cdef PyObject *after

    cdef bint conflicts(self, Entry other)
    cpdef leave(self)


cdef class RangeLock:
    cdef object __weakref__
    cdef PyObject *oldest
    cdef PyObject *newest
    cdef readonly unsigned long compared    # how often an entry was held against another
    cdef Py_ssize_t modifying   # entries in the queue that modify, or wait to

    cpdef Entry try_write(self, uint64_t first, uint64_t count)
    cdef void append(self, Entry entry)
    cdef void remove(self, Entry entry)
    cdef bint has_to_wait(self, Entry entry)
    cdef int wait(self, Entry entry) except -1
    cdef Entry ready(self)
