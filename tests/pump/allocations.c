/* SPDX-License-Identifier: Apache-2.0
 *
 * For LD_PRELOAD: counts what is asked of the heap, by all threads of a process.
 */
#include <stdatomic.h>
#include <stddef.h>

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static atomic_ulong asked;

unsigned long allocations(void) { return asked; }
void *malloc(size_t size) { asked++; return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { asked++; return __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { asked++; return __libc_realloc(old, size); }
void *memalign(size_t to, size_t size) { asked++; return __libc_memalign(to, size); }
void *aligned_alloc(size_t to, size_t size) { asked++; return __libc_memalign(to, size); }
int posix_memalign(void **found, size_t to, size_t size) { asked++; return (*found = __libc_memalign(to, size)) ? 0 : 12; }
