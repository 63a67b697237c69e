# SPDX-License-Identifier: Apache-2.0
"""Open writes, from their command to their answer: which Data-Out is theirs, where it goes, and the R2Ts that ask for
it. A part of `_targetpath.pyx`. It sees whole headers with good digests, and hears when a data segment is there
(`end_of_segment`); the ring and the socket it may not know.

A write is in the table from `begin_write` to `forget`. Any thread may abort it in between, under the lock.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from swd._wire cimport OP_DATA_OUT, OP_R2T, OP_SCSI_COMMAND, RESERVED, get32, get64, put32, put64

cdef enum:
    MAX_WRITES = 1024           # of one session that may be open


cdef void begin_write(
    TargetPath self, const uint8_t *bhs, Place *unit, uint64_t offset, uint32_t size, uint32_t length
) noexcept nogil:
    """A plain write: `offset` bytes into the unit, `size` bytes long, `length` of them in the command's own segment."""
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
    begin_body(self, write, write.base, length, OP_SCSI_COMMAND, bhs[1] & FINAL)


cdef int take_data_out(TargetPath self, const uint8_t *bhs, uint32_t length) noexcept nogil:
    """Data of an open write: NEXT, ODD if it is no write of ours, or how it ends the write."""
    cdef Write *write = find(self, get32(bhs + 16))
    cdef Sequence *sequence
    if write == NULL:
        return ODD
    sequence = sequence_of(write, get32(bhs + 20))
    if sequence == NULL:                                # of a sequence that is over: dropped
        begin_body(self, NULL, NULL, length, OP_DATA_OUT, False)
        return NEXT
    if get32(bhs + 36) != sequence.data_sn or get32(bhs + 40) != sequence.offset:
        return OUT_OF_ORDER
    if length > sequence.end - sequence.offset:
        return WRONG_AMOUNT
    if bhs[1] & FINAL and sequence != &write.unsolicited and length != sequence.end - sequence.offset:
        return WRONG_AMOUNT
    write.current = sequence
    begin_body(self, write, write.base + sequence.offset, length, OP_DATA_OUT, bhs[1] & FINAL)
    return NEXT


cdef void end_of_segment(TargetPath self, Write *write) noexcept nogil:
    """A data segment has all come: go on with its sequence, ask for more, or answer."""
    cdef Sequence *sequence = &write.unsolicited
    if self.body_opcode == OP_DATA_OUT:
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
        forget(self, write)
        respond(self, write.itt, NULL, 0)
        return
    while write.asked < write.size and write.solicited_count < self.max_r2t and ask(self, write):
        pass


cdef bint ask(TargetPath self, Write *write) noexcept nogil:
    """One R2T (RFC 7143 11.8). False: no memory."""
    cdef Sequence *sequence = &write.solicited[write.solicited_count]
    cdef uint32_t length = write.size - write.asked
    cdef uint8_t *bhs = begin_header(self, OP_R2T, FINAL, write.itt, False)
    if bhs == NULL:
        return False
    if length > self.burst:
        length = self.burst
    write.solicited_count += 1
    self.ttt = (self.ttt + 1) % RESERVED
    sequence.ttt, sequence.data_sn = self.ttt, 0
    sequence.offset, sequence.end = write.asked, write.asked + length
    put64(bhs + 8, write.lun)
    put32(bhs + 20, sequence.ttt)
    put32(bhs + 36, write.r2t_sn)
    put32(bhs + 40, write.asked)
    put32(bhs + 44, length)
    finish_header(self, bhs, 0)
    write.asked += length
    write.r2t_sn += 1
    return True


cdef void refuse(TargetPath self, Write *write, int reason) noexcept nogil:
    """End a write with CHECK CONDITION; what else comes of its data is Python's to drop."""
    cdef uint32_t itt = write.itt
    forget(self, write)
    respond(self, itt, self.sense[reason], self.sense_length[reason])


cdef void forget(TargetPath self, Write *write) noexcept nogil:
    """The write is over. What its current data segment still brings goes nowhere."""
    cdef uint16_t slot = self.active[write.position]
    self.open_count -= 1
    self.active[write.position] = self.active[self.open_count]
    self.writes[self.active[write.position]].position = write.position
    self.active[self.open_count] = slot
    if self.body_write == write:
        self.body_write = NULL
        self.dest = NULL


cdef Write *find(TargetPath self, uint32_t itt) noexcept nogil:
    """The open write of that tag, or NULL."""
    cdef uint32_t i
    for i in range(self.open_count):
        if self.writes[self.active[i]].itt == itt:
            return &self.writes[self.active[i]]
    return NULL


cdef Sequence *sequence_of(Write *write, uint32_t ttt) noexcept nogil:
    """The open sequence that a Data-Out belongs to, by its tag; NULL if there is none."""
    cdef uint32_t i
    if ttt == RESERVED:
        return &write.unsolicited if write.unasked else NULL
    for i in range(write.solicited_count):
        if write.solicited[i].ttt == ttt:
            return &write.solicited[i]
    return NULL
