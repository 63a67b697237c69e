/* SPDX-License-Identifier: Apache-2.0 */
/* AVX-512 with VPCLMULQDQ: 128-bit lanes are folded forward by carry-less multiplication, 512 bytes a round in eight registers; the
 * last 128 bits and the tail go through the CRC instruction (Gopal et al., "Fast CRC computation for generic polynomials using
 * PCLMULQDQ", 2009). Below 256 bytes the CRC instruction alone is faster.
 *
 * AMD's multiplier takes a vector in two cycles, and the CRC instruction a word in one beside it: there blocks of 4 and 64 KiB are
 * shared between both. Intel's multiplier is as fast as both together; and where bytes are copied as well, the stores are the limit. */
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

/* Blocks of 384 * rounds + 256 bytes: vectors take the front, and CRC instructions four streams of 32 * rounds bytes behind it. What
 * moves a register over one to four streams: see _crc32c_impl.h. */
#define SHORT_ROUNDS 10 /* 4 KiB */
#define LONG_ROUNDS 170 /* 64 KiB */
#define STREAM(rounds) (32 * (rounds))
#define BLOCK(rounds) (ROUND * ((rounds) + 1) + 4 * STREAM(rounds))
static uint32_t over_short_streams[4], over_long_streams[4];
static int side_by_side; /* whether it pays on this CPU */

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
        for (unsigned streams = 0; streams < 4; streams++) {
            over_short_streams[streams] = swd_crc_power(8 * (streams + 1) * STREAM(SHORT_ROUNDS) - 33);
            over_long_streams[streams] = swd_crc_power(8 * (streams + 1) * STREAM(LONG_ROUNDS) - 33);
        }
        side_by_side = __builtin_cpu_is("amd");
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

TARGET INLINE uint64_t word_at(const uint8_t *src)
{
    uint64_t word;
    memcpy(&word, src, 8);
    return word;
}

TARGET INLINE __m128i product(uint64_t a, uint32_t b)
{
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)a), _mm_cvtsi32_si128((int)b), 0);
}

/* The register after a block. `rounds` is a constant where this is inlined. */
TARGET INLINE uint32_t shared_block(uint32_t crc, const uint8_t *src, size_t rounds, const uint32_t over[4])
{
    const uint8_t *words = src + ROUND * (rounds + 1);
    const size_t length = STREAM(rounds);
    uint64_t stream[4] = {0, 0, 0, 0};
    __m512i v[4], by = four_times(over_round), by_one = four_times(over_lanes[3]);
    load_round(v, NULL, &src, 0);
    v[0] = _mm512_xor_si512(v[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    while (rounds--) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++, src += VECTOR, words += 8) {
            v[i] = fold(v[i], by, _mm512_loadu_si512((const void *)src));
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                stream[j] = _mm_crc32_u64(stream[j], word_at(words + j * length));
            /* Two multiplications and four CRC instructions in turn: compilers would put them into heaps. */
            __asm__("" : "+v"(v[i]), "+r"(stream[0]), "+r"(stream[1]), "+r"(stream[2]), "+r"(stream[3]));
        }
    }
    uint32_t front = reduce(fold(fold(v[0], by_one, v[1]), four_times(over_lanes[7]), fold(v[2], by_one, v[3])));
    __m128i moved = _mm_xor_si128(_mm_xor_si128(product(front, over[3]), product(stream[0], over[2])),
                                  _mm_xor_si128(product(stream[1], over[1]), product(stream[2], over[0])));
    return (uint32_t)(_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(moved)) ^ stream[3]);
}

TARGET INLINE uint32_t tail(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n, int copy)
{
    if (copy)
        memcpy(dst, src, n);
    for (; n >= 8; n -= 8, src += 8)
        crc = (uint32_t)_mm_crc32_u64(crc, word_at(src));
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
    if (side_by_side) {
        for (; n >= BLOCK(LONG_ROUNDS); n -= BLOCK(LONG_ROUNDS), src += BLOCK(LONG_ROUNDS))
            crc = shared_block(crc, src, LONG_ROUNDS, over_long_streams);
        for (; n >= BLOCK(SHORT_ROUNDS); n -= BLOCK(SHORT_ROUNDS), src += BLOCK(SHORT_ROUNDS))
            crc = shared_block(crc, src, SHORT_ROUNDS, over_short_streams);
        if (n < ROUND)
            return tail(crc, NULL, src, n, 0);
    }
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
