/* SPDX-License-Identifier: Apache-2.0 */
/* ARMv8 with the CRC32 and PMULL extensions: the CRC instruction in three streams. */
#include "_crc32c_impl.h"

#ifdef SWD_CRC_ARM
#include <arm_acle.h>
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#define HAS_CRC32 (1ul << 7) /* HWCAP_CRC32, HWCAP_PMULL: asm/hwcap.h is not on every libc */
#define HAS_PMULL (1ul << 4)
#endif

#if defined(__clang__)
#define TARGET __attribute__((target("crc,aes")))
#else
#define TARGET __attribute__((target("+crc+crypto")))
#endif
#define STEP64(crc, word) __crc32cd(crc, word)
#define STEP8(crc, byte) __crc32cb(crc, byte)
#define PRODUCT(a, b) ((uint64_t)vgetq_lane_u64(vreinterpretq_u64_p128(vmull_p64((poly64_t)(a), (poly64_t)(b))), 0))
#include "_crc32c_streams.h"

int swd_crc_armv8_supported(void)
{
#if defined(__linux__)
    unsigned long has = getauxval(AT_HWCAP);
    if (!(has & HAS_CRC32) || !(has & HAS_PMULL))
        return 0;
#elif !defined(__APPLE__) /* every 64-bit Mac has both */
    return 0;
#endif
    if (!over_one_long)
        streams_init();
    return 1;
}

uint32_t swd_crc_armv8_update(uint32_t crc, const uint8_t *src, size_t n)
{
    return streams_update(crc, src, n);
}

uint32_t swd_crc_armv8_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    return streams_copy(crc, dst, src, n);
}
#endif
