# SPDX-License-Identifier: Apache-2.0
"""The data path of the embedded target: the full-feature phase of one connection, as long as it is plain reads and
writes of memory, without the GIL.

`TargetPath.run` receives, answers READ and WRITE commands and their Data-Out, and sends, until a PDU comes that it does
not judge. That one comes out as a value, in its turn, for the session in Python to answer; then `run` goes on. What is
plain is decided in two places: `plain` and `take_command` look at the PDU, and `swd.target.compiled.access` says which
units may be read and written just now. Whatever is odd about a command makes it Python's, so no error of SCSI is built
here but the two that end a write in the midst of its data.

Everything on the wire is as `swd.target.normal`, `tasks` and `framing` would have it, and the tests send both the same
bytes. Three things belong to both sides: the numbers (`position` carries them over), the send queue (Python's answers
are put into it), and the open writes, of which each side has its own and tells the other how many.

The lock guards the queue, the open writes and the body that is being received. It is held for everything but waiting,
and whoever holds it does not ask for the GIL. Bytes are received into a medium only under it: when `abort` returns, no
byte of that write goes there any more.

All of it is one compiled module, whose calls are direct; the parts are included below, each a file of functions over a
`TargetPath`. Here is its Python face, which the session calls: setting up, and what needs the GIL.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from swd._crc32c cimport active_kernel

from swd.errors import InvalidArgument

include "_targetpath_verdicts.pxi"
include "_targetpath_units.pxi"
include "_targetpath_turns.pxi"
include "_targetpath_framing.pxi"
include "_targetpath_commands.pxi"
include "_targetpath_writes.pxi"
include "_targetpath_answers.pxi"


@cython.no_gc_clear  # its buffer must not be let go before it is released
cdef class TargetPath:
    """TargetPath(fd, buffer, start, end, agreed, depth, max_segment, gate, senses, spin_us=0, header_checked=False)

    fd: a connected, blocking stream socket, which stays the caller's. buffer: a bytearray that holds the longest PDU
    and RING bytes, with what has come already from `start` to `end`. agreed: a `Negotiated`, from the initiator's side.
    depth: commands that the session may have open. max_segment: the longest data segment that is taken. senses: sense
    data of the two errors that end a write: wrong amount of data, data out of order. spin_us: how long to look for more
    before sleeping. header_checked: the digest of the header at `start` was found right, and counted, before.
    """

    def __cinit__(
        self, int fd, bytearray buffer not None, uint32_t start, uint32_t end, agreed, uint32_t depth,
        uint32_t max_segment, Gate gate not None, senses, unsigned spin_us=0, bint header_checked=False
    ):
        pthread_mutex_init(&self.lock, NULL)
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE)
        self.viewed = True
        cdef Py_ssize_t least = <Py_ssize_t>max_segment + RING + BHS + MAX_AHS + 3 + 2 * DIGEST
        if self.view.len < least or self.view.len > 1 << 30 or not start <= end <= self.view.len:
            raise InvalidArgument(f"a buffer of {self.view.len} bytes is too small for segments of {max_segment}")
        self.ring = <uint8_t *>self.view.buf
        self.size_of_ring = <uint32_t>self.view.len
        self.start, self.end, self.header_checked = start, end, header_checked
        self.fd = fd
        self.gate = gate
        self.seen = swd_gate_read(&gate.epoch) - 1
        self.spin_us = spin_us
        self.depth = depth
        self.limit = min(depth, <uint32_t>MAX_WRITES)
        self.max_segment = max_segment
        self.crc = active_kernel().update
        self.crc_copy = active_kernel().copy
        self.header_digest, self.data_digest = agreed.header_digest, agreed.data_digest
        self.high_water = HIGH_WATER_COPIED if self.data_digest else HIGH_WATER
        self.early = EARLY_COPIED if self.data_digest else EARLY
        self.segment, self.burst = agreed.max_recv_data_segment_length, agreed.max_burst_length
        self.first_burst = agreed.first_burst_length
        self.initial_r2t, self.immediate_data = agreed.initial_r2t, agreed.immediate_data
        self.max_r2t = min(agreed.max_outstanding_r2t, MAX_R2T)
        self.many_r2t = agreed.max_outstanding_r2t > MAX_R2T
        if not self.segment or not self.burst:
            raise InvalidArgument("a segment or burst of 0 bytes moves nothing")
        keep_senses(self, senses)
        self.writes = <Write *>calloc(max(self.limit, 1), sizeof(Write))
        self.active = <uint16_t *>calloc(max(self.limit, 1), sizeof(uint16_t))
        self.units = NULL
        if self.writes == NULL or self.active == NULL:
            raise MemoryError
        for i in range(self.limit):
            self.active[i] = <uint16_t>i
        self.kept = {}

    def __dealloc__(self):
        swd_queue_free(&self.queue)
        free(self.writes)
        free(self.active)
        free(self.units)
        if self.viewed:
            PyBuffer_Release(&self.view)
        pthread_mutex_destroy(&self.lock)

    # ---- for the session in Python ---------------------------------------------------------------------------------

    def run(self):
        """Serve until something is not ours: (bhs, start, end) of a PDU whose data lies there in the buffer until the
        next call, or None when the gate was touched and `admit` is to be called.

        Raises DigestMismatch, ProtocolViolation, ConnectionResetError (the peer has closed), OSError, MemoryError.
        """
        cdef int code
        with nogil:
            code = serve(self)
        if code == ODD:
            return PyBytes_FromStringAndSize(<char *>self.bhs, BHS), self.odd_start, self.odd_end
        if code == CHANGED:
            return None
        raise reason(self, code)

    def drain(self):
        """Send what is queued, whatever else comes. Raises OSError."""
        cdef int code
        with nogil:
            code = send_all(self)
        if code == BROKEN:
            raise reason(self, code)

    def flush(self):
        """Send what the socket takes without waiting. Raises OSError."""
        with nogil:
            pthread_mutex_lock(&self.lock)
            if not self.why:
                send(self)
            pthread_mutex_unlock(&self.lock)
        if self.why:
            raise reason(self, BROKEN)

    def let_go(self):
        """The connection has ended: forget what is queued, and the memory that it took."""
        with nogil:
            pthread_mutex_lock(&self.lock)
            swd_queue_free(&self.queue)
            pthread_mutex_unlock(&self.lock)

    def append(self, data):
        """Queue a copy of some bytes of an answer."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        with nogil:
            pthread_mutex_lock(&self.lock)
            swd_queue_copy(&self.queue, <const uint8_t *>view.buf, view.len, NULL, 0)
            pthread_mutex_unlock(&self.lock)
        PyBuffer_Release(&view)

    def own(self):
        """Copy what is borrowed from media: what is done from now on is not seen by reads that were answered before."""
        with nogil:
            pthread_mutex_lock(&self.lock)
            swd_queue_own(&self.queue)
            pthread_mutex_unlock(&self.lock)

    @property
    def unsent(self):
        """Bytes that wait to be sent."""
        return self.queue.bytes

    @property
    def position(self):
        """(StatSN, TTT given last, ExpCmdSN, MaxCmdSN); to be set after Python has answered, with `held`."""
        return self.stat_sn, self.ttt, self.exp_cmd_sn, self.max_cmd_sn

    @position.setter
    def position(self, values):
        self.stat_sn, self.ttt, self.exp_cmd_sn, self.max_cmd_sn = values

    def admit(self, unsigned seen, list units not None):
        """The units of the session: (LUN field, Flat, blocks, block size, most blocks of a command, may be read, may be
        written). `seen` is what the gate had passed *before* they were looked at."""
        cdef Place *fresh = places_of(self, units)
        cdef Place *old
        cdef uint32_t count = <uint32_t>len(units)
        with nogil:
            pthread_mutex_lock(&self.lock)
            old, self.units, self.unit_count, self.seen = self.units, fresh, count, seen
            self.last_unit = NULL
            pthread_mutex_unlock(&self.lock)
        free(old)

    # ---- open writes, as a TaskSet sees them -----------------------------------------------------------------------

    def __len__(self):
        return self.open_count

    def __bool__(self):
        return True

    def __contains__(self, uint32_t itt):
        cdef bint found
        with nogil:
            pthread_mutex_lock(&self.lock)
            found = find(self, itt) != NULL
            pthread_mutex_unlock(&self.lock)
        return found

    def drop(self, uint32_t itt):
        """Abort one write; False if it is not open."""
        cdef Write *write
        with nogil:
            pthread_mutex_lock(&self.lock)
            write = find(self, itt)
            if write != NULL:
                forget(self, write)
            pthread_mutex_unlock(&self.lock)
        return write != NULL

    def abort(self, lun=None):
        """Abort all writes, or all of one unit; the number of them."""
        cdef uint64_t only = 0 if lun is None else lun
        cdef bint every = lun is None
        cdef int i, dropped = 0
        with nogil:
            pthread_mutex_lock(&self.lock)
            for i in range(<int>self.open_count - 1, -1, -1):
                if every or self.writes[self.active[i]].lun == only:
                    forget(self, &self.writes[self.active[i]])
                    dropped += 1
            pthread_mutex_unlock(&self.lock)
        return dropped

    def counts(self):
        """What was counted, by the names of `swd.target.statistics`; PDUs that came, and that went, by opcode."""
        cdef int i
        numbers = {
            "bytes_in": self.bytes_in,
            "bytes_out": self.queue.sent,
            "header_digests_checked": self.headers_checked,
            "data_digests_checked": self.bodies_checked,
        }
        return (
            numbers,
            {i: self.pdus_in[i] for i in range(OPCODES) if self.pdus_in[i]},
            {i: self.pdus_out[i] for i in range(OPCODES) if self.pdus_out[i]},
        )
