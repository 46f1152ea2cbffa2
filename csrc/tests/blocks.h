/* Which blocks of memory are held: the addresses that were taken and not freed, for a program that counts them.
 *
 * STATE. A hash table without removal marks, one in each program that includes this, with BLOCK_BITS said before. Its user
 * has a lock for it. It takes no memory, because it is used within the calls that do.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MOST_BLOCKS = 1 << BLOCK_BITS };

static void *blocks[MOST_BLOCKS];
static long n_blocks;

static inline size_t
block_at(const void *address)
{
    size_t at = (size_t)(((uintptr_t)address * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - BLOCK_BITS));
    while (blocks[at] != NULL && blocks[at] != address) {
        at = (at + 1) % MOST_BLOCKS;
    }
    return at;
}

/* False if there are too many. */
static inline bool
block_add(void *address)
{
    if (n_blocks >= MOST_BLOCKS / 2) {
        return false;
    }
    blocks[block_at(address)] = address;
    n_blocks++;
    return true;
}

/* Does nothing for NULL and for what is not there. What follows a block that is taken out is put in again, because it may
 * have stood further on for its sake. */
static inline void
block_remove(const void *address)
{
    size_t at = block_at(address);
    if (address == NULL || blocks[at] != address) {
        return;
    }
    blocks[at] = NULL;
    n_blocks--;
    for (at = (at + 1) % MOST_BLOCKS; blocks[at] != NULL; at = (at + 1) % MOST_BLOCKS) {
        void *moved = blocks[at];
        blocks[at] = NULL;
        blocks[block_at(moved)] = moved;
    }
}

#endif
