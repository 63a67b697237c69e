/* SPDX-License-Identifier: Apache-2.0 */
/* CRC32C kernels: the same function in several instruction sets, chosen at run time.
 *
 * All work on the raw register (no inversion at either end), so that a checksum can be continued over pieces:
 * crc = ~0; crc = update(crc, ...); ...; digest = ~crc. The digest goes on the wire least significant byte first
 * (RFC 7143 13.1). The copying form moves the bytes in the same pass. */
#ifndef SWD_CRC32C_KERNELS_H
#define SWD_CRC32C_KERNELS_H
#include <stddef.h>
#include <stdint.h>

typedef uint32_t (*swd_crc_update)(uint32_t crc, const uint8_t *src, size_t n);
typedef uint32_t (*swd_crc_copy)(uint32_t crc, uint8_t *dst, const uint8_t *src, size_t n);

struct swd_crc_kernel {
    const char *name;
    int (*supported)(void);
    swd_crc_update update;
    swd_crc_copy copy;
};

/* Fastest first; a NULL name ends the table. The last one runs everywhere. */
extern const struct swd_crc_kernel swd_crc_kernels[];

/* Fills the tables; to be called once before any kernel, under the import lock. */
void swd_crc_init(void);

#endif
