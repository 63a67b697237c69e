/* SPDX-License-Identifier: Apache-2.0 */
/* Every kernel of this processor against bit-by-bit division, over lengths, alignments and continuations; names what it checked. */
#include "_crc32c_kernels.h"
#include <stdio.h>
#include <string.h>

enum { SIZE = 40000, MARGIN = 64 };
static uint8_t picture[SIZE + MARGIN], copied[SIZE + 2 * MARGIN];

static uint32_t by_division(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
    }
    return crc;
}

static int wrong(const struct swd_crc_kernel *kernel, size_t start, size_t n)
{
    const uint8_t *src = picture + start;
    uint8_t *dst = copied + MARGIN / 2 + start % 7;
    uint32_t right = by_division(0xFFFFFFFFu, src, n), cut = (uint32_t)(n / 3);
    memset(copied, 0xA5, sizeof copied);
    if (kernel->update(0xFFFFFFFFu, src, n) != right || kernel->copy(0xFFFFFFFFu, dst, src, n) != right)
        return 1;
    if (kernel->update(kernel->update(0xFFFFFFFFu, src, cut), src + cut, n - cut) != right)
        return 1;
    return memcmp(dst, src, n) != 0 || dst[-1] != 0xA5 || dst[n] != 0xA5;
}

int main(void)
{
    static const size_t lengths[] = {504, 505, 1007, 1008, 4079, 4080, 4081, 4096, 8160, 12240, 12241, 20000, SIZE - 32};
    for (size_t i = 0; i < sizeof picture; i++)
        picture[i] = (uint8_t)(i * 131 + (i >> 7) * 17 + (i >> 13));
    swd_crc_init();
    for (const struct swd_crc_kernel *kernel = swd_crc_kernels; kernel->name; kernel++) {
        if (!kernel->supported())
            continue;
        for (size_t n = 0; n < 1200; n++)
            if (wrong(kernel, n % 17, n)) {
                printf("%s is wrong at %zu bytes\n", kernel->name, n);
                return 1;
            }
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (size_t start = 0; start < 9; start++)
                if (wrong(kernel, start, lengths[i])) {
                    printf("%s is wrong at %zu bytes from %zu\n", kernel->name, lengths[i], start);
                    return 1;
                }
        printf("%s\n", kernel->name);
    }
    return 0;
}
