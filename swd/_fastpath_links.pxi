# SPDX-License-Identifier: Apache-2.0
"""The connection under a pump changes, or ends: the Python face for the recovery of a session. A part of
`_fastpath.pyx`. Who logs in again, and what is sent again, is decided above.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free

from swd._engine cimport Agreed, DROPPED, OK, TOLD, agreed_from, bar, begin_again, end, find, let_loose, list_barred
from swd._sys cimport (
    close,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    swd_cond_wait,
    swd_fork_generation,
    swd_now,
    swd_reset,
    swd_set_receive_slice,
)
from swd._task cimport ACTIVE, MAX_SLOTS, Task

from swd.errors import BadDescriptor


@cython.no_gc_clear  # as _Core
cdef class _Links(_Core):
    """What a `Pump` is told about its connection."""

    def restart(self, negotiated, int fd, order, losses, *, bint one_by_one):
        """Takes over the connection that replaces the lost one. `order`: ITTs to send again, in that order; `losses`:
        ITT to the error of each that is not. Nothing but commands that go `ahead` is sent until `resume`.
        """
        cdef Agreed agreed = agreed_from(negotiated)
        cdef uint32_t tags[MAX_SLOTS]
        cdef int count = 0
        cdef bint closed = False
        for itt in order:
            if count == MAX_SLOTS:
                raise ValueError(f"order: more than {MAX_SLOTS} tags")
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
                begin_again(self.engine, &agreed, tags, count, one_by_one)
                self.told_down = False
                self.blocked = False
                self.low_water = 1
                self.drips = 0
                distribute(self)
                wake_all(self)
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
            let_loose(self.engine, swd_now())
            flush(self, swd_now())
            wake_all(self)
            pthread_mutex_unlock(&self.lock)

    def bar(self, dict units not None):
        """Nothing is sent to these units any more: LUN (SAM field) to the error that their commands get. Takes the
        place of the dict before.
        """
        cdef uint8_t *barred = list_barred(self.engine, units)
        cdef int count = <int>len(units)
        with nogil:
            pthread_mutex_lock(&self.lock)
            barred = bar(self.engine, barred, count)
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
                wake_all(self)
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
                die(self, DROPPED, 0)
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
                die(self, TOLD, 0)
            pthread_mutex_unlock(&self.lock)

    def forget(self, uint32_t itt):
        """The target has confirmed that the task is gone: its tag and slot are free again."""
        cdef Task *task
        if self.born != swd_fork_generation():
            return
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = find(self.engine, itt)
            if task != NULL and task.detached and task.state == ACTIVE:
                end(self.engine, task)
            pthread_mutex_unlock(&self.lock)

    def cmd_sn_of(self, uint32_t itt):
        """CmdSN of an open task, for RefCmdSN (RFC 7143 11.5.5); 0 if there is none of that tag."""
        cdef Task *task
        cdef uint32_t cmd_sn = 0
        if self.born != swd_fork_generation():
            return 0
        with nogil:
            pthread_mutex_lock(&self.lock)
            task = find(self.engine, itt)
            if task != NULL:
                cmd_sn = task.cmd_sn
            pthread_mutex_unlock(&self.lock)
        return cmd_sn
