/* SPDX-License-Identifier: Apache-2.0 */
/* Plans: any bytes are refused or decoded; what was decoded encodes to bytes that decode to the same. */
#include "base/mem.h"
#include "model/plan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct plan plan, again;
    CLEANUP(buf_cleanup) struct buf first, second;
    arena_init(&arena, NULL, 64u << 20);
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    if (plan_decode(slice_make(data, size), &arena, &plan, NULL) == OCH_OK) {
        plan_encode(&plan, &first);
        require(first.len <= size); /* the shortest form */
        require(plan_decode(buf_view(&first), &arena, &again, NULL) == OCH_OK);
        plan_encode(&again, &second);
        require(slice_equal(buf_view(&first), buf_view(&second)));
        require(plan.id_count == again.id_count && plan.kind == again.kind);
    }
    arena_done(&arena);
    return 0;
}
