/* SPDX-License-Identifier: Apache-2.0
 *
 * What an engine remembers of its own work, for people who look in: the last headers, how long commands took, and,
 * while somebody traces, the bytes of both directions. No function waits, calls Python or reads a clock. */
#ifndef SWD_WATCH_H
#define SWD_WATCH_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- the last headers ---------------------------------------------------------------------------------------------- */

enum { SWD_HEADS = 64 };

typedef struct {
    double at;          /* monotonic seconds */
    uint8_t out;
    uint8_t bhs[48];
} swd_head;

typedef struct {
    uint64_t count;     /* of all headers ever; the next goes to count % SWD_HEADS */
    swd_head head[SWD_HEADS];
} swd_heads;

static inline void swd_heads_add(swd_heads *heads, const uint8_t *bhs, int out, double now)
{
    swd_head *head = &heads->head[heads->count++ % SWD_HEADS];
    head->at = now;
    head->out = (uint8_t)out;
    memcpy(head->bhs, bhs, 48);
}

/* ---- latency: log2 buckets of microseconds, by unit and direction ----------------------------------------------------- */

enum { SWD_BUCKETS = 32, SWD_UNITS = 16, SWD_DIRECTIONS = 3 };  /* directions: no data, read, write */

typedef struct {
    uint64_t count, microseconds;
    uint64_t bucket[SWD_BUCKETS];   /* bucket 0: under 2 us; bucket i: from 2^i us to under 2^(i+1) */
} swd_histogram;

typedef struct {
    int units;                      /* the last one collects those for which there was no place */
    uint8_t lun[SWD_UNITS + 1][8];
    swd_histogram of[SWD_UNITS + 1][SWD_DIRECTIONS];
} swd_latencies;

static inline int swd_latencies_unit(swd_latencies *all, const uint8_t *lun)
{
    int i;
    for (i = 0; i < all->units; i++)
        if (memcmp(all->lun[i], lun, 8) == 0)
            return i;
    if (all->units == SWD_UNITS)
        return SWD_UNITS;
    memcpy(all->lun[all->units], lun, 8);
    return all->units++;
}

static inline void swd_latencies_add(swd_latencies *all, const uint8_t *lun, int direction, double seconds)
{
    swd_histogram *histogram = &all->of[swd_latencies_unit(all, lun)][direction];
    uint64_t us = seconds > 0 ? (uint64_t)(seconds * 1e6) : 0;
    int bucket = us < 2 ? 0 : 63 - __builtin_clzll(us);
    if (bucket > SWD_BUCKETS - 1)
        bucket = SWD_BUCKETS - 1;
    histogram->count++;
    histogram->microseconds += us;
    histogram->bucket[bucket]++;
}

/* ---- the tape: bytes of both directions while somebody traces --------------------------------------------------------- */

typedef struct {
    double at;
    uint64_t offset;    /* of the first byte in its direction, since this connection's full-feature phase began */
    uint32_t length;
    uint16_t out;
    uint16_t connection;
} swd_record;

typedef struct {
    uint8_t *bytes;     /* NULL: nobody traces */
    size_t size, used;
    uint64_t lost;      /* bytes for which there was no room */
    uint64_t at_in, at_out;     /* bytes since the connection began, seen or not */
    uint64_t skip_in, skip_out; /* bytes up to the end of the PDUs that were under way when the tape was put in */
    uint16_t connection;
} swd_tape;

static inline void swd_tape_write(swd_tape *tape, int out, uint64_t offset, const uint8_t *bytes, size_t length, double now)
{
    swd_record record;
    if (length == 0)
        return;
    if (length > UINT32_MAX || tape->used + sizeof record + length > tape->size) {
        tape->lost += length;
        return;
    }
    memset(&record, 0, sizeof record);
    record.at = now;
    record.offset = offset;
    record.length = (uint32_t)length;
    record.out = (uint16_t)out;
    record.connection = tape->connection;
    memcpy(tape->bytes + tape->used, &record, sizeof record);
    memcpy(tape->bytes + tape->used + sizeof record, bytes, length);
    tape->used += sizeof record + length;
}

static inline void swd_tape_pass(swd_tape *tape, int out, const uint8_t *bytes, size_t length, double now)
{
    uint64_t *at = out ? &tape->at_out : &tape->at_in;
    uint64_t *skip = out ? &tape->skip_out : &tape->skip_in;
    size_t left_out = *skip < length ? (size_t)*skip : length;
    *skip -= left_out;
    swd_tape_write(tape, out, *at, bytes + left_out, length - left_out, now);
    *at += length - left_out;
}

static inline void swd_tape_next_connection(swd_tape *tape)
{
    tape->connection++;
    tape->at_in = tape->at_out = tape->skip_in = tape->skip_out = 0;
}

#endif
