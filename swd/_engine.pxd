# SPDX-License-Identifier: Apache-2.0
cimport cython
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from swd._crc32c cimport swd_crc_copy, swd_crc_update


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len


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


cdef enum:
    BHS = 48
    MAX_R2T = 16        # R2Ts that may wait in one task; the login never offers more
    SLOT_BITS = 12
    MAX_SLOTS = 4096
    MAX_SPANS = 1000    # below IOV_MAX (1024)
    NO_SLOT = -1


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


cdef enum TaskState:
    FREE
    QUEUED              # waits for the command window
    ACTIVE              # the target knows it
    DONE                # ended, waits to be claimed


cdef struct R2T:
    uint32_t ttt
    uint32_t next       # offset of the next byte to send
    uint32_t end
    uint32_t data_sn


cdef struct Task:
    uint32_t itt
    uint8_t state
    uint8_t control     # opcode of the response that ends it; 0 for a SCSI command
    uint8_t immediate
    uint8_t evicting    # somebody is about to detach it: no more receiving straight into its buffer
    uint8_t detached    # nobody waits, no caller's buffer may be touched
    uint8_t ahead       # goes before replay and new commands: recovery's own
    uint8_t replaying   # was sent again and has not ended
    uint8_t replays     # how often it was sent again
    uint8_t lost        # will not be sent again: its error waits in `losses`
    uint8_t claimable   # ended, and nobody waited: whoever submitted it finds it by its tag
    uint8_t plain       # ended GOOD, complete, without residual: nothing to look at
    uint8_t sending     # is in the Data-Out queue
    uint8_t response
    uint8_t status
    uint8_t underflow
    uint8_t overflow
    uint8_t r2t_head
    uint8_t r2t_count
    uint32_t residual
    uint8_t lun[8]
    uint8_t cdb[16]
    uint32_t cmd_sn
    uint8_t *in_buf     # NULL with in_len > 0: what arrives is dropped
    uint32_t in_len
    uint32_t in_done
    uint32_t data_sn    # next DataSN of Data-In
    const uint8_t *out_buf
    uint32_t out_len
    uint32_t out_done   # bytes that were put into PDUs
    uint32_t unsolicited_end
    uint32_t unsolicited_sn
    uint32_t r2t_sn     # next R2TSN
    uint32_t r2t_next   # lowest offset that an R2T may still ask for
    int32_t spans       # spans in the send queue that point into out_buf
    uint8_t *own_out    # private copy of a detached write, or the data of a control PDU
    uint8_t *tail       # data segment of the response that ended it
    uint32_t tail_len
    double timeout      # seconds
    double begun        # when it was queued, on the caller's clock
    double deadline     # on the caller's clock; progress puts it off
    double limit        # but never beyond this
    int64_t tag         # the pump's: which I/O of a batch
    void *waiter        # the pump's: who waits
    Task *next          # in one of the queues below
    # From here on: written before it is read, and not cleared for every task.
    uint8_t bhs[48]     # control: the header to send, then the header that came back
    R2T r2t[MAX_R2T]


cdef struct Queue:
    Task *head
    Task *tail


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
    cdef uint64_t slot_waits, timeouts          # the pump's
    cdef uint64_t faults[32]                    # by code: times that one ended a connection
    # what people look at; see _watch.h
    cdef double now                             # the clock as of the last call that gave it
    cdef swd_heads heads
    cdef swd_latencies latencies
    cdef swd_tape tape

    # for the pump
    cdef Task *start(self, const uint8_t *lun, const uint8_t *cdb, const uint8_t *out_buf, uint32_t out_len,
                     uint8_t *in_buf, uint32_t in_len, double timeout, double now) noexcept nogil
    cdef Task *start_control(self, const uint8_t *bhs, const uint8_t *data, uint32_t length, uint8_t answer,
                             uint32_t itt, double timeout, double now) noexcept nogil
    cdef Task *find(self, uint32_t itt) noexcept nogil
    cdef Task *take_done(self) noexcept nogil
    cdef void go_ahead(self, Task *task) noexcept nogil
    cdef void release(self, Task *task) noexcept nogil
    cdef void let_loose(self, double now) noexcept nogil
    cdef int detach(self, Task *task) noexcept nogil
    cdef void fail(self, int code, int64_t a, int64_t b) noexcept nogil
    cdef int fill(self, double now) noexcept nogil
    cdef uint32_t immediate_most(self) noexcept nogil
    cdef uint32_t unsolicited_most(self) noexcept nogil
    cdef void sent(self, size_t n) noexcept nogil
    cdef int where(self, iovec *place) noexcept nogil
    cdef int received(self, size_t n) noexcept nogil
    cdef object completion(self, Task *task)
    cdef object left_open(self, Task *task, bint was_sent)
    cdef object death(self)
    cdef EventNode *steal_events(self) noexcept nogil
    cdef void begin_tape(self, uint8_t *bytes, size_t size) noexcept nogil
    cdef void apply(self, const Agreed *agreed) noexcept nogil
    cdef void begin_again(self, const Agreed *agreed, const uint32_t *order, int count, bint one_by_one) noexcept nogil
    # its own
    cdef Task *allocate(self, uint32_t itt, double timeout, double now) noexcept nogil
    cdef void end(self, Task *task) noexcept nogil
    cdef void finish(self, Task *task) noexcept nogil
    cdef Task *next_command(self) noexcept nogil
    cdef void forget_connection(self) noexcept nogil
    cdef void queue_again(self, Task *task) noexcept nogil
    cdef void lose(self, Task *task) noexcept nogil
    cdef uint8_t *list_barred(self, dict units) except NULL
    cdef uint8_t *bar(self, uint8_t *barred, int count) noexcept nogil
    cdef bint is_barred(self, const uint8_t *lun) noexcept nogil
    cdef void lose_barred(self, Queue *queue) noexcept nogil
    cdef uint8_t *new_header(self) noexcept nogil
    cdef void add_span(self, const uint8_t *base, size_t length, int slot) noexcept nogil
    cdef void add_pdu(self, uint8_t *header, const uint8_t *data, uint32_t length, Task *owner) noexcept nogil
    cdef bint room(self) noexcept nogil
    cdef void build_nop_answer(self) noexcept nogil
    cdef void build_control(self, Task *task, double now) noexcept nogil
    cdef void build_command(self, Task *task, double now) noexcept nogil
    cdef void build_data_out(self, Task *task) noexcept nogil
    cdef bint take_header(self) noexcept nogil
    cdef bint take_body(self) noexcept nogil
    cdef bint prepare(self, uint32_t length) noexcept nogil
    cdef bint prepare_data_in(self, uint32_t length) noexcept nogil
    cdef void finish_pdu(self, uint32_t length) noexcept nogil
    cdef bint take_stat_sn(self) noexcept nogil
    cdef void on_data_in(self, uint32_t length) noexcept nogil
    cdef void on_response(self, uint32_t length) noexcept nogil
    cdef void keep_tail(self, Task *task, uint32_t length) noexcept nogil
    cdef void take_status(self, Task *task) noexcept nogil
    cdef void on_r2t(self) noexcept nogil
    cdef void on_nop_in(self, uint32_t length) noexcept nogil
    cdef void on_control_answer(self, int opcode, uint32_t length) noexcept nogil
    cdef void add_event(self, int opcode, uint32_t length) noexcept nogil


cdef list events_of(EventNode *node)
cdef Agreed agreed_from(negotiated)
cdef list headers_of(swd_heads *heads)
cdef dict latencies_of(swd_latencies *latencies)
