/* SPDX-License-Identifier: Apache-2.0 */
/* Counted, immutable memory for batches. */
#include "model/batch_internal.h"

#define PAYLOAD_ALIGN 64

och_code payload_new_raw(size_t len, struct budget *budget, struct payload **ret_payload,
                         och_error *err)
{
    size_t total;
    if (add_overflows(len, sizeof(struct payload), &total))
        return FAIL(err, OCH_TOO_LARGE, "a batch of %zu bytes", len);
    TRY(budget_take(budget, total, "batch", err));
    struct payload *payload = MEM_NEW(struct payload);
    if (payload) {
        payload->at = mem_alloc_aligned(PAYLOAD_ALIGN, len ? len : 1);
        if (payload->at) {
            atomic_init(&payload->refs, 1);
            payload->budget = budget;
            payload->len = len;
            *ret_payload = payload;
            return OCH_OK;
        }
        mem_free(payload);
    }
    budget_give(budget, total);
    return FAIL(err, OCH_NO_MEMORY, "no memory for a batch of %zu bytes", len);
}

struct payload *payload_new(size_t len, struct budget *budget)
{
    struct payload *payload;
    if (payload_new_raw(len, budget, &payload, NULL) != OCH_OK)
        return NULL;
    if (len)
        memset(payload->at, 0, len);
    return payload;
}

struct payload *payload_ref(struct payload *payload)
{
    /* Whoever calls this holds a reference already, so nothing has to be ordered. */
    uint32_t before = atomic_fetch_add_explicit(&payload->refs, 1, memory_order_relaxed);
    assert(before > 0 && before < UINT32_MAX);
    (void)before;
    return payload;
}

void payload_unref(struct payload *payload)
{
    if (!payload)
        return;
    /* Release our reads, acquire everyone's before the memory goes: pairs with itself. */
    if (atomic_fetch_sub_explicit(&payload->refs, 1, memory_order_acq_rel) != 1)
        return;
    budget_give(payload->budget, payload->len + sizeof(struct payload));
    mem_free_aligned(payload->at);
    mem_free(payload);
}

void payload_cleanup(struct payload **payload)
{
    payload_unref(*payload);
}
