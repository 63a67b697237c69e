/* SPDX-License-Identifier: Apache-2.0 */
/* What the embedded target's data path has to send: spans for sendmsg, and the memory that most of them lie in.
 *
 * A span lies in a chunk of the queue's own, or is borrowed: bytes of a medium, which stay where they are and may change
 * until they are sent. Chunks are used up in the order in which they were filled, so one is free again when the last span
 * in it has gone; a few are kept, so that the steady state allocates nothing. When memory runs out, `broken` is set and the
 * connection is to end: whoever adds a span need not look each time. */
#ifndef SWD_TARGETQUEUE_H
#define SWD_TARGETQUEUE_H
#include <stdlib.h>

#include "_crc32c_kernels.h"
#include "_sys.h"

#define SWD_CHUNK 65536   /* bytes: with a data digest what is sent stays in the second-level cache */
#define SWD_SPARES 32     /* chunks kept for later */
#define SWD_AT_ONCE 1000  /* spans of one sendmsg, below IOV_MAX */

struct swd_chunk {
    struct swd_chunk *next;
    uint64_t last; /* the number of the last span in it */
    size_t used;
    uint8_t bytes[SWD_CHUNK];
};

typedef struct {
    struct iovec *span;
    uint8_t *borrowed; /* for each span */
    size_t head, end, room;
    uint64_t number;   /* of the span at `head`, counted from the first ever */
    uint64_t bytes;    /* not sent */
    uint64_t sent;     /* ever */
    struct swd_chunk *first, *current, *spare;
    int spares, broken;
} swd_queue;

static inline uint64_t swd_queue_last(const swd_queue *q)
{
    return q->number + (q->end - q->head) - 1;
}

static inline struct swd_chunk *swd_queue_chunk(swd_queue *q)
{
    struct swd_chunk *chunk = q->spare;
    if (chunk) {
        q->spare = chunk->next;
        q->spares--;
    } else if (!(chunk = malloc(sizeof *chunk))) {
        q->broken = 1;
        return NULL;
    }
    chunk->next = NULL;
    chunk->used = 0;
    chunk->last = q->number; /* nothing is in it: it goes with whatever comes first */
    if (q->current)
        q->current->next = chunk;
    else
        q->first = chunk;
    return q->current = chunk;
}

/* `n` bytes in one piece, at most SWD_CHUNK; say with swd_queue_add how many are used. NULL: broken. */
static inline uint8_t *swd_queue_place(swd_queue *q, size_t n)
{
    struct swd_chunk *chunk = q->current;
    if ((!chunk || chunk->used + n > SWD_CHUNK) && !(chunk = swd_queue_chunk(q)))
        return NULL;
    return chunk->bytes + chunk->used;
}

static inline int swd_queue_grow(swd_queue *q)
{
    size_t live = q->end - q->head;
    if (q->head && live <= q->room / 2) {
        memmove(q->span, q->span + q->head, live * sizeof *q->span);
        memmove(q->borrowed, q->borrowed + q->head, live);
    } else {
        size_t room = q->room ? 2 * q->room : 512;
        struct iovec *span = malloc(room * sizeof *span);
        uint8_t *borrowed = malloc(room);
        if (!span || !borrowed) {
            free(span);
            free(borrowed);
            q->broken = 1;
            return 0;
        }
        if (live) {
            memcpy(span, q->span + q->head, live * sizeof *span);
            memcpy(borrowed, q->borrowed + q->head, live);
        }
        free(q->span);
        free(q->borrowed);
        q->span = span;
        q->borrowed = borrowed;
        q->room = room;
    }
    q->head = 0;
    q->end = live;
    return 1;
}

static inline void swd_queue_span(swd_queue *q, const uint8_t *base, size_t n, int borrowed)
{
    if (q->end > q->head && !borrowed && !q->borrowed[q->end - 1]) {
        struct iovec *before = &q->span[q->end - 1];
        if ((uint8_t *)before->iov_base + before->iov_len == base) {
            before->iov_len += n;
            q->bytes += n;
            return;
        }
    }
    if (q->end == q->room && !swd_queue_grow(q))
        return;
    q->span[q->end].iov_base = (void *)base;
    q->span[q->end].iov_len = n;
    q->borrowed[q->end++] = (uint8_t)borrowed;
    q->bytes += n;
}

/* The first `n` bytes at the last swd_queue_place are to be sent. */
static inline void swd_queue_add(swd_queue *q, size_t n)
{
    struct swd_chunk *chunk = q->current;
    swd_queue_span(q, chunk->bytes + chunk->used, n, 0);
    chunk->used += n;
    chunk->last = swd_queue_last(q);
}

/* Bytes that stay where they are until they have gone. */
static inline void swd_queue_lend(swd_queue *q, const uint8_t *bytes, size_t n)
{
    swd_queue_span(q, bytes, n, 1);
}

/* A copy of some bytes; with `copy`, the CRC register over them, else `crc`. */
static inline uint32_t swd_queue_copy(swd_queue *q, const uint8_t *bytes, size_t n, swd_crc_copy copy, uint32_t crc)
{
    while (n && !q->broken) {
        size_t room = q->current ? SWD_CHUNK - q->current->used : 0;
        size_t piece = room >= 4096 ? room : SWD_CHUNK;
        uint8_t *place;
        if (piece > n)
            piece = n;
        if (!(place = swd_queue_place(q, piece)))
            break;
        if (copy)
            crc = copy(crc, place, bytes, piece);
        else
            memcpy(place, bytes, piece);
        swd_queue_add(q, piece);
        bytes += piece;
        n -= piece;
    }
    return crc;
}

/* Copies what is borrowed: from here on a medium may change without being seen in what is queued. */
static inline void swd_queue_own(swd_queue *q)
{
    struct iovec *span = q->span;
    uint8_t *borrowed = q->borrowed;
    size_t head = q->head, end = q->end;
    if (!memchr(borrowed ? borrowed + head : (uint8_t *)"", 1, end - head))
        return;
    q->span = NULL;
    q->borrowed = NULL;
    q->head = q->end = q->room = 0;
    q->bytes = 0;
    for (size_t i = head; i < end; i++) {
        if (borrowed[i])
            swd_queue_copy(q, span[i].iov_base, span[i].iov_len, NULL, 0);
        else
            swd_queue_span(q, span[i].iov_base, span[i].iov_len, 0);
    }
    for (struct swd_chunk *chunk = q->first; chunk; chunk = chunk->next)
        chunk->last = swd_queue_last(q); /* their spans have new numbers */
    free(span);
    free(borrowed);
}

static inline void swd_queue_retire(swd_queue *q)
{
    while (q->first && q->first != q->current && q->first->last < q->number) {
        struct swd_chunk *chunk = q->first;
        q->first = chunk->next;
        if (q->spares < SWD_SPARES) {
            chunk->next = q->spare;
            q->spare = chunk;
            q->spares++;
        } else
            free(chunk);
    }
    if (q->head == q->end) {
        q->head = q->end = 0;
        if (q->current)
            q->current->used = 0;
    }
}

static inline void swd_queue_gone(swd_queue *q, size_t n)
{
    q->bytes -= n;
    q->sent += n;
    while (n) {
        struct iovec *span = &q->span[q->head];
        if (n < span->iov_len) {
            span->iov_base = (uint8_t *)span->iov_base + n;
            span->iov_len -= n;
            break;
        }
        n -= span->iov_len;
        q->head++;
        q->number++;
    }
    swd_queue_retire(q);
}

/* Sends what the socket takes without waiting: 1 all, 0 not all, -1 the connection is broken. Nothing is sent once a span
 * is missing: the peer would take what stands behind it for its bytes. */
static inline int swd_queue_send(swd_queue *q, int fd)
{
    if (q->broken) {
        errno = ENOMEM;
        return -1;
    }
    while (q->bytes) {
        size_t count = q->end - q->head;
        ssize_t n = swd_send(fd, q->span + q->head, count > SWD_AT_ONCE ? SWD_AT_ONCE : (int)count);
        if (n >= 0)
            swd_queue_gone(q, (size_t)n);
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            return 0;
        else if (errno != EINTR)
            return -1;
    }
    return 1;
}

static inline void swd_queue_free(swd_queue *q)
{
    struct swd_chunk *lists[2] = {q->first, q->spare};
    for (int i = 0; i < 2; i++)
        for (struct swd_chunk *chunk = lists[i], *next; chunk; chunk = next) {
            next = chunk->next;
            free(chunk);
        }
    free(q->span);
    free(q->borrowed);
    uint64_t sent = q->sent;
    memset(q, 0, sizeof *q);
    q->sent = sent; /* a count that outlives it */
}

/* Receives into two places, one after the other. */
static inline ssize_t swd_receive_twice(int fd, uint8_t *one, size_t n, uint8_t *two, size_t m, int wait)
{
    struct iovec place[2] = {{one, n}, {two, m}};
    return swd_receive(fd, n ? place : place + 1, n ? 2 : 1, wait);
}

/* As swd_receive_spinning, into one place. */
static inline ssize_t swd_look_for(int fd, uint8_t *to, size_t n, unsigned microseconds)
{
    struct iovec place = {to, n};
    return swd_receive_spinning(fd, &place, 1, microseconds * 1e-6);
}

/* A count that one thread moves and others look at; what was written before it was moved is seen by who sees it moved. */
static inline void swd_gate_touch(unsigned *epoch)
{
    __atomic_add_fetch(epoch, 1, __ATOMIC_SEQ_CST);
}

static inline unsigned swd_gate_read(const unsigned *epoch)
{
    return __atomic_load_n(epoch, __ATOMIC_ACQUIRE);
}

/* Waits without limit for bytes (if `reading`) or for room (if `writing`); poll's revents, 0 after a signal. */
static inline int swd_wait(int fd, int reading, int writing)
{
    struct pollfd p = {fd, (short)((reading ? POLLIN : 0) | (writing ? POLLOUT : 0)), 0};
    return poll(&p, 1, -1) > 0 ? p.revents : 0;
}
#endif
