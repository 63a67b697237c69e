# SPDX-License-Identifier: Apache-2.0
"""What each PDU of the target does to the tasks: Data-In, SCSI Response, R2T, NOP-In, answers of control tasks,
events. A part of `_engine.pyx`. It sees whole headers with good digests, and never where in the ring they stood.

`prepare` judges a header before a byte of its data is placed, and says where that data goes; `finish_pdu` acts on it
once the data is there. A rule that is broken ends the connection (`fail`).
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from swd._serial cimport serial_after, serial_before
from swd._task cimport ACTIVE, BHS, MAX_R2T, NO_SLOT, R2T, Spares, Task
from swd._watch cimport swd_latencies_add
from swd._wire cimport (
    OP_ASYNC,
    OP_DATA_IN,
    OP_LOGOUT_RESPONSE,
    OP_NOP_IN,
    OP_R2T,
    OP_REJECT,
    OP_SCSI_RESPONSE,
    OP_TASK_MANAGEMENT_RESPONSE,
    OP_TEXT_RESPONSE,
    RESERVED,
    get32,
)

cdef enum:
    MAX_EVENTS = 64                 # PDUs nobody asked for that may wait; more is a flood


cdef bint prepare(Engine self, uint32_t length) noexcept nogil:
    """Judges a header before a byte of its data is placed, and says where that data goes."""
    cdef int opcode = self.bhs[0] & 0x3F
    if opcode == OP_DATA_IN:
        return prepare_data_in(self, length)
    self.body_slot = NO_SLOT
    self.dest = NULL
    if length == 0:
        return True
    if opcode == OP_R2T or opcode == OP_TASK_MANAGEMENT_RESPONSE or opcode == OP_LOGOUT_RESPONSE:
        fail(self, UNEXPECTED_DATA, opcode, length)
        return False
    self.side = <uint8_t *>malloc(length)
    if self.side == NULL:
        fail(self, NO_MEMORY, length, 0)
        return False
    self.dest = self.side
    return True


cdef bint prepare_data_in(Engine self, uint32_t length) noexcept nogil:
    cdef uint8_t *bhs = self.bhs
    cdef uint32_t itt = get32(bhs + 16)
    cdef uint32_t offset = get32(bhs + 40)
    cdef Task *task = find(self, itt)
    if task == NULL or task.state != ACTIVE or task.control:
        fail(self, UNKNOWN_TAG, OP_DATA_IN, itt)
    elif task.in_len == 0:
        fail(self, DATA_NOT_WANTED, itt, 0)
    elif get32(bhs + 36) != task.data_sn:
        fail(self, DATA_SN, get32(bhs + 36), task.data_sn)
    elif offset != task.in_done and length:
        fail(self, DATA_OFFSET, offset, task.in_done)
    elif <uint64_t>task.in_done + length > task.in_len:
        fail(self, DATA_TOO_LONG, <int64_t>task.in_done + length, task.in_len)
    elif bhs[1] & 0x40:
        fail(self, DATA_ACK, 0, 0)
    elif bhs[1] & 1 and (not bhs[1] & 0x80 or bhs[3] & ~0x14):  # GOOD, CONDITION MET, INTERMEDIATE; S with F
        fail(self, DATA_STATUS, bhs[3], bhs[1])
    else:
        self.body_slot = <int>(task - self.tasks)
        if task.in_buf == NULL and task.spares != NULL:
            take_spare(task)
        self.dest = NULL if task.in_buf == NULL else task.in_buf + task.in_done
        return True
    return False


cdef void take_spare(Task *task) noexcept nogil:
    """The buffer that was used last is the one that is in the caches."""
    cdef Spares *spares = task.spares
    spares.count -= 1
    task.in_buf = spares.base + <size_t>spares.free[spares.count] * spares.size


cdef void finish_pdu(Engine self, uint32_t length) noexcept nogil:
    """A PDU is complete and its digests are good."""
    cdef int opcode = self.bhs[0] & 0x3F
    cdef uint32_t max_cmd_sn = get32(self.bhs + 32)
    # RFC 7143 4.2.2.1: a pair that contradicts itself is ignored, and the window never shrinks.
    if serial_before(max_cmd_sn, get32(self.bhs + 28) - 1):
        self.windows_ignored += 1
    elif serial_after(max_cmd_sn, self.max_cmd_sn):
        self.max_cmd_sn = max_cmd_sn
    elif max_cmd_sn != self.max_cmd_sn:
        self.windows_ignored += 1
    if opcode == OP_DATA_IN:
        on_data_in(self, length)
    elif opcode == OP_SCSI_RESPONSE:
        on_response(self, length)
    elif opcode == OP_R2T:
        on_r2t(self)
    elif opcode == OP_NOP_IN:
        on_nop_in(self, length)
    elif opcode == OP_TEXT_RESPONSE or opcode == OP_TASK_MANAGEMENT_RESPONSE or opcode == OP_LOGOUT_RESPONSE:
        on_control_answer(self, opcode, length)
    elif opcode == OP_ASYNC or opcode == OP_REJECT:
        if take_stat_sn(self):
            add_event(self, opcode, length)
    else:
        fail(self, UNKNOWN_OPCODE, opcode, 0)
    free(self.side)
    self.side = NULL


cdef bint take_stat_sn(Engine self) noexcept nogil:
    cdef uint32_t stat_sn = get32(self.bhs + 24)
    if stat_sn != self.exp_stat_sn:
        fail(self, STAT_SN, stat_sn, self.exp_stat_sn)
        return False
    self.exp_stat_sn += 1
    return True


cdef void on_data_in(Engine self, uint32_t length) noexcept nogil:
    cdef uint32_t itt = get32(self.bhs + 16)
    cdef Task *task = find(self, itt)
    self.body_slot = NO_SLOT
    if task == NULL:  # the pump was told to forget it since its header came
        fail(self, UNKNOWN_TAG, OP_DATA_IN, itt)
        return
    task.data_sn += 1
    task.in_done += length
    self.empty_data_ins += length == 0
    if length:
        put_off(task, self.now)
    if self.bhs[1] & 1 and take_stat_sn(self):
        take_status(self, task)


cdef void on_response(Engine self, uint32_t length) noexcept nogil:
    cdef uint32_t itt = get32(self.bhs + 16)
    cdef Task *task = find(self, itt)
    if task == NULL or task.state != ACTIVE or task.control:
        fail(self, UNKNOWN_TAG, OP_SCSI_RESPONSE, itt)
    elif take_stat_sn(self):
        task.response = self.bhs[2]
        keep_tail(self, task, length)
        take_status(self, task)


cdef void keep_tail(Engine self, Task *task, uint32_t length) noexcept nogil:
    task.tail = self.side
    task.tail_len = length
    self.side = NULL


cdef void take_status(Engine self, Task *task) noexcept nogil:
    """The end of a SCSI command: GOOD must agree with what was really moved (RFC 7143 11.4.5)."""
    cdef uint8_t *bhs = self.bhs
    cdef uint32_t missing = 0
    task.status = bhs[3]
    task.overflow = (bhs[1] & 0x04) != 0
    task.underflow = (bhs[1] & 0x02) != 0
    if task.overflow or task.underflow:
        task.residual = get32(bhs + 44)
    self.overflows += task.overflow
    self.underflows += task.underflow
    self.response_errors += task.response != 0
    if task.response == 0 and task.status == 0:
        if task.in_len:
            missing = task.in_len - task.in_done
            if task.underflow and task.residual != missing:
                self.data_in_residuals += (bhs[0] & 0x3F) == OP_DATA_IN
                fail(self, RESIDUAL, task.residual, missing)
                return
            if missing and not task.underflow:
                fail(self, SHORT_READ, task.in_done, task.in_len)
                return
        elif task.out_done < task.out_len:
            missing = task.out_len - task.out_done
            if not task.underflow or task.residual < missing:
                fail(self, SHORT_WRITE, task.out_done, task.out_len)
                return
        task.plain = task.residual == 0
    else:
        # After any other status the residual count is not the target's word alone: what did not move is missing.
        missing = task.in_len - task.in_done if task.in_len else task.out_len - min(task.out_done, task.out_len)
        if missing > task.residual or task.overflow:
            task.residual = missing
            task.underflow = missing > 0
            task.overflow = False
    if not task.plain:
        self.completions_odd += 1
    self.completed += 1
    swd_latencies_add(
        &self.latencies, task.lun, 1 if task.in_len else 2 if task.out_len else 0, self.now - task.begun
    )
    end(self, task)


cdef void on_r2t(Engine self) noexcept nogil:
    """RFC 7143 11.8. Offsets only ever rise, so that a target can make us send each byte once at most."""
    cdef uint8_t *bhs = self.bhs
    cdef uint32_t itt = get32(bhs + 16)
    cdef uint32_t offset = get32(bhs + 40)
    cdef uint32_t length = get32(bhs + 44)
    cdef Task *task = find(self, itt)
    cdef R2T *r2t
    if task == NULL or task.state != ACTIVE or task.control:
        fail(self, UNKNOWN_TAG, OP_R2T, itt)
    elif task.out_len == 0:
        fail(self, R2T_NOT_WANTED, itt, 0)
    elif get32(bhs + 36) != task.r2t_sn:
        fail(self, R2T_SN, get32(bhs + 36), task.r2t_sn)
    elif get32(bhs + 20) == RESERVED:
        fail(self, R2T_TAG, 0, 0)
    elif length == 0 or offset < task.r2t_next or <uint64_t>offset + length > task.out_len:
        fail(self, R2T_RANGE, offset, <int64_t>offset + length)
    elif length > self.max_burst:
        fail(self, R2T_BURST, length, self.max_burst)
    elif task.r2t_count >= self.max_r2t:
        fail(self, R2T_TOO_MANY, self.max_r2t, 0)
    else:
        r2t = &task.r2t[(task.r2t_head + task.r2t_count) % MAX_R2T]
        r2t.ttt = get32(bhs + 20)
        r2t.next = offset
        r2t.end = offset + length
        r2t.data_sn = 0
        task.r2t_sn += 1
        task.r2t_count += 1
        task.r2t_next = offset + length
        put_off(task, self.now)
        self.r2ts += 1
        if not task.sending:
            task.sending = True
            push(&self.data_out, task)


cdef void on_nop_in(Engine self, uint32_t length) noexcept nogil:
    """RFC 7143 11.19: the answer to our ping, or the target's ping, which wants its TTT back."""
    cdef uint32_t at
    self.nops += 1
    if get32(self.bhs + 16) != RESERVED:
        on_control_answer(self, OP_NOP_IN, length)
        return
    if get32(self.bhs + 20) == RESERVED:
        return
    if self.nop_count == MAX_NOPS:
        fail(self, FLOOD, MAX_NOPS, OP_NOP_IN)
        return
    at = (self.nop_head + self.nop_count) % MAX_NOPS
    memcpy(self.nop_lun[at], self.bhs + 8, 8)
    self.nop_ttt[at] = get32(self.bhs + 20)
    self.nop_count += 1


cdef void on_control_answer(Engine self, int opcode, uint32_t length) noexcept nogil:
    cdef uint32_t itt = get32(self.bhs + 16)
    cdef Task *task = find(self, itt)
    if task == NULL or task.state != ACTIVE or task.control != opcode:
        fail(self, UNKNOWN_TAG, opcode, itt)
    elif take_stat_sn(self):
        memcpy(task.bhs, self.bhs, BHS)
        keep_tail(self, task, length)
        end(self, task)


cdef void add_event(Engine self, int opcode, uint32_t length) noexcept nogil:
    cdef EventNode *node
    if self.event_count == MAX_EVENTS:
        fail(self, FLOOD, MAX_EVENTS, opcode)
        return
    node = <EventNode *>malloc(sizeof(EventNode))
    if node == NULL:
        fail(self, NO_MEMORY, sizeof(EventNode), 0)
        return
    memcpy(node.bhs, self.bhs, BHS)
    node.next = NULL
    node.length = length
    node.data = self.side
    self.side = NULL
    if self.events_tail == NULL:
        self.events = node
    else:
        self.events_tail.next = node
    self.events_tail = node
    self.event_count += 1
