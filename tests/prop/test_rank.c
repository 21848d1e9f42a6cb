/* SPDX-License-Identifier: Apache-2.0 */
/* Search beside a plain evaluator: every operator of rank expressions over dense, sparse and text rankings, filters, groups and pages, while rows are added,
 * changed, deleted, flushed, merged and the database is opened again.  Answers are equal to the bit; those that came as JSON have what `select` names.
 *
 * OCHRE_RANK_CASES: how many payloads are compared; OCHRE_PROP_SEED: other ones. */
#define STACK_GATEWAY
#include "support/sparse_collection.h"
#include "support/stack.h"

#include "model/search.h"

#include "rank_select.h"

/* ---- writing ---- */

static void write_metadata(const struct row *row, struct buf *out)
{
    write_colors(row, out);
    for (int k = 0; k < 2; k++) {
        buf_printf(out, ",\"%s\":", k ? "rare" : "plain");
        if (row->dim_count)
            write_sparse(row->dims, row->weights, row->dim_count, out);
        else
            buf_text(out, "null");
    }
    buf_text(out, "}");
    buf_byte(out, 0);
}

/* A new row in whole, or what an update names of an old one. */
static void write_row(struct stack *s, uuid id, struct table *table, struct row *row,
                      struct random *random)
{
    bool is_new = !row->live;
    bool vector = is_new ? below(random, 8) != 0 : below(random, 3) == 0;
    bool document = is_new || below(random, 2), metadata = is_new || below(random, 2);
    struct stack_row out = {.op = is_new ? BATCH_ADD : BATCH_UPDATE, .id = row->id};
    CLEANUP(buf_cleanup) struct buf text;
    buf_init(&text, BUF_MAX_NONE);
    if (is_new) {
        char name[16];
        memcpy(name, row->id, sizeof(name));
        arena_done(&row->arena);
        *row = (struct row){.live = true, .order = table->next_order++};
        memcpy(row->id, name, sizeof(name));
    }
    row->has_vector = row->has_vector || vector;
    row->at = vector ? (float)below(random, 30) : row->at;
    out.no_vector = !vector;
    out.value = row->at;
    if (document) {
        random_document(random, row, table->filler);
        out.document = row->has_document ? row->document : NULL;
        out.clear_document = !row->has_document && !is_new;
    }
    if (below(random, 3) == 0) {
        (void)snprintf(row->uri, sizeof(row->uri), "u%u", below(random, 1000));
        out.uri = row->uri;
    }
    if (metadata) {
        random_metadata(random, row);
        random_extra(random, row);
        write_metadata(row, &text);
        out.metadata_json = (const char *)text.at;
    }
    see(row);
    stack_write(s, id, &out, 1);
}

static void write_new(struct stack *s, uuid id, struct table *table, struct random *random)
{
    struct row *row = &table->rows[table->count];
    (void)snprintf(row->id, sizeof(row->id), "r%u", table->count++);
    write_row(s, id, table, row, random);
}

static void change(struct stack *s, uuid id, struct table *table, struct random *random)
{
    uint32_t what = below(random, 40);
    if (what == 0 && !table->long_tail) {
        OK(compactor_run(s->compactor, &id, below(random, 2), err));
    } else if (what == 1) {
        stack_close(s);
        stack_open(s);
    } else if (what < 8 && table->count) {
        struct row *row = &table->rows[below(random, table->count)];
        if (row->live)
            stack_delete(s, id, row->id);
        row->live = false;
    } else if (what < 16 && table->count) {
        write_row(s, id, table, &table->rows[below(random, table->count)], random);
    } else if (table->count < ROWS_MAX) {
        write_new(s, id, table, random);
    }
}

/* ---- asking ---- */

/* As the gateway does; every eighth request by way of its bytes. */
static void search(struct stack *s, uuid id, slice text, bool as_bytes, struct arena *arena,
                   struct query_result *ret)
{
    struct json_value body;
    struct json_fault fault;
    struct search_request request;
    OK(json_read(text, NULL, arena, &body, &fault, err));
    OK(search_parse(&body, text, arena, &request, err));
    OK(search_check(&request, err));
    for (uint32_t i = 0; i < request.count; i++)
        for (uint32_t j = 0; j < request.searches[i].knn_count; j++)
            request.searches[i].knns[j].bm25 =
                request.searches[i].knns[j].sparse &&
                slice_equal(request.searches[i].knns[j].key, SLICE("rare"));
    if (as_bytes) {
        struct buf out;
        buf_init(&out, BUF_MAX_NONE);
        search_encode(request.searches, request.count, &out);
        slice bytes = arena_copy(arena, buf_view(&out));
        buf_done(&out);
        struct reader reader = reader_of(bytes);
        OK(search_decode(&reader, arena, &request.searches, &request.count, err));
        assert_int_equal(reader_left(&reader), 0);
    }
    struct plan plan = {.kind = PLAN_SEARCH,
                        .collection = id,
                        .limit = PLAN_NO_LIMIT,
                        .recall = 1,
                        .searches = request.searches,
                        .search_count = request.count};
    OK(query_run(s->query, &plan, NULL, arena, ret, err));
    assert_int_equal(ret->hit_count, request.count);
}

static void compare(const struct question *q, const struct table *table,
                    const struct query_hits *hits, slice asked)
{
    struct ranked list[ROWS_MAX];
    uint32_t expected = expected_hits(q, table, list);
    if (hits->count != expected)
        fail_msg("%zu hits, not %u: %.*s", hits->count, expected, SLICE_ARG(asked));
    for (uint32_t j = 0; j < expected; j++) {
        slice name = hits->rows[j].record.id;
        if (!slice_equal(name, slice_of(list[j].row->id)) ||
            memcmp(&hits->rows[j].distance, &list[j].score, sizeof(float)) != 0)
            fail_msg("hit %u: %.*s %.9g, not %s %.9g: %.*s", j, SLICE_ARG(name),
                     (double)hits->rows[j].distance, list[j].row->id, (double)list[j].score,
                     SLICE_ARG(asked));
    }
}

/* As clients do.  A body has 64 bytes behind it that may be read. */
static void exchange(struct stack *s, uuid id, slice text, struct arena *arena,
                     struct json_value *ret)
{
    char target[200], name[UUID_TEXT_SIZE];
    struct json_fault fault;
    struct http_handler handler = gateway_handler(s->gateway);
    struct http_reply reply;
    uint8_t *body = arena_alloc(arena, text.len + 64);
    assert_non_null(body);
    memcpy(body, text.at, text.len);
    memset(body + text.len, 0, 64);
    uuid_format(id, name);
    (void)snprintf(
        target, sizeof(target),
        "/api/v2/tenants/default_tenant/databases/default_database/collections/%s/search", name);
    struct http_request request = {.method = SLICE("POST"),
                                   .target = slice_of(target),
                                   .path = slice_of(target),
                                   .body = slice_make(body, text.len),
                                   .peer = SLICE("in-process")};
    http_reply_init(&reply, 64u << 20);
    handler.handle(handler.context, &request, &reply);
    slice answer = arena_copy(arena, buf_view(&reply.body));
    if (reply.status != 200)
        fail_msg("%d %.*s: %.*s", reply.status, SLICE_ARG(answer), SLICE_ARG(text));
    http_reply_done(&reply);
    OK(json_read(answer, NULL, arena, ret, &fault, err));
}

static uint32_t ask(struct stack *s, uuid id, const struct table *table, struct random *random)
{
    struct arena arena;
    struct question questions[3];
    struct select selects[3];
    struct query_result result;
    struct json_value answer;
    CLEANUP(buf_cleanup) struct buf text;
    arena_init(&arena, &s->budget, 0);
    buf_init(&text, BUF_MAX_NONE);
    regex_forget();
    uint32_t count = 1 + below(random, COUNT_OF(questions));
    bool whole = below(random, 3) == 0;
    buf_text(&text, whole ? "{\"searches\":" : "");
    for (uint32_t i = 0; i < count; i++) {
        random_question(random, table->count, &arena, &questions[i]);
        random_select(random, &selects[i]);
        buf_byte(&text, i ? ',' : '[');
        write_question(&questions[i], &text);
        write_select(&selects[i], &text);
        buf_byte(&text, '}');
    }
    buf_text(&text, whole ? "]}" : "]");
    if (whole) {
        exchange(s, id, buf_view(&text), &arena, &answer);
        compare_answer(&answer, questions, selects, count, table);
    } else {
        search(s, id, buf_view(&text), below(random, 8) == 0, &arena, &result);
        for (uint32_t i = 0; i < count; i++)
            compare(&questions[i], table, &result.hits[i], buf_view(&text));
        query_result_done(&result);
    }
    arena_done(&arena);
    return count;
}

static unsigned long long number_of(const char *name, unsigned long long otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void searches_answer_like_a_plain_evaluator(void **state)
{
    (void)state;
    unsigned long long cases = number_of("OCHRE_RANK_CASES", 12000), done = 0,
                       seed = number_of("OCHRE_PROP_SEED", 1);
    struct table *table = calloc(1, sizeof(*table));
    assert_non_null(table);
    model_init();
    buf_init(&rules.text, BUF_MAX_NONE);
    for (unsigned long long round = 0; done < cases; round++) {
        struct stack s = {.threads = 1 + (unsigned)(round % 3)};
        struct random random;
        stack_open(&s);
        random_seed(&random, seed * 1000003 + round);
        for (uint32_t i = 0; i < table->count; i++)
            arena_done(&table->rows[i].arena);
        memset(table, 0, sizeof(*table));
        table->metric = (enum metric[]){METRIC_L2, METRIC_COSINE, METRIC_IP}[round % 3];
        table->filler = round % 3 == 0; /* parts with an index of terms */
        uuid id = sparse_collection_in(&s, "c", (const char *[]){"l2", "cosine", "ip"}[round % 3]);
        table->long_tail = round % 4 == 3; /* the tail has indexes of its own */
        int steps = table->long_tail ? 1200 : 240;
        if (round % 5 == 1) { /* a part with all its indexes */
            while (table->count < 150)
                write_new(&s, id, table, &random);
            OK(compactor_run(s.compactor, &id, false, err));
        }
        for (int step = 0; step < steps; step++) {
            change(&s, id, table, &random);
            for (int i = 0; i < 6 && step % (table->long_tail ? 10 : 2) == 0; i++)
                done += ask(&s, id, table, &random);
        }
        stack_done(&s);
    }
    for (uint32_t i = 0; i < table->count; i++)
        arena_done(&table->rows[i].arena);
    free(table);
    buf_done(&rules.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_answer_like_a_plain_evaluator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
