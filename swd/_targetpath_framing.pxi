# SPDX-License-Identifier: Apache-2.0
"""How the bytes in the ring become PDUs: headers, digests, data segments, and who judges which opcode. A part of
`_targetpath.pyx`. It is told where a data segment goes (`begin_body`); commands, writes and the socket it may not know.

Nothing that a header says is believed before its digest is good, no byte counts that has not come, and `start` does not
pass `end`. All of it runs under the lock.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from swd._wire cimport OP_DATA_OUT, OP_SCSI_COMMAND, get24, get32, get_digest

cdef enum:
    MAX_AHS = 1020              # bytes of additional header segments
    BIG = 131072                # from a data segment of this size on, the next header is received alone


cdef int parse(TargetPath self) noexcept nogil:
    """Take up what has come; never NEXT."""
    cdef int code
    while True:
        if self.in_body:
            code = take_body(self)
        elif self.queue.bytes > self.high_water:
            return FULL
        else:
            code = take_header(self)
        if code != NEXT:
            return code
        if self.queue.bytes >= self.early and not self.blocked:
            send(self)


cdef int take_header(TargetPath self) noexcept nogil:
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
            if ~self.crc(CRC_START, bhs, header) != get_digest(bhs + header):
                return HEADER_DIGEST_WRONG
            self.header_checked = True
        header += DIGEST
    if length > self.max_segment:
        return TOO_LONG
    if available < header:              # of additional header segments: data is behind all of them
        return MORE
    verdict = ODD
    if bhs[0] & 0x3F == OP_DATA_OUT:
        verdict = take_data_out(self, bhs, length)
    elif bhs[0] == OP_SCSI_COMMAND and bhs[4] == 0:
        verdict = take_command(self, bhs, length)
    if verdict == CHANGED:
        return CHANGED
    if verdict != NEXT:
        return take_whole(self, header, length, verdict)
    self.start += header
    self.header_checked = False
    if not self.in_body:
        self.big = False
        self.pdus_in[OP_SCSI_COMMAND] += 1
    return NEXT


cdef int take_whole(TargetPath self, uint32_t header, uint32_t length, int verdict) noexcept nogil:
    """A PDU that is handed out, or that ends a write in error, when all of it has come and its digest is right."""
    cdef uint8_t *bhs = self.ring + self.start
    cdef uint32_t padded = length + (-length & 3)
    cdef uint32_t whole = header + padded + (DIGEST if self.data_digest and length else 0)
    if self.end - self.start < whole:
        return MORE
    if self.data_digest and length:
        self.bodies_checked += 1
        if ~self.crc(CRC_START, bhs + header, padded) != get_digest(bhs + header + padded):
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
    refuse(self, find(self, get32(bhs + 16)), verdict - REFUSED)
    return NEXT


cdef void begin_body(
    TargetPath self, Write *write, uint8_t *dest, uint32_t length, uint8_t opcode, bint final
) noexcept nogil:
    """The data segment behind the header that is being judged goes to `dest`, NULL: nowhere; `write` hears of it."""
    self.in_body = True
    self.body_opcode = opcode
    self.body_final = final
    self.body_write = write
    self.dest = dest
    self.left = self.body_length = length
    self.body_crc = CRC_START
    self.trailer = (-length & 3) + (DIGEST if self.data_digest and length else 0)
    self.big = length >= BIG


cdef int take_body(TargetPath self) noexcept nogil:
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
        end_of_segment(self, self.body_write)
        self.body_write = NULL
    return NEXT
