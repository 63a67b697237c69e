# SPDX-License-Identifier: Apache-2.0
"""Which SCSI commands are answered here: by their flags and numbers, the CDB, and what the unit allows. A part of
`_targetpath.pyx`. Whatever is odd about a command makes it Python's before anything was changed, so no error of SCSI is
known here, and neither is a data segment but by its length.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from swd._serial cimport serial_after
from swd._wire cimport RESERVED, get24, get32, get64

cdef enum:
    READS = 0x40                # R and W of a command
    WRITES = 0x20


cdef bint plain(const uint8_t *cdb, Transfer *wanted) noexcept nogil:
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


cdef int take_command(TargetPath self, const uint8_t *bhs, uint32_t length) noexcept nogil:
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
        or not plain(bhs + 32, &wanted)
        or itt == RESERVED or find(self, itt) != NULL
    ):
        return ODD
    unit = unit_of(self, get64(bhs + 8))
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
        data_in(self, itt, unit.base + wanted.lba * unit.block_size, size)
        return NEXT
    if (
        not unit.writable or self.open_count == self.limit or self.many_r2t or flags & (READS | WRITES) != WRITES
        or (length and not self.immediate_data) or (not flags & FINAL and self.initial_r2t)
        or length > size or length > self.first_burst
    ):
        return ODD
    self.exp_cmd_sn += 1
    begin_write(self, bhs, unit, wanted.lba * unit.block_size, size, length)
    return NEXT
