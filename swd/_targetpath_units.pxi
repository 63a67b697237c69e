# SPDX-License-Identifier: Apache-2.0
"""What may be read and written: units that are memory, as Python admitted them, and the gate that says when to ask it
again. A part of `_targetpath.pyx`. PDUs it may not know, nor why a unit is shut: `swd.target.compiled.access` does.

A `Flat` that was admitted once is kept for the life of the path: what is lent from it may wait to be sent, and open
writes point into it. It knows the paths in turn, so that one command can have the memory for itself (`stop`, `go`).
"""

import weakref

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from swd.errors import InvalidArgument

cdef pthread_mutex_t stopping       # one Flat at a time, for two might stop the same paths in another order
pthread_mutex_init(&stopping, NULL)


cdef class Gate:
    """Counts changes of what `swd.target.compiled.access` looks at; paths ask again when the count has moved.

    One for a target. Whoever changes a unit's state so that a command would end differently calls `touch` *afterwards*.
    """

    def touch(self):
        swd_gate_touch(&self.epoch)

    @property
    def passed(self):
        """The count now."""
        return swd_gate_read(&self.epoch)


@cython.no_gc  # its buffers must not be let go before they are released; no cycle goes through it
cdef class Flat:
    """Flat(memory, used, page): a medium that is plain memory, and a byte for each `page` bytes of it that becomes 1
    once they may have been written. Keeps both buffers from going away."""

    def __cinit__(self, memory, bytearray used not None, uint32_t page):
        PyObject_GetBuffer(memory, &self.memory, PyBUF_WRITABLE)
        self.open = 1
        PyObject_GetBuffer(used, &self.used, PyBUF_WRITABLE)
        self.open = 2
        self.page = page
        self.paths = weakref.WeakSet()
        self.stopped = []
        if not page or <uint64_t>self.used.len * page < <uint64_t>self.memory.len:
            raise InvalidArgument(f"{self.used.len} pages of {page} bytes do not cover {self.memory.len} bytes")

    def __dealloc__(self):
        if self.open > 1:
            PyBuffer_Release(&self.used)
        if self.open:
            PyBuffer_Release(&self.memory)

    def stop(self):
        """Until `go`, which the same thread must call: nothing of this memory is read or written by a path, and what
        one has answered from it is a copy. Meanwhile nothing may be asked of a path in this thread."""
        cdef TargetPath path
        with nogil:
            pthread_mutex_lock(&stopping)
        try:
            self.stopped = list(self.paths)
        except BaseException:
            pthread_mutex_unlock(&stopping)
            raise
        for path in self.stopped:
            with nogil:
                pthread_mutex_lock(&path.lock)
                swd_queue_own(&path.queue)

    def go(self):
        """What `stop` stopped goes on."""
        cdef TargetPath path
        for path in self.stopped:
            pthread_mutex_unlock(&path.lock)
        self.stopped = []
        pthread_mutex_unlock(&stopping)

    @property
    def size(self):
        """Bytes."""
        return self.memory.len


def _by_lun(unit):
    return unit[0]


cdef Place *places_of(TargetPath self, list units) except NULL:
    """A new table for `units`, in the order of their LUN fields; made without the lock, as it needs the GIL."""
    cdef Place *places = <Place *>calloc(max(len(units), 1), sizeof(Place))
    cdef Flat flat
    cdef int i
    if places == NULL:
        raise MemoryError
    try:
        for i, unit in enumerate(sorted(units, key=_by_lun)):
            lun, flat, blocks, block_size, most, may_read, may_write = unit
            if blocks * block_size > flat.size or most * block_size >= 1 << 31:
                raise InvalidArgument(f"{blocks} blocks of {block_size} bytes do not fit into {flat.size}")
            if flat not in self.kept:
                enroll(self, flat)
            places[i].lun, places[i].blocks, places[i].block_size, places[i].most = lun, blocks, block_size, most
            places[i].readable, places[i].writable = may_read, may_write
            places[i].base, places[i].used = <uint8_t *>flat.memory.buf, <uint8_t *>flat.used.buf
            places[i].page = flat.page
    except BaseException:
        free(places)
        raise
    return places


cdef int enroll(TargetPath self, Flat flat) except -1:
    """From now on the path is stopped with this Flat, and does not get to use it while that is stopped."""
    with nogil:
        pthread_mutex_lock(&stopping)
    try:
        flat.paths.add(self)
        self.kept[flat] = None
    finally:
        pthread_mutex_unlock(&stopping)
    return 0


cdef Place *unit_of(TargetPath self, uint64_t lun) noexcept nogil:
    """The unit of a LUN field, NULL if it was not admitted: by bisection, unless it is the one that was wanted last."""
    cdef uint32_t low = 0, high = self.unit_count, middle
    if self.last_unit != NULL and self.last_unit.lun == lun:
        return self.last_unit
    while low < high:
        middle = (low + high) // 2
        if self.units[middle].lun < lun:
            low = middle + 1
        else:
            high = middle
    if low == self.unit_count or self.units[low].lun != lun:
        return NULL
    self.last_unit = &self.units[low]
    return self.last_unit
