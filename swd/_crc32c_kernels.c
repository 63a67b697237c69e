/* SPDX-License-Identifier: Apache-2.0 */
#include "_crc32c_kernels.h"
#include <string.h>

#if defined(__x86_64__)
#define SWD_X86 1
#include <nmmintrin.h>
#endif

#define POLYNOMIAL 0x82F63B78u /* Castagnoli, reflected */

/* ---- slice-by-8: portable ------------------------------------------------------------------------------- */

static uint32_t table[8][256];

void swd_crc_init(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
        table[0][i] = crc;
    }
    for (unsigned i = 0; i < 256; i++)
        for (int slice = 1; slice < 8; slice++)
            table[slice][i] = (table[slice - 1][i] >> 8) ^ table[0][table[slice - 1][i] & 0xFF];
}

static inline uint32_t byte_step(uint32_t crc, uint8_t byte)
{
    return (crc >> 8) ^ table[0][(crc ^ byte) & 0xFF];
}

static inline uint32_t slice_step(uint32_t crc, const uint8_t *p)
{
    uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    return table[7][low & 0xFF] ^ table[6][(low >> 8) & 0xFF] ^ table[5][(low >> 16) & 0xFF] ^ table[4][low >> 24]
         ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
}

static uint32_t slice_update(uint32_t crc, const uint8_t *src, size_t n)
{
    for (; n >= 8; n -= 8, src += 8)
        crc = slice_step(crc, src);
    while (n--)
        crc = byte_step(crc, *src++);
    return crc;
}

static uint32_t slice_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    for (; n >= 8; n -= 8, src += 8, dst += 8) {
        crc = slice_step(crc, src);
        memcpy(dst, src, 8);
    }
    while (n--)
        crc = byte_step(crc, *dst++ = *src++);
    return crc;
}

static int always(void)
{
    return 1;
}

/* ---- SSE4.2: eight bytes an instruction, three independent streams to hide its latency -------------------- */

#ifdef SWD_X86
#define SSE42 __attribute__((target("sse4.2")))

/* Bytes in one of the three streams; the shift tables below are made for exactly this length. */
#define STREAM 1024

static uint32_t shift_by_stream[4][256];   /* the register moved over STREAM zero bytes, a table a byte of it */
static int shift_ready;

static void make_shift(void)
{
    for (int byte = 0; byte < 4; byte++)
        for (unsigned value = 0; value < 256; value++) {
            uint32_t crc = (uint32_t)value << (8 * byte);
            for (int i = 0; i < STREAM; i++)
                crc = byte_step(crc, 0);
            shift_by_stream[byte][value] = crc;
        }
    shift_ready = 1;
}

static inline uint32_t shift(uint32_t crc)
{
    return shift_by_stream[0][crc & 0xFF] ^ shift_by_stream[1][(crc >> 8) & 0xFF]
         ^ shift_by_stream[2][(crc >> 16) & 0xFF] ^ shift_by_stream[3][crc >> 24];
}

static inline uint64_t load(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

static inline void store(uint8_t *p, uint64_t word)
{
    memcpy(p, &word, 8);
}

SSE42 static uint32_t sse42_update(uint32_t crc, const uint8_t *src, size_t n)
{
    for (; n >= 3 * STREAM; n -= 3 * STREAM, src += 3 * STREAM) {
        uint64_t a = crc, b = 0, c = 0;
        for (size_t i = 0; i < STREAM; i += 8) {
            a = _mm_crc32_u64(a, load(src + i));
            b = _mm_crc32_u64(b, load(src + STREAM + i));
            c = _mm_crc32_u64(c, load(src + 2 * STREAM + i));
        }
        crc = shift(shift((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    uint64_t wide = crc;
    for (; n >= 8; n -= 8, src += 8)
        wide = _mm_crc32_u64(wide, load(src));
    crc = (uint32_t)wide;
    while (n--)
        crc = _mm_crc32_u8(crc, *src++);
    return crc;
}

SSE42 static uint32_t sse42_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    for (; n >= 3 * STREAM; n -= 3 * STREAM, src += 3 * STREAM, dst += 3 * STREAM) {
        uint64_t a = crc, b = 0, c = 0;
        for (size_t i = 0; i < STREAM; i += 8) {
            uint64_t x = load(src + i), y = load(src + STREAM + i), z = load(src + 2 * STREAM + i);
            a = _mm_crc32_u64(a, x);
            b = _mm_crc32_u64(b, y);
            c = _mm_crc32_u64(c, z);
            store(dst + i, x);
            store(dst + STREAM + i, y);
            store(dst + 2 * STREAM + i, z);
        }
        crc = shift(shift((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
    }
    uint64_t wide = crc;
    for (; n >= 8; n -= 8, src += 8, dst += 8) {
        uint64_t x = load(src);
        wide = _mm_crc32_u64(wide, x);
        store(dst, x);
    }
    crc = (uint32_t)wide;
    while (n--)
        crc = _mm_crc32_u8(crc, *dst++ = *src++);
    return crc;
}

static int has_sse42(void)
{
    if (!__builtin_cpu_supports("sse4.2"))
        return 0;
    if (!shift_ready)
        make_shift();
    return 1;
}
#endif

const struct swd_crc_kernel swd_crc_kernels[] = {
#ifdef SWD_X86
    {"sse42", has_sse42, sse42_update, sse42_copy},
#endif
    {"slice8", always, slice_update, slice_copy},
    {NULL, NULL, NULL, NULL},
};
