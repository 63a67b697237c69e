# SPDX-License-Identifier: Apache-2.0
"""A lock over ranges of blocks: one for each logical unit, shared by everything that writes to it in this process.

Two kinds of holders. A *write* replaces whole blocks; writes do not exclude each other, as on any disk. A *modify*
reads blocks, changes some bytes, and writes them back: it excludes every write and every other modify that touches its
blocks, or one of the two would be lost. Entries stand in a queue in the order in which they came, and each waits only
for those before it that it conflicts with: nobody starves, and there is no cycle to deadlock in, as a thread holds one
entry at a time. It is one of the properties of a logical unit, and compiled since every write takes it; it knows
nothing of SCSI.

How many modify is counted: where none does, as nearly always, a write looks at no other entry, however many there are.

A child of fork waits for nobody of its parent: those threads are not in it, and would never leave.

Lock rule: the GIL guards all of it. Nothing here that changes the queue makes an object that the collector knows, so
that no finalizer, which may itself leave a queue, runs in the middle.
"""

cimport cython
from cpython.ref cimport Py_DECREF, Py_INCREF

from swd._sys cimport swd_fork_generation, swd_watch_forks

from _thread import allocate_lock

if swd_watch_forks() != 0:
    raise ImportError("pthread_atfork failed: no memory")


@cython.final
@cython.no_gc   # its lock owns it only while it stands in the queue
@cython.freelist(64)
cdef class Entry:
    """A place in the queue: some blocks, and whether they are modified rather than just written. A context manager,
    not re-entrant.
    """

    cdef bint conflicts(self, Entry other):
        return (
            (self.modifies or other.modifies) and self.first < other.end and other.first < self.end
            and self.born == other.born
        )

    cpdef leave(self):
        """Nobody waits for it any more."""
        if self.stands:
            self.lock.remove(self)

    def __enter__(self):
        cdef RangeLock lock = self.lock
        if lock is None:
            raise TypeError("a RangeLock makes entries, nobody else")
        if self.stands:
            raise RuntimeError("this range is held already")
        lock.append(self)
        if lock.modifying and lock.has_to_wait(self):
            lock.wait(self)

    def __exit__(self, *_error):
        self.leave()


cdef class RangeLock:
    """`with lock.write(first, count): ...` and `with lock.modify(first, count): ...`, in blocks."""

    def write(self, uint64_t first, uint64_t count):
        return entry_of(self, first, count, False)

    def modify(self, uint64_t first, uint64_t count):
        return entry_of(self, first, count, True)

    cpdef Entry try_write(self, uint64_t first, uint64_t count):
        """For those who may not wait: a `write` that is held already (`leave` ends it), or None if it had to wait."""
        cdef Entry entry = entry_of(self, first, count, False)
        self.append(entry)
        if self.modifying and self.has_to_wait(entry):
            self.remove(entry)
            return None
        return entry

    @property
    def entries(self):
        """How many are held or waited for."""
        cdef int count = 0
        cdef PyObject *at = self.oldest
        while at != NULL:
            count += 1
            at = (<Entry>at).after
        return count

    @property
    def waiting(self):
        """How many threads wait at this moment."""
        cdef int count = 0
        cdef PyObject *at = self.oldest
        while at != NULL:
            count += (<Entry>at).waits
            at = (<Entry>at).after
        return count

    cdef void append(self, Entry entry):
        Py_INCREF(entry)
        entry.stands = True
        entry.born = swd_fork_generation()
        entry.before = self.newest
        entry.after = NULL
        if self.newest == NULL:
            self.oldest = <PyObject *>entry
        else:
            (<Entry>self.newest).after = <PyObject *>entry
        self.newest = <PyObject *>entry
        self.modifying += entry.modifies

    cdef void remove(self, Entry entry):
        """Out of the queue, if it stands there; whoever waited for it only goes on."""
        cdef Entry one
        if not entry.stands:
            return
        if entry.before == NULL:
            self.oldest = entry.after
        else:
            (<Entry>entry.before).after = entry.after
        if entry.after == NULL:
            self.newest = entry.before
        else:
            (<Entry>entry.after).before = entry.before
        entry.stands = entry.waits = False
        Py_DECREF(entry)
        if not self.modifying:
            return
        self.modifying -= entry.modifies
        while True:
            one = self.ready()
            if one is None:
                return
            one.waits = False
            one.gate.release()

    cdef bint has_to_wait(self, Entry entry):
        """Whether somebody before it is in its way."""
        cdef PyObject *at = entry.before
        while at != NULL:
            self.compared += 1
            if entry.conflicts(<Entry>at):
                return True
            at = (<Entry>at).before
        return False

    cdef Entry ready(self):
        """The first that waits and need not."""
        cdef PyObject *at = self.oldest
        while at != NULL:
            if (<Entry>at).waits and not self.has_to_wait(<Entry>at):
                return <Entry>at
            at = (<Entry>at).after
        return None

    cdef int wait(self, Entry entry) except -1:
        try:
            entry.gate = allocate_lock()
            entry.gate.acquire()
            if not self.has_to_wait(entry):     # others may have run
                return 0
            entry.waits = True
            entry.gate.acquire()
        except BaseException:   # Ctrl-C while waiting: leave the queue, or everyone behind would wait for ever
            self.remove(entry)
            raise
        return 0


cdef Entry entry_of(RangeLock lock, uint64_t first, uint64_t count, bint modifies):
    cdef Entry entry = Entry.__new__(Entry)
    entry.lock = lock
    entry.first = first
    entry.end = first + count
    entry.modifies = modifies
    return entry
