/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels share among themselves; nobody else includes it.
 *
 * The CRC register is a polynomial over GF(2) with its coefficients reversed: bit 31 is x^0. Moving a register over n bits of zeros
 * multiplies it by x^n modulo P. A carry-less product of two reversed 32-bit polynomials comes out one place short in 64 bits, and
 * the CRC instruction multiplies what it is given by x^32; so a stream that is followed by n bits is moved by multiplying with
 * x^(n-33) and feeding the 64-bit product to the instruction. Folding 128 bits over a distance of D bits multiplies their
 * two halves by x^(D+31) and x^(D-33). */
#ifndef SWD_CRC32C_IMPL_H
#define SWD_CRC32C_IMPL_H
#include "_crc32c_kernels.h"

#if defined(__x86_64__)
#define SWD_CRC_X86 1
#elif defined(__aarch64__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define SWD_CRC_ARM 1
#endif

#define POLYNOMIAL 0x82F63B78u /* Castagnoli, reflected */

/* Three streams hide the latency of the CRC instruction: 3 * 1360 bytes fit into a block of 4 KiB and leave little, 3 * 168 into one
 * of 512 bytes. Multiples of 8. */
#define LONG_STREAM 1360
#define SHORT_STREAM 168

/* x^n modulo P, in the register's order of bits. */
uint32_t swd_crc_power(unsigned long n);

#define SWD_CRC_DECLARE(name)                                                                                                      \
    int swd_crc_##name##_supported(void);                                                                                          \
    uint32_t swd_crc_##name##_update(uint32_t crc, const uint8_t *src, size_t n);                                                  \
    uint32_t swd_crc_##name##_copy(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n);

SWD_CRC_DECLARE(avx512)
SWD_CRC_DECLARE(sse42)
SWD_CRC_DECLARE(armv8)

#endif
