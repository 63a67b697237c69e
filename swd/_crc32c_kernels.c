/* SPDX-License-Identifier: Apache-2.0 */
/* The table of kernels, and the one that needs no special instruction: slice-by-8. */
#include "_crc32c_impl.h"
#include <string.h>


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

uint32_t swd_crc_power(unsigned long n)
{
    uint32_t power = 0x80000000u; /* x^0: the register's highest bit is the lowest coefficient */
    while (n--)
        power = (power >> 1) ^ ((power & 1) ? POLYNOMIAL : 0);
    return power;
}

static inline uint32_t byte_step(uint32_t crc, uint8_t byte)
{
    return (crc >> 8) ^ table[0][(crc ^ byte) & 0xFF];
}

static inline uint64_t little_endian(const uint8_t *p)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word |= (uint64_t)p[i] << (8 * i); /* compilers make one load of it */
    return word;
}

static inline uint32_t slice_step(uint32_t crc, uint64_t word)
{
    word ^= crc;
    return table[7][word & 0xFF] ^ table[6][(word >> 8) & 0xFF] ^ table[5][(word >> 16) & 0xFF] ^ table[4][(word >> 24) & 0xFF]
         ^ table[3][(word >> 32) & 0xFF] ^ table[2][(word >> 40) & 0xFF] ^ table[1][(word >> 48) & 0xFF] ^ table[0][word >> 56];
}

static uint32_t slice_update(uint32_t crc, const uint8_t *src, size_t n)
{
    for (; n >= 8; n -= 8, src += 8)
        crc = slice_step(crc, little_endian(src));
    while (n--)
        crc = byte_step(crc, *src++);
    return crc;
}

static uint32_t slice_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n)
{
    for (; n >= 8; n -= 8, src += 8, dst += 8) {
        crc = slice_step(crc, little_endian(src));
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

const struct swd_crc_kernel swd_crc_kernels[] = {
#ifdef SWD_CRC_X86
    {"avx512", swd_crc_avx512_supported, swd_crc_avx512_update, swd_crc_avx512_copy},
    {"sse42", swd_crc_sse42_supported, swd_crc_sse42_update, swd_crc_sse42_copy},
#endif
#ifdef SWD_CRC_ARM
    {"armv8", swd_crc_armv8_supported, swd_crc_armv8_update, swd_crc_armv8_copy},
#endif
    {"slice8", always, slice_update, slice_copy},
    {NULL, NULL, NULL, NULL},
};
