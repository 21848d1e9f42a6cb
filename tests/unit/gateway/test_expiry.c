/* SPDX-License-Identifier: Apache-2.0 */
/* Records that expire, through the API (docs/extras.md): set by the request, by the record or by the collection; never shown afterwards, whether
 * in the tail or in parts; counts exact.  The clock is the test's. */
#include "gateway_test.h"

#include <inttypes.h>

#define SOON "1700000001000" /* STACK_NOW_MS + 1000 */

static void pass_ms(struct stack *s, int64_t ms)
{
    clock_manual_advance(&s->clock, (uint64_t)ms * 1000000);
}

static void settle(struct stack *s, const char *id)
{
    uuid collection;
    assert_true(uuid_parse(slice_of(id), &collection));
    OK(compactor_run(s->compactor, &collection, true, err));
}

/* Everything that reads, in one look: a, b, c of which `left` are there. */
static void expect_left(struct stack *s, const char *id, const char *ids, const char *count)
{
    char text[256];
    (void)snprintf(text, sizeof(text), "{\"ids\":[%s]", ids);
    EXPECT(200, text, "POST", path(id, "get"), "{}");
    EXPECT(200, text, "POST", path(id, "get"), "{\"ids\":[\"c\",\"b\",\"a\"]}");
    EXPECT(200, text, "POST", path(id, "get"), "{\"where\":{\"k\":1}}");
    EXPECT(200, text, "POST", path(id, "get"), "{\"where_document\":{\"$contains\":\"x\"}}");
    EXPECT(200, count, "GET", path(id, "count"));
    EXPECT(200, count, "POST", path(id, "count"), "{\"where\":{\"k\":1}}");
    (void)snprintf(text, sizeof(text), "{\"ids\":[[%s]]", ids);
    EXPECT(200, text, "POST", path(id, "query"), "{\"query_embeddings\":[[1,0]]}");
    EXPECT(200, text, "POST", path(id, "query"),
           "{\"query_embeddings\":[[1,0]],\"where\":{\"k\":1}}");
    EXPECT(200, text, "POST", path(id, "search"),
           "{\"searches\":[{\"rank\":{\"$knn\":{\"query\":[1,0]}}}]}");
}

#define THREE                                                                                   \
    "\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[[1,0],[2,0],[3,0]],\"documents\":[\"x\",\"x\"" \
    ",\"x\"],\"metadatas\":[{\"k\":1},{\"k\":1},{\"k\":1}]"

static void expired_records_are_not_shown(void **state)
{
    (void)state;
    for (int in_parts = 0; in_parts < 2; in_parts++) {
        struct stack stack = {.tail_rows_max = 100}, *s = &stack;
        char id[UUID_TEXT_SIZE];
        stack_open(s);
        make_collection(s, "{\"name\":\"expiring\"}", id);
        EXPECT(201, "{}", "POST", path(id, "add"),
               "{" THREE ",\"expires_at\":[" SOON ",null,0],\"ttl_seconds\":5}");
        if (in_parts)
            settle(s, id);
        expect_left(s, id, "\"a\",\"b\",\"c\"", "3");
        EXPECT(200,
               "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":null,\"documents\":null,\"uris\":null,"
               "\"metadatas\":null,\"expires_at\":[" SOON ",1700000005000,null],\"include\":[",
               "POST", path(id, "get"), "{\"include\":[\"expires_at\"]}");
        pass_ms(s, 999);
        expect_left(s, id, "\"a\",\"b\",\"c\"", "3");
        pass_ms(s, 1);
        expect_left(s, id, "\"b\",\"c\"", "2");
        if (in_parts)
            settle(s, id);
        pass_ms(s, 4000);
        expect_left(s, id, "\"c\"", "1");
        EXPECT(200, "{\"deleted\":0}", "POST", path(id, "delete"), "{\"ids\":[\"a\",\"b\"]}");
        EXPECT(200, "{\"updated\":1}", "POST", path(id, "update"),
               "{\"where\":{\"k\":1},\"set\":{}}");
        stack_close(s);
        stack_open(s);
        pass_ms(s, 5000); /* a new clock */
        expect_left(s, id, "\"c\"", "1");
        stack_done(s);
    }
}

static void counts_know_what_has_expired(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"counted\"}", id);
    EXPECT(201, "{\"inserted\":3,\"updated\":0,\"skipped\":0,\"deleted\":0}", "POST",
           path(id, "add"), "{" THREE ",\"ttl_seconds\":1,\"counts\":true}");
    EXPECT(201, "{\"inserted\":0,\"updated\":0,\"skipped\":3,\"deleted\":0}", "POST",
           path(id, "add"), "{" THREE ",\"ttl_seconds\":9,\"counts\":true}");
    settle(s, id);
    pass_ms(s, 1000);
    EXPECT(200, "{\"inserted\":0,\"updated\":0,\"skipped\":1,\"deleted\":0}", "POST",
           path(id, "update"), "{\"ids\":[\"b\"],\"documents\":[\"y\"],\"counts\":true}");
    EXPECT(200, "{\"inserted\":1,\"updated\":1,\"skipped\":0,\"deleted\":0}", "POST",
           path(id, "upsert"),
           "{\"ids\":[\"a\",\"a\"],\"embeddings\":[[1,0],[1,0]],\"counts\":true}");
    /* Over from the beginning: the second one finds nothing either. */
    EXPECT(200, "{\"inserted\":2,\"updated\":0,\"skipped\":0,\"deleted\":0}", "POST",
           path(id, "upsert"),
           "{\"ids\":[\"c\",\"c\"],\"embeddings\":[[1,0],[1,0]],\"expires_at\":[5,6],"
           "\"counts\":true}");
    EXPECT(200, "{\"ids\":[\"a\"]", "POST", path(id, "get"), "{}");
    EXPECT(200, "1", "GET", path(id, "count"));
    stack_done(s);
}

static void an_update_changes_and_lifts_the_expiry(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"moved\"}", id);
    EXPECT(201, "{}", "POST", path(id, "add"), "{" THREE ",\"ttl_seconds\":1}");
    settle(s, id);
    EXPECT(200, "{}", "POST", path(id, "update"),
           "{\"ids\":[\"a\",\"b\",\"c\"],\"documents\":[\"x\",\"x\",\"x\"],\"expires_at\":[0,"
           "1700000002000,null]}");
    pass_ms(s, 1500);
    expect_left(s, id, "\"a\",\"b\"", "2");
    EXPECT(200, "{\"updated\":2}", "POST", path(id, "update"),
           "{\"where\":{\"k\":1},\"set\":{\"ttl_seconds\":2}}");
    pass_ms(s, 1999);
    expect_left(s, id, "\"a\",\"b\"", "2");
    EXPECT(200, "{\"updated\":1}", "POST", path(id, "update"),
           "{\"ids\":[\"a\"],\"set\":{\"expires_at\":0}}");
    pass_ms(s, 1);
    expect_left(s, id, "\"a\"", "1");
    settle(s, id);
    pass_ms(s, 1000000);
    expect_left(s, id, "\"a\"", "1");
    stack_done(s);
}

static void a_collection_has_a_default(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 100}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"default\",\"metadata\":{\"ochre:ttl_seconds\":10}}", id);
    EXPECT(201, "{}", "POST", path(id, "add"), "{" THREE ",\"expires_at\":[null,0," SOON "]}");
    EXPECT(200, "{\"ids\":[", "POST", path(id, "get"), "{}");
    pass_ms(s, 5000);
    expect_left(s, id, "\"a\",\"b\"", "2");
    /* an upsert begins anew, an update does not */
    EXPECT(200, "{}", "POST", path(id, "update"), "{\"ids\":[\"a\"],\"metadatas\":[{\"k\":1}]}");
    EXPECT(200, "{}", "POST", path(id, "upsert"),
           "{\"ids\":[\"c\"],\"embeddings\":[[3,0]],\"documents\":[\"x\"],\"metadatas\":[{\"k\":1}]"
           "}");
    pass_ms(s, 5000);
    expect_left(s, id, "\"b\",\"c\"", "2");
    char whole[256];
    (void)snprintf(whole, sizeof(whole), BASE "/collections/%s", id);
    EXPECT(400, "Validation error: new_metadata: ochre:ttl_seconds", "PUT", whole,
           "{\"new_metadata\":{\"ochre:ttl_seconds\":-1}}");
    EXPECT(200, "{}", "PUT", whole, "{\"new_metadata\":{\"other\":1}}");
    EXPECT(200, "{}", "POST", path(id, "upsert"), "{" THREE "}");
    pass_ms(s, 5000);
    /* b stands where it stood, a was inserted anew, c keeps the time that its last upsert gave it. */
    EXPECT(200, "{\"ids\":[\"b\",\"a\"]", "POST", path(id, "get"), "{}");
    EXPECT(200, "2", "GET", path(id, "count"));
    stack_done(s);
}

static void wrong_times_are_refused_by_name(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"wrong\"}", id);
#define ONE     "{\"ids\":[\"a\"],\"embeddings\":[[1,0]]"
#define PAYLOAD "Failed to deserialize the JSON body into the target type: "
    EXPECT(400, "Inconsistent number of IDs and expires_at", "POST", path(id, "add"),
           ONE ",\"expires_at\":[]}");
    EXPECT(400, "Validation error: expires_at: -1", "POST", path(id, "add"),
           ONE ",\"expires_at\":[-1]}");
    EXPECT(400, "Validation error: ttl_seconds: must be", "POST", path(id, "add"),
           ONE ",\"ttl_seconds\":0}");
    EXPECT(400, "Validation error: ttl_seconds: must be", "POST", path(id, "upsert"),
           ONE ",\"ttl_seconds\":9223372036854775807}");
    EXPECT(422, PAYLOAD "ttl_seconds: invalid type: floating point `1.5`, expected i64", "POST",
           path(id, "add"), ONE ",\"ttl_seconds\":1.5}");
    EXPECT(422, PAYLOAD "expires_at[0]: invalid type: string", "POST", path(id, "add"),
           ONE ",\"expires_at\":[\"2030\"]}");
    EXPECT(400, "Validation error: metadata: ochre:ttl_seconds", "POST", BASE "/collections",
           "{\"name\":\"wrong2\",\"metadata\":{\"ochre:ttl_seconds\":0}}");
    EXPECT(400, "Validation error: metadata: ochre:ttl_seconds", "POST", BASE "/collections",
           "{\"name\":\"wrong2\",\"metadata\":{\"ochre:ttl_seconds\":\"5\"}}");
    EXPECT(200, "0", "GET", path(id, "count"));
    stack_done(s);
}

/* ---- random operations against a model ---- */

#define IDS 8
struct model {
    bool there[IDS];
    int64_t expires[IDS]; /* 0: never */
    uint64_t order[IDS], next;
    int64_t now;
};

static bool stands(const struct model *m, unsigned i)
{
    return m->there[i] && (m->expires[i] == 0 || m->expires[i] > m->now);
}

/* One request of up to four records, its counts foreseen. */
static void write_some(struct stack *s, struct model *m, const char *id)
{
    static const char *const names[] = {"add", "upsert", "update", "delete"};
    unsigned op = (unsigned)random_below(&s->random, COUNT_OF(names));
    unsigned count = 1 + (unsigned)random_below(&s->random, 4), inserted = 0, updated = 0,
             skipped = 0, deleted = 0;
    char ids[64] = "", vectors[64] = "", times[128] = "", body[512], says[128];
    for (unsigned n = 0; n < count; n++) {
        unsigned i = (unsigned)random_below(&s->random, IDS);
        bool there = stands(m, i), inserts = !there && op < 2,
             changes = there && (op == 1 || op == 2);
        unsigned dice = (unsigned)random_below(&s->random, 4);
        int64_t given = dice == 0 ? 0 : m->now - 2 + (int64_t)random_below(&s->random, 40);
        const char *comma = n ? "," : "";
        (void)snprintf(ids + strlen(ids), 16, "%s\"i%u\"", comma, i);
        (void)snprintf(vectors + strlen(vectors), 16, "%s[1,2]", comma);
        if (dice == 1)
            (void)snprintf(times + strlen(times), 32, "%snull", comma);
        else
            (void)snprintf(times + strlen(times), 32, "%s%" PRId64, comma, given);
        inserted += inserts;
        updated += changes;
        deleted += op == 3 && there;
        skipped += (op == 0 && there) || (op == 2 && !there); /* deletes do not count these */
        if (inserts) {
            m->there[i] = true;
            m->order[i] = m->next++;
            m->expires[i] = 0;
        }
        if ((inserts || changes) && dice != 1)
            m->expires[i] = given;
        if (op == 3 && there)
            m->there[i] = false;
    }
    if (op == 3)
        (void)snprintf(body, sizeof(body), "{\"ids\":[%s],\"counts\":true}", ids);
    else
        (void)snprintf(
            body, sizeof(body), "{\"ids\":[%s]%s%s%s,\"expires_at\":[%s],\"counts\":true}", ids,
            op == 2 ? "" : ",\"embeddings\":[", op == 2 ? "" : vectors, op == 2 ? "" : "]", times);
    (void)snprintf(says, sizeof(says),
                   "{\"inserted\":%u,\"updated\":%u,\"skipped\":%u,\"deleted\":%u}", inserted,
                   updated, skipped, deleted);
    EXPECT(op == 0 ? 201 : 200, says, "POST", path(id, names[op]), body);
}

static void compare(struct stack *s, const struct model *m, const char *id)
{
    char says[160] = "{\"ids\":[";
    unsigned count = 0;
    for (uint64_t order = 0; order < m->next; order++) {
        for (unsigned i = 0; i < IDS; i++) {
            if (stands(m, i) && m->order[i] == order)
                (void)snprintf(says + strlen(says), 16, "%s\"i%u\"", count++ ? "," : "", i);
        }
    }
    (void)snprintf(says + strlen(says), 8, "]");
    EXPECT(200, says, "POST", path(id, "get"), "{\"include\":[]}");
    (void)snprintf(says, sizeof(says), "%u", count);
    EXPECT(200, says, "GET", path(id, "count"));
}

static void any_order_of_writes_and_times_equals_the_model(void **state)
{
    (void)state;
    struct stack stack = {.tail_rows_max = 50}, *s = &stack;
    struct model m = {.now = STACK_NOW_MS};
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"random\"}", id);
    for (int step = 0; step < 600; step++) {
        int64_t ms = (int64_t)random_below(&s->random, 6);
        pass_ms(s, ms);
        m.now += ms;
        write_some(s, &m, id);
        compare(s, &m, id);
        if (random_below(&s->random, 12) == 0) {
            settle(s, id);
            compare(s, &m, id);
        }
    }
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expired_records_are_not_shown),
        cmocka_unit_test(counts_know_what_has_expired),
        cmocka_unit_test(an_update_changes_and_lifts_the_expiry),
        cmocka_unit_test(a_collection_has_a_default),
        cmocka_unit_test(any_order_of_writes_and_times_equals_the_model),
        cmocka_unit_test(wrong_times_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
