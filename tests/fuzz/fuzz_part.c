/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an object with one part.  The first byte chooses: bit 0, make all checksums right first (else nearly nothing gets past
 * them); bit 1, and then change one byte more, so that damage is met while reading.  The property: no crash, no leak, no pin left. */
#include "part_reseal.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const uint8_t *at, size_t size)
{
    struct bytes_store bytes = bytes_store_of(at, size);
    struct part_ref ref;
    struct cache *cache;
    struct budget budget;
    uuid collection;
    budget_init(&budget, 0, NULL);
    if (cache_new(64 << 20, &budget, &cache, NULL) != OCH_OK)
        abort();
    if (part_ref_at_end(&bytes.store, (object_id){{1}}, size, &ref, &collection, NULL) == OCH_OK) {
        struct part_env env = {&bytes.store, cache, NULL};
        struct part *part;
        if (part_open(&env, &ref, collection, &part, NULL) == OCH_OK) {
            part_ask_everything(part, cache);
            part_unref(part);
        }
    }
    cache_free(cache); // asserts that nothing is pinned
    if (budget_used(&budget) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4 || size > 1 << 20)
        return 0;
    uint64_t live = mem_count_live();
    uint8_t *copy = malloc(size - 3);
    if (!copy)
        return 0;
    memcpy(copy, data + 3, size - 3);
    if (data[0] & 1)
        reseal(copy, size - 3);
    if (data[0] & 2)
        copy[load_u16(data + 1) % (size - 3)] ^= 0x10;
    ask(copy, size - 3);
    free(copy);
    if (mem_count_live() != live)
        abort();
    return 0;
}
