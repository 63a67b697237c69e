# SPDX-License-Identifier: Apache-2.0
# A task of the full-feature phase, as the engine keeps it and the pump waits for it.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t


cdef enum:
    BHS = 48
    MAX_R2T = 16        # R2Ts that may wait in one task; the login never offers more
    SLOT_BITS = 12
    MAX_SLOTS = 4096
    MAX_SPANS = 1000    # below IOV_MAX (1024)
    NO_SLOT = -1


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


cdef struct Spares:
    # Buffers that are given out when the first byte of an answer has come; who holds them sees to it that they last.
    uint8_t *base
    uint32_t size       # of each, bytes
    int32_t *free       # numbers of those that nobody has, the last used on top
    int count


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
    uint8_t *in_buf     # NULL with in_len > 0: what arrives is dropped, or goes to one of `spares`
    Spares *spares
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
