# SPDX-License-Identifier: Apache-2.0
"""What a task waits for: a future in all that asyncio's tasks, `wait_for` and `gather` ask of one, made for many that
end in one turn of the loop. A part of `_asyncqueue.pyx`.

A future of asyncio has the loop make a handle for whoever waits, and run that in its next turn: under asyncio's own
loop half of the instructions of a 4 KiB read. `AsyncQueue.poll` runs in a handle of the loop already, so it calls them
itself, one after another, each in its own context: `wake_all`. What ends otherwise goes the loop's way (`call_soon`).
"""


cdef object TASK = None     # asyncio.Task, as soon as there is a queue: `import swd` is to be quick without asyncio


@cython.freelist(256)
cdef class Awaited:
    @cython.binding(False)
    def get_loop(self):
        return self.loop

    def done(self):
        return self.ending != AWAITED

    def cancelled(self):
        return self.ending == CANCELLED

    @cython.binding(False)
    def result(self):
        if self.ending == FINISHED:
            return self.outcome
        if self.ending == FAILED:
            raise self.outcome
        from asyncio import CancelledError, InvalidStateError

        if self.ending == CANCELLED:
            raise CancelledError() if self.outcome is None else CancelledError(self.outcome)
        raise InvalidStateError("the answer has not come")

    def exception(self):
        if self.ending == FAILED:
            return self.outcome
        self.result()
        return None

    @cython.binding(False)
    def add_done_callback(self, callback, *, context=None):
        if context is None:
            context = copy_context()
        if self.ending != AWAITED:
            self.loop.call_soon(callback, self, context=context)
        elif self.callback is None:
            self.callback = callback
            self.context = context
        else:
            if self.more is None:
                self.more = []
            self.more.append((callback, context))

    def remove_done_callback(self, callback):
        """How many there were."""
        kept = [one for one in self.callbacks() if one[0] != callback]
        removed = len(self.callbacks()) - len(kept)
        self.callback, self.context = kept[0] if kept else (None, None)
        self.more = kept[1:] or None
        return removed

    def cancel(self, msg=None):
        return self.end(CANCELLED, msg)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self.ending == AWAITED:
            self._asyncio_future_blocking = True
            return self
        raise StopIteration(self.result())

    cdef list callbacks(self):
        return ([] if self.callback is None else [(self.callback, self.context)]) + (self.more or [])

    cdef bint end(self, Ending ending, outcome) except -1:
        """False if it has ended already."""
        if self.ending != AWAITED:
            return False
        self.ending = ending
        self.outcome = outcome
        self.hand_over()
        return True

    cdef int hand_over(self) except -1:
        """To the loop, who waits for it."""
        found = self.callbacks()
        self.callback = self.context = self.more = None
        for callback, context in found:
            self.loop.call_soon(callback, self, context=context)
        return 0

    cdef int wake(self, done) except -1:
        """Calls who waits for it, in a handle of the loop. As there, only what ends the loop is raised.

        A task asks what wakes it for its result, and throws that away: of a future of asyncio it does so in C, of any
        other by a name that it makes a string of. So it is given `done`, a future of asyncio that has ended well.
        """
        callback, context = self.callback, self.context
        if callback is None:    # one that was woken before has taken it away
            return 0
        try:
            PyContext_Enter(context)
        except RuntimeError:    # it is entered already, by somebody who waits for us to return
            self.hand_over()
            return 0
        self.callback = self.context = None
        try:
            if self.more is not None:
                self.hand_over()
            callback(done if is_task(callback) else self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.loop.call_exception_handler(
                {"message": f"Exception in callback {callback!r}", "exception": error, "future": self})
        finally:
            PyContext_Exit(context)
        return 0


cdef bint is_task(callback):
    """Whether this is what a task of asyncio's in C gives to be woken by."""
    return PyCFunction_Check(callback) and type(<object>PyCFunction_GetSelf(callback)) is TASK


cdef int wake_all(list ended, done) except -1:
    cdef Awaited one
    cdef Py_ssize_t at = 0
    try:
        while at < len(ended):
            one = ended[at]
            at += 1
            one.wake(done)
    except BaseException:   # the loop ends; it may be run again
        while at < len(ended):
            one = ended[at]
            at += 1
            one.hand_over()
        raise
    return 0
