# SPDX-License-Identifier: Apache-2.0
"""From received bytes to PDUs: where the next bytes go and how many, header and data digests, the copy out of the
ring. A part of `_engine.pyx`. What a PDU means is for `_engine_answers.pxi`.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove
from posix.uio cimport iovec

from swd._task cimport BHS, NO_SLOT
from swd._watch cimport swd_heads_add, swd_tape_pass
from swd._wire cimport get24, get_digest


cdef uint64_t answer_bytes(Engine self, uint32_t length) noexcept nogil:
    """What the answer to a read of so many bytes, or to a write of any (0), has on the wire, in one PDU."""
    cdef uint64_t head = BHS + (4 if self.header_digest else 0)
    if length == 0:
        return head
    return head + length + ((-length) & 3) + (4 if self.data_digest else 0)


cdef int where(Engine self, iovec *place) noexcept nogil:
    """Where the next bytes go: one or two places, the second of them the ring. Returns how many."""
    cdef uint32_t waiting = self.ring_end - self.ring_pos
    cdef uint32_t head = BHS + (4 if self.header_digest else 0)
    cdef uint32_t limit
    cdef uint32_t most = self.most if self.most else self.ring_size
    if waiting == 0:
        self.ring_pos = self.ring_end = 0
    elif self.ring_pos:
        memmove(self.ring, self.ring + self.ring_pos, waiting)
        self.ring_pos = 0
        self.ring_end = waiting
    self.direct = self.in_body and self.left > 0 and self.dest != NULL
    if self.direct and self.body_slot != NO_SLOT and self.tasks[self.body_slot].evicting:
        self.direct = False
    if self.direct:
        place[0].iov_base = self.dest
        place[0].iov_len = self.left
        place[1].iov_base = self.ring
        place[1].iov_len = self.trailer + head if self.last_big else most
        return 2
    limit = min(self.ring_size - self.ring_end, most)
    if self.last_big and not self.in_body and limit > 4096:
        limit = 4096
    place[0].iov_base = self.ring + self.ring_end
    place[0].iov_len = limit
    return 1


cdef int received(Engine self, size_t n) noexcept nogil:
    """n bytes came into the places that `where` named. Returns -1 if the connection is dead."""
    cdef uint32_t placed
    self.bytes_in += n
    if self.direct:
        self.direct = False
        placed = <uint32_t>min(n, self.left)
        if self.tape.bytes != NULL:
            swd_tape_pass(&self.tape, 0, self.dest, placed, self.now)
        if self.data_digest:
            self.body_crc = self.crc(self.body_crc, self.dest, placed)
        self.dest += placed
        self.left -= placed
        n -= placed
        if self.body_slot != NO_SLOT:
            put_off(&self.tasks[self.body_slot], self.now)
    if self.tape.bytes != NULL:
        swd_tape_pass(&self.tape, 0, self.ring + self.ring_end, n, self.now)
    self.ring_end += <uint32_t>n
    while self.fault_code == OK:
        if self.in_body:
            if not take_body(self):
                break
        elif not take_header(self):
            break
    return -1 if self.fault_code != OK else 0


cdef bint take_header(Engine self) noexcept nogil:
    cdef uint32_t head = BHS + (4 if self.header_digest else 0)
    cdef uint8_t *bhs = self.ring + self.ring_pos
    cdef uint32_t length, crc
    if self.ring_end - self.ring_pos < head:
        return False
    swd_heads_add(&self.heads, bhs, 0, self.now)
    if self.header_digest:
        crc = ~self.crc(0xFFFFFFFF, bhs, BHS)
        if crc != get_digest(bhs + BHS):
            fail(self, HEADER_DIGEST, crc, get_digest(bhs + BHS))
            return False
    length = get24(bhs + 5)
    if bhs[4]:
        fail(self, AHS, bhs[0] & 0x3F, 0)
        return False
    if length > self.max_recv:
        fail(self, SEGMENT_TOO_LONG, length, self.max_recv)
        return False
    memcpy(self.bhs, bhs, BHS)
    self.ring_pos += head
    self.pdus_in += 1
    if not prepare(self, length):
        return False
    if length == 0:
        finish_pdu(self, 0)
        return True
    self.in_body = True
    self.left = length
    self.trailer = ((-length) & 3) + (4 if self.data_digest else 0)
    self.body_crc = 0xFFFFFFFF
    self.last_big = length >= DIRECT_FROM
    return True


cdef bint take_body(Engine self) noexcept nogil:
    """Moves what the ring holds of the data segment, checksumming in the same pass; then the trailer."""
    cdef uint32_t waiting = self.ring_end - self.ring_pos
    cdef uint8_t *source = self.ring + self.ring_pos
    cdef uint32_t n = min(self.left, waiting)
    cdef uint32_t pad, crc
    if n:
        if self.data_digest:
            if self.dest != NULL:
                self.body_crc = self.crc_copy(self.body_crc, self.dest, source, n)
            else:
                self.body_crc = self.crc(self.body_crc, source, n)
        elif self.dest != NULL:
            memcpy(self.dest, source, n)
        if self.dest != NULL:
            self.dest += n
        self.left -= n
        self.ring_pos += n
    if self.left or self.ring_end - self.ring_pos < self.trailer:
        return False
    source = self.ring + self.ring_pos
    self.ring_pos += self.trailer
    self.in_body = False
    if self.data_digest:
        pad = self.trailer - 4
        crc = ~self.crc(self.body_crc, source, pad)
        if crc != get_digest(source + pad):
            fail(self, DATA_DIGEST, crc, get_digest(source + pad))
            return False
    finish_pdu(self, get24(self.bhs + 5))
    return True
