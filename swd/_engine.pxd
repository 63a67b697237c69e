# SPDX-License-Identifier: Apache-2.0
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from posix.uio cimport iovec

from swd._crc32c cimport swd_crc_copy, swd_crc_update
from swd._task cimport MAX_SPANS, Queue, Task
from swd._watch cimport swd_heads, swd_latencies, swd_tape


cdef enum:
    DIRECT_FROM = 1 << 16           # after a segment this long another is expected: receive its header alone


cdef enum Fault:
    OK
    CLOSED
    TOLD
    DROPPED
    END_OF_STREAM
    SYSTEM_ERROR
    HEADER_DIGEST
    DATA_DIGEST
    UNKNOWN_OPCODE
    AHS
    SEGMENT_TOO_LONG
    UNKNOWN_TAG
    STAT_SN
    DATA_SN
    DATA_OFFSET
    DATA_TOO_LONG
    DATA_NOT_WANTED
    DATA_STATUS
    DATA_ACK
    R2T_NOT_WANTED
    R2T_SN
    R2T_RANGE
    R2T_BURST
    R2T_TOO_MANY
    R2T_TAG
    RESIDUAL
    SHORT_READ
    SHORT_WRITE
    UNEXPECTED_DATA
    FLOOD
    NO_MEMORY
    FAULT_CODES         # how many there are


cdef struct EventNode:
    EventNode *next
    uint32_t length
    uint8_t *data
    uint8_t bhs[48]


cdef struct Agreed:
    # What login agreed on, and the first sequence numbers.
    bint header_digest, data_digest, initial_r2t, immediate_data
    uint32_t max_recv, max_send, max_burst, first_burst, max_r2t
    uint32_t cmd_sn, exp_stat_sn, max_cmd_sn


@cython.final
cdef class Engine:
    # configuration, copied once a connection
    cdef readonly bint header_digest, data_digest
    cdef uint32_t max_recv, max_send, max_burst, first_burst, max_r2t
    cdef bint initial_r2t, immediate_data
    cdef swd_crc_update crc
    cdef swd_crc_copy crc_copy
    # sequence numbers
    cdef uint32_t cmd_sn, exp_stat_sn, max_cmd_sn
    # tasks
    cdef Task *tasks
    cdef int32_t *free_slots
    cdef int slots, free_count
    cdef uint32_t generation
    cdef Queue waiting      # for the command window, in order
    cdef Queue urgent       # immediate PDUs, and what goes ahead
    cdef Queue replay       # commands of the connection before, in the order in which they go again
    cdef bint recovering    # dead, but a new connection is being made: new tasks may queue
    cdef bint held          # neither replay nor new commands are sent yet
    cdef bint one_by_one    # no two replayed commands at once
    cdef int replaying      # replayed commands that have not ended
    cdef Queue data_out     # tasks that have Data-Out to send
    cdef Queue done         # ended, not yet taken by the pump
    # NOP-Ins that want an answer
    cdef uint8_t nop_lun[32][8]
    cdef uint32_t nop_ttt[32]
    cdef uint32_t nop_head, nop_count
    # send queue
    cdef iovec span[MAX_SPANS + 8]
    cdef int32_t span_slot[MAX_SPANS + 8]
    cdef int span_head, span_end
    cdef uint64_t queued_bytes
    cdef uint8_t *headers
    cdef uint32_t header_end
    # receiving
    cdef uint8_t *ring
    cdef uint32_t ring_size, ring_pos, ring_end
    cdef uint32_t most      # bytes that one receive into the ring may bring; 0: what it holds
    cdef uint8_t bhs[48]
    cdef bint in_body, direct, last_big
    cdef uint8_t *dest
    cdef uint32_t left, trailer, body_crc
    cdef int body_slot
    cdef uint8_t *side
    # odd PDUs for Python
    cdef EventNode *events
    cdef EventNode *events_tail
    cdef int event_count
    # end
    cdef int fault_code
    cdef object told        # the reason that Python gave, with the fault TOLD
    cdef uint8_t *barred    # LUNs to which nothing is sent, 8 bytes each
    cdef int barred_count
    cdef dict barred_errors  # LUN -> why
    cdef dict losses        # ITT -> why it was not sent again
    cdef int64_t fault_a, fault_b
    # what the tests pin
    cdef dict pins
    # counters
    cdef uint64_t pdus_in, pdus_out, bytes_in, bytes_out, commands, r2ts, nops, completions_odd, completed
    cdef uint64_t reads, writes, underflows, overflows, response_errors, empty_data_ins, data_in_residuals, replayed
    cdef uint64_t windows_ignored               # ExpCmdSN and MaxCmdSN that contradict themselves, or fall back
    cdef uint64_t windows_shut                  # see `mind_shut_window`
    cdef uint64_t shut_at   # the CmdSN, and one more, at which a shut window was counted last; 0: at none
    cdef int owed_slot      # a task to which an answer was owed when a window was shut
    cdef uint64_t slot_waits, timeouts          # the pump's
    cdef uint64_t faults[32]                    # by code: times that one ended a connection
    # what people look at; see _watch.h
    cdef double now                             # the clock as of the last call that gave it
    cdef swd_heads heads
    cdef swd_latencies latencies
    cdef swd_tape tape


# For the pump and the queues over it; the rest is the module's own.
cdef Task *start(Engine self, const uint8_t *lun, const uint8_t *cdb, const uint8_t *out_buf, uint32_t out_len,
                 uint8_t *in_buf, uint32_t in_len, double timeout, double now) noexcept nogil
cdef Task *start_control(Engine self, const uint8_t *bhs, const uint8_t *data, uint32_t length, uint8_t answer,
                         uint32_t itt, double timeout, double now) noexcept nogil
cdef Task *find(Engine self, uint32_t itt) noexcept nogil
cdef Task *take_done(Engine self) noexcept nogil
cdef void go_ahead(Engine self, Task *task) noexcept nogil
cdef void release(Engine self, Task *task) noexcept nogil
cdef void let_loose(Engine self, double now) noexcept nogil
cdef int detach(Engine self, Task *task) noexcept nogil
cdef void fail(Engine self, int code, int64_t a, int64_t b) noexcept nogil
cdef int fill(Engine self, double now) noexcept nogil
cdef uint32_t unsolicited_most(Engine self) noexcept nogil
cdef uint64_t answer_bytes(Engine self, uint32_t length) noexcept nogil
cdef void sent(Engine self, size_t n) noexcept nogil
cdef int where(Engine self, iovec *place) noexcept nogil
cdef int received(Engine self, size_t n) noexcept nogil
cdef object completion(Engine self, Task *task)
cdef object death(Engine self)
cdef EventNode *steal_events(Engine self) noexcept nogil
cdef void begin_tape(Engine self, uint8_t *bytes, size_t size) noexcept nogil
cdef void begin_again(Engine self, const Agreed *agreed, const uint32_t *order, int count,
                      bint one_by_one) noexcept nogil
cdef void end(Engine self, Task *task) noexcept nogil
cdef uint8_t *list_barred(Engine self, dict units) except NULL
cdef uint8_t *bar(Engine self, uint8_t *barred, int count) noexcept nogil

cdef list events_of(EventNode *node)
cdef Agreed agreed_from(negotiated)
cdef list headers_of(swd_heads *heads)
cdef dict latencies_of(swd_latencies *latencies)
