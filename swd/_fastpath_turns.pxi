# SPDX-License-Identifier: Apache-2.0
"""One turn of the pump: it sends what the engine has, receives once where nobody else does, and gives ended tasks to
those who wait for them. A part of `_fastpath.pyx`. The lock is held on entry and on return.
"""

from libc.stdint cimport int64_t, uint32_t
from posix.uio cimport iovec

from swd._engine cimport (
    DATA_DIGEST,
    DROPPED,
    END_OF_STREAM,
    HEADER_DIGEST,
    OK,
    SYSTEM_ERROR,
    fail,
    fill,
    received,
    sent,
    take_done,
    where,
)
from swd._sys cimport (
    EAGAIN,
    EINTR,
    EWOULDBLOCK,
    SHUT_RDWR,
    errno,
    pthread_cond_broadcast,
    pthread_cond_signal,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    shutdown,
    swd_cond_wait,
    swd_is_fed_elsewhere,
    swd_now,
    swd_poll,
    swd_poll_write,
    swd_receive,
    swd_receive_spinning,
    swd_send,
    swd_set_low_water,
    swd_wake,
)
from swd._task cimport NO_SLOT, Task

cdef double FAR_AWAY = 1e300     # a time that does not come
cdef double SEND_SLICE = 0.01   # seconds: a thread without the reader role waits this long for room in the socket
cdef double LOW_WATER_SLICE = 0.0009    # seconds (poll makes it 1 ms): what ends below the low-water mark waits so long

cdef enum:
    DRIPS = 2                   # receives in a row after which a target is said to drip
    DRIP_REST = 64              # receives without a look at drips after the mark was not reached in time
    WAITS_A_LOOK = 16           # receives between two looks at which CPU feeds the socket


cdef bint may_return(int code) noexcept nogil:
    """Whether a new connection mends this fault. A target that breaks the protocol will do so again."""
    return (
        code == END_OF_STREAM or code == SYSTEM_ERROR or code == DROPPED or code == HEADER_DIGEST or code == DATA_DIGEST
    )


cdef void flush(_Core self, double now) noexcept nogil:
    """Sends what the engine has, as far as the socket takes it: many PDUs, one system call."""
    cdef ssize_t n
    cdef int count
    self.blocked = False
    while self.engine.fault_code == OK:
        count = fill(self.engine, now)
        if count == 0:
            break
        n = swd_send(self.fd, &self.engine.span[self.engine.span_head], count)
        self.sends += 1
        if n >= 0:
            sent(self.engine, n)
        elif errno == EAGAIN or errno == EWOULDBLOCK:
            self.blocked = True
            break
        elif errno != EINTR:
            die(self, SYSTEM_ERROR, errno)
    if self.engine.done.head != NULL:
        distribute(self)


cdef bint turn(_Core self, Waiter *me, double now, double until, Task *task) noexcept nogil:
    """Sends, then waits for something to happen: until then, or the deadline of `task`, which begins when it is sent.
    False if nothing did, or a signal came.
    """
    flush(self, now)
    cdef double wait = (until if task == NULL else min(until, task.deadline)) - now
    if self.engine.recovering and not me.ahead:
        return swd_cond_wait(&me.cond, &self.lock, min(until - now, SLICE)) != 0  # no deadline counts meanwhile
    if self.engine.fault_code != OK or (me.pending <= me.low and me.done != NULL):
        return True
    if not self.reading:
        return receive(self, me, wait)
    if not self.blocked:
        return swd_cond_wait(&me.cond, &self.lock, min(wait, SLICE)) != 0
    pthread_mutex_unlock(&self.lock)
    cdef bint ready = swd_poll_write(self.fd, min(wait, SEND_SLICE)) != 0
    pthread_mutex_lock(&self.lock)
    return ready


cdef bint receive(_Core self, Waiter *me, double wait) noexcept nogil:
    """One receive in the reader role; wait=0 does not block. As `turn`."""
    cdef iovec place[2]
    self.engine.most = me.most if me != NULL and self.fed_elsewhere else 0
    cdef int count = where(self.engine, place)
    cdef bint want_write = self.blocked
    cdef bint block = wait >= SLICE and not want_write
    cdef uint32_t low_water = me.low_water if block else 0
    cdef bint ready = True
    cdef ssize_t n = -1
    cdef int error = EAGAIN
    self.reading = True
    self.receiving_slot = self.engine.body_slot if self.engine.direct else NO_SLOT
    pthread_mutex_unlock(&self.lock)
    if not block and wait > 0:
        ready = swd_poll(self.fd, want_write, min(wait, SLICE)) != 0
    if ready:
        n = receive_into(self, me, place, count, block, low_water)
        error = errno
        if n > 0 and (self.spin > 0 or (me != NULL and me.most)):
            # After data, for else the last packet may be our own kernel's acknowledgment of what we sent.
            if self.waits % WAITS_A_LOOK == 0:
                self.fed_elsewhere = swd_is_fed_elsewhere(self.fd)
            self.waits += 1
    pthread_mutex_lock(&self.lock)
    self.reading = False
    self.receives += 1
    if self.receiving_slot != NO_SLOT or self.engine.fault_code != OK:
        self.receiving_slot = NO_SLOT
        pthread_cond_broadcast(&self.moved)
    if self.engine.fault_code != OK:
        return True
    if n > 0:
        self.engine.now = swd_now()
        if block:
            mind_drips(self, me, n)
        if received(self.engine, n) < 0:
            die(self, OK, 0)
        distribute(self)
    elif n == 0:
        die(self, END_OF_STREAM, 0)
    elif error == EAGAIN or error == EWOULDBLOCK:
        return (want_write and ready) or low_water != 0
    elif error == EINTR:
        return False
    else:
        die(self, SYSTEM_ERROR, error)
    return True


cdef ssize_t receive_into(
    _Core self, Waiter *me, iovec *place, int count, bint block, uint32_t low_water
) noexcept nogil:
    """The receive itself, in the reader role, without the lock."""
    cdef ssize_t n
    cdef bint spins = self.spin > 0 and self.fed_elsewhere
    if block and me.patience and not spins:
        n = swd_receive(self.fd, place, count, False)
        if n >= 0 or (errno != EAGAIN and errno != EWOULDBLOCK):
            return n
        set_low_water(self, me.patience)
        if swd_poll(self.fd, False, LOW_WATER_SLICE):
            return swd_receive(self.fd, place, count, False)
    set_low_water(self, low_water if low_water else 1)
    if low_water:
        # A short answer (an error, say) may never bring as much as that: whoever waits looks after a slice.
        if swd_poll(self.fd, False, LOW_WATER_SLICE) == 0:
            self.drips = -DRIP_REST
        return swd_receive(self.fd, place, count, False)
    if spins and block:
        n = swd_receive_spinning(self.fd, place, count, self.spin)
        if n >= 0 or (errno != EAGAIN and errno != EWOULDBLOCK):
            return n
    return swd_receive(self.fd, place, count, block)


cdef void set_low_water(_Core self, uint32_t low_water) noexcept nogil:
    """In the reader role, or with the lock while nobody has it."""
    if low_water != self.low_water:
        swd_set_low_water(self.fd, low_water)
        self.low_water = low_water


cdef void mind_drips(_Core self, Waiter *me, ssize_t n) noexcept nogil:
    """Does the target send its answers one by one? Then a receive brings one where it could bring many."""
    if self.drips < 0:
        self.drips += 1
    elif self.low_water == 1:
        self.drips = min(self.drips + 1, DRIPS) if n < me.drip else 0


cdef void distribute(_Core self) noexcept nogil:
    """Gives ended tasks to those who wait for them."""
    cdef Task *task = take_done(self.engine)
    cdef Waiter *waiter
    while task != NULL:
        waiter = <Waiter *>task.waiter
        if waiter == NULL:
            task.claimable = True
        else:
            task.next = waiter.done
            waiter.done = task
            waiter.pending -= 1
            if waiter.pending <= waiter.low:
                wake(self, waiter)
        task = take_done(self.engine)


cdef void die(_Core self, int code, int64_t detail) noexcept nogil:
    """Fails the connection (OK: it has failed), gets the reader out of its receive, and wakes everybody."""
    if code != OK:
        fail(self.engine, code, detail, 0)
    if self.can_recover and not self.closing and may_return(self.engine.fault_code):
        self.engine.recovering = True
    shutdown(self.fd, SHUT_RDWR)
    wake_all(self)


cdef void wake_all(_Core self) noexcept nogil:
    cdef Waiter *waiter = self.waiters
    while waiter != NULL:
        wake(self, waiter)
        waiter = waiter.next


cdef void wake(_Core self, Waiter *waiter) noexcept nogil:
    if not waiter.looped:
        pthread_cond_signal(&waiter.cond)
    elif not waiter.told:
        waiter.told = True
        swd_wake(waiter.wake_fd)


cdef void pass_role(_Core self) noexcept nogil:
    """Wakes a thread that may read now, and will send. Event loops see by themselves what comes: for them, and for
    streams that nobody asks just now, the caller sends what its last receive asked for; loops are told to wait for
    room if the socket has none.
    """
    cdef Waiter *waiter = self.waiters
    while waiter != NULL and (waiter.looped or waiter.idle):
        waiter = waiter.next
    if waiter != NULL:
        if not self.reading:
            pthread_cond_signal(&waiter.cond)
    elif self.waiters != NULL and self.engine.fault_code == OK:
        flush(self, swd_now())
        if self.blocked:
            wake_all(self)
