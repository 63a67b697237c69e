/* SPDX-License-Identifier: Apache-2.0 */
/* SSE4.2 and PCLMULQDQ: the CRC instruction in three streams. */
#include "_crc32c_impl.h"

#ifdef SWD_CRC_X86
#include <immintrin.h>

#define TARGET __attribute__((target("sse4.2,pclmul")))
#define STEP64(crc, word) _mm_crc32_u64(crc, word)
#define STEP8(crc, byte) _mm_crc32_u8(crc, byte)
#define PRODUCT(a, b)                                                                                                              \
    ((uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(_mm_cvtsi32_si128((int)(a)), _mm_cvtsi32_si128((int)(b)), 0)))
#include "_crc32c_streams.h"

int swd_crc_sse42_supported(void)
{
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("pclmul"))
        return 0;
    if (!over_one_long)
        streams_init();
    return 1;
}

uint32_t swd_crc_sse42_update(uint32_t crc, const uint8_t *src, size_t n)
{
    return streams_update(crc, src, n);
}

uint32_t swd_crc_sse42_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    return streams_copy(crc, dst, src, n);
}
#endif
