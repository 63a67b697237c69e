# SPDX-License-Identifier: Apache-2.0
"""The data path of the embedded target: the full-feature phase of one connection, as long as it is plain reads and
writes of memory, without the GIL.

`TargetPath.run` receives, answers READ and WRITE commands and their Data-Out, and sends, until a PDU comes that it does
not judge. That one comes out as a value, in its turn, for the session in Python to answer; then `run` goes on. What is
plain is decided in two places: `_plain` here looks at the PDU, and `swd.target.compiled.access` says which units may be
read and written just now. Whatever is odd about a command makes it Python's, so no error of SCSI is built here but the
two that end a write in the midst of its data.

Everything on the wire is as `swd.target.normal`, `tasks` and `framing` would have it, and the tests send both the same
bytes. Three things belong to both sides: the numbers (`position` carries them over), the send queue (Python's answers
are put into it), and the open writes, of which each side has its own and tells the other how many.

The lock guards the queue, the open writes and the body that is being received. It is held for everything but waiting,
and whoever holds it does not ask for the GIL. Bytes are received into a medium only under it: when `abort` returns, no
byte of that write goes there any more.
"""

cimport cython

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memmove, memset

from swd._crc32c cimport active_kernel
from swd._serial cimport serial_after
from swd._wire cimport get24, get32, get64, get_digest, put24, put32, put64, put_digest

import os

from swd.errors import DigestMismatch, InvalidArgument, ProtocolViolation

cdef enum:
    BHS = 48
    DIGEST = 4
    MAX_AHS = 1020
    RING = 262144               # bytes that one receive brings at most
    BIG = 131072                # from a data segment of this size on, the next header is received alone
    HIGH_WATER = 8388608        # unsent bytes beyond which no request is taken up,
    HIGH_WATER_COPIED = 1048576  # where reads are copied: they should still be in a cache when they are sent
    LOOK = 16                   # receives after which it is asked anew where packets come in
    EARLY = 524288              # queued bytes that are sent before the rest of what came is looked at,
    EARLY_COPIED = 131072       # where reads are copied
    NO_TAG = 0xFFFFFFFF
    MAX_WRITES = 1024

cdef enum:
    COMMAND = 0x01
    DATA_OUT = 0x05
    RESPONSE = 0x21
    DATA_IN = 0x25
    R2T = 0x31

cdef enum:
    FINAL = 0x80
    READS = 0x40
    WRITES = 0x20
    WITH_STATUS = 0x01
    POLL_IN = 0x001             # Linux and macOS agree on these
    POLL_OUT = 0x004
    POLL_BAD = 0x018


# How `parse` ends; from ODD on, `run` does, too.
cdef enum:
    NEXT
    MORE
    FULL
    ODD
    CHANGED
    ENDED
    BROKEN
    NO_MEMORY
    HEADER_DIGEST_WRONG
    DATA_DIGEST_WRONG
    TOO_LONG
    REFUSED                     # and the two reasons, in the order of `senses`
    WRONG_AMOUNT = REFUSED
    OUT_OF_ORDER


def _by_lun(unit):
    return unit[0]


cdef bint _plain(const uint8_t *cdb, Transfer *wanted) noexcept nogil:
    """READ or WRITE of 6, 10, 12 or 16 bytes, with nothing set but DPO and FUA: memory has no cache to force out."""
    cdef uint8_t odd = cdb[1] & 0xE7
    wanted.write = cdb[0] & 0x0F == 0x0A
    if cdb[0] == 0x28 or cdb[0] == 0x2A:
        wanted.lba = get32(cdb + 2)
        wanted.blocks = <uint32_t>cdb[7] << 8 | cdb[8]
        odd |= cdb[6] | cdb[9]
    elif cdb[0] == 0x88 or cdb[0] == 0x8A:
        wanted.lba = get64(cdb + 2)
        wanted.blocks = get32(cdb + 10)
        odd |= cdb[14] | cdb[15]
    elif cdb[0] == 0xA8 or cdb[0] == 0xAA:
        wanted.lba = get32(cdb + 2)
        wanted.blocks = get32(cdb + 6)
        odd |= cdb[10] | cdb[11]
    elif cdb[0] == 0x08 or cdb[0] == 0x0A:
        wanted.lba = get24(cdb + 1) & 0x1FFFFF
        wanted.blocks = cdb[4] or 256
        odd = cdb[5]
    else:
        return False
    return not odd


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


@cython.no_gc_clear  # its buffers must not be let go before they are released
cdef class Flat:
    """Flat(memory, used, page): a medium that is plain memory, and a byte for each `page` bytes of it that becomes 1
    once they may have been written. Keeps both buffers from going away."""

    def __cinit__(self, memory, bytearray used not None, uint32_t page):
        PyObject_GetBuffer(memory, &self.memory, PyBUF_WRITABLE)
        self.open = 1
        PyObject_GetBuffer(used, &self.used, PyBUF_WRITABLE)
        self.open = 2
        self.page = page
        if not page or <uint64_t>self.used.len * page < <uint64_t>self.memory.len:
            raise InvalidArgument(f"{self.used.len} pages of {page} bytes do not cover {self.memory.len} bytes")

    def __dealloc__(self):
        if self.open > 1:
            PyBuffer_Release(&self.used)
        if self.open:
            PyBuffer_Release(&self.memory)

    @property
    def size(self):
        """Bytes."""
        return self.memory.len


@cython.no_gc_clear  # as Flat
cdef class TargetPath:
    """TargetPath(fd, buffer, start, end, agreed, depth, max_segment, gate, senses, spin_us=0)

    fd: a connected, blocking stream socket, which stays the caller's. buffer: a bytearray that holds the longest PDU
    and RING bytes, with what has come already from `start` to `end`. agreed: a `Negotiated`, from the initiator's side.
    depth: commands that the session may have open. max_segment: the longest data segment that is taken. senses: sense
    data of the two errors that end a write: wrong amount of data, data out of order. spin_us: how long to look for more
    before sleeping.
    """

    def __cinit__(
        self, int fd, bytearray buffer not None, uint32_t start, uint32_t end, agreed, uint32_t depth,
        uint32_t max_segment, Gate gate not None, senses, unsigned spin_us=0
    ):
        pthread_mutex_init(&self.lock, NULL)
        PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE)
        self.viewed = True
        cdef Py_ssize_t least = <Py_ssize_t>max_segment + RING + BHS + MAX_AHS + 3 + 2 * DIGEST
        if self.view.len < least or self.view.len > 1 << 30 or not start <= end <= self.view.len:
            raise InvalidArgument(f"a buffer of {self.view.len} bytes is too small for segments of {max_segment}")
        self.ring = <uint8_t *>self.view.buf
        self.size_of_ring = <uint32_t>self.view.len
        self.start, self.end = start, end
        self.fd = fd
        self.gate = gate
        self.seen = swd_gate_read(&gate.epoch) - 1
        self.spin_us = spin_us
        self.depth = depth
        self.limit = min(depth, MAX_WRITES)
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
        for i, sense in enumerate(senses):
            self.sense[i][0], self.sense[i][1] = len(sense) >> 8, len(sense) & 0xFF
            self.sense_length[i] = 2 + len(sense)
            memcpy(&self.sense[i][2], PyBytes_AS_STRING(sense), min(len(sense), 30))
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
            code = self.serve()
        if code == ODD:
            return PyBytes_FromStringAndSize(<char *>self.bhs, BHS), self.odd_start, self.odd_end
        if code == CHANGED:
            return None
        raise self.reason(code)

    def drain(self):
        """Send what is queued, whatever else comes. Raises OSError."""
        cdef int code = MORE
        with nogil:
            while True:
                pthread_mutex_lock(&self.lock)
                if swd_queue_send(&self.queue, self.fd) < 0:
                    self.why, code = errno, BROKEN
                pthread_mutex_unlock(&self.lock)
                if code == BROKEN or not self.queue.bytes:
                    break
                swd_wait(self.fd, False, True)
        if code == BROKEN:
            raise self.reason(code)

    def flush(self):
        """Send what the socket takes without waiting. Raises OSError."""
        with nogil:
            pthread_mutex_lock(&self.lock)
            if not self.why:
                self.send()
            pthread_mutex_unlock(&self.lock)
        if self.why:
            raise self.reason(BROKEN)

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
        cdef Place *fresh = <Place *>calloc(max(len(units), 1), sizeof(Place))
        cdef Place *old
        cdef Flat flat
        cdef int i, count = len(units)
        if fresh == NULL:
            raise MemoryError
        try:
            for i, unit in enumerate(sorted(units, key=_by_lun)):
                lun, flat, blocks, block_size, most, may_read, may_write = unit
                if blocks * block_size > flat.size or most * block_size >= 1 << 31:
                    raise InvalidArgument(f"{blocks} blocks of {block_size} bytes do not fit into {flat.size}")
                self.kept[flat] = None
                fresh[i].lun, fresh[i].blocks, fresh[i].block_size, fresh[i].most = lun, blocks, block_size, most
                fresh[i].readable, fresh[i].writable = may_read, may_write
                fresh[i].base, fresh[i].used = <uint8_t *>flat.memory.buf, <uint8_t *>flat.used.buf
                fresh[i].page = flat.page
        except BaseException:
            free(fresh)
            raise
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
            found = self.find(itt) != NULL
            pthread_mutex_unlock(&self.lock)
        return found

    def drop(self, uint32_t itt):
        """Abort one write; False if it is not open."""
        cdef Write *write
        with nogil:
            pthread_mutex_lock(&self.lock)
            write = self.find(itt)
            if write != NULL:
                self.forget(write)
            pthread_mutex_unlock(&self.lock)
        return write != NULL

    def abort(self, lun=None):
        """Abort all writes, or all of one unit; the number of them."""
        cdef uint64_t only = 0 if lun is None else lun
        cdef bint every = lun is None
        cdef int i, dropped = 0
        with nogil:
            pthread_mutex_lock(&self.lock)
            for i in range(self.open_count - 1, -1, -1):
                if every or self.writes[self.active[i]].lun == only:
                    self.forget(&self.writes[self.active[i]])
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

    cdef object reason(self, int code):
        if code == ENDED:
            return ConnectionResetError("the initiator closed the connection")
        if code == HEADER_DIGEST_WRONG or code == DATA_DIGEST_WRONG:
            what = "header" if code == HEADER_DIGEST_WRONG else "data"
            return DigestMismatch(f"the {what} digest of a PDU is wrong")
        if code == TOO_LONG:
            return ProtocolViolation(
                f"a data segment of {get24(self.ring + self.start + 5)} bytes came, {self.max_segment} were declared",
                clause="13.12",
            )
        if code == BROKEN:
            return OSError(self.why, os.strerror(self.why))
        return MemoryError("no memory for what is to be sent")

    # ---- the loop --------------------------------------------------------------------------------------------------

    cdef int serve(self) noexcept nogil:
        cdef int code
        while True:
            pthread_mutex_lock(&self.lock)
            code = self.parse()
            if self.queue.broken:
                code = NO_MEMORY
            elif self.queue.bytes and not self.blocked and code != CHANGED:
                self.send()
                if self.why and code < ODD:
                    code = BROKEN
            pthread_mutex_unlock(&self.lock)
            if code >= ODD:
                return code
            code = self.receive(code == FULL)
            if code >= ODD:
                return code

    cdef void send(self) noexcept nogil:
        cdef int done = swd_queue_send(&self.queue, self.fd)
        self.blocked = done == 0
        if done < 0:
            self.why = errno

    cdef int receive(self, bint full) noexcept nogil:
        """Waits for bytes, or for room for what is unsent; MORE if it is worth looking again."""
        cdef int events = POLL_IN
        if self.queue.bytes:
            events = swd_wait(self.fd, not full, True)
            if events & (POLL_OUT | POLL_BAD):
                pthread_mutex_lock(&self.lock)
                self.send()
                pthread_mutex_unlock(&self.lock)
                if self.why:
                    return BROKEN
            if not events & POLL_IN:
                return MORE
        if full:                            # what has come comes first, now that there may be room for its answers
            return MORE
        if self.left and self.dest != NULL:
            return self.receive_body()
        self.make_room()
        return self.took(self.receive_more())

    cdef ssize_t receive_more(self) noexcept nogil:
        """Into the ring; waits if nothing is unsent. Spinning pays only while the peer runs on another CPU."""
        cdef ssize_t n
        if self.spin_us and not self.queue.bytes:
            self.since_look += 1
            if self.since_look >= LOOK:
                self.since_look = 0
                self.spinning = swd_is_fed_elsewhere(self.fd)
            if self.spinning:
                n = swd_look_for(self.fd, self.ring + self.end, self.room(), self.spin_us)
                if n >= 0 or (errno != EAGAIN and errno != EWOULDBLOCK):
                    return n
        return swd_receive_twice(self.fd, NULL, 0, self.ring + self.end, self.room(), self.queue.bytes == 0)

    cdef int receive_body(self) noexcept nogil:
        """The rest of a data segment, straight into the medium, and what comes behind it."""
        cdef ssize_t n
        cdef uint32_t part
        pthread_mutex_lock(&self.lock)
        self.make_room()
        # Not without the lock: somebody might abort the write, and be told that it is over.
        n = swd_receive_twice(
            self.fd, self.dest, self.left if self.dest != NULL else 0, self.ring + self.end, self.room(), False)
        if n > 0 and self.dest != NULL:
            part = self.left if <size_t>n > self.left else <uint32_t>n
            if self.data_digest:
                self.body_crc = self.crc(self.body_crc, self.dest, part)
            self.dest += part
            self.left -= part
            self.bytes_in += part
            n -= part
            if n == 0:
                pthread_mutex_unlock(&self.lock)
                return MORE
        pthread_mutex_unlock(&self.lock)
        if n < 0 and (errno == EAGAIN or errno == EWOULDBLOCK) and not self.queue.bytes:
            swd_wait(self.fd, True, False)
            return MORE
        return self.took(n)

    cdef int took(self, ssize_t n) noexcept nogil:
        """`n` is what a receive into the ring gave."""
        if n > 0:
            self.end += <uint32_t>n
            self.bytes_in += <uint64_t>n
            return MORE
        if n == 0:
            return ENDED
        if errno == EAGAIN or errno == EWOULDBLOCK or errno == EINTR:
            return MORE
        self.why = errno
        return BROKEN

    cdef void make_room(self) noexcept nogil:
        """Move what is left of the ring to its front when less than RING bytes are free behind it."""
        if self.start == self.end:
            self.start = self.end = 0
        elif self.size_of_ring - self.end < RING:
            memmove(self.ring, self.ring + self.start, self.end - self.start)
            self.end -= self.start
            self.start = 0

    cdef uint32_t room(self) noexcept nogil:
        """How much to receive into the ring. Behind a big segment, only up to the next header, so that the next big one
        need not be copied out of the ring."""
        cdef uint32_t room = self.size_of_ring - self.end
        if self.big and self.end - self.start < BHS + DIGEST and not (self.left and self.dest == NULL):
            return (self.trailer if self.in_body else 0) + BHS + (DIGEST if self.header_digest else 0)
        return RING if room > RING else room

    # ---- PDUs ------------------------------------------------------------------------------------------------------

    cdef int parse(self) noexcept nogil:
        cdef int code
        while True:
            if self.in_body:
                code = self.take_body()
            elif self.queue.bytes > self.high_water:
                return FULL
            else:
                code = self.take_header()
            if code != NEXT:
                return code
            if self.queue.bytes >= self.early and not self.blocked:
                self.send()

    cdef int take_header(self) noexcept nogil:
        """Judge the PDU at `start`. NEXT if it was taken up, CHANGED before anything was done."""
        cdef uint8_t *bhs = self.ring + self.start
        cdef uint32_t available = self.end - self.start
        cdef uint32_t header, length
        cdef int verdict
        if available < BHS:
            return MORE
        header = BHS + 4 * <uint32_t>bhs[4]
        length = get24(bhs + 5)
        if self.header_digest:
            if available < header + DIGEST:
                return MORE
            if not self.header_checked:     # before anything that it says is believed
                self.headers_checked += 1
                if ~self.crc(NO_TAG, bhs, header) != get_digest(bhs + header):
                    return HEADER_DIGEST_WRONG
                self.header_checked = True
            header += DIGEST
        if length > self.max_segment:
            return TOO_LONG
        if available < header:              # of additional header segments: data is behind all of them
            return MORE
        verdict = ODD
        if bhs[0] & 0x3F == DATA_OUT:
            verdict = self.data_out(bhs, length)
        elif bhs[0] == COMMAND and bhs[4] == 0:
            verdict = self.command(bhs, length)
        if verdict == CHANGED:
            return CHANGED
        if verdict != NEXT:
            return self.take_whole(header, length, verdict)
        self.start += header
        self.header_checked = False
        if not self.in_body:
            self.big = False
            self.pdus_in[COMMAND] += 1
        return NEXT

    cdef int take_whole(self, uint32_t header, uint32_t length, int verdict) noexcept nogil:
        """A PDU that is handed out, or that ends a write in error, when all of it has come and its digest is right."""
        cdef uint8_t *bhs = self.ring + self.start
        cdef uint32_t padded = length + (-length & 3)
        cdef uint32_t whole = header + padded + (DIGEST if self.data_digest and length else 0)
        if self.end - self.start < whole:
            return MORE
        if self.data_digest and length:
            self.bodies_checked += 1
            if ~self.crc(NO_TAG, bhs + header, padded) != get_digest(bhs + header + padded):
                return DATA_DIGEST_WRONG
        self.big = False
        self.pdus_in[bhs[0] & 0x3F] += 1
        self.odd_start = self.start + header
        self.odd_end = self.odd_start + length
        self.start += whole
        self.header_checked = False
        if verdict == ODD:
            memcpy(self.bhs, bhs, BHS)
            return ODD
        self.refuse(self.find(get32(bhs + 16)), verdict - REFUSED)
        return NEXT

    cdef void begin_body(
        self, Write *write, uint8_t *dest, uint32_t length, uint8_t opcode, bint final
    ) noexcept nogil:
        self.in_body = True
        self.body_opcode = opcode
        self.body_final = final
        self.body_write = write
        self.dest = dest
        self.left = self.body_length = length
        self.body_crc = NO_TAG
        self.trailer = (-length & 3) + (DIGEST if self.data_digest and length else 0)
        self.big = length >= BIG

    cdef int take_body(self) noexcept nogil:
        """Move what has come of a data segment to where it belongs; NEXT when it is complete."""
        cdef uint8_t *at = self.ring + self.start
        cdef uint32_t part = self.end - self.start
        cdef uint32_t padding = -self.body_length & 3
        if part > self.left:
            part = self.left
        if part:
            if self.dest == NULL:
                if self.data_digest:
                    self.body_crc = self.crc(self.body_crc, at, part)
            elif self.data_digest:
                self.body_crc = self.crc_copy(self.body_crc, self.dest, at, part)
                self.dest += part
            else:
                memcpy(self.dest, at, part)
                self.dest += part
            self.start += part
            self.left -= part
            at += part
        if self.left or self.end - self.start < self.trailer:
            return MORE
        self.start += self.trailer
        self.in_body = False
        if self.data_digest and self.body_length:
            self.bodies_checked += 1
            if ~self.crc(self.body_crc, at, padding) != get_digest(at + padding):
                return DATA_DIGEST_WRONG
        self.pdus_in[self.body_opcode] += 1
        if self.body_write != NULL:
            self.end_of_segment(self.body_write)
            self.body_write = NULL
        return NEXT

    # ---- commands --------------------------------------------------------------------------------------------------

    cdef int command(self, const uint8_t *bhs, uint32_t length) noexcept nogil:
        """A SCSI command: NEXT if it was answered or its data segment is being received; else nothing was changed."""
        cdef uint8_t flags = bhs[1]
        cdef uint32_t itt = get32(bhs + 16)
        cdef Transfer wanted
        cdef Place *unit
        cdef uint32_t size
        if swd_gate_read(&self.gate.epoch) != self.seen:
            return CHANGED
        if (
            flags & 0x1F > 1                                # neither SIMPLE nor untagged, or reserved bits
            or self.others or self.held                     # Python has writes open, or waits for a number
            or get32(bhs + 24) != self.exp_cmd_sn or serial_after(self.exp_cmd_sn, self.max_cmd_sn)
            or not _plain(bhs + 32, &wanted)
            or itt == NO_TAG or self.find(itt) != NULL
        ):
            return ODD
        unit = self.unit(get64(bhs + 8))
        if (
            unit == NULL or not wanted.blocks or wanted.blocks > unit.most
            or wanted.lba >= unit.blocks or wanted.blocks > unit.blocks - wanted.lba
        ):
            return ODD
        size = wanted.blocks * unit.block_size
        if get32(bhs + 20) != size:
            return ODD
        if not wanted.write:
            if not unit.readable or length or flags & (FINAL | READS | WRITES) != FINAL | READS:
                return ODD
            self.exp_cmd_sn += 1
            self.data_in(itt, unit.base + wanted.lba * unit.block_size, size)
            return NEXT
        if (
            not unit.writable or self.open_count == self.limit or self.many_r2t or flags & (READS | WRITES) != WRITES
            or (length and not self.immediate_data) or (not flags & FINAL and self.initial_r2t)
            or length > size or length > self.first_burst
        ):
            return ODD
        self.exp_cmd_sn += 1
        self.begin_write(bhs, unit, wanted.lba * unit.block_size, size, length)
        return NEXT

    cdef void begin_write(
        self, const uint8_t *bhs, Place *unit, uint64_t offset, uint32_t size, uint32_t length
    ) noexcept nogil:
        cdef Write *write = &self.writes[self.active[self.open_count]]
        cdef uint64_t first = offset // unit.page
        write.position = self.open_count
        self.open_count += 1
        write.itt, write.lun, write.size = get32(bhs + 16), get64(bhs + 8), size
        write.base = unit.base + offset
        write.used = unit.used + first
        write.pages = (offset + size + unit.page - 1) // unit.page - first
        write.unasked = True
        write.unsolicited.offset = write.unsolicited.data_sn = 0
        write.unsolicited.end = size if size < self.first_burst else self.first_burst
        write.solicited_count = 0
        write.asked = write.r2t_sn = 0
        memset(write.used, 1, write.pages)      # at once, for the connection may break with half of it written
        self.begin_body(write, write.base, length, COMMAND, bhs[1] & FINAL)

    cdef int data_out(self, const uint8_t *bhs, uint32_t length) noexcept nogil:
        """Data of an open write: NEXT, ODD if it is no write of ours, or how it ends the write."""
        cdef Write *write = self.find(get32(bhs + 16))
        cdef Sequence *sequence
        if write == NULL:
            return ODD
        sequence = self.sequence(write, get32(bhs + 20))
        if sequence == NULL:                                # of a sequence that is over: dropped
            self.begin_body(NULL, NULL, length, DATA_OUT, False)
            return NEXT
        if get32(bhs + 36) != sequence.data_sn or get32(bhs + 40) != sequence.offset:
            return OUT_OF_ORDER
        if length > sequence.end - sequence.offset:
            return WRONG_AMOUNT
        if bhs[1] & FINAL and sequence != &write.unsolicited and length != sequence.end - sequence.offset:
            return WRONG_AMOUNT
        write.current = sequence
        self.begin_body(write, write.base + sequence.offset, length, DATA_OUT, bhs[1] & FINAL)
        return NEXT

    cdef void end_of_segment(self, Write *write) noexcept nogil:
        """A data segment has all come: go on with its sequence, ask for more, or answer."""
        cdef Sequence *sequence = &write.unsolicited
        if self.body_opcode == DATA_OUT:
            sequence = write.current
            sequence.data_sn += 1
        sequence.offset += self.body_length
        if self.body_final:
            if sequence == &write.unsolicited:
                write.unasked = False
                write.asked = sequence.offset
            else:
                write.solicited_count -= 1
                sequence[0] = write.solicited[write.solicited_count]
        if write.unasked:
            return
        if not write.solicited_count and write.asked >= write.size:
            # Once more, for UNMAP may have come between; the bytes are there now.
            memset(write.used, 1, write.pages)
            self.forget(write)
            self.status(write.itt, NULL, 0)
            return
        while write.asked < write.size and write.solicited_count < self.max_r2t and self.ask(write):
            pass

    cdef bint ask(self, Write *write) noexcept nogil:
        """One R2T (RFC 7143 11.8). False: no memory."""
        cdef Sequence *sequence = &write.solicited[write.solicited_count]
        cdef uint32_t length = write.size - write.asked
        cdef uint8_t *bhs = self.header(R2T, FINAL, write.itt, False)
        if bhs == NULL:
            return False
        if length > self.burst:
            length = self.burst
        write.solicited_count += 1
        self.ttt = (self.ttt + 1) % NO_TAG
        sequence.ttt, sequence.data_sn = self.ttt, 0
        sequence.offset, sequence.end = write.asked, write.asked + length
        put64(bhs + 8, write.lun)
        put32(bhs + 20, sequence.ttt)
        put32(bhs + 36, write.r2t_sn)
        put32(bhs + 40, write.asked)
        put32(bhs + 44, length)
        self.finish_header(bhs, 0)
        write.asked += length
        write.r2t_sn += 1
        return True

    cdef void refuse(self, Write *write, int reason) noexcept nogil:
        """End a write with CHECK CONDITION; what else comes of its data is Python's to drop."""
        cdef uint32_t itt = write.itt
        self.forget(write)
        self.status(itt, self.sense[reason], self.sense_length[reason])

    cdef void forget(self, Write *write) noexcept nogil:
        """The write is over. What its current data segment still brings goes nowhere."""
        cdef uint16_t slot = self.active[write.position]
        self.open_count -= 1
        self.active[write.position] = self.active[self.open_count]
        self.writes[self.active[write.position]].position = write.position
        self.active[self.open_count] = slot
        if self.body_write == write:
            self.body_write = NULL
            self.dest = NULL

    cdef Write *find(self, uint32_t itt) noexcept nogil:
        cdef uint32_t i
        for i in range(self.open_count):
            if self.writes[self.active[i]].itt == itt:
                return &self.writes[self.active[i]]
        return NULL

    cdef Sequence *sequence(self, Write *write, uint32_t ttt) noexcept nogil:
        """The open sequence that a Data-Out belongs to, by its tag; NULL if there is none."""
        cdef uint32_t i
        if ttt == NO_TAG:
            return &write.unsolicited if write.unasked else NULL
        for i in range(write.solicited_count):
            if write.solicited[i].ttt == ttt:
                return &write.solicited[i]
        return NULL

    cdef Place *unit(self, uint64_t lun) noexcept nogil:
        """By bisection, unless it is the one that was wanted last."""
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

    # ---- answers ---------------------------------------------------------------------------------------------------

    cdef uint8_t *header(self, uint8_t opcode, uint8_t flags, uint32_t itt, bint status) noexcept nogil:
        """A header with the session's numbers; one with status takes a StatSN (RFC 7143 4.2.2.2). NULL: no memory."""
        cdef uint8_t *bhs = swd_queue_place(&self.queue, BHS + DIGEST)
        cdef uint32_t last = self.exp_cmd_sn + self.depth - self.open_count - self.others - 1
        if bhs == NULL:
            return NULL
        if serial_after(last, self.max_cmd_sn):
            self.max_cmd_sn = last
        memset(bhs, 0, BHS)
        bhs[0], bhs[1] = opcode, flags
        put32(bhs + 16, itt)
        put32(bhs + 24, self.stat_sn)
        put32(bhs + 28, self.exp_cmd_sn)
        put32(bhs + 32, self.max_cmd_sn)
        if status:
            self.stat_sn += 1
        return bhs

    cdef void finish_header(self, uint8_t *bhs, uint32_t length) noexcept nogil:
        put24(bhs + 5, length)
        if self.header_digest:
            put_digest(bhs + BHS, ~self.crc(NO_TAG, bhs, BHS))
        swd_queue_add(&self.queue, BHS + DIGEST if self.header_digest else BHS)
        self.pdus_out[bhs[0]] += 1

    cdef void finish_data(self, uint32_t length, uint32_t crc) noexcept nogil:
        """Padding and digest behind a data segment; `crc` is the register over it."""
        cdef uint32_t padding = -length & 3
        cdef uint8_t *place
        if not padding and not self.data_digest:
            return
        place = swd_queue_place(&self.queue, 2 * DIGEST)
        if place == NULL:
            return
        memset(place, 0, padding)
        if self.data_digest:
            put_digest(place + padding, ~self.crc(crc, place, padding))
            padding += DIGEST
        swd_queue_add(&self.queue, padding)

    cdef void data_in(self, uint32_t itt, const uint8_t *bytes, uint32_t size) noexcept nogil:
        """All of a read: Data-In of at most the initiator's segments, F at the end of each burst, status in the last.

        With a digest it is a copy, for the medium may change between the checksum and the send.
        """
        cdef uint32_t offset = 0, data_sn = 0, end, burst_end, crc
        cdef uint8_t *bhs
        while offset < size:
            burst_end = offset + min(size - offset, self.burst - offset % self.burst)
            end = min(burst_end, offset + self.segment)
            bhs = self.header(
                DATA_IN, (FINAL if end == burst_end else 0) | (WITH_STATUS if end == size else 0), itt, end == size)
            if bhs == NULL:
                return
            put32(bhs + 20, NO_TAG)
            put32(bhs + 36, data_sn)
            put32(bhs + 40, offset)
            self.finish_header(bhs, end - offset)
            if self.data_digest:
                crc = swd_queue_copy(&self.queue, bytes + offset, end - offset, self.crc_copy, NO_TAG)
            else:
                crc = 0
                swd_queue_lend(&self.queue, bytes + offset, end - offset)
            self.finish_data(end - offset, crc)
            offset = end
            data_sn += 1

    cdef void status(self, uint32_t itt, const uint8_t *sense, uint32_t length) noexcept nogil:
        """A SCSI Response: GOOD, or CHECK CONDITION with a sense segment."""
        cdef uint8_t *bhs = self.header(RESPONSE, FINAL, itt, True)
        if bhs == NULL:
            return
        bhs[3] = 0x02 if length else 0
        self.finish_header(bhs, length)
        if length:
            self.finish_data(length, swd_queue_copy(&self.queue, sense, length, self.crc_copy, NO_TAG))
