# SPDX-License-Identifier: Apache-2.0
"""When one connection of the target receives, sends and waits: the loop that is `TargetPath.run`. A part of
`_targetpath.pyx`. It alone knows the socket, and how full the ring and the queue are; what a PDU says it may not know.

The lock is not held where the ring is received into or the socket waited for, but always where a medium is.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memmove

cdef enum:
    RING = 262144               # bytes that one receive brings at most
    HIGH_WATER = 8388608        # unsent bytes beyond which no request is taken up,
    HIGH_WATER_COPIED = 1048576  # where reads are copied: they should still be in a cache when they are sent
    EARLY = 524288              # queued bytes that are sent before the rest of what came is looked at,
    EARLY_COPIED = 131072       # where reads are copied
    LOOK = 16                   # receives after which it is asked anew where packets come in
    POLL_IN = 0x001             # Linux and macOS agree on these
    POLL_OUT = 0x004
    POLL_BAD = 0x038            # ERR, HUP, NVAL


cdef int serve(TargetPath self) noexcept nogil:
    """Until something is not ours; how that is to be told (a verdict from ODD on)."""
    cdef int code
    while True:
        pthread_mutex_lock(&self.lock)
        code = parse(self)
        if self.queue.broken:
            code = NO_MEMORY
        elif self.queue.bytes and not self.blocked and code != CHANGED:
            send(self)
            if self.why and code < ODD:
                code = BROKEN
        pthread_mutex_unlock(&self.lock)
        if code >= ODD:
            return code
        code = receive(self, code == FULL)
        if code >= ODD:
            return code


cdef void send(TargetPath self) noexcept nogil:
    """What the socket takes without waiting; under the lock."""
    cdef int done = swd_queue_send(&self.queue, self.fd)
    self.blocked = done == 0
    if done < 0:
        self.why = errno


cdef int send_all(TargetPath self) noexcept nogil:
    """Until nothing is unsent, whatever else comes: MORE, or BROKEN."""
    cdef int code = MORE
    while True:
        pthread_mutex_lock(&self.lock)
        if swd_queue_send(&self.queue, self.fd) < 0:
            self.why, code = errno, BROKEN
        pthread_mutex_unlock(&self.lock)
        if code == BROKEN or not self.queue.bytes:
            return code
        swd_wait(self.fd, False, True)


cdef int receive(TargetPath self, bint full) noexcept nogil:
    """Waits for bytes, or for room for what is unsent; MORE if it is worth looking again."""
    cdef int events = POLL_IN
    if self.queue.bytes:
        events = swd_wait(self.fd, not full, True)
        if events & (POLL_OUT | POLL_BAD):
            pthread_mutex_lock(&self.lock)
            send(self)
            pthread_mutex_unlock(&self.lock)
            if self.why:
                return BROKEN
        if not events & POLL_IN:
            return MORE
    if full:                            # what has come comes first, now that there may be room for its answers
        return MORE
    if self.left and self.dest != NULL:
        return receive_body(self)
    make_room(self)
    return took(self, receive_more(self))


cdef ssize_t receive_more(TargetPath self) noexcept nogil:
    """Into the ring; waits if nothing is unsent. Spinning pays only while the peer runs on another CPU."""
    cdef ssize_t n
    if self.spin_us and not self.queue.bytes:
        self.since_look += 1
        if self.since_look >= LOOK:
            self.since_look = 0
            self.spinning = swd_is_fed_elsewhere(self.fd)
        if self.spinning:
            n = swd_look_for(self.fd, self.ring + self.end, room(self), self.spin_us)
            if n >= 0 or (errno != EAGAIN and errno != EWOULDBLOCK):
                return n
    return swd_receive_twice(self.fd, NULL, 0, self.ring + self.end, room(self), self.queue.bytes == 0)


cdef int receive_body(TargetPath self) noexcept nogil:
    """The rest of a data segment, straight into the medium, and what comes behind it."""
    cdef ssize_t n
    cdef uint32_t part
    pthread_mutex_lock(&self.lock)
    make_room(self)
    # Not without the lock: somebody might abort the write, and be told that it is over.
    n = swd_receive_twice(
        self.fd, self.dest, self.left if self.dest != NULL else 0, self.ring + self.end, room(self), False)
    if n > 0 and self.dest != NULL:
        part = self.left if <size_t>n > self.left else <uint32_t>n
        if self.data_digest:
            self.body_crc = self.crc(self.body_crc, self.dest, part)
        self.dest += part
        self.left -= part
        self.bytes_in += part
        n -= part
        if n == 0:
            pthread_mutex_unlock(&self.lock)
            return MORE
    pthread_mutex_unlock(&self.lock)
    if n < 0 and (errno == EAGAIN or errno == EWOULDBLOCK) and not self.queue.bytes:
        swd_wait(self.fd, True, False)
        return MORE
    return took(self, n)


cdef int took(TargetPath self, ssize_t n) noexcept nogil:
    """`n` is what a receive into the ring gave."""
    if n > 0:
        self.end += <uint32_t>n
        self.bytes_in += <uint64_t>n
        return MORE
    if n == 0:
        return ENDED
    if errno == EAGAIN or errno == EWOULDBLOCK or errno == EINTR:
        return MORE
    self.why = errno
    return BROKEN


cdef void make_room(TargetPath self) noexcept nogil:
    """Move what is left of the ring to its front when less than RING bytes are free behind it."""
    if self.start == self.end:
        self.start = self.end = 0
    elif self.size_of_ring - self.end < RING:
        memmove(self.ring, self.ring + self.start, self.end - self.start)
        self.end -= self.start
        self.start = 0


cdef uint32_t room(TargetPath self) noexcept nogil:
    """How much to receive into the ring. Behind a big segment, only up to the next header, so that the next big one
    need not be copied out of the ring."""
    cdef uint32_t behind = self.size_of_ring - self.end
    if self.big and self.end - self.start < BHS + DIGEST and not (self.left and self.dest == NULL):
        return (self.trailer if self.in_body else 0) + BHS + (DIGEST if self.header_digest else 0)
    return RING if behind > RING else behind
