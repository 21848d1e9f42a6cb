/* SPDX-License-Identifier: Apache-2.0 */
/* Searches.  First byte: even the payloads as JSON, odd encoded bytes.  What parses encodes to bytes that decode to the same bytes; every expression
 * is a sound program, whatever its $knn give. */
#include "base/mem.h"
#include "model/plan.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void evaluate(const struct search *search, struct arena *arena)
{
    require(rank_sound(search->steps, search->step_count, search->knn_count));
    struct rank_value *knns = ARENA_ARRAY(arena, struct rank_value, (size_t)search->knn_count + 1);
    if (!knns)
        return;
    for (unsigned round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < search->knn_count; i++)
            knns[i] = (struct rank_value){.value = (float)i,
                                          .fallback = search->knns[i].fallback,
                                          .has = (round + i) % 2,
                                          .has_fallback = (round / 2 + i) % 2};
        struct rank_value v = rank_evaluate(search->steps, search->step_count, knns);
        require(!v.has || !isnan(v.value) || !signbit(v.value) || search->step_count == 1);
        require(rank_compare(v.value, v.value) == 0);
    }
}

static void round_trip(const struct search *searches, uint32_t count, struct arena *arena)
{
    CLEANUP(buf_cleanup) struct buf first, second;
    struct search *again;
    uint32_t again_count;
    buf_init(&first, BUF_MAX_NONE);
    buf_init(&second, BUF_MAX_NONE);
    search_encode(searches, count, &first);
    struct reader reader = reader_of(buf_view(&first));
    require(search_decode(&reader, arena, &again, &again_count, NULL) == OCH_OK);
    require(reader_left(&reader) == 0 && again_count == count);
    search_encode(again, again_count, &second);
    require(slice_equal(buf_view(&first), buf_view(&second)));
    for (uint32_t i = 0; i < count; i++)
        if (searches[i].has_rank)
            evaluate(&searches[i], arena);
}

static void parse(slice text, struct arena *arena)
{
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    och_error err = {0};
    if (json_read(text, NULL, arena, &body, &fault, NULL) != OCH_OK || body.kind != JSON_ARRAY)
        return;
    och_code code = search_parse(&body, text, arena, &request, &err);
    if (code == OCH_OK)
        code = search_check(&request, &err);
    require(code == OCH_OK || code == OCH_INVALID || code == OCH_SHAPE || code == OCH_NO_MEMORY);
    if (code != OCH_OK)
        return;
    for (uint32_t i = 0; i < request.count;
         i++) /* a wire's vector may be longer than any that is kept */
        for (uint32_t j = 0; j < request.searches[i].knn_count; j++)
            if (request.searches[i].knns[j].count > 65535)
                return;
    round_trip(request.searches, request.count, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct arena arena;
    arena_init(&arena, NULL, 64u << 20);
    slice rest = slice_make(data + 1, size - 1);
    if (data[0] % 2 == 0) {
        parse(rest, &arena);
    } else {
        struct reader reader = reader_of(rest);
        struct search *searches;
        uint32_t count;
        if (search_decode(&reader, &arena, &searches, &count, NULL) == OCH_OK)
            round_trip(searches, count, &arena);
    }
    arena_done(&arena);
    return 0;
}
