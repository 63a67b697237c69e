# SPDX-License-Identifier: Apache-2.0
"""Many I/Os in one call, the queue kept full without the GIL; and how many answers one receive of a batch should
bring. A part of `_fastpath.pyx`.
"""

from cpython.buffer cimport PyBuffer_IsContiguous
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from swd._engine cimport (
    DIRECT_FROM,
    answer_bytes,
    completion,
    death,
    release,
    start,
    unsolicited_most,
)
from swd._sys cimport pthread_mutex_lock, pthread_mutex_unlock, swd_now
from swd._task cimport ACTIVE, DONE, FREE, MAX_SLOTS, Task

from swd.errors import DeadlineExceeded, InvalidArgument

cdef enum:
    MOST_LOW_WATER = 1 << 16    # half of the engine's ring
    PATIENT_PART = 8            # of long answers that are due, a receive that finds nothing sleeps for one in so many:
    LEAST_PATIENCE = 1 << 16    # at least this
    MOST_PATIENCE = 1 << 19     # and at most that has come
    LEAST_TO_SHARE = 8          # answers that are due, for a receive to take only some of them,
    READ_SHARES = 3             # of reads one in so many,
    WRITE_SHARES = 4            # of writes, whose answers are short and whose commands are long
    ODD_LIMIT = 64              # odd completions that a batch keeps before it hands them to Python


cdef void harvest(_Core self, Waiter *me, Batch *batch) noexcept nogil:
    cdef Task *task
    while me.done != NULL:
        task = me.done
        me.done = task.next
        if task.plain:
            release(self.engine, task)
        else:
            task.waiter = NULL
            task.next = batch.odd
            batch.odd = task
            batch.odd_count += 1


cdef void refill(_Core self, Waiter *me, Batch *batch, double now) noexcept nogil:
    cdef uint8_t cdb[16]
    cdef Task *task
    while batch.next < batch.count and me.pending < batch.queue_depth:
        read_or_write(cdb, batch.write, <uint64_t>batch.lbas[batch.next], batch.blocks)
        if batch.write:
            task = start(self.engine, batch.lun, cdb, batch.place, batch.size, NULL, 0, batch.timeout, now)
        else:
            task = start(self.engine, batch.lun, cdb, NULL, 0, batch.place, batch.size, batch.timeout, now)
        if task == NULL:
            return
        task.waiter = me
        task.tag = batch.next
        batch.next += 1
        me.pending += 1
        step_on(batch)


cdef void step_on(Batch *batch) noexcept nogil:
    """To the place of the next I/O's data."""
    batch.place += batch.step
    batch.column += 1
    if batch.column == batch.columns:
        batch.column = 0
        batch.row += batch.row_step
        batch.place = batch.row


cdef int lay_out(Batch *batch, Py_buffer *view) except -1:
    """Finds the equal parts of a buffer that is in one piece, or has the shape (outer, inner, bytes of a part)."""
    if view.len % batch.count or view.len // batch.count > 0xFFFFFFFF or view.len == 0:
        raise InvalidArgument(f"{view.len} bytes cannot be shared by {batch.count} I/Os")
    batch.size = <uint32_t>(view.len // batch.count)
    batch.place = batch.row = <uint8_t *>view.buf
    if PyBuffer_IsContiguous(view, b"C"):
        batch.columns, batch.step = batch.count, batch.size
        return 0
    if view.ndim != 3 or view.itemsize != 1 or view.strides[2] != 1 or view.shape[0] * view.shape[1] != batch.count:
        raise InvalidArgument(f"the rows of {batch.count} writes have three dimensions: outer, inner, and bytes of one")
    batch.columns, batch.step, batch.row_step = view.shape[1], view.strides[1], view.strides[0]
    return 0


cdef void set_marks(_Core self, Waiter *me, bint write, uint32_t size) noexcept nogil:
    """How much the next receive should bring of the answers that are due, I/Os of `size` bytes: at least half of them
    where the target sends them one by one, at most some of them where another CPU works on them meanwhile.

    The least is for a waiter that has the session to itself, since another's answer would wait with his, and where no
    R2T is due. With all answers taken at once the target stands idle while they are looked at, and then the other way
    round; of three parts one is on its way in each direction.
    """
    cdef uint64_t answer = answer_bytes(self.engine, 0 if write else size)
    me.drip = <uint32_t>min(answer * (me.pending // 8 + 1), MOST_LOW_WATER // 2)
    cdef bint alone = self.coalesces and self.waiters == me and me.next == NULL
    me.low_water = me.most = me.patience = 0
    if alone and not write and size >= DIRECT_FROM:
        me.patience = patience(self, answer * me.pending)
        return
    if alone and self.drips >= DRIPS and me.pending >= 4:
        if not write or size <= unsolicited_most(self.engine):
            me.low_water = <uint32_t>min(answer * (me.pending // 2), MOST_LOW_WATER)
    if me.low_water == 0:
        share(self, me, 0 if write else size)


cdef uint32_t patience(_Core self, uint64_t due) noexcept nogil:
    """How much of `due` bytes of long answers a receive that finds nothing sleeps for: a sleep less is a wake-up less
    that the target pays for. Never for what may not come: of the last answers nothing is waited for.
    """
    cdef uint64_t part = due // PATIENT_PART
    return <uint32_t>min(part, MOST_PATIENCE) if part >= LEAST_PATIENCE else 0


cdef void share(_Core self, Waiter *me, uint32_t length) noexcept nogil:
    """Sets what the next receive takes at most, if reads of `length` bytes are due, or writes (0)."""
    cdef uint64_t answer = answer_bytes(self.engine, length)
    cdef int parts
    me.most = 0
    if self.coalesces and me.pending >= LEAST_TO_SHARE and answer * me.pending <= self.engine.ring_size:
        parts = READ_SHARES if length else WRITE_SHARES
        me.most = <uint32_t>(answer * ((me.pending + parts - 1) // parts))


cdef int run_batch(_Core self, Waiter *me, Batch *batch) noexcept nogil:
    """Keeps the queue full until all I/Os have ended, or something wants the GIL."""
    cdef int ended = keep_full(self, me, batch)
    me.low_water = 0
    rest(self)
    return ended


cdef void rest(_Core self) noexcept nogil:
    """Nobody who comes after may wait for more than a byte."""
    if self.low_water != 1 and not self.reading and self.fd >= 0:
        set_low_water(self, 1)


cdef int keep_full(_Core self, Waiter *me, Batch *batch) noexcept nogil:
    cdef double now = swd_now()
    cdef double look_at = now + SLICE
    while True:
        harvest(self, me, batch)
        if batch.next == batch.count and me.pending == 0:
            return COMPLETE
        if is_dead_for(self, me):
            return DEAD
        if wants_look(self) or batch.odd_count >= ODD_LIMIT or now >= look_at:
            return LOOK
        if me.pending <= me.low:
            refill(self, me, batch, now)
        if batch.next == batch.count:
            me.low = 0
        set_marks(self, me, batch.write, batch.size)
        if not turn(self, me, now, now + SLICE, NULL):
            return LOOK
        now = swd_now()


cdef double first_deadline(_Core self, Waiter *me, uint32_t *itt) noexcept nogil:
    cdef int slot
    cdef double first = swd_now() + 1
    for slot in range(self.engine.slots):
        if self.engine.tasks[slot].waiter == <void *>me and self.engine.tasks[slot].state not in (FREE, DONE):
            if self.engine.tasks[slot].deadline < first:
                first = self.engine.tasks[slot].deadline
                itt[0] = self.engine.tasks[slot].itt
    return first


cdef tuple tags_of(_Core self, Waiter *me):
    """The tags of a waiter's commands that the target knows and has not answered."""
    cdef uint32_t tags[MAX_SLOTS]
    cdef int count = 0
    cdef int slot
    with nogil:
        pthread_mutex_lock(&self.lock)
        for slot in range(self.engine.slots):
            if self.engine.tasks[slot].waiter == <void *>me and self.engine.tasks[slot].state == ACTIVE:
                tags[count] = self.engine.tasks[slot].itt
                count += 1
        pthread_mutex_unlock(&self.lock)
    return tuple([tags[slot] for slot in range(count)])


cdef list odd_ones(_Core self, Batch *batch):
    """The (index, Completion) of I/Os that did not end plainly GOOD; they stay in the list until `drop_odd`."""
    cdef Task *task = batch.odd
    found = []
    while task != NULL:
        found.append((task.tag, completion(self.engine, task)))
        task = task.next
    return found


cdef void drop_odd(_Core self, Batch *batch) noexcept nogil:
    cdef Task *task
    while batch.odd != NULL:
        task = batch.odd
        batch.odd = task.next
        release(self.engine, task)
    batch.odd_count = 0

cdef list pump_batch(_Core self, Batch *batch):
    cdef Waiter me
    cdef int ended
    cdef double deadline
    cdef uint32_t itt = NO_TAG
    odd = []
    with nogil:
        pthread_mutex_lock(&self.lock)
        join(self, &me)
        me.low = batch.queue_depth // 2 if batch.size >= self.half_refill else batch.queue_depth - 1
        ended = run_batch(self, &me, batch)
        pthread_mutex_unlock(&self.lock)
    try:
        while ended == LOOK:
            odd += odd_ones(self, batch)
            with nogil:
                pthread_mutex_lock(&self.lock)
                drop_odd(self, batch)
                deadline = first_deadline(self, &me, &itt)
                pthread_mutex_unlock(&self.lock)
            look(self, deadline, batch.timeout, itt)
            with nogil:
                pthread_mutex_lock(&self.lock)
                ended = run_batch(self, &me, batch)
                pthread_mutex_unlock(&self.lock)
        if ended == DEAD:
            raise death(self.engine)
        return odd + odd_ones(self, batch)
    except DeadlineExceeded as error:
        error.tags = tags_of(self, &me)
        raise
    finally:
        with nogil:
            pthread_mutex_lock(&self.lock)
            drop_odd(self, batch)
            leave(self, &me)
            pthread_mutex_unlock(&self.lock)
