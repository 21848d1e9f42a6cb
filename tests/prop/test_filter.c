/* SPDX-License-Identifier: Apache-2.0 */
/* Random filters of every operator, type and nesting through the whole: get in every order, count, query, search, facets, delete and update by filter, while
 * rows are written, changed, deleted, expire, are flushed and merged, and the database is opened again.  Every answer is that of reading the rules for each
 * record by itself.
 *
 * OCHRE_FILTER_CASES: how many filters are asked; OCHRE_PROP_SEED: other ones. */
#define STACK_GATEWAY
#include "support/stack.h"

#include "support/filter_rules.h"

#include "part/part_internal.h"

#define ROWS_MAX      360
#define ROWS_FIRST    220 /* enough of them, and of text, for the indexes of a part */
#define KEYS          COUNT_OF(rule_keys)
#define VALUE_BYTES   2600
#define DOCUMENT_MAX  2048
#define FILLER_BYTES  1500
#define QUESTIONS_MAX 6 /* after one another */

struct row {
    char id[16];
    bool live, has_vector;
    uint32_t born; /* place in order of insertion */
    float at;      /* the vector is {at, 1, 0, 0} */
    int64_t expires_ms;
    char values[KEYS][VALUE_BYTES]; /* JSON; empty: missing */
    struct arena arena;             /* of what the rules see */
    struct ruled ruled;
};
struct world {
    struct stack stack;
    uuid id;
    struct rule_writer writer;
    struct row *rows;
    uint32_t count, born;
    bool filler, expiry;
    uint64_t with_meta, with_text; /* how often parts had these indexes */
};

static struct gateway_scope scope = {.tenant = {(const uint8_t *)"default_tenant", 14},
                                     .database = {(const uint8_t *)"default_database", 16}};

static uint32_t below(struct world *w, uint32_t count)
{
    return (uint32_t)rule_below(&w->writer, count);
}

static slice written(struct world *w, struct arena *arena)
{
    slice text = arena_copy(arena, buf_view(&w->writer.text));
    assert_false(w->writer.text.failed);
    buf_clear(&w->writer.text);
    return text;
}

static struct json_value *json_in(struct arena *arena, slice text)
{
    struct json_value *value = ARENA_NEW(arena, struct json_value);
    struct json_fault fault;
    OK(json_read(text, NULL, arena, value, &fault, err));
    return value;
}

static int64_t now_ms(struct world *w)
{
    return (int64_t)(clock_wall_ns(&w->stack.clock.clock) / 1000000);
}

static bool is_there(struct world *w, const struct row *row)
{
    return row->live && (!row->expires_ms || row->expires_ms > now_ms(w));
}

/* ---- writing ---- */

/* What a row of metadata says of each key: "" nothing, "null" it goes, or a value; and the JSON of all. */
static slice random_patch(struct world *w, bool is_new, char patch[KEYS][VALUE_BYTES],
                          struct arena *arena)
{
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    buf_byte(&out, '{');
    for (size_t k = 0; k < KEYS; k++) {
        uint32_t form = below(w, 6);
        patch[k][0] = 0;
        if (form < 2)
            continue;
        if (form == 2 && !is_new)
            buf_text(&w->writer.text, "null");
        else
            rule_write_value(&w->writer);
        slice value = written(w, arena);
        assert_true(value.len < VALUE_BYTES);
        memcpy(patch[k], value.at, value.len);
        patch[k][value.len] = 0;
        buf_printf(&out, "%s\"%s\":%s", out.len > 1 ? "," : "", rule_keys[k], patch[k]);
    }
    buf_byte(&out, '}');
    slice all = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return all;
}

static void lay_over(struct row *row, char patch[KEYS][VALUE_BYTES])
{
    for (size_t k = 0; k < KEYS; k++) {
        if (strcmp(patch[k], "null") == 0)
            row->values[k][0] = 0;
        else if (patch[k][0])
            memcpy(row->values[k], patch[k], strlen(patch[k]) + 1);
    }
}

static slice random_document(struct world *w, struct arena *arena)
{
    char filler[FILLER_BYTES + 1];
    rule_write_text(&w->writer);
    slice text = json_in(arena, written(w, arena))->string;
    if (!w->filler || below(w, 8) == 0)
        return text;
    for (size_t i = 0; i < FILLER_BYTES; i++)
        filler[i] = "~ .-"[i * i % 7 % 4];
    filler[FILLER_BYTES] = 0;
    size_t cut = below(w, 3) * FILLER_BYTES / 2; /* before, around or behind it */
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    buf_append(&out, filler, cut);
    buf_slice(&out, text);
    buf_append(&out, filler + cut, FILLER_BYTES - cut);
    slice all = arena_copy(arena, buf_view(&out));
    buf_done(&out);
    return all;
}

/* The record as JSON, anew. */
static void see(struct world *w, struct row *row, slice document)
{
    struct arena old = row->arena;
    struct buf out;
    buf_init(&out, BUF_MAX_NONE);
    arena_init(&row->arena, NULL, 0);
    row->ruled.id = slice_of(row->id);
    row->ruled.document = document.at ? arena_copy(&row->arena, document) : SLICE_NONE;
    buf_byte(&out, '{');
    for (size_t k = 0; k < KEYS; k++) {
        if (row->values[k][0])
            buf_printf(&out, "%s\"%s\":%s", out.len > 1 ? "," : "", rule_keys[k], row->values[k]);
    }
    buf_byte(&out, '}');
    row->ruled.metadata = json_in(&row->arena, arena_copy(&row->arena, buf_view(&out)));
    buf_done(&out);
    arena_done(&old);
    (void)w;
}

static void encode_metadata(slice json, struct arena *arena, struct batch_input_row *out)
{
    struct buf encoded;
    buf_init(&encoded, BUF_MAX_NONE);
    OK(meta_from_json(json_in(arena, json), META_ALLOW_DELETE, &encoded, err));
    out->metadata_state = FIELD_VALUE;
    out->metadata = arena_copy(arena, buf_view(&encoded));
    buf_done(&encoded);
}

/* A new row in whole, or what an update names of an old one. */
static void write_row(struct world *w, struct row *row)
{
    static char patch[KEYS][VALUE_BYTES];
    struct arena arena;
    float vector[STACK_DIM] = {0, 1};
    bool is_new = !is_there(w, row);
    struct batch_input_row out = {.op = is_new ? BATCH_ADD : BATCH_UPDATE, .id = slice_of(row->id)};
    struct gateway_counts counts;
    arena_init(&arena, NULL, 0);
    if (is_new) {
        row->live = true;
        row->born = w->born++;
        row->has_vector = false;
        row->expires_ms = 0;
        memset(row->values, 0, sizeof(row->values));
        if (w->expiry && below(w, 4) == 0)
            out.expires_ms = row->expires_ms = now_ms(w) + 1 + below(w, 200000);
    }
    if (is_new ? below(w, 10) : below(w, 3) == 0) {
        row->at = vector[0] = (float)below(w, 40);
        row->has_vector = true;
        out.vector = vector;
    }
    slice document = is_new ? SLICE_NONE : row->ruled.document;
    if (below(w, is_new ? 6 : 2)) {
        document = random_document(w, &arena);
        out.document_state = FIELD_VALUE;
        out.document = document;
    } else if (!is_new && below(w, 3) == 0) {
        document = SLICE_NONE;
        out.document_state = FIELD_CLEAR;
    }
    if (below(w, is_new ? 8 : 2)) {
        encode_metadata(random_patch(w, is_new, patch, &arena), &arena, &out);
        lay_over(row, patch);
    }
    see(w, row, document);
    struct gateway_write write = {
        .collection = w->id,
        .input = {.count = 1, .dimension = out.vector ? STACK_DIM : 0, .rows = &out}};
    OK(gateway_write(w->stack.gateway, &scope, &write, &counts, err));
    arena_done(&arena);
}

static void look_at_parts(struct world *w)
{
    struct view *view;
    OK(view_acquire(w->stack.views, w->id, READ_INDEX_AND_WAL, &view, err));
    for (size_t i = 0; i < view_part_count(view); i++) {
        w->with_meta += part_has(view_part(view, i), SECTION_META);
        w->with_text += part_has(view_part(view, i), SECTION_TEXT);
    }
    view_release(view);
}

static void change(struct world *w)
{
    uint32_t what = below(w, 60);
    struct row *row = &w->rows[below(w, w->count)];
    if (what == 0) {
        OK(compactor_run(w->stack.compactor, &w->id, below(w, 2), err));
        look_at_parts(w);
    } else if (what == 1 && below(w, 2)) {
        stack_close(&w->stack);
        stack_open(&w->stack);
    } else if (what < 8) {
        if (row->live)
            stack_delete(&w->stack, w->id, row->id);
        row->live = false;
    } else if (what < 30) {
        write_row(w, row); /* one that is gone comes back */
    } else if (what == 30 && w->expiry) {
        clock_manual_advance(&w->stack.clock, UINT64_C(5000000000));
    } else if (w->count < ROWS_MAX) {
        row = &w->rows[w->count];
        (void)snprintf(row->id, sizeof(row->id), "r%u", w->count++);
        write_row(w, row);
    }
}

/* ---- the truth ---- */

struct question {
    slice where, document;                               /* JSON; at NULL: none */
    const struct json_value *where_json, *document_json; /**/
    bool has_ids, chosen[ROWS_MAX];                      /* by ids */
    slice ids[64];
    uint64_t id_count;
    struct filter_node *filter;
};

static int by_birth(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;
    return (x->born > y->born) - (x->born < y->born);
}

/* In order of insertion. */
static uint32_t expected(struct world *w, const struct question *q, struct row **ret)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct row *row = &w->rows[i];
        if (is_there(w, row) && (!q->has_ids || q->chosen[i]) &&
            (!q->where_json || rule_truth(&row->ruled, q->where_json)) &&
            (!q->document_json || rule_truth(&row->ruled, q->document_json)))
            ret[count++] = row;
    }
    if (count > 1)
        qsort((void *)ret, count, sizeof(struct row *), by_birth);
    return count;
}

static struct plan_order sorting; /* what qsort asks for */

static int by_order(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;
    int order = 0;
    if (sorting.by == PLAN_BY_INSERTION)
        return sorting.descending ? -by_birth(a, b) : by_birth(a, b);
    if (sorting.by == PLAN_BY_ID) {
        order = strcmp(x->id, y->id);
    } else {
        const struct json_value *left = json_get(x->ruled.metadata, sorting.key),
                                *right = json_get(y->ruled.metadata, sorting.key);
        if (!left || !right) /* without: last, both ways */
            return !left && !right ? by_birth(a, b) : !left - !right;
        order = rule_compare(left, right, true);
    }
    if (order == 0)
        return by_birth(a, b);
    return sorting.descending ? -order : order;
}

/* ---- asking ---- */

static void random_question(struct world *w, struct arena *arena, struct question *q)
{
    struct filter_node *where = NULL, *document = NULL;
    *q = (struct question){0};
    regex_forget();
    w->writer.ids = (int)w->count;
    if (below(w, 8)) {
        rule_write_clause(&w->writer, below(w, 6), false);
        q->where = written(w, arena);
        q->where_json = json_in(arena, q->where);
        OK(filter_parse_where(q->where_json, arena, &where, err));
    }
    if (below(w, 4) == 0) {
        rule_write_clause(&w->writer, below(w, 4), true);
        q->document = written(w, arena);
        q->document_json = json_in(arena, q->document);
        OK(filter_parse_document(q->document_json, arena, &document, err));
    }
    OK(filter_join(where, document, arena, &q->filter, err));
    if (below(w, 5))
        return;
    q->has_ids = true;
    q->id_count = below(w, COUNT_OF(q->ids));
    for (uint64_t i = 0; i < q->id_count; i++) {
        uint32_t row = below(w, w->count + 5);
        q->ids[i] = slice_of(arena_printf(arena, "r%u", row));
        if (row < w->count)
            q->chosen[row] = true;
    }
}

static struct plan plan_of(struct world *w, const struct question *q, uint8_t kind)
{
    return (struct plan){.kind = kind,
                         .collection = w->id,
                         .fields = RECORD_ID,
                         .limit = PLAN_NO_LIMIT,
                         .recall = 1,
                         .filter = q->filter,
                         .has_ids = q->has_ids,
                         .ids = q->ids,
                         .id_count = q->id_count};
}

/* By way of the gateway, or of the plan's bytes. */
static void run(struct world *w, const struct plan *plan, struct arena *arena,
                struct query_result *ret)
{
    struct plan again;
    struct buf bytes;
    if (below(w, 2)) {
        OK(gateway_read(w->stack.gateway, &scope, plan, arena, ret, err));
        return;
    }
    buf_init(&bytes, BUF_MAX_NONE);
    plan_encode(plan, &bytes);
    slice encoded = arena_copy(arena, buf_view(&bytes));
    buf_done(&bytes);
    OK(plan_decode(encoded, arena, &again, err));
    OK(query_run(w->stack.query, &again, NULL, arena, ret, err));
}

#define SAY(q)                                                       \
    SLICE_ARG((q)->where.at ? (q)->where : SLICE("none")),           \
        SLICE_ARG((q)->document.at ? (q)->document : SLICE("none")), \
        (q)->has_ids ? "some ids" : "all ids"

static void same_rows(const struct question *q, const char *what, const struct query_hits *hits,
                      struct row *const *rows, uint32_t count)
{
    if (hits->count != count)
        fail_msg("%s: %zu rows instead of %u: %.*s; %.*s; %s", what, hits->count, count, SAY(q));
    for (uint32_t i = 0; i < count; i++) {
        if (!slice_equal(hits->rows[i].record.id, slice_of(rows[i]->id)))
            fail_msg("%s: row %u is %.*s instead of %s: %.*s; %.*s; %s", what, i,
                     SLICE_ARG(hits->rows[i].record.id), rows[i]->id, SAY(q));
    }
}

static void ask_get(struct world *w, const struct question *q, struct row **rows, uint32_t count,
                    struct arena *arena)
{
    struct query_result result;
    struct plan plan = plan_of(w, q, PLAN_GET);
    uint32_t by = below(w, 8);
    plan.order.descending = below(w, 2);
    if (by == 0)
        plan.order.by = PLAN_BY_ID;
    else if (by < 4)
        plan.order = (struct plan_order){PLAN_BY_KEY, plan.order.descending,
                                         slice_of(RULE_PICK(&w->writer, rule_keys))};
    if (below(w, 2)) {
        plan.offset = below(w, 3) ? 0 : below(w, count + 3);
        plan.limit = below(w, 30);
    }
    sorting = plan.order;
    if (count > 1)
        qsort((void *)rows, count, sizeof(struct row *), by_order);
    run(w, &plan, arena, &result);
    uint32_t first = plan.offset < count ? (uint32_t)plan.offset : count;
    same_rows(q, "get", &result.hits[0], rows + first,
              count - first < plan.limit ? count - first : (uint32_t)plan.limit);
    query_result_done(&result);
}

static float asked_at; /* what qsort asks for */

static int by_distance(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;
    float left = (x->at - asked_at) * (x->at - asked_at),
          right = (y->at - asked_at) * (y->at - asked_at);
    return left != right ? (left > right) - (left < right) : by_birth(a, b);
}

static uint32_t nearest(struct row **rows, uint32_t count, float at)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (rows[i]->has_vector)
            rows[kept++] = rows[i];
    }
    asked_at = at;
    if (kept > 1)
        qsort((void *)rows, kept, sizeof(struct row *), by_distance);
    return kept;
}

static void ask_query(struct world *w, const struct question *q, struct row **rows, uint32_t count,
                      struct arena *arena)
{
    struct query_result result;
    float vector[STACK_DIM] = {(float)below(w, 40), 1};
    struct plan plan = plan_of(w, q, PLAN_QUERY);
    plan.vectors = vector;
    plan.vector_count = 1;
    plan.dimension = STACK_DIM;
    plan.k = below(w, 4) ? 1 + below(w, 12) : 1000;
    count = nearest(rows, count, vector[0]);
    run(w, &plan, arena, &result);
    same_rows(q, "query", &result.hits[0], rows, count < plan.k ? count : plan.k);
    query_result_done(&result);
}

/* Filter alone, and with the nearest among what it leaves. */
static void ask_search(struct world *w, const struct question *q, struct row **rows, uint32_t count,
                       struct arena *arena)
{
    struct query_result result;
    struct search_request request;
    uint32_t limit = below(w, 30), at = below(w, 40);
    slice filter = q->where.at ? q->where : SLICE("null");
    slice text = slice_of(arena_printf(arena,
                                       "[{\"filter\":%.*s},{\"where\":%.*s,\"rank\":{\"$knn\":{"
                                       "\"query\":[%u,1,0,0],\"limit\":%u}}}]",
                                       SLICE_ARG(filter), SLICE_ARG(filter), at, limit));
    if (q->has_ids || q->document.at)
        return; /* not of a search */
    OK(search_parse(json_in(arena, text), text, arena, &request, err));
    OK(search_check(&request, err));
    struct plan plan = {.kind = PLAN_SEARCH,
                        .collection = w->id,
                        .limit = PLAN_NO_LIMIT,
                        .recall = 1,
                        .searches = request.searches,
                        .search_count = request.count};
    run(w, &plan, arena, &result);
    same_rows(q, "search", &result.hits[0], rows, count);
    count = nearest(rows, count, (float)at);
    same_rows(q, "search by $knn", &result.hits[1], rows, count < limit ? count : limit);
    query_result_done(&result);
}

static void ask_numbers(struct world *w, const struct question *q, struct row **rows,
                        uint32_t count, struct arena *arena)
{
    struct query_result result;
    struct plan plan = plan_of(w, q, PLAN_COUNT);
    run(w, &plan, arena, &result);
    if (result.count != count)
        fail_msg("count: %llu, not %u: %.*s; %.*s; %s", (unsigned long long)result.count, count,
                 SAY(q));
    query_result_done(&result);
    struct plan_facet facets[KEYS];
    for (size_t k = 0; k < KEYS; k++)
        facets[k] = (struct plan_facet){slice_of(rule_keys[k]), 10, below(w, 2)};
    plan = plan_of(w, q, PLAN_FACETS);
    plan.facets = facets;
    plan.facet_count = KEYS;
    run(w, &plan, arena, &result);
    for (size_t k = 0; k < KEYS; k++) {
        uint32_t have = 0;
        for (uint32_t i = 0; i < count; i++)
            have += rows[i]->values[k][0] != 0;
        if (result.count != count || result.facets[k].records != have)
            fail_msg("facets: %llu with %llu, not %u with %u: %.*s; %.*s; %s",
                     (unsigned long long)result.count, (unsigned long long)result.facets[k].records,
                     count, have, SAY(q));
    }
    query_result_done(&result);
}

static void change_chosen(struct world *w, const struct question *q, struct row **rows,
                          uint32_t count, struct arena *arena)
{
    static char patch[KEYS][VALUE_BYTES];
    struct plan plan = plan_of(w, q, PLAN_GET);
    struct batch_input_row set = {.op = BATCH_UPDATE};
    uint64_t done;
    bool dry_run = below(w, 4) == 0, deletes = below(w, 2);
    if (!q->filter)
        return;
    plan.limit = below(w, 12);
    count = count < plan.limit ? count : (uint32_t)plan.limit;
    encode_metadata(random_patch(w, false, patch, arena), arena, &set);
    if (deletes)
        OK(gateway_delete(w->stack.gateway, &scope, &plan, NULL, dry_run, &done, err));
    else
        OK(gateway_update_chosen(w->stack.gateway, &scope, &plan, &set, NULL, dry_run, &done, err));
    if (done != count)
        fail_msg("%s: %llu, not %u: %.*s; %.*s; %s", deletes ? "delete" : "update",
                 (unsigned long long)done, count, SAY(q));
    for (uint32_t i = 0; i < count && !dry_run; i++) {
        if (deletes)
            rows[i]->live = false;
        else
            lay_over(rows[i], patch);
        see(w, rows[i], rows[i]->ruled.document);
    }
}

static void ask(struct world *w)
{
    static struct row *rows[ROWS_MAX];
    static struct question q;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    random_question(w, &arena, &q);
    uint32_t count = expected(w, &q, rows), form = below(w, 24);
    if (form < 8)
        ask_get(w, &q, rows, count, &arena);
    else if (form < 14)
        ask_query(w, &q, rows, count, &arena);
    else if (form < 18)
        ask_numbers(w, &q, rows, count, &arena);
    else if (form < 23)
        ask_search(w, &q, rows, count, &arena);
    else
        change_chosen(w, &q, rows, count, &arena);
    arena_done(&arena);
}

static unsigned long long number_of(const char *name, unsigned long long otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* The initial rows are in one part, so that it has indexes; what comes then is in the tail and in small parts, and by and by all is merged. */
static uint64_t run_world(struct world *w, uint64_t cases)
{
    uint64_t done = 0;
    stack_open(&w->stack);
    w->id = stack_collection(&w->stack, "c", "l2");
    buf_init(&w->writer.text, BUF_MAX_NONE);
    w->rows = calloc(ROWS_MAX, sizeof(*w->rows));
    assert_non_null(w->rows);
    while (w->count < ROWS_FIRST) {
        struct row *row = &w->rows[w->count];
        (void)snprintf(row->id, sizeof(row->id), "r%u", w->count++);
        write_row(w, row);
    }
    OK(compactor_run(w->stack.compactor, &w->id, false, err));
    look_at_parts(w);
    for (int step = 0; step < 500 && done < cases; step++) {
        change(w);
        for (uint32_t i = below(w, QUESTIONS_MAX); i > 0; i--, done++)
            ask(w);
    }
    for (uint32_t i = 0; i < w->count; i++)
        arena_done(&w->rows[i].arena);
    free(w->rows);
    buf_done(&w->writer.text);
    stack_done(&w->stack);
    return done;
}

static void every_filter_answers_as_the_rules_read_for_each_record(void **state)
{
    (void)state;
    unsigned long long cases = number_of("OCHRE_FILTER_CASES", 6000), done = 0,
                       seed = number_of("OCHRE_PROP_SEED", 1);
    uint64_t with_meta = 0, with_text = 0;
    for (unsigned long long round = 0; done < cases; round++) {
        struct world w = {.stack.threads = 1 + (unsigned)(round % 3),
                          .filler = round % 2 == 0,
                          .expiry = round % 4 >= 2};
        random_seed(&w.writer.random, seed * 1000003 + round);
        done += run_world(&w, cases - done);
        with_meta += w.with_meta;
        with_text += w.with_text;
    }
    assert_true(with_meta > 0 && with_text > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_filter_answers_as_the_rules_read_for_each_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
