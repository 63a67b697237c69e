# SPDX-License-Identifier: Apache-2.0
"""What a caller asks for, as the pump takes it: CDBs of reads and writes, one command, one pinned buffer. A part of
`_fastpath.pyx`. It knows no pump.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from swd._wire cimport put16, put32, put64

from swd.errors import InvalidArgument


cdef void read_or_write(uint8_t *cdb, bint write, uint64_t lba, uint32_t blocks) noexcept nogil:
    """READ or WRITE, 10 bytes where LBA and count fit, else 16 (SBC-4 5.13, 5.16)."""
    memset(cdb, 0, 16)
    if (lba + blocks) >> 32 == 0 and blocks >> 16 == 0:
        cdb[0] = 0x2A if write else 0x28
        put32(cdb + 2, <uint32_t>lba)
        put16(cdb + 7, blocks)
    else:
        cdb[0] = 0x8A if write else 0x88
        put64(cdb + 2, lba)
        put32(cdb + 10, blocks)


cdef object raised(outcome):
    """An outcome that is an error is raised: the command was lost with its connection."""
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


cdef int fill_request(Request *request, uint64_t lun, bytes cdb, double timeout) except -1:
    if not 1 <= len(cdb) <= 16:
        raise InvalidArgument(f"a CDB has 1 to 16 bytes, not {len(cdb)}")
    memset(request, 0, sizeof(Request))
    put64(request.lun, lun)
    memcpy(request.cdb, <const uint8_t *>cdb, len(cdb))
    request.timeout = timeout
    return 0


cdef int pin(Request *request, Py_buffer *view, data_out, data_in) except -1:
    """Exports the one buffer of a command; the caller releases it."""
    cdef bint write = data_in is None
    PyObject_GetBuffer(data_out if write else data_in, view, PyBUF_SIMPLE if write else PyBUF_WRITABLE)
    if view.len >> 32:
        PyBuffer_Release(view)
        raise InvalidArgument("one command moves less than 4 GiB")
    if write:
        request.out_buf = <const uint8_t *>view.buf
        request.out_len = <uint32_t>view.len
    else:
        request.in_buf = <uint8_t *>view.buf
        request.in_len = <uint32_t>view.len
    return 0
