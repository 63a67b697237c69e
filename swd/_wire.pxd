# SPDX-License-Identifier: Apache-2.0
# What stands in a header, and how. Integers are big-endian (RFC 7143 11.1); the compiler turns each into one load or
# store and a swap.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef enum:
    RESERVED = 0xFFFFFFFF           # a tag that is none

    OP_NOP_OUT = 0x00
    OP_SCSI_COMMAND = 0x01
    OP_DATA_OUT = 0x05
    OP_NOP_IN = 0x20
    OP_SCSI_RESPONSE = 0x21
    OP_TASK_MANAGEMENT_RESPONSE = 0x22
    OP_TEXT_RESPONSE = 0x24
    OP_DATA_IN = 0x25
    OP_LOGOUT_RESPONSE = 0x26
    OP_R2T = 0x31
    OP_ASYNC = 0x32
    OP_REJECT = 0x3F


cdef inline uint32_t get24(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 16) | (<uint32_t>p[1] << 8) | p[2]


cdef inline uint32_t get32(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]


cdef inline uint64_t get64(const uint8_t *p) noexcept nogil:
    return (<uint64_t>get32(p) << 32) | get32(p + 4)


cdef inline void put16(uint8_t *p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 8)
    p[1] = <uint8_t>value


cdef inline void put24(uint8_t *p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 16)
    p[1] = <uint8_t>(value >> 8)
    p[2] = <uint8_t>value


cdef inline void put32(uint8_t *p, uint32_t value) noexcept nogil:
    p[0] = <uint8_t>(value >> 24)
    p[1] = <uint8_t>(value >> 16)
    p[2] = <uint8_t>(value >> 8)
    p[3] = <uint8_t>value


cdef inline void put64(uint8_t *p, uint64_t value) noexcept nogil:
    put32(p, <uint32_t>(value >> 32))
    put32(p + 4, <uint32_t>value)


# A digest goes out least significant byte first (RFC 7143 13.1).
cdef inline uint32_t get_digest(const uint8_t *p) noexcept nogil:
    return p[0] | (<uint32_t>p[1] << 8) | (<uint32_t>p[2] << 16) | (<uint32_t>p[3] << 24)


cdef inline void put_digest(uint8_t *p, uint32_t crc) noexcept nogil:
    p[0] = <uint8_t>crc
    p[1] = <uint8_t>(crc >> 8)
    p[2] = <uint8_t>(crc >> 16)
    p[3] = <uint8_t>(crc >> 24)
