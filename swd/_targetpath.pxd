# SPDX-License-Identifier: Apache-2.0
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from swd._crc32c cimport swd_crc_copy, swd_crc_update


# Not by way of swd._sys: that would load the initiator's engine.
cdef extern from "_targetqueue.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int errno
    int EAGAIN, EINTR, EWOULDBLOCK
    ctypedef struct swd_queue:
        uint64_t bytes, sent
        int broken
    uint8_t *swd_queue_place(swd_queue *q, size_t n)
    void swd_queue_add(swd_queue *q, size_t n)
    void swd_queue_lend(swd_queue *q, const uint8_t *bytes, size_t n)
    uint32_t swd_queue_copy(swd_queue *q, const uint8_t *bytes, size_t n, swd_crc_copy copy, uint32_t crc)
    void swd_queue_own(swd_queue *q)
    int swd_queue_send(swd_queue *q, int fd)
    void swd_queue_free(swd_queue *q)
    ssize_t swd_receive_twice(int fd, uint8_t *one, size_t n, uint8_t *two, size_t m, int wait)
    int swd_wait(int fd, int reading, int writing)
    int swd_is_fed_elsewhere(int fd)
    ssize_t swd_look_for(int fd, uint8_t *to, size_t n, unsigned microseconds)
    void swd_gate_touch(unsigned *epoch)
    unsigned swd_gate_read(const unsigned *epoch)


# What several parts of the module share.
cdef enum:
    BHS = 48
    DIGEST = 4
    CRC_START = 0xFFFFFFFF      # the register before the first byte
    FINAL = 0x80                # F, in every PDU that has it
    MAX_R2T = 16                # open R2Ts of one write; sessions that agreed on more write through Python
    OPCODES = 64


cdef struct Transfer:
    # What a CDB asks for.
    uint64_t lba
    uint32_t blocks
    bint write


cdef struct Place:
    # A unit, as far as it is memory.
    uint64_t lun                # the field
    uint64_t blocks
    uint32_t block_size
    uint32_t most               # blocks of one command
    uint32_t page
    bint readable, writable
    uint8_t *base
    uint8_t *used               # a byte a page


cdef struct Sequence:
    # Data-Out that is open: where it goes on, where it ends, and the DataSN that comes next.
    uint32_t ttt, offset, end, data_sn


cdef struct Write:
    # A write whose data has not all come.
    uint64_t lun
    uint8_t *base               # of its first byte on the medium
    uint8_t *used
    uint64_t pages
    Sequence *current           # that of the data segment which is being received
    uint32_t itt
    uint32_t size
    uint32_t asked              # offset of the next R2T
    uint32_t r2t_sn
    uint32_t position           # in `active`
    uint32_t solicited_count
    bint unasked                # unsolicited data has not ended
    Sequence unsolicited
    Sequence solicited[MAX_R2T]


cdef class Gate:
    cdef unsigned epoch


cdef class Flat:
    cdef Py_buffer memory, used
    cdef uint32_t page
    cdef int open
    cdef object paths           # weakly: those that were admitted to it
    cdef list stopped           # those that `go` will let go on


cdef class TargetPath:
    cdef object __weakref__
    cdef pthread_mutex_t lock
    cdef int fd, why            # the descriptor, and the errno that broke it
    cdef unsigned spin_us, since_look
    cdef bint spinning          # the peer's packets come in on another CPU
    # what was agreed
    cdef bint header_digest, data_digest, initial_r2t, immediate_data, many_r2t
    cdef uint64_t high_water, early
    cdef uint32_t segment, burst, first_burst, max_r2t, max_segment, depth
    cdef swd_crc_update crc
    cdef swd_crc_copy crc_copy
    cdef uint8_t sense[2][32]
    cdef uint32_t sense_length[2]
    # numbers, shared with the session in Python
    cdef uint32_t stat_sn, ttt, exp_cmd_sn, max_cmd_sn
    cdef public bint held       # the session holds commands back until a number comes
    cdef public uint32_t others  # writes that the session in Python has open
    # units
    cdef Gate gate
    cdef unsigned seen
    cdef dict kept              # the Flats that anything here may point into
    cdef Place *units
    cdef uint32_t unit_count
    cdef Place *last_unit
    # open writes: the first `open_count` of `active` are their places in `writes`
    cdef Write *writes
    cdef uint16_t *active
    cdef uint32_t open_count, limit
    # receiving
    cdef Py_buffer view
    cdef bint viewed
    cdef uint8_t *ring
    cdef uint32_t size_of_ring, start, end
    cdef bint header_checked, big
    cdef bint in_body, body_final
    cdef uint8_t body_opcode
    cdef Write *body_write      # NULL: nobody wants it
    cdef uint8_t *dest
    cdef uint32_t left, trailer, body_length, body_crc
    cdef uint8_t bhs[48]        # of the PDU that is handed out
    cdef uint32_t odd_start, odd_end
    # sending
    cdef swd_queue queue
    cdef bint blocked           # the socket took no more the last time
    # counters
    cdef uint64_t bytes_in, headers_checked, bodies_checked
    cdef uint64_t pdus_in[OPCODES]
    cdef uint64_t pdus_out[OPCODES]
