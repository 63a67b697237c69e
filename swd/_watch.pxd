# SPDX-License-Identifier: Apache-2.0
# What people look at: the last headers, latencies, the tape of a trace.
from libc.stdint cimport uint8_t, uint16_t, uint64_t


cdef extern from "_watch.h" nogil:
    enum: SWD_HEADS, SWD_BUCKETS, SWD_UNITS, SWD_DIRECTIONS
    ctypedef struct swd_head:
        double at
        uint8_t out
        uint8_t bhs[48]
    ctypedef struct swd_heads:
        uint64_t count
        swd_head head[64]
    ctypedef struct swd_histogram:
        uint64_t count, microseconds
        uint64_t bucket[32]
    ctypedef struct swd_latencies:
        int units
        uint8_t lun[17][8]
        swd_histogram of[17][3]
    ctypedef struct swd_tape:
        uint8_t *bytes
        size_t size, used
        uint64_t lost, at_in, at_out, skip_in, skip_out
        uint16_t connection
    void swd_heads_add(swd_heads *heads, const uint8_t *bhs, int out, double now)
    void swd_latencies_add(swd_latencies *all, const uint8_t *lun, int direction, double seconds)
    void swd_tape_write(
        swd_tape *tape, int out, uint64_t offset, const uint8_t *bytes, size_t length, double now)
    void swd_tape_pass(swd_tape *tape, int out, const uint8_t *bytes, size_t length, double now)
    void swd_tape_next_connection(swd_tape *tape)
