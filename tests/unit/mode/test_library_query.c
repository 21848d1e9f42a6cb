/* SPDX-License-Identifier: Apache-2.0 */
/* och_collection_query: what is asked of the hits beyond being near. */
#include "library_test.h"

#include <math.h>

static void a_query_may_be_bounded_and_want_unlike_hits(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *things = test_filled(database, "things");
    och_result *result;
    och_select among = OCH_SELECT;
    float most = 1;
    among.max_distance = &most;
    OK(och_collection_query(things, test_vectors, 1, 3, 3, &among, &result, &err));
    assert_string_equal(test_text(result), "a"); /* the others are at 2 */
    most = INFINITY;
    OK(och_collection_query(things, test_vectors, 1, 3, 3, &among, &result, &err));
    assert_string_equal(test_text(result), "a b c");
    most = NAN;
    FAILS(OCH_INVALID, och_collection_query(things, test_vectors, 1, 3, 3, &among, &result, &err));
    SAYS("max_distance must be a number");
    among = (och_select)OCH_SELECT;
    among.mmr_candidates = 3;
    OK(och_collection_query(things, test_vectors, 1, 3, 2, &among, &result, &err));
    assert_int_equal(och_result_count(result), 2);
    och_result_free(result);
    among.mmr_lambda = 1.5f;
    FAILS(OCH_INVALID, och_collection_query(things, test_vectors, 1, 3, 2, &among, &result, &err));
    SAYS("mmr_lambda");
    och_collection_free(things);
    test_close(database);
}

#define ROWS 2500u /* a part of so many has a vector index */
#define DIM  8u

static float vectors[ROWS * DIM];

/* How the ten nearest to row 0 are found, aiming at `recall`. */
static const char *explained(och_collection *many, float recall)
{
    static char json[4096];
    och_result *result;
    och_select among = OCH_SELECT;
    among.recall = recall;
    among.include = OCH_EXPLAIN;
    OK(och_collection_query(many, vectors, 1, DIM, 10, &among, &result, &err));
    och_bytes explain = och_result_explain_json(result);
    (void)snprintf(json, sizeof(json), "%.*s", (int)explain.len, (const char *)explain.at);
    och_result_free(result);
    return json;
}

static void expect(const char *json, const char *part)
{
    if (!strstr(json, part))
        fail_msg("%s is not in %s", part, json);
}

static void a_query_may_name_its_recall(void **state)
{
    (void)state;
    och_database *database = test_open_restless();
    och_collection *many = test_many(database, "many", ROWS, DIM, vectors);
    test_settle(many);
    expect(explained(many, 0), "\"recall_target\":0.9900"); /* the collection's own */
    expect(explained(many, 0), "\"plan\":\"vector index\"");
    expect(explained(many, 0.5f), "\"recall_target\":0.5000");
    expect(explained(many, 0.5f), "\"plan\":\"vector index\"");
    expect(explained(many, 1), "\"recall_target\":1.0000");
    expect(explained(many, 1), "\"plan\":\"exact scan\"");
    static const float refused[] = {0.49f, 1.01f, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        och_result *result;
        och_select among = OCH_SELECT;
        among.recall = refused[i];
        FAILS(OCH_INVALID, och_collection_query(many, vectors, 1, DIM, 10, &among, &result, &err));
        SAYS("recall must be a number from 0.5 to 1 (1: exact)");
    }
    och_collection_free(many);
    test_close(database);
}

/* A program that was built before there was `recall`: what lies behind its struct is not read. */
static void a_select_without_recall_is_taken(void **state)
{
    (void)state;
    och_database *database = test_open(NULL);
    och_collection *things = test_filled(database, "things");
    och_result *result;
    och_select among = OCH_SELECT;
    assert_int_equal(offsetof(och_select, recall), 120);
    among.struct_size = 120;
    among.recall = 7;
    OK(och_collection_query(things, test_vectors, 1, 3, 1, &among, &result, &err));
    assert_string_equal(test_text(result), "a");
    och_collection_free(things);
    test_close(database);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_may_be_bounded_and_want_unlike_hits),
        cmocka_unit_test(a_query_may_name_its_recall),
        cmocka_unit_test(a_select_without_recall_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
