# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport uint8_t, uint32_t


cdef extern from "_crc32c_kernels.h" nogil:
    ctypedef uint32_t (*swd_crc_update)(uint32_t crc, const uint8_t *src, size_t n) noexcept nogil
    ctypedef uint32_t (*swd_crc_copy)(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n) noexcept nogil

    struct swd_crc_kernel:
        const char *name
        int (*supported)() noexcept nogil
        swd_crc_update update
        swd_crc_copy copy

    const swd_crc_kernel swd_crc_kernels[]
    void swd_crc_init()


# The kernel in use: the engine fetches its two functions once, at construction.
cdef const swd_crc_kernel *active_kernel() noexcept nogil
