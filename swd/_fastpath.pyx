# SPDX-License-Identifier: Apache-2.0
"""The pump: an engine, a descriptor, and the threads that wait on them.

Who runs it. The caller that waits does. One thread at a time has the *reader role*: it receives outside the lock and
feeds the engine under it. Other waiters sleep on a condition of their own until their command has ended or the role is
free; a thread that is done hands the role on. A blocking read on a quiet session is two system calls: its send and its
receive.

The lock guards the engine and everything in `Pump`. It is never held in a wait, but is held in `sendmsg`, which does
not block. Nothing under it calls Python. Waits are cut into slices of at most `SLICE` seconds, after which the caller
looks at deadlines, pending events and signals; so Ctrl-C, close from another thread and a silent target all end in
time.

Buffers. While the reader receives straight into a caller's buffer, `receiving_slot` names the task. A caller that
gives up (Ctrl-C, deadline) first marks its task as `evicting`, waits until the reader is out of that buffer, and then
detaches it: after that the target may send what it likes, no byte of it goes there.

Loss. When the link dies and there is an `on_down`, the tasks stay: their callers sleep on, new ones queue behind them,
and `on_down` is called once, by whoever notices first. Then somebody either gives the pump a new connection
(`restart`, then `resume`) or an end (`give_up`). What has to be asked on the new connection before that goes `ahead`.

Fork. The child of a fork may only close: every other entry raises BadDescriptor, and nothing is sent.

All of it is one compiled module, whose calls are direct; the parts are included below, most of them files of functions
over a `_Core`.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from swd._engine cimport CLOSED, OK, find, release
from swd._sys cimport close, pthread_mutex_lock, pthread_mutex_unlock, swd_fork_generation, swd_now, swd_watch_forks
from swd._task cimport Task
from swd._wire cimport put64

from swd.errors import InvalidArgument

if swd_watch_forks() != 0:
    raise ImportError("pthread_atfork failed: no memory")

include "_fastpath_requests.pxi"
include "_fastpath_core.pxi"
include "_fastpath_turns.pxi"
include "_fastpath_waiters.pxi"
include "_fastpath_commands.pxi"
include "_fastpath_batches.pxi"
include "_fastpath_links.pxi"
include "_fastpath_submitted.pxi"
include "_fastpath_streams.pxi"


@cython.final
@cython.no_gc_clear  # as _Core
cdef class Pump(_Links):
    """Pump(engine, fd, on_event=None, on_down=None, *, spin=0.0, coalesce=True, half_refill=65536): takes
    over a connected, blocking stream socket; `close()` closes it.

    `on_event` is called with each Event, `on_down` with nothing when the link is lost, by whichever thread is waiting,
    without the lock. Without `on_down` a lost link is the end. `spin`: seconds that a wait polls before it sleeps,
    where another CPU feeds the socket. `coalesce`: let a receive wait for several answers of a target that sends them
    one by one and for much of a long segment, and take the answers of a batch in parts where another CPU makes them.
    `half_refill`: bytes of an I/O from which a batch refills when half of its queue is done.
    """

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
            return run(self, &request)
        pin(&request, &view, data_out, data_in)
        try:
            return run(self, &request)
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
            return run(self, &request)
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
        return run(self, &request)

    def begin_control(self, bytes bhs not None, *, int answer, double timeout=30.0):
        """As `control`, without data and without waiting: the ITT for `claim`, or None if no slot is free."""
        cdef Request request
        cdef Task *task
        cdef uint32_t itt = NO_TAG
        if len(bhs) != 48:
            raise ValueError("a header is 48 bytes")
        check(self)
        memset(&request, 0, sizeof(Request))
        request.bhs = <const uint8_t *>bhs
        request.answer = answer
        request.itt = NO_TAG
        request.timeout = timeout
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = begin(self, NULL, &request, swd_now())
            if task != NULL:
                itt = task.itt
                self.users += 1
                flush(self, swd_now())
                part(self)
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
            task = find(self.engine, itt)
            if task != NULL and task.claimable:
                release(self.engine, task)
            elif task != NULL:
                ended = False
            pthread_mutex_unlock(&self.lock)
        return ended

    def submit(self, uint64_t lun, bytes cdb, data_out=None, data_in=None, double timeout=30.0):
        """Queues a SCSI command and sends what the socket takes; returns its Command, which pins the buffer."""
        return Command(self, lun, cdb, data_out, data_in, timeout)

    def batch(
        self, bint write, uint64_t lun, lbas, uint32_t blocks, buffer, *, int queue_depth=32, double timeout=30.0
    ):
        """Many I/Os of `blocks` blocks each, `queue_depth` of them open at once, in one call without Python in between.

        `lbas` is a C-contiguous int64 buffer of n starting blocks; I/O i uses the i-th n-th of `buffer`, whose parts
        may lie apart if it is written (`swd.strided`). Returns a list of (i, Completion) of those that did not end
        plainly GOOD. Raises as `command`; all buffers are free then.
        """
        cdef const int64_t[::1] starts = lbas
        cdef Py_buffer view
        cdef Batch batch
        if starts.shape[0] == 0:
            return []
        if queue_depth < 1:
            raise InvalidArgument("queue_depth is at least 1")
        check(self)
        memset(&batch, 0, sizeof(Batch))
        PyObject_GetBuffer(buffer, &view, PyBUF_STRIDES if write else PyBUF_WRITABLE)
        try:
            batch.write = write
            put64(batch.lun, lun)
            batch.lbas = &starts[0]
            batch.count = starts.shape[0]
            lay_out(&batch, &view)
            batch.blocks = blocks
            batch.queue_depth = min(queue_depth, self.engine.slots)
            batch.timeout = timeout
            return pump_batch(self, &batch)
        finally:
            PyBuffer_Release(&view)

    def stream(
        self, uint64_t lun, lbas, uint32_t blocks, uint32_t size, int queue_depth, double timeout, settle, on_error
    ):
        """Reads of `blocks` blocks, `size` bytes, at each of `lbas` (C-contiguous int64), `queue_depth` of them open at
        once: a Stream of their data, in that order. `settle` and `on_error` as there.
        """
        return Stream(self, lun, lbas, blocks, size, queue_depth, timeout, settle, on_error)

    def service(self):
        """Looks in without waiting: sends what waits, takes what has come, unless another thread is at it. For the
        keeper.
        """
        check(self)
        with nogil:
            pthread_mutex_lock(&self.lock)
            self.users += 1
            if not self.reading and self.engine.fault_code == OK:
                receive(self, NULL, 0)
                flush(self, swd_now())
                pass_role(self)
            part(self)
            pthread_mutex_unlock(&self.lock)
        if self.engine.event_count:
            see_to_events(self)
        if self.engine.recovering and not self.told_down:
            see_to_loss(self)

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
                die(self, CLOSED, 0)
                part(self)
            pthread_mutex_unlock(&self.lock)
