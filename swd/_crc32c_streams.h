/* SPDX-License-Identifier: Apache-2.0 */
/* Three interleaved streams over a CRC instruction: the body of the SSE4.2 and the ARMv8 kernels, which define before including
 *
 *   TARGET                  the attribute that allows the instructions
 *   STEP64(crc, word)       the CRC instruction for 8 bytes; STEP8 for one
 *   PRODUCT(a, b)           the 64-bit carry-less product of two 32-bit values
 *
 * and then call `streams_update` and `streams_copy`. The constants are filled by `streams_init`. */
#include <string.h>

static uint32_t over_one_long, over_two_long, over_one_short, over_two_short; /* x^(8n-33): see _crc32c_impl.h */

static void streams_init(void)
{
    over_one_long = swd_crc_power(8 * LONG_STREAM - 33);
    over_two_long = swd_crc_power(16 * LONG_STREAM - 33);
    over_one_short = swd_crc_power(8 * SHORT_STREAM - 33);
    over_two_short = swd_crc_power(16 * SHORT_STREAM - 33);
}

TARGET static inline uint64_t streams_load(const uint8_t *p)
{
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* The register after three streams of `length` bytes each, one after the other. `copy` is a constant where this is inlined. */
TARGET static inline __attribute__((always_inline)) uint32_t three_streams(
    uint32_t crc, uint8_t *dst, const uint8_t *src, size_t length, uint32_t over_one, uint32_t over_two, int copy)
{
    uint32_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t x = streams_load(src + i), y = streams_load(src + length + i), z = streams_load(src + 2 * length + i);
        a = (uint32_t)STEP64(a, x);
        b = (uint32_t)STEP64(b, y);
        c = (uint32_t)STEP64(c, z);
        if (copy) {
            memcpy(dst + i, &x, 8);
            memcpy(dst + length + i, &y, 8);
            memcpy(dst + 2 * length + i, &z, 8);
        }
    }
    return (uint32_t)STEP64(0, PRODUCT(a, over_two) ^ PRODUCT(b, over_one)) ^ c;
}

TARGET static inline __attribute__((always_inline)) uint32_t one_stream(
    uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n, int copy)
{
    for (; n >= 8; n -= 8, src += 8) {
        uint64_t x = streams_load(src);
        crc = (uint32_t)STEP64(crc, x);
        if (copy) {
            memcpy(dst, &x, 8);
            dst += 8;
        }
    }
    for (; n; n--, src++) {
        crc = STEP8(crc, *src);
        if (copy)
            *dst++ = *src;
    }
    return crc;
}

TARGET static inline __attribute__((always_inline)) uint32_t streams(
    uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n, int copy)
{
    for (; n >= 3 * LONG_STREAM; n -= 3 * LONG_STREAM, src += 3 * LONG_STREAM) {
        crc = three_streams(crc, dst, src, LONG_STREAM, over_one_long, over_two_long, copy);
        if (copy)
            dst += 3 * LONG_STREAM;
    }
    for (; n >= 3 * SHORT_STREAM; n -= 3 * SHORT_STREAM, src += 3 * SHORT_STREAM) {
        crc = three_streams(crc, dst, src, SHORT_STREAM, over_one_short, over_two_short, copy);
        if (copy)
            dst += 3 * SHORT_STREAM;
    }
    return one_stream(crc, dst, src, n, copy);
}

TARGET static uint32_t streams_update(uint32_t crc, const uint8_t *src, size_t n)
{
    return streams(crc, NULL, src, n, 0);
}

TARGET static uint32_t streams_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    return streams(crc, dst, src, n, 1);
}
