# SPDX-License-Identifier: Apache-2.0
"""The pump: an engine, a descriptor, and the threads that wait on them.

Who runs it. The caller that waits does. One thread at a time has the *reader role*: it receives outside the lock and
feeds the engine under it. Other waiters sleep on a condition of their own until their command has ended or the role
is free; a thread that is done hands the role on. A blocking read on a quiet session is two system calls: its send and
its receive.

The lock guards the engine and everything in `Pump`. It is never held in a wait, but is held in `sendmsg`, which does
not block. Nothing under it calls Python. Waits are cut into slices of at most `SLICE` seconds, after which the caller
looks at deadlines, pending events and signals; so Ctrl-C, close from another thread and a silent target all end in
time.

Buffers. While the reader receives straight into a caller's buffer, `receiving_slot` names the task. A caller that
gives up (Ctrl-C, deadline) first marks its task as `evicting`, waits until the reader is out of that buffer, and then
detaches it: after that the target may send what it likes, no byte of it goes there.

Loss. When the link dies and there is an `on_down`, the tasks stay: their callers sleep on, new ones queue behind them,
and `on_down` is called once, by whoever notices first. Then somebody either gives the pump a new connection (`restart`,
then `resume`) or an end (`give_up`). What has to be asked on the new connection before that goes `ahead`.

Fork. The child of a fork may only close: every other entry raises BadDescriptor, and nothing is sent.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from swd._engine cimport (
    ACTIVE,
    BHS,
    CLOSED,
    DATA_DIGEST,
    DONE,
    DROPPED,
    FREE,
    HEADER_DIGEST,
    MAX_SLOTS,
    END_OF_STREAM,
    NO_SLOT,
    OK,
    SYSTEM_ERROR,
    TOLD,
    Agreed,
    Engine,
    EventNode,
    Task,
    agreed_from,
    events_of,
    headers_of,
    iovec,
    latencies_of,
    swd_heads,
    swd_latencies,
)
from swd._sys cimport (
    EAGAIN,
    EINTR,
    EWOULDBLOCK,
    SHUT_RDWR,
    close,
    errno,
    pthread_cond_destroy,
    pthread_cond_signal,
    pthread_cond_broadcast,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    shutdown,
    swd_cond_init,
    swd_cond_wait,
    swd_fork_generation,
    swd_is_fed_elsewhere,
    swd_now,
    swd_poll,
    swd_poll_write,
    swd_receive,
    swd_receive_spinning,
    swd_reset,
    swd_send,
    swd_set_low_water,
    swd_set_receive_slice,
    swd_wake,
    swd_watch_forks,
)
from swd._wire cimport put16, put32, put64

from swd.errors import BadDescriptor, DeadlineExceeded, InvalidArgument

cdef double SLICE = 0.25        # seconds: the longest that a signal or a deadline waits to be seen
cdef double SEND_SLICE = 0.01   # seconds: a thread without the reader role waits this long for room in the socket

cdef double LOW_WATER_SLICE = 0.0009    # seconds (poll makes it 1 ms): what ends below the low-water mark waits so long

cdef enum:
    NO_TAG = 0xFFFFFFFF
    MOST_LOW_WATER = 1 << 16    # half of the engine's ring
    DRIPS = 2                   # receives in a row after which a target is said to drip
    DRIP_REST = 64              # receives without a look at drips after the mark was not reached in time
    SPINS_A_LOOK = 16           # waits between two looks at which CPU feeds the socket
    ODD_LIMIT = 64              # odd completions that a batch keeps before it hands them to Python

if swd_watch_forks() != 0:
    raise ImportError("pthread_atfork failed: no memory")


cdef bint may_return(int code) noexcept nogil:
    """Whether a new connection mends this fault. A target that breaks the protocol will do so again."""
    return (
        code == END_OF_STREAM or code == SYSTEM_ERROR or code == DROPPED or code == HEADER_DIGEST or code == DATA_DIGEST
    )


cdef void read_or_write(uint8_t *cdb, bint write, uint64_t lba, uint32_t blocks) noexcept nogil:
    """READ or WRITE, 10 bytes where LBA and count fit, else 16 (SBC-4 5.13, 5.16)."""
    memset(cdb, 0, 16)
    if (lba + blocks) >> 32 == 0 and blocks >> 16 == 0:
        cdb[0] = 0x2A if write else 0x28
        put32(cdb + 2, <uint32_t>lba)
        put16(cdb + 7, blocks)
    else:
        cdb[0] = 0x8A if write else 0x88
        put64(cdb + 2, lba)
        put32(cdb + 10, blocks)


@cython.final
@cython.no_gc_clear  # as Command, which may be in the same cycle
cdef class Pump:
    """Pump(engine, fd, on_event=None, on_down=None, *, spin=0.0, coalesce=True, half_refill=65536): takes
    over a connected, blocking stream socket; `close()` closes it.

    `on_event` is called with each Event, `on_down` with nothing when the link is lost, by whichever thread is waiting,
    without the lock. Without `on_down` a lost link is the end. `spin`: seconds that a wait polls before it sleeps,
    where another CPU feeds the socket. `coalesce`: let a batch's receive wait for several answers of a target that
    sends them one by one. `half_refill`: bytes of an I/O from which a batch refills when half of its queue is done.
    """

    def __cinit__(
        self, Engine engine not None, int fd, on_event=None, on_down=None, *,
        double spin=0.0, bint coalesce=True, uint32_t half_refill=65536,
    ):
        self.fd = -1
        self.born = swd_fork_generation()
        pthread_mutex_init(&self.lock, NULL)
        swd_cond_init(&self.moved)
        self.engine = engine
        self.on_event = on_event
        self.on_down = on_down
        self.can_recover = on_down is not None
        self.receiving_slot = NO_SLOT
        self.spin = spin
        self.coalesces = coalesce
        self.half_refill = half_refill
        self.low_water = 1
        swd_set_receive_slice(fd, SLICE)
        self.fd = fd

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        if self.born == swd_fork_generation():
            pthread_cond_destroy(&self.moved)
            pthread_mutex_destroy(&self.lock)

    # ---- one turn: lock held on entry and on return ----------------------------------------------------------------

    cdef void flush(self, double now) noexcept nogil:
        """Sends what the engine has, as far as the socket takes it: many PDUs, one system call."""
        cdef ssize_t n
        cdef int count
        self.blocked = False
        while self.engine.fault_code == OK:
            count = self.engine.fill(now)
            if count == 0:
                break
            n = swd_send(self.fd, &self.engine.span[self.engine.span_head], count)
            self.sends += 1
            if n >= 0:
                self.engine.sent(n)
            elif errno == EAGAIN or errno == EWOULDBLOCK:
                self.blocked = True
                break
            elif errno != EINTR:
                self.die(SYSTEM_ERROR, errno)
        if self.engine.done.head != NULL:
            self.distribute()

    cdef bint turn(self, Waiter *me, double now, double wait) noexcept nogil:
        """Sends, then waits at most `wait` seconds for something to happen. False if nothing did, or a signal came."""
        self.flush(now)
        if self.engine.recovering and not me.ahead:
            return swd_cond_wait(&me.cond, &self.lock, min(wait, SLICE)) != 0
        if self.engine.fault_code != OK or (me.pending <= me.low and me.done != NULL):
            return True
        if not self.reading:
            return self.receive(me, wait)
        if not self.blocked:
            return swd_cond_wait(&me.cond, &self.lock, min(wait, SLICE)) != 0
        pthread_mutex_unlock(&self.lock)
        cdef bint ready = swd_poll_write(self.fd, min(wait, SEND_SLICE)) != 0
        pthread_mutex_lock(&self.lock)
        return ready

    cdef bint receive(self, Waiter *me, double wait) noexcept nogil:
        """One receive in the reader role; wait=0 does not block. As `turn`."""
        cdef iovec place[2]
        cdef int count = self.engine.where(place)
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
            n = self.receive_into(place, count, block, low_water)
            error = errno
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
                self.mind_drips(me, n)
            if self.engine.received(n) < 0:
                self.die(OK, 0)
            self.distribute()
        elif n == 0:
            self.die(END_OF_STREAM, 0)
        elif error == EAGAIN or error == EWOULDBLOCK:
            return (want_write and ready) or low_water != 0
        elif error == EINTR:
            return False
        else:
            self.die(SYSTEM_ERROR, error)
        return True

    cdef ssize_t receive_into(self, iovec *place, int count, bint block, uint32_t low_water) noexcept nogil:
        """The receive itself, in the reader role, without the lock."""
        cdef ssize_t n
        self.set_low_water(low_water if low_water else 1)
        if low_water:
            # A short answer (an error, say) may never bring as much as that: whoever waits looks after a slice.
            if swd_poll(self.fd, False, LOW_WATER_SLICE) == 0:
                self.drips = -DRIP_REST
            return swd_receive(self.fd, place, count, False)
        if block and self.spin > 0:
            if self.spins % SPINS_A_LOOK == 0:
                self.fed_elsewhere = swd_is_fed_elsewhere(self.fd)
            self.spins += 1
            if self.fed_elsewhere:
                n = swd_receive_spinning(self.fd, place, count, self.spin)
                if n >= 0 or (errno != EAGAIN and errno != EWOULDBLOCK):
                    return n
        return swd_receive(self.fd, place, count, block)

    cdef void set_low_water(self, uint32_t low_water) noexcept nogil:
        """In the reader role, or with the lock while nobody has it."""
        if low_water != self.low_water:
            swd_set_low_water(self.fd, low_water)
            self.low_water = low_water

    cdef void mind_drips(self, Waiter *me, ssize_t n) noexcept nogil:
        """Does the target send its answers one by one? Then a receive brings one where it could bring many."""
        if self.drips < 0:
            self.drips += 1
        elif self.low_water == 1:
            self.drips = min(self.drips + 1, DRIPS) if n < me.drip else 0

    cdef void distribute(self) noexcept nogil:
        """Gives ended tasks to those who wait for them."""
        cdef Task *task = self.engine.take_done()
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
                    self.wake(waiter)
            task = self.engine.take_done()

    cdef void die(self, int code, int64_t detail) noexcept nogil:
        """Fails the connection (OK: it has failed), gets the reader out of its receive, and wakes everybody."""
        if code != OK:
            self.engine.fail(code, detail, 0)
        if self.can_recover and not self.closing and may_return(self.engine.fault_code):
            self.engine.recovering = True
        shutdown(self.fd, SHUT_RDWR)
        self.wake_all()

    cdef void wake_all(self) noexcept nogil:
        cdef Waiter *waiter = self.waiters
        while waiter != NULL:
            self.wake(waiter)
            waiter = waiter.next

    cdef void wake(self, Waiter *waiter) noexcept nogil:
        if not waiter.looped:
            pthread_cond_signal(&waiter.cond)
        elif not waiter.told:
            waiter.told = True
            swd_wake(waiter.wake_fd)

    cdef void pass_role(self) noexcept nogil:
        """Wakes a thread that may read now, and will send. Event loops see by themselves what comes: for them the
        caller sends what its last receive asked for, and they are told to wait for room if the socket has none.
        """
        cdef Waiter *waiter = self.waiters
        while waiter != NULL and waiter.looped:
            waiter = waiter.next
        if waiter != NULL:
            if not self.reading:
                pthread_cond_signal(&waiter.cond)
        elif self.waiters != NULL and self.engine.fault_code == OK:
            self.flush(swd_now())
            if self.blocked:
                self.wake_all()

    # ---- waiters: lock held ----------------------------------------------------------------------------------------

    cdef void join(self, Waiter *me) noexcept nogil:
        memset(me, 0, sizeof(Waiter))
        swd_cond_init(&me.cond)
        me.next = self.waiters
        if me.next != NULL:
            me.next.before = me
        self.waiters = me
        self.users += 1

    cdef void leave(self, Waiter *me) noexcept nogil:
        """Lets go of what has not ended, hands the reader role on, and closes the descriptor if the pump was closed
        meanwhile.
        """
        cdef Task *task
        if me.pending:
            self.abandon(me)
        while me.done != NULL:
            task = me.done
            me.done = task.next
            self.engine.release(task)
        if me.next != NULL:
            me.next.before = me.before
        if me.before != NULL:
            me.before.next = me.next
        else:
            self.waiters = me.next
        self.pass_role()
        pthread_cond_destroy(&me.cond)
        self.part()

    cdef void part(self) noexcept nogil:
        self.users -= 1
        if self.closing and self.users == 0 and self.fd >= 0:
            close(self.fd)
            self.fd = -1

    cdef void abandon(self, Waiter *me) noexcept nogil:
        """Lets go of every task of a waiter that will not wait any longer: its buffers are free afterwards."""
        cdef int slot
        for slot in range(self.engine.slots):
            if self.engine.tasks[slot].waiter == <void *>me and self.engine.tasks[slot].state != FREE:
                if not self.has_ended(me, &self.engine.tasks[slot]):
                    self.let_go(&self.engine.tasks[slot])
        me.pending = 0

    cdef bint has_ended(self, Waiter *me, Task *task) noexcept nogil:
        cdef Task *done = me.done
        while done != NULL:
            if done == task:
                return True
            done = done.next
        return False

    cdef void let_go(self, Task *task) noexcept nogil:
        """Detaches a task, once the reader is out of its buffer."""
        cdef int slot = <int>(task - self.engine.tasks)
        cdef uint32_t itt = task.itt
        task.evicting = True
        while self.receiving_slot == slot:
            swd_cond_wait(&self.moved, &self.lock, SLICE)
        task.evicting = False
        if self.engine.find(itt) != task:
            return
        # Its last byte may have come while we waited for the reader.
        if task.waiter == NULL and task.claimable:
            self.engine.release(task)
        elif task.waiter != NULL and self.has_ended(<Waiter *>task.waiter, task):
            return
        elif self.engine.detach(task) < 0:
            self.die(OK, 0)

    cdef Task *adopt(self, Waiter *me, uint32_t itt) noexcept nogil:
        """Makes a submitted task the waiter's. NULL if it is gone, or if somebody else waits for it."""
        cdef Task *task = self.engine.find(itt)
        if task == NULL or task.waiter != NULL:
            return NULL
        task.waiter = me
        if task.claimable:
            task.claimable = False
            task.next = NULL
            me.done = task
        else:
            me.pending = 1
        return task

    cdef void give_back(self, Waiter *me, Task *task) noexcept nogil:
        """The wait for an adopted task breaks off: it goes on alone, or keeps its outcome for the next who waits."""
        if me.done != NULL:
            me.done = NULL
            task.claimable = True
            task.waiter = NULL
        elif me.pending:
            me.pending = 0
            task.waiter = NULL

    cdef void drop(self, uint32_t itt) noexcept nogil:
        """Lets go of a submitted task, and sends away the thread that waits for it, unless that has its end already."""
        cdef Task *task = self.engine.find(itt)
        cdef Waiter *waiter
        if task == NULL:
            return
        waiter = <Waiter *>task.waiter
        if waiter != NULL:
            if self.has_ended(waiter, task):
                return
            waiter.pending = 0
            task.waiter = NULL
            pthread_cond_signal(&waiter.cond)
        self.let_go(task)

    cdef int wait(self, Waiter *me, double now, double deadline) noexcept nogil:
        """Turns until all of the waiter's tasks have ended, or something wants the GIL."""
        cdef double look_at = now + SLICE
        while me.pending:
            if self.is_dead_for(me):
                return DEAD
            if now >= deadline or now >= look_at or self.wants_look():
                return LOOK
            if not self.turn(me, now, deadline - now):
                return LOOK if me.pending else COMPLETE
            if me.pending:  # a clock that nobody reads is a tenth of a short command's own costs
                now = swd_now()
        return COMPLETE

    cdef bint is_dead_for(self, Waiter *me) noexcept nogil:
        return self.engine.fault_code != OK and (me.ahead or not self.engine.recovering)

    cdef bint wants_look(self) noexcept nogil:
        return (
            self.engine.event_count != 0
            or (self.engine.recovering and not self.told_down)
            or self.engine.tape.used > self.engine.tape.size // 2
        )

    cdef Task *begin(self, Waiter *me, Request *request, double now) noexcept nogil:
        cdef Task *task
        if request.bhs != NULL:
            task = self.engine.start_control(
                request.bhs, request.out_buf, request.out_len, request.answer, request.itt, request.timeout, now
            )
        else:
            task = self.engine.start(
                request.lun, request.cdb, request.out_buf, request.out_len, request.in_buf, request.in_len,
                request.timeout, now,
            )
        if task != NULL and request.ahead:
            self.engine.go_ahead(task)
        if task != NULL and me != NULL:
            task.waiter = me
            me.pending = 1
        return task

    cdef int attempt(self, Waiter *me, Request *request, Task **task, double now) noexcept nogil:
        """Begins if there is a free slot, waits, and reports."""
        me.ahead = request.ahead or request.bhs != NULL  # a ping or a logout means this connection, not the next
        if task[0] == NULL:
            task[0] = self.begin(me, request, now)
        if self.is_dead_for(me):
            return DEAD
        if task[0] == NULL:
            self.engine.slot_waits += 1
            self.turn(me, now, SEND_SLICE)  # all slots are taken: others must end first
            return LOOK
        return self.wait(me, now, task[0].deadline)

    # ---- with the GIL, without the lock ----------------------------------------------------------------------------

    cdef int check(self) except -1:
        """Raises if the pump cannot be used: the parent process's, closed, or dead."""
        if self.born != swd_fork_generation():
            raise BadDescriptor("opened before fork: the session is the parent process's; open it again in this one")
        if self.closing:
            raise BadDescriptor("the session is closed")
        if self.engine.fault_code != OK and not self.engine.recovering:
            raise self.engine.death()
        return 0

    cdef int see_to_loss(self) except -1:
        """Tells of a lost link, once."""
        cdef bint mine
        with nogil:
            pthread_mutex_lock(&self.lock)
            mine = self.engine.recovering and not self.told_down
            self.told_down = True
            pthread_mutex_unlock(&self.lock)
        if mine:
            self.on_down()
        return 0

    cdef int look(self, double deadline, double timeout, uint32_t itt) except -1:
        """Signals, events, deadline: what a waiting thread has to see to now and then."""
        PyErr_CheckSignals()
        if self.engine.event_count:
            self.see_to_events()
        if self.engine.recovering and not self.told_down:
            self.see_to_loss()
        if self.engine.tape.used > self.engine.tape.size // 2:
            self.on_tape()
        cdef double now = swd_now()
        if now >= deadline and self.engine.fault_code == OK:
            self.engine.timeouts += 1
            error = DeadlineExceeded(self.overdue(itt, timeout, now))
            error.tags = () if itt == NO_TAG else (itt,)
            error.epoch = self.epoch
            raise error
        return 0

    cdef str overdue(self, uint32_t itt, double timeout, double now):
        """What is said of a command past its deadline."""
        cdef Task *task
        cdef bint progressed = False
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = self.engine.find(itt)
            if task != NULL:
                progressed = task.state == ACTIVE and task.control == 0 and task.deadline >= task.limit
            pthread_mutex_unlock(&self.lock)
        if progressed:
            return f"not complete after {4 * timeout:g} s, four times its deadline, though its data went on"
        return f"no answer within {timeout:g} s"

    cdef int see_to_events(self) except -1:
        cdef EventNode *node
        with nogil:
            pthread_mutex_lock(&self.lock)
            node = self.engine.steal_events()
            pthread_mutex_unlock(&self.lock)
        for event in events_of(node):
            if self.on_event is not None:
                self.on_event(event)
        return 0

    cdef object run(self, Request *request):
        """Runs one request to its end. None if it ended plainly GOOD, else its Completion or, of a control PDU, the
        answer.
        """
        cdef Waiter me
        cdef Task *task = NULL
        cdef int ended
        cdef bint left = False
        cdef double now = swd_now()
        cdef double give_up = now + request.timeout
        self.check()
        with nogil:
            pthread_mutex_lock(&self.lock)
            self.join(&me)
            ended = self.attempt(&me, request, &task, now)
            if ended == COMPLETE and task.plain:
                self.leave(&me)
                left = True
            pthread_mutex_unlock(&self.lock)
        if left:
            return None
        try:
            while ended == LOOK:
                if task != NULL:
                    self.look(task.deadline, request.timeout, task.itt)
                elif self.engine.recovering or self.engine.held:
                    give_up = swd_now() + request.timeout  # a lost link is no time of the command's
                    self.look(give_up, request.timeout, NO_TAG)
                else:
                    self.look(give_up, request.timeout, NO_TAG)
                with nogil:
                    pthread_mutex_lock(&self.lock)
                    ended = self.attempt(&me, request, &task, swd_now())
                    pthread_mutex_unlock(&self.lock)
            if ended == DEAD:
                raise self.engine.death()
            return None if task.plain else raised(self.engine.completion(task))
        finally:
            with nogil:
                pthread_mutex_lock(&self.lock)
                self.leave(&me)
                pthread_mutex_unlock(&self.lock)

    def command(
        self, uint64_t lun, bytes cdb, data_out=None, data_in=None, double timeout=30.0, *, bint ahead=False
    ):
        """Runs one SCSI command. `lun` is the SAM field, `data_in` a writable buffer, `timeout` in seconds from when
        it is sent.

        None if it ended GOOD, complete and without residual; else its Completion. Raises DeadlineExceeded (its tag in
        `.tags`: the target may still work on it, the buffers are free), or what killed the connection.
        """
        cdef Request request
        cdef Py_buffer view
        if data_out is not None and data_in is not None:
            raise InvalidArgument("a command moves data one way")
        fill_request(&request, lun, cdb, timeout)
        request.ahead = ahead
        if data_out is None and data_in is None:
            return self.run(&request)
        pin(&request, &view, data_out, data_in)
        try:
            return self.run(&request)
        finally:
            PyBuffer_Release(&view)

    def blocks(self, bint write, uint64_t lun, uint64_t lba, uint32_t blocks, buffer, double timeout=30.0):
        """Reads blocks into a writable buffer, or writes them from one. As `command`."""
        cdef Request request
        cdef Py_buffer view
        memset(&request, 0, sizeof(Request))
        put64(request.lun, lun)
        read_or_write(request.cdb, write, lba, blocks)
        request.timeout = timeout
        pin(&request, &view, buffer if write else None, None if write else buffer)
        try:
            return self.run(&request)
        finally:
            PyBuffer_Release(&view)

    def control(self, bytes bhs, bytes data=b"", *, int answer, uint32_t itt=NO_TAG, double timeout=30.0):
        """Sends any other PDU, tag and numbers filled in here, and waits for the PDU of opcode `answer`: an Event."""
        cdef Request request
        if len(bhs) != 48:
            raise ValueError("a header is 48 bytes")
        memset(&request, 0, sizeof(Request))
        request.bhs = <const uint8_t *>bhs
        request.out_buf = <const uint8_t *>data
        request.out_len = <uint32_t>len(data)
        request.answer = answer
        request.itt = itt
        request.timeout = timeout
        return self.run(&request)

    def begin_control(self, bytes bhs not None, *, int answer, double timeout=30.0):
        """As `control`, without data and without waiting: the ITT for `claim`, or None if no slot is free."""
        cdef Request request
        cdef Task *task
        cdef uint32_t itt = NO_TAG
        if len(bhs) != 48:
            raise ValueError("a header is 48 bytes")
        self.check()
        memset(&request, 0, sizeof(Request))
        request.bhs = <const uint8_t *>bhs
        request.answer = answer
        request.itt = NO_TAG
        request.timeout = timeout
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = self.begin(NULL, &request, swd_now())
            if task != NULL:
                itt = task.itt
                self.users += 1
                self.flush(swd_now())
                self.part()
            pthread_mutex_unlock(&self.lock)
        return None if itt == NO_TAG else itt

    def claim(self, uint32_t itt):
        """Whether what `begin_control` began has ended; if so, it is over. A tag that a loss has swept away has
        ended.
        """
        cdef Task *task
        cdef bint ended = True
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = self.engine.find(itt)
            if task != NULL and task.claimable:
                self.engine.release(task)
            elif task != NULL:
                ended = False
            pthread_mutex_unlock(&self.lock)
        return ended

    def submit(self, uint64_t lun, bytes cdb, data_out=None, data_in=None, double timeout=30.0):
        """Queues a SCSI command and sends what the socket takes; returns its Command, which pins the buffer."""
        return Command(self, lun, cdb, data_out, data_in, timeout)

    # ---- batches -----------------------------------------------------------------------------------------------

    cdef void harvest(self, Waiter *me, Batch *batch) noexcept nogil:
        cdef Task *task
        while me.done != NULL:
            task = me.done
            me.done = task.next
            if task.plain:
                self.engine.release(task)
            else:
                task.waiter = NULL
                task.next = batch.odd
                batch.odd = task
                batch.odd_count += 1

    cdef void refill(self, Waiter *me, Batch *batch, double now) noexcept nogil:
        cdef uint8_t cdb[16]
        cdef uint8_t *place
        cdef Task *task
        while batch.next < batch.count and me.pending < batch.queue_depth:
            read_or_write(cdb, batch.write, <uint64_t>batch.lbas[batch.next], batch.blocks)
            place = batch.buffer + batch.next * batch.size
            if batch.write:
                task = self.engine.start(batch.lun, cdb, place, batch.size, NULL, 0, batch.timeout, now)
            else:
                task = self.engine.start(batch.lun, cdb, NULL, 0, place, batch.size, batch.timeout, now)
            if task == NULL:
                return
            task.waiter = me
            task.tag = batch.next
            batch.next += 1
            me.pending += 1

    cdef uint32_t worth_waiting_for(self, Waiter *me, Batch *batch) noexcept nogil:
        """The bytes that one receive of this batch should bring: those of half of the answers that are due, where the
        target sends them one by one; 0 for any.

        Only while nobody else is on this session, whose answer would wait with ours, and where no R2T is due.
        """
        cdef uint64_t answer = BHS if batch.write else BHS + batch.size
        me.drip = <uint32_t>min(answer * (me.pending // 8 + 1), MOST_LOW_WATER // 2)
        if self.drips < DRIPS or not self.coalesces or me.pending < 4:
            return 0
        if self.waiters != me or me.next != NULL or (batch.write and batch.size > self.engine.unsolicited_most()):
            return 0
        return <uint32_t>min(answer * (me.pending // 2), MOST_LOW_WATER)

    cdef int run_batch(self, Waiter *me, Batch *batch) noexcept nogil:
        """Keeps the queue full until all I/Os have ended, or something wants the GIL."""
        cdef int ended = self.keep_full(me, batch)
        me.low_water = 0
        if self.low_water != 1 and not self.reading and self.fd >= 0:
            self.set_low_water(1)
        return ended

    cdef int keep_full(self, Waiter *me, Batch *batch) noexcept nogil:
        cdef double now = swd_now()
        cdef double look_at = now + SLICE
        while True:
            self.harvest(me, batch)
            if batch.next == batch.count and me.pending == 0:
                return COMPLETE
            if self.is_dead_for(me):
                return DEAD
            if self.wants_look() or batch.odd_count >= ODD_LIMIT or now >= look_at:
                return LOOK
            if me.pending <= me.low:
                self.refill(me, batch, now)
            if batch.next == batch.count:
                me.low = 0
            me.low_water = self.worth_waiting_for(me, batch)
            if not self.turn(me, now, SLICE):
                return LOOK
            now = swd_now()

    cdef double first_deadline(self, Waiter *me, uint32_t *itt) noexcept nogil:
        cdef int slot
        cdef double first = swd_now() + 1
        for slot in range(self.engine.slots):
            if self.engine.tasks[slot].waiter == <void *>me and self.engine.tasks[slot].state not in (FREE, DONE):
                if self.engine.tasks[slot].deadline < first:
                    first = self.engine.tasks[slot].deadline
                    itt[0] = self.engine.tasks[slot].itt
        return first

    cdef tuple tags_of(self, Waiter *me):
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

    cdef list odd_ones(self, Batch *batch):
        """The (index, Completion) of I/Os that did not end plainly GOOD; they stay in the list until `drop_odd`."""
        cdef Task *task = batch.odd
        found = []
        while task != NULL:
            found.append((task.tag, self.engine.completion(task)))
            task = task.next
        return found

    cdef void drop_odd(self, Batch *batch) noexcept nogil:
        cdef Task *task
        while batch.odd != NULL:
            task = batch.odd
            batch.odd = task.next
            self.engine.release(task)
        batch.odd_count = 0

    def batch(
        self, bint write, uint64_t lun, lbas, uint32_t blocks, buffer, *, int queue_depth=32, double timeout=30.0
    ):
        """Many I/Os of `blocks` blocks each, `queue_depth` of them open at once, in one call without Python in between.

        `lbas` is a C-contiguous int64 buffer of n starting blocks; I/O i uses the i-th n-th of `buffer`. Returns a
        list of (i, Completion) of those that did not end plainly GOOD. Raises as `command`; all buffers are free then.
        """
        cdef const int64_t[::1] starts = lbas
        cdef Py_buffer view
        cdef Batch batch
        if starts.shape[0] == 0:
            return []
        if queue_depth < 1:
            raise InvalidArgument("queue_depth is at least 1")
        self.check()
        memset(&batch, 0, sizeof(Batch))
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE if write else PyBUF_WRITABLE)
        try:
            if view.len % starts.shape[0] or view.len // starts.shape[0] > 0xFFFFFFFF or view.len == 0:
                raise InvalidArgument(f"{view.len} bytes cannot be shared by {starts.shape[0]} I/Os")
            batch.write = write
            put64(batch.lun, lun)
            batch.lbas = &starts[0]
            batch.buffer = <uint8_t *>view.buf
            batch.count = starts.shape[0]
            batch.blocks = blocks
            batch.size = <uint32_t>(view.len // starts.shape[0])
            batch.queue_depth = min(queue_depth, self.engine.slots)
            batch.timeout = timeout
            return self.pump_batch(&batch)
        finally:
            PyBuffer_Release(&view)

    cdef list pump_batch(self, Batch *batch):
        cdef Waiter me
        cdef int ended
        cdef double deadline
        cdef uint32_t itt = NO_TAG
        odd = []
        with nogil:
            pthread_mutex_lock(&self.lock)
            self.join(&me)
            me.low = batch.queue_depth // 2 if batch.size >= self.half_refill else batch.queue_depth - 1
            ended = self.run_batch(&me, batch)
            pthread_mutex_unlock(&self.lock)
        try:
            while ended == LOOK:
                odd += self.odd_ones(batch)
                with nogil:
                    pthread_mutex_lock(&self.lock)
                    self.drop_odd(batch)
                    deadline = self.first_deadline(&me, &itt)
                    pthread_mutex_unlock(&self.lock)
                self.look(deadline, batch.timeout, itt)
                with nogil:
                    pthread_mutex_lock(&self.lock)
                    ended = self.run_batch(&me, batch)
                    pthread_mutex_unlock(&self.lock)
            if ended == DEAD:
                raise self.engine.death()
            return odd + self.odd_ones(batch)
        except DeadlineExceeded as error:
            error.tags = self.tags_of(&me)
            raise
        finally:
            with nogil:
                pthread_mutex_lock(&self.lock)
                self.drop_odd(batch)
                self.leave(&me)
                pthread_mutex_unlock(&self.lock)

    # ---- the rest ----------------------------------------------------------------------------------------------

    def service(self):
        """Looks in without waiting: sends what waits, takes what has come, unless another thread is at it. For the
        keeper.
        """
        self.check()
        with nogil:
            pthread_mutex_lock(&self.lock)
            self.users += 1
            if not self.reading and self.engine.fault_code == OK:
                self.receive(NULL, 0)
                self.flush(swd_now())
                self.pass_role()
            self.part()
            pthread_mutex_unlock(&self.lock)
        if self.engine.event_count:
            self.see_to_events()
        if self.engine.recovering and not self.told_down:
            self.see_to_loss()

    def restart(self, negotiated, int fd, order, losses, *, bint one_by_one):
        """Takes over the connection that replaces the lost one. `order`: ITTs to send again, in that order; `losses`:
        ITT to the error of each that is not. Nothing but commands that go `ahead` is sent until `resume`.
        """
        cdef Agreed agreed = agreed_from(negotiated)
        cdef uint32_t tags[MAX_SLOTS]
        cdef int count = 0
        cdef bint closed = False
        for itt in order:
            tags[count] = itt
            count += 1
        self.engine.losses.update(losses)
        with nogil:
            pthread_mutex_lock(&self.lock)
            while self.reading:
                swd_cond_wait(&self.moved, &self.lock, SLICE)
            if self.closing or self.fd < 0:
                closed = True
                close(fd)
            else:
                close(self.fd)
                self.fd = fd
                swd_set_receive_slice(fd, SLICE)
                self.epoch += 1
                self.engine.begin_again(&agreed, tags, count, one_by_one)
                self.told_down = False
                self.blocked = False
                self.low_water = 1
                self.drips = 0
                self.distribute()
                self.wake_all()
            pthread_mutex_unlock(&self.lock)
        if closed:
            raise BadDescriptor("the session is closed")

    def reset(self):
        """Ends the lost connection for its target as well: RST in place of FIN (RFC 9293 3.5.2), and nothing that waits
        to be sent goes out any more. Only while the link is down.
        """
        with nogil:
            pthread_mutex_lock(&self.lock)
            if self.engine.recovering and self.fd >= 0:
                swd_reset(self.fd)
            pthread_mutex_unlock(&self.lock)

    def resume(self):
        """All is as it was: replay, then new commands."""
        with nogil:
            pthread_mutex_lock(&self.lock)
            self.engine.let_loose(swd_now())
            self.flush(swd_now())
            self.wake_all()
            pthread_mutex_unlock(&self.lock)

    def bar(self, dict units not None):
        """Nothing is sent to these units any more: LUN (SAM field) to the error that their commands get. Takes the
        place of the dict before.
        """
        cdef uint8_t *barred = self.engine.list_barred(units)
        cdef int count = <int>len(units)
        with nogil:
            pthread_mutex_lock(&self.lock)
            barred = self.engine.bar(barred, count)
            pthread_mutex_unlock(&self.lock)
        free(barred)

    def give_up(self, error not None):
        """The link does not come back: everybody who waits gets `error`, and so does whoever comes later."""
        self.engine.told = error
        with nogil:
            pthread_mutex_lock(&self.lock)
            if not self.closing:
                self.engine.recovering = False
                self.engine.fault_code = TOLD
                self.wake_all()
            pthread_mutex_unlock(&self.lock)

    def cut(self, reason not None, unsigned epoch):
        """Cuts the link for a reason that Python found, as if it had been lost: recovery follows, where there is one.

        Only the connection of that `epoch` is meant; one that has replaced it stays.
        """
        if self.born != swd_fork_generation() or epoch != self.epoch or self.engine.fault_code != OK:
            return
        self.engine.told = reason
        with nogil:
            pthread_mutex_lock(&self.lock)
            if not self.closing and epoch == self.epoch and self.engine.fault_code == OK:
                self.die(DROPPED, 0)
            pthread_mutex_unlock(&self.lock)

    def fail(self, error not None):
        """Ends the connection for a reason that Python found; the first reason counts."""
        if self.born != swd_fork_generation():
            return
        if self.engine.fault_code == OK:
            self.engine.told = error
        with nogil:
            pthread_mutex_lock(&self.lock)
            if not self.closing:
                self.die(TOLD, 0)
            pthread_mutex_unlock(&self.lock)

    def forget(self, uint32_t itt):
        """The target has confirmed that the task is gone: its tag and slot are free again."""
        cdef Task *task
        if self.born != swd_fork_generation():
            return
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = self.engine.find(itt)
            if task != NULL and task.detached and task.state == ACTIVE:
                self.engine.end(task)
            pthread_mutex_unlock(&self.lock)

    def cmd_sn_of(self, uint32_t itt):
        """CmdSN of an open task, for RefCmdSN (RFC 7143 11.5.5); 0 if there is none of that tag."""
        cdef Task *task
        cdef uint32_t cmd_sn = 0
        if self.born != swd_fork_generation():
            return 0
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = self.engine.find(itt)
            if task != NULL:
                cmd_sn = task.cmd_sn
            pthread_mutex_unlock(&self.lock)
        return cmd_sn

    def close(self):
        """Closes the socket, once the last thread is out of it; those that wait get BadDescriptor. A forked child
        only closes.
        """
        if self.born != swd_fork_generation():
            if self.fd >= 0:
                close(self.fd)
                self.fd = -1
            return
        with nogil:
            pthread_mutex_lock(&self.lock)
            if not self.closing:
                self.closing = True
                self.engine.recovering = False
                self.engine.fault_code = CLOSED
                self.users += 1
                self.die(CLOSED, 0)
                self.part()
            pthread_mutex_unlock(&self.lock)

    # ---- for those who look in -------------------------------------------------------------------------------------

    def last_headers(self):
        """The last 64 headers of both directions, oldest first: ("in" or "out", monotonic seconds, 48 bytes)."""
        cdef swd_heads heads
        with nogil:
            pthread_mutex_lock(&self.lock)
            heads = self.engine.heads
            pthread_mutex_unlock(&self.lock)
        return headers_of(&heads)

    def latencies(self):
        """(SAM field or None: further units, "none", "read" or "write") -> (count, sum in us, 32 log2 buckets): from
        queueing a command to its status.
        """
        cdef swd_latencies latencies
        with nogil:
            pthread_mutex_lock(&self.lock)
            latencies = self.engine.latencies
            pthread_mutex_unlock(&self.lock)
        return latencies_of(&latencies)

    def faults(self):
        """Fault code (a key of `_engine.FAULTS`) to how often it ended a connection."""
        return self.engine.faults_seen()

    def begin_tape(self, on_tape not None, size_t size=8388608):
        """From the next PDU of each direction on, the bytes are kept for `take_tape`, at most `size` of them;
        `on_tape` is called by a thread that waits when half of that is taken.
        """
        cdef uint8_t *fresh = <uint8_t *>malloc(size)
        if fresh == NULL:
            raise MemoryError
        self.on_tape = on_tape
        with nogil:
            pthread_mutex_lock(&self.lock)
            if self.engine.tape.bytes == NULL:
                self.engine.begin_tape(fresh, size)
                fresh = NULL
            pthread_mutex_unlock(&self.lock)
        free(fresh)

    def take_tape(self, *, bint last=False):
        """The records since the last call, and how many bytes found no room. `last`: the tape is taken out. A record
        is struct "=dQIHH" (monotonic seconds, offset in its direction, length, 1 if sent, connection) and its bytes.
        """
        cdef uint8_t *fresh = NULL
        cdef uint8_t *full
        cdef size_t used
        cdef uint64_t lost
        if not last:
            fresh = <uint8_t *>malloc(self.engine.tape.size)
            if fresh == NULL:
                raise MemoryError
        with nogil:
            pthread_mutex_lock(&self.lock)
            full = self.engine.tape.bytes
            used = self.engine.tape.used
            lost = self.engine.tape.lost
            self.engine.tape.used = self.engine.tape.lost = 0
            if full != NULL:
                self.engine.tape.bytes = fresh
                fresh = NULL
            pthread_mutex_unlock(&self.lock)
        try:
            return PyBytes_FromStringAndSize(<char *>full, used) if used else b"", lost
        finally:
            free(full)
            free(fresh)

    @property
    def alive(self):
        """Usable, at once or when a lost link has come back."""
        usable = self.engine.fault_code == OK or self.engine.recovering
        return usable and not self.closing and self.born == swd_fork_generation()

    @property
    def down(self):
        """The link is lost and has not come back."""
        return bool(self.engine.recovering)

    @property
    def fault(self):
        """The exception that ended the connection, or None."""
        return self.engine.death()

    def fileno(self):
        return self.fd

    def leftover(self):
        """What is open, as the second hand-over wants it."""
        return self.engine.leftover()

    def statistics(self):
        """The engine's counters, and system calls: `sends`, `receives`."""
        counters = self.engine.statistics()
        counters["sends"] = self.sends
        counters["receives"] = self.receives
        return counters


cdef object raised(outcome):
    """An outcome that is an error is raised: the command was lost with its connection."""
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


cdef int fill_request(Request *request, uint64_t lun, bytes cdb, double timeout) except -1:
    if not 1 <= len(cdb) <= 16:
        raise InvalidArgument(f"a CDB has 1 to 16 bytes, not {len(cdb)}")
    memset(request, 0, sizeof(Request))
    put64(request.lun, lun)
    memcpy(request.cdb, <const uint8_t *>cdb, len(cdb))
    request.timeout = timeout
    return 0


cdef int pin(Request *request, Py_buffer *view, data_out, data_in) except -1:
    """Exports the one buffer of a command; the caller releases it."""
    cdef bint write = data_in is None
    PyObject_GetBuffer(data_out if write else data_in, view, PyBUF_SIMPLE if write else PyBUF_WRITABLE)
    if view.len >> 32:
        PyBuffer_Release(view)
        raise InvalidArgument("one command moves less than 4 GiB")
    if write:
        request.out_buf = <const uint8_t *>view.buf
        request.out_len = <uint32_t>view.len
    else:
        request.in_buf = <uint8_t *>view.buf
        request.in_len = <uint32_t>view.len
    return 0


@cython.no_gc_clear  # __dealloc__ needs the pump: the engine must not keep a pointer into a buffer that is let go
cdef class Command:
    """A submitted SCSI command: `wait` for its end, or `cancel` it. Its buffer stays pinned until then.

    One thread may wait for it at a time; any may cancel it, and the one that waits then gets InvalidArgument, as does
    every later `wait`.
    """

    cdef Pump pump
    cdef readonly uint32_t itt
    cdef Py_buffer view
    cdef bint pinned
    cdef readonly bint ended
    cdef bint cancelled
    cdef object outcome

    def __cinit__(self, Pump pump not None, uint64_t lun, bytes cdb not None, data_out, data_in, double timeout):
        cdef Request request
        cdef Task *task
        self.pump = pump
        pump.check()
        if data_out is not None and data_in is not None:
            raise InvalidArgument("a command moves data one way")
        fill_request(&request, lun, cdb, timeout)
        if data_out is not None or data_in is not None:
            pin(&request, &self.view, data_out, data_in)
            self.pinned = True
        with nogil:
            pthread_mutex_lock(&pump.lock)
            task = pump.begin(NULL, &request, swd_now())
            if task != NULL:
                self.itt = task.itt
                pump.users += 1
                pump.flush(swd_now())
                pump.part()
            pthread_mutex_unlock(&pump.lock)
        if task == NULL:
            self.ended = True
            raise pump.engine.death() or BlockingIOError(EAGAIN, "too many commands are open on this session")

    def wait(self, timeout=None):
        """As `Pump.command`, for a command that is under way; TimeoutError if it has not ended after `timeout`
        seconds.
        """
        cdef Waiter me
        cdef Task *task
        cdef bint taken = False
        cdef Pump pump = self.pump
        if self.ended:
            return self.result()
        pump.check()
        with nogil:
            pthread_mutex_lock(&pump.lock)
            pump.join(&me)
            task = pump.adopt(&me, self.itt)
            pthread_mutex_unlock(&pump.lock)
        try:
            if task == NULL and self.ended:
                return self.result()  # it ended while we waited for the lock
            if task == NULL:
                raise InvalidArgument("another thread waits for this command")
            self.wait_for(&me, task, timeout)
            if me.done == NULL:
                return self.result()  # cancelled meanwhile
            self.outcome = None if task.plain else pump.engine.completion(task)
            taken = True
            self.unpin()
            return raised(self.outcome)
        finally:
            with nogil:
                pthread_mutex_lock(&pump.lock)
                if not taken:
                    pump.give_back(&me, task)
                pump.leave(&me)
                pthread_mutex_unlock(&pump.lock)

    cdef int wait_for(self, Waiter *me, Task *task, timeout) except -1:
        """Until the task has ended (it is in `me.done`), or was cancelled (it is not, and must not be touched)."""
        cdef Pump pump = self.pump
        cdef double until = swd_now() + (1e9 if timeout is None else <double>timeout)
        cdef double deadline
        cdef double allowed = task.timeout
        cdef int ended = LOOK
        while ended == LOOK:
            with nogil:
                pthread_mutex_lock(&pump.lock)
                deadline = task.deadline
                ended = pump.wait(me, swd_now(), min(until, deadline))
                if me.pending:
                    deadline = task.deadline  # it may have been sent meanwhile
                pthread_mutex_unlock(&pump.lock)
            if ended == LOOK:
                pump.look(deadline, allowed, self.itt)
                if swd_now() >= until:
                    raise TimeoutError(f"the command has not ended after {timeout} s")
        if ended == DEAD:
            raise pump.engine.death()
        return 0

    cdef object result(self):
        if self.cancelled:
            raise InvalidArgument("the command was cancelled: it has no outcome")
        return raised(self.outcome)

    def cancel(self):
        """Nobody wants the outcome: the buffer is free on return. The target is not told; `Session.abort` does that."""
        if self.ended:
            return
        self.cancelled = True
        self.drop()
        self.unpin()

    cdef void drop(self):
        cdef Pump pump = self.pump
        if pump.born == swd_fork_generation():
            with nogil:
                pthread_mutex_lock(&pump.lock)
                pump.drop(self.itt)
                pthread_mutex_unlock(&pump.lock)

    cdef void unpin(self):
        self.ended = True
        if self.pinned:
            PyBuffer_Release(&self.view)
            self.pinned = False

    def __dealloc__(self):
        if not self.ended and self.pump is not None:
            self.drop()
        if self.pinned:
            PyBuffer_Release(&self.view)
