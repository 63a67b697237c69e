# SPDX-License-Identifier: Apache-2.0
"""What the target says: Data-In, SCSI Response, and the header, padding and digests of every PDU. A part of
`_targetpath.pyx`. It puts spans into the queue (`_targetqueue.h`); when they go, and whether a command deserved its
answer, is not known here.

A NULL from the queue means that there is no memory: it is broken then and sends nothing more, and the connection ends.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from swd._serial cimport serial_after
from swd._wire cimport OP_DATA_IN, OP_SCSI_RESPONSE, RESERVED, put24, put32, put_digest

cdef enum:
    WITH_STATUS = 0x01          # S of a Data-In: this one ends the command


cdef uint8_t *begin_header(TargetPath self, uint8_t opcode, uint8_t flags, uint32_t itt, bint status) noexcept nogil:
    """A header with the session's numbers; one with status takes a StatSN (RFC 7143 4.2.2.2). NULL: no memory.

    It counts when `finish_header` is called. Nothing else may be put into the queue in between.
    """
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


cdef void finish_header(TargetPath self, uint8_t *bhs, uint32_t length) noexcept nogil:
    """Its DataSegmentLength, its digest, and into the queue with it."""
    put24(bhs + 5, length)
    if self.header_digest:
        put_digest(bhs + BHS, ~self.crc(CRC_START, bhs, BHS))
    swd_queue_add(&self.queue, BHS + DIGEST if self.header_digest else BHS)
    self.pdus_out[bhs[0]] += 1


cdef void finish_data(TargetPath self, uint32_t length, uint32_t crc) noexcept nogil:
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


cdef void data_in(TargetPath self, uint32_t itt, const uint8_t *bytes, uint32_t size) noexcept nogil:
    """All of a read: Data-In of at most the initiator's segments, F at the end of each burst, status in the last.

    With a digest it is a copy, for the medium may change between the checksum and the send.
    """
    cdef uint32_t offset = 0, data_sn = 0, end, burst_end, crc
    cdef uint8_t flags
    cdef uint8_t *bhs
    while offset < size:
        burst_end = offset + min(size - offset, self.burst - offset % self.burst)
        end = min(burst_end, offset + self.segment)
        flags = (FINAL if end == burst_end else 0) | (WITH_STATUS if end == size else 0)
        bhs = begin_header(self, OP_DATA_IN, flags, itt, end == size)
        if bhs == NULL:
            return
        put32(bhs + 20, RESERVED)
        put32(bhs + 36, data_sn)
        put32(bhs + 40, offset)
        finish_header(self, bhs, end - offset)
        if self.data_digest:
            crc = swd_queue_copy(&self.queue, bytes + offset, end - offset, self.crc_copy, CRC_START)
        else:
            crc = 0
            swd_queue_lend(&self.queue, bytes + offset, end - offset)
        finish_data(self, end - offset, crc)
        offset = end
        data_sn += 1


cdef void respond(TargetPath self, uint32_t itt, const uint8_t *sense, uint32_t length) noexcept nogil:
    """A SCSI Response: GOOD, or CHECK CONDITION with a sense segment."""
    cdef uint8_t *bhs = begin_header(self, OP_SCSI_RESPONSE, FINAL, itt, True)
    if bhs == NULL:
        return
    bhs[3] = 0x02 if length else 0
    finish_header(self, bhs, length)
    if length:
        finish_data(self, length, swd_queue_copy(&self.queue, sense, length, self.crc_copy, CRC_START))
