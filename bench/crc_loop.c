/* SPDX-License-Identifier: Apache-2.0
 *
 * The CRC32C kernels in a C loop: name, bytes, GB/s of checking, GB/s of copying and checking; one line each. Compiled
 * by bench/crc.py together with swd/_crc32c_*.c. The buffers stay hot; 64 MiB do not fit any cache.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "_crc32c_kernels.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int count, char **words)
{
    double budget = count > 1 ? atof(words[1]) : 0.05;
    static const size_t sizes[] = {48, 512, 4096, 65536, 1 << 20, 64 << 20};
    uint8_t *from = malloc(64 << 20), *to = malloc(64 << 20);
    volatile uint32_t sink = 0;
    memset(from, 0x5a, 64 << 20), memset(to, 0, 64 << 20);
    swd_crc_init();
    for (const struct swd_crc_kernel *kernel = swd_crc_kernels; kernel->name; kernel++) {
        if (!kernel->supported()) continue;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            double rate[2];
            for (int copying = 0; copying < 2; copying++) {
                size_t size = sizes[i], rounds = 1 + (1 << 20) / size, done = 0;
                double began = now(), spent;
                do {
                    for (size_t round = 0; round < rounds; round++)
                        sink += copying ? kernel->copy(sink, to, from, size) : kernel->update(sink, from, size);
                    done += rounds;
                } while ((spent = now() - began) < budget);
                rate[copying] = done * (double)size / spent / 1e9;
            }
            printf("%s %zu %.3f %.3f\n", kernel->name, sizes[i], rate[0], rate[1]);
        }
    }
    return 0;
}
