/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 with VPCLMULQDQ: 128-bit lanes are folded forward by carry-less multiplication, 512 bytes a round in eight registers; the
 * last 128 bits and the tail go through the CRC instruction (Gopal et al., "Fast CRC computation for generic polynomials using
 * PCLMULQDQ", 2009). Below 256 bytes the CRC instruction alone is faster. */
#include "_crc32c_impl.h"

#ifdef SWD_CRC_X86
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,vpclmulqdq,pclmul,sse4.2")))
#define INLINE static inline __attribute__((always_inline))
#define LANE 16
#define VECTOR 64
#define ROUND (4 * VECTOR)

/* The pair of factors that move 128 bits over (index + 1) lanes, and over one and two rounds of four vectors. */
static uint32_t over_lanes[12][2], over_round[2], over_two_rounds[2];

static void factors(uint32_t pair[2], unsigned bits)
{
    pair[0] = swd_crc_power(bits + 31);
    pair[1] = swd_crc_power(bits - 33);
}

int swd_crc_avx512_supported(void)
{
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw")
        || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("vpclmulqdq") || !__builtin_cpu_supports("pclmul"))
        return 0;
    if (!over_round[0]) {
        for (unsigned lanes = 0; lanes < 12; lanes++)
            factors(over_lanes[lanes], 8 * LANE * (lanes + 1));
        factors(over_round, 8 * ROUND);
        factors(over_two_rounds, 8 * 2 * ROUND);
    }
    return 1;
}

TARGET INLINE __m512i four_times(const uint32_t pair[2])
{
    return _mm512_broadcast_i32x4(_mm_setr_epi32((int)pair[0], 0, (int)pair[1], 0));
}

/* Each lane of `ahead`, moved over the distance of `by` and added to `behind`. */
TARGET INLINE __m512i fold(__m512i ahead, __m512i by, __m512i behind)
{
    __m512i low = _mm512_clmulepi64_epi128(ahead, by, 0x00), high = _mm512_clmulepi64_epi128(ahead, by, 0x11);
    return _mm512_ternarylogic_epi64(low, high, behind, 0x96); /* exclusive or of three */
}

TARGET INLINE void load_round(__m512i v[4], uint8_t **dst, const uint8_t **src, int copy)
{
    for (int i = 0; i < 4; i++)
        v[i] = _mm512_loadu_si512((const void *)(*src + VECTOR * i));
    *src += ROUND;
    if (copy) {
        for (int i = 0; i < 4; i++)
            _mm512_storeu_si512((void *)(*dst + VECTOR * i), v[i]);
        *dst += ROUND;
    }
}

TARGET INLINE void fold_round(__m512i v[4], __m512i by, const __m512i next[4])
{
    for (int i = 0; i < 4; i++)
        v[i] = fold(v[i], by, next[i]);
}

/* The register for what four lanes hold, the first of them being the earliest bytes. */
TARGET INLINE uint32_t reduce(__m512i v)
{
    const uint32_t(*k)[2] = (const uint32_t(*)[2])over_lanes;
    __m512i by = _mm512_setr_epi32((int)k[2][0], 0, (int)k[2][1], 0, (int)k[1][0], 0, (int)k[1][1], 0, (int)k[0][0], 0,
                                   (int)k[0][1], 0, 0, 0, 0, 0);
    __m512i moved = fold(v, by, _mm512_setzero_si512());
    __m128i rest = _mm_xor_si128(_mm_xor_si128(_mm512_extracti32x4_epi32(moved, 0), _mm512_extracti32x4_epi32(moved, 1)),
                                 _mm_xor_si128(_mm512_extracti32x4_epi32(moved, 2), _mm512_extracti32x4_epi32(v, 3)));
    uint64_t crc = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(rest));
    return (uint32_t)_mm_crc32_u64(crc, (uint64_t)_mm_extract_epi64(rest, 1));
}

TARGET INLINE uint32_t tail(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n, int copy)
{
    if (copy)
        memcpy(dst, src, n);
    for (; n >= 8; n -= 8, src += 8) {
        uint64_t word;
        memcpy(&word, src, 8);
        crc = (uint32_t)_mm_crc32_u64(crc, word);
    }
    while (n--)
        crc = _mm_crc32_u8(crc, *src++);
    return crc;
}

TARGET INLINE uint32_t folded(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n, int copy)
{
    __m512i even[4], odd[4], next[4], by = four_times(over_round);
    load_round(even, &dst, &src, copy);
    n -= ROUND;
    even[0] = _mm512_xor_si512(even[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    if (n >= 3 * ROUND) { /* two rounds at once: eight independent chains */
        __m512i by_two = four_times(over_two_rounds);
        load_round(odd, &dst, &src, copy);
        n -= ROUND;
        for (; n >= 2 * ROUND; n -= 2 * ROUND) {
            load_round(next, &dst, &src, copy);
            fold_round(even, by_two, next);
            load_round(next, &dst, &src, copy);
            fold_round(odd, by_two, next);
        }
        fold_round(even, by, odd);
    }
    for (; n >= ROUND; n -= ROUND) {
        load_round(next, &dst, &src, copy);
        fold_round(even, by, next);
    }
    __m512i one = fold(even[0], four_times(over_lanes[11]), even[3]); /* three vectors on is twelve lanes */
    one = fold(even[1], four_times(over_lanes[7]), one);
    one = fold(even[2], four_times(over_lanes[3]), one);
    for (; n >= VECTOR; n -= VECTOR, src += VECTOR) {
        __m512i v = _mm512_loadu_si512((const void *)src);
        if (copy) {
            _mm512_storeu_si512((void *)dst, v);
            dst += VECTOR;
        }
        one = fold(one, four_times(over_lanes[3]), v);
    }
    return tail(reduce(one), dst, src, n, copy);
}

/* Apart from the short form, which would pay for their wide registers: a header of 48 bytes is the most frequent call. */
TARGET static __attribute__((noinline)) uint32_t long_update(uint32_t crc, const uint8_t *src, size_t n)
{
    return folded(crc, NULL, src, n, 0);
}

TARGET static __attribute__((noinline)) uint32_t long_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    return folded(crc, dst, src, n, 1);
}

TARGET uint32_t swd_crc_avx512_update(uint32_t crc, const uint8_t *src, size_t n)
{
    return n < ROUND ? tail(crc, NULL, src, n, 0) : long_update(crc, src, n);
}

TARGET uint32_t swd_crc_avx512_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    return n < ROUND ? tail(crc, dst, src, n, 1) : long_copy(crc, dst, src, n);
}
#endif
