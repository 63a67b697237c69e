# SPDX-License-Identifier: Apache-2.0
"""What the threads of one pump share, its beginning and end, and what can be seen of it from outside. A part of
`_fastpath.pyx`. Nothing here sends or receives.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from swd._engine cimport Engine, OK, begin_tape, death, headers_of, latencies_of
from swd._sys cimport (
    close,
    pthread_cond_destroy,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    swd_cond_init,
    swd_fork_generation,
    swd_set_receive_slice,
)
from swd._task cimport NO_SLOT
from swd._watch cimport swd_heads, swd_latencies

cdef double SLICE = 0.25        # seconds: the longest that a signal or a deadline waits to be seen


cdef bint is_ours(_Core self) noexcept nogil:
    """Whether this process made it, and not one that it was forked from. Other compiled modules have to ask here: each
    has a count of forks of its own, of which only this module's counts.
    """
    return self.born == swd_fork_generation()


@cython.no_gc_clear  # as Command, which may be in the same cycle
cdef class _Core:
    """The state of a `Pump`, and its Python face for those who look in."""

    def __cinit__(
        self, Engine engine not None, int fd, on_event=None, on_down=None, *,
        double spin=0.0, bint coalesce=True, uint32_t half_refill=65536,
    ):
        self.fd = -1
        self.born = swd_fork_generation()
        pthread_mutex_init(&self.lock, NULL)
        swd_cond_init(&self.moved)
        self.engine = engine
        self.on_event = on_event
        self.on_down = on_down
        self.can_recover = on_down is not None
        self.receiving_slot = NO_SLOT
        self.spin = spin
        self.coalesces = coalesce
        self.half_refill = half_refill
        self.low_water = 1
        swd_set_receive_slice(fd, SLICE)
        self.fd = fd

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        if self.born == swd_fork_generation():
            pthread_cond_destroy(&self.moved)
            pthread_mutex_destroy(&self.lock)

    def last_headers(self):
        """The last 64 headers of both directions, oldest first: ("in" or "out", monotonic seconds, 48 bytes)."""
        cdef swd_heads heads
        with nogil:
            pthread_mutex_lock(&self.lock)
            heads = self.engine.heads
            pthread_mutex_unlock(&self.lock)
        return headers_of(&heads)

    def latencies(self):
        """(SAM field or None: further units, "none", "read" or "write") -> (count, sum in us, 32 log2 buckets): from
        queueing a command to its status.
        """
        cdef swd_latencies latencies
        with nogil:
            pthread_mutex_lock(&self.lock)
            latencies = self.engine.latencies
            pthread_mutex_unlock(&self.lock)
        return latencies_of(&latencies)

    def faults(self):
        """Fault code (a key of `_engine.FAULTS`) to how often it ended a connection."""
        return self.engine.faults_seen()

    def begin_tape(self, on_tape not None, size_t size=8388608):
        """From the next PDU of each direction on, the bytes are kept for `take_tape`, at most `size` of them;
        `on_tape` is called by a thread that waits when half of that is taken.
        """
        cdef uint8_t *fresh = <uint8_t *>malloc(size)
        if fresh == NULL:
            raise MemoryError
        self.on_tape = on_tape
        with nogil:
            pthread_mutex_lock(&self.lock)
            if self.engine.tape.bytes == NULL:
                begin_tape(self.engine, fresh, size)
                fresh = NULL
            pthread_mutex_unlock(&self.lock)
        free(fresh)

    def take_tape(self, *, bint last=False):
        """The records since the last call, and how many bytes found no room. `last`: the tape is taken out. A record
        is struct "=dQIHH" (monotonic seconds, offset in its direction, length, 1 if sent, connection) and its bytes.
        """
        cdef uint8_t *fresh = NULL
        cdef uint8_t *full
        cdef size_t used
        cdef uint64_t lost
        if not last:
            fresh = <uint8_t *>malloc(self.engine.tape.size)
            if fresh == NULL:
                raise MemoryError
        with nogil:
            pthread_mutex_lock(&self.lock)
            full = self.engine.tape.bytes
            used = self.engine.tape.used
            lost = self.engine.tape.lost
            self.engine.tape.used = self.engine.tape.lost = 0
            if full != NULL:
                self.engine.tape.bytes = fresh
                fresh = NULL
            pthread_mutex_unlock(&self.lock)
        try:
            return PyBytes_FromStringAndSize(<char *>full, used) if used else b"", lost
        finally:
            free(full)
            free(fresh)

    @property
    def alive(self):
        """Usable, at once or when a lost link has come back."""
        usable = self.engine.fault_code == OK or self.engine.recovering
        return usable and not self.closing and self.born == swd_fork_generation()

    @property
    def down(self):
        """The link is lost and has not come back."""
        return bool(self.engine.recovering)

    @property
    def fault(self):
        """The exception that ended the connection, or None."""
        return death(self.engine)

    def fileno(self):
        return self.fd

    def leftover(self):
        """What is open, as the second hand-over wants it."""
        return self.engine.leftover()

    def statistics(self):
        """The engine's counters, and system calls: `sends`, `receives`."""
        counters = self.engine.statistics()
        counters["sends"] = self.sends
        counters["receives"] = self.receives
        return counters
