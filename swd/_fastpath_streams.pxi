# SPDX-License-Identifier: Apache-2.0
"""Many reads whose data is looked at one by one and then forgotten, the queue kept full in between. A part of
`_fastpath.pyx`.

No read has a buffer before the first byte of its answer comes; then it gets the one that was used last. So however
deep the queue is, a target that answers in order is read into two or three buffers, which stay in the CPU's caches.
There are as many buffers as could ever be needed at once, in memory that costs nothing until it is used.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from swd._engine cimport completion, death, release, start
from swd._sys cimport pthread_mutex_lock, pthread_mutex_unlock, swd_fork_generation, swd_now
from swd._task cimport ACTIVE, QUEUED, Spares, Task

from swd.errors import BadDescriptor, DeadlineExceeded, InvalidArgument, ProtocolViolation

cdef enum:
    NOT_YET = -1
    ODD = -2                    # ended, but not plainly GOOD
    NOBODY = -1

cdef double PAUSE = 1           # seconds between two blocks after which the target is no longer blamed for them


@cython.no_gc
cdef class Arena:
    """Memory for the blocks of a Stream, as long as anybody looks at one."""
    cdef uint8_t *bytes

    def __cinit__(self, size_t size):
        self.bytes = <uint8_t *>malloc(size)
        if self.bytes == NULL:
            raise MemoryError(f"{size} bytes for the blocks of a stream")

    def __dealloc__(self):
        free(self.bytes)


@cython.no_gc
cdef class Block:
    """One buffer of a Stream: what its memoryviews are views of."""
    cdef Arena arena
    cdef uint8_t *start
    cdef Py_ssize_t size
    cdef bint writable

    def __cinit__(self, Arena arena not None, size_t number, Py_ssize_t size, bint writable):
        self.arena = arena
        self.start = arena.bytes + number * size
        self.size = size
        self.writable = writable

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, not self.writable, flags)


@cython.no_gc_clear  # __dealloc__ needs the pump: the engine must not keep a pointer into memory that is let go
cdef class Stream:
    """An iterator of read-only memoryviews, each of which shows its block until the next is asked for.

    `settle(index, buffer, end)` is called for a read that did not end plainly GOOD, when its turn has come: it fills
    the writable buffer, or raises. `end` is a Completion, or the error of a command that was not sent again.
    `on_error` is told of a DeadlineExceeded or ProtocolViolation before it is raised. After an error the stream has
    ended. One thread at a time; another gets InvalidArgument.
    """
    cdef Pump pump
    cdef Waiter me
    cdef Spares spares
    cdef Arena arena
    cdef list views             # Blocks by number
    cdef const int64_t[::1] lbas
    cdef uint8_t lun[8]
    cdef uint32_t blocks, size
    cdef double timeout
    cdef object settle, on_error
    cdef int depth, low, width  # commands open at once; refilled when no more are open; blocks open or waiting
    cdef int64_t count, next, at
    cdef int32_t *ready         # of block i at i % width: the number of its buffer, NOT_YET or ODD
    cdef Task **odd             # and its task, if it is ODD
    cdef int32_t held           # the buffer that the caller looks at
    cdef double since           # when he got it
    cdef bint joined, busy, stopped
    cdef object __weakref__

    def __cinit__(
        self, Pump pump not None, uint64_t lun, lbas, uint32_t blocks, uint32_t size, int queue_depth, double timeout,
        settle, on_error,
    ):
        cdef int number
        check(pump)
        if queue_depth < 1 or size == 0:
            raise InvalidArgument("queue_depth and size are at least 1")
        self.pump = pump
        self.lbas = lbas
        self.count = self.lbas.shape[0]
        put64(self.lun, lun)
        self.blocks = blocks
        self.size = size
        self.timeout = timeout
        self.settle = settle
        self.on_error = on_error
        self.depth = <int>min(queue_depth, pump.engine.slots, max(self.count, 1))
        self.low = self.depth // 2 if size >= pump.half_refill else self.depth - 1
        self.width = 2 * self.depth
        self.held = NOBODY
        self.arena = Arena(<size_t>(self.width + 1) * size)
        self.views = [Block(self.arena, number, size, False) for number in range(self.width + 1)]
        self.ready = <int32_t *>calloc(self.width, sizeof(int32_t))
        self.odd = <Task **>calloc(self.width, sizeof(Task *))
        self.spares.free = <int32_t *>calloc(self.width + 1, sizeof(int32_t))
        if self.ready == NULL or self.odd == NULL or self.spares.free == NULL:
            raise MemoryError
        self.spares.base = self.arena.bytes
        self.spares.size = size
        self.spares.count = self.width + 1
        for number in range(self.width + 1):
            self.spares.free[number] = self.width - number
        for number in range(self.width):
            self.ready[number] = NOT_YET
        with nogil:
            pthread_mutex_lock(&pump.lock)
            join(pump, &self.me)
            self.me.low = 1 << 40  # it is woken at each end
            self.me.idle = True
            pthread_mutex_unlock(&pump.lock)
        self.joined = True

    def __dealloc__(self):
        if self.joined:
            self.leave()
        free(self.ready)
        free(self.odd)
        free(self.spares.free)

    def __iter__(self):
        return self

    def __next__(self):
        cdef int place = <int>(self.at % self.width)
        if self.busy:
            raise InvalidArgument("another thread is at this stream")
        if self.pump.born != swd_fork_generation():
            check(self.pump)  # before its lock, which a thread of the parent process may have had
        if self.stopped:
            self.close()
            raise BadDescriptor("the disk is closed: open it again")
        if not self.joined:
            raise StopIteration
        self.give_back()
        if self.at == self.count:
            self.close()
            raise StopIteration
        try:
            self.busy = True
            if self.ready[place] == NOT_YET:
                self.wait_for(place)
            self.held = self.ready[place] if self.ready[place] >= 0 else self.settled(place)
        except BaseException:
            self.busy = False
            self.close()
            raise
        self.busy = False
        self.ready[place] = NOT_YET
        self.at += 1
        self.since = swd_now()
        return PyMemoryView_FromObject(self.views[self.held])

    def stop(self):
        """From any thread: whoever asks for another block gets BadDescriptor."""
        self.stopped = True
        if self.joined and not self.busy:
            self.leave()

    def close(self):
        """Lets go of what is under way. The views that were given out stay what they are."""
        if self.busy:
            raise InvalidArgument("another thread is at this stream")
        if self.joined:
            self.leave()

    cdef void leave(self):
        cdef int place
        self.joined = False
        if self.pump.born != swd_fork_generation():
            return
        with nogil:
            pthread_mutex_lock(&self.pump.lock)
            for place in range(self.width):
                if self.ready[place] == ODD:
                    release(self.pump.engine, self.odd[place])
            leave(self.pump, &self.me)
            pthread_mutex_unlock(&self.pump.lock)

    cdef void give_back(self):
        """The caller has done with his block. Nobody waits for the GIL with the lock, so it may be kept here."""
        if self.held != NOBODY:
            pthread_mutex_lock(&self.pump.lock)
            self.spares.free[self.spares.count] = self.held
            self.spares.count += 1
            pthread_mutex_unlock(&self.pump.lock)
            self.held = NOBODY

    cdef int32_t settled(self, int place) except -2:
        """The buffer of a read that did not end plainly GOOD, as the policy has filled it."""
        cdef Task *task = self.odd[place]
        cdef Pump pump = self.pump
        cdef int32_t number
        end = completion(pump.engine, task)
        pthread_mutex_lock(&pump.lock)
        if task.in_buf != NULL:
            number = self.number_of(task)
        else:
            self.spares.count -= 1
            number = self.spares.free[self.spares.count]
        release(pump.engine, task)
        self.ready[place] = number
        pthread_mutex_unlock(&pump.lock)
        self.settle(self.at, PyMemoryView_FromObject(Block(self.arena, number, self.size, True)), end)
        return number

    cdef int32_t number_of(self, Task *task) noexcept nogil:
        return <int32_t>((task.in_buf - self.spares.base) // self.size)

    cdef int wait_for(self, int place) except -1:
        cdef Pump pump = self.pump
        cdef int ended
        cdef double deadline
        cdef uint32_t itt = NO_TAG
        check(pump)
        with nogil:
            pthread_mutex_lock(&pump.lock)
            forgive(pump, &self.me, self.since)
            ended = self.run(place)
            pthread_mutex_unlock(&pump.lock)
        try:
            while ended == LOOK:
                with nogil:
                    pthread_mutex_lock(&pump.lock)
                    deadline = first_deadline(pump, &self.me, &itt)
                    pthread_mutex_unlock(&pump.lock)
                look(pump, deadline, self.timeout, itt)
                with nogil:
                    pthread_mutex_lock(&pump.lock)
                    ended = self.run(place)
                    pthread_mutex_unlock(&pump.lock)
            if ended == DEAD:
                raise death(pump.engine)
        except DeadlineExceeded as error:
            error.tags = tags_of(pump, &self.me)
            self.on_error(error)
            raise
        except ProtocolViolation as error:
            self.on_error(error)
            raise
        return 0

    cdef int run(self, int place) noexcept nogil:
        """Keeps the queue full until the block at `place` has come, or something wants the GIL."""
        cdef double now = swd_now()
        cdef double look_at = now + SLICE
        cdef int ended = LOOK
        self.me.idle = False
        while True:
            self.harvest()
            if is_dead_for(self.pump, &self.me) and self.ready[place] == NOT_YET:
                ended = DEAD
                break
            if self.me.pending <= self.low:
                self.refill(now)
            if self.ready[place] != NOT_YET:
                flush(self.pump, now)  # the target works while the caller looks at what has come
                ended = COMPLETE
                break
            if wants_look(self.pump) or now >= look_at:
                break
            set_marks(self.pump, &self.me, False, self.size)
            if not turn(self.pump, &self.me, now, now + SLICE, NULL):
                break
            now = swd_now()
        self.me.idle = True
        rest(self.pump)
        pass_role(self.pump)
        return ended

    cdef void harvest(self) noexcept nogil:
        cdef Task *task
        cdef int place
        while self.me.done != NULL:
            task = self.me.done
            self.me.done = task.next
            place = <int>(task.tag % self.width)
            if task.plain:
                self.ready[place] = self.number_of(task)
                release(self.pump.engine, task)
            else:
                task.waiter = NULL
                self.odd[place] = task
                self.ready[place] = ODD

    cdef void refill(self, double now) noexcept nogil:
        cdef uint8_t cdb[16]
        cdef Task *task
        while self.next < self.count and self.me.pending < self.depth and self.next < self.at + self.width:
            read_or_write(cdb, False, <uint64_t>self.lbas[self.next], self.blocks)
            task = start(self.pump.engine, self.lun, cdb, NULL, 0, NULL, self.size, self.timeout, now)
            if task == NULL:
                return
            task.spares = &self.spares
            task.waiter = &self.me
            task.tag = self.next
            self.next += 1
            self.me.pending += 1


cdef void forgive(_Core self, Waiter *me, double since) noexcept nogil:
    """While the caller looked at a block nobody may have received: that is no time of the target's."""
    cdef double pause = swd_now() - since
    cdef Task *task
    cdef int slot
    if since == 0 or pause < PAUSE:
        return
    for slot in range(self.engine.slots):
        task = &self.engine.tasks[slot]
        if task.waiter == <void *>me and (task.state == ACTIVE or task.state == QUEUED):
            task.deadline += pause
            task.limit += pause
