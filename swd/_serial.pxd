# SPDX-License-Identifier: Apache-2.0
# Serial number arithmetic on 32 bits (RFC 1982), for CmdSN and StatSN.
from libc.stdint cimport int32_t, uint32_t


cdef inline bint serial_before(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) < 0


cdef inline bint serial_after(uint32_t a, uint32_t b) noexcept nogil:
    return <int32_t>(a - b) > 0
