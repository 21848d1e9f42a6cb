/* SPDX-License-Identifier: Apache-2.0 */
/* Aliases through the API (docs/extras.md). */
#include "gateway_test.h"

#define ALIASES  BASE "/aliases"
#define NOWHERE  "/api/v2/tenants/default_tenant/databases/nowhere/aliases"
#define NAME(n_) BASE "/collections/" n_

static void an_alias_stands_for_its_collection(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char one[UUID_TEXT_SIZE], two[UUID_TEXT_SIZE], says[256];
    stack_open(s);
    make_collection(s, "{\"name\":\"docs-1\"}", one);
    make_collection(s, "{\"name\":\"docs-2\"}", two);
    EXPECT(200, "[]", "GET", ALIASES);
    (void)snprintf(says, sizeof(says),
                   "{\"alias\":\"live\",\"collection\":\"docs-1\",\"collection_id\":\"%s\"", one);
    EXPECT(200, says, "PUT", ALIASES "/live", "{\"collection\":\"docs-1\"}");
    EXPECT(200, says, "GET", ALIASES "/live");
    (void)snprintf(says, sizeof(says), "{\"id\":\"%s\",\"name\":\"docs-1\"", one);
    EXPECT(200, says, "GET", NAME("live"));
    EXPECT(200, says, "POST", BASE "/collections", "{\"name\":\"live\",\"get_or_create\":true}");
    EXPECT(409, "Collection [live] already exists", "POST", BASE "/collections",
           "{\"name\":\"live\"}");
    EXPECT(409, "Collection [docs-2] already exists", "PUT", ALIASES "/docs-2",
           "{\"collection\":\"docs-1\"}");
    /* Several at once, found through each other. */
    EXPECT(200, "[{\"alias\":\"live\",\"collection\":\"docs-2\"", "POST", ALIASES,
           "{\"aliases\":{\"live\":\"docs-2\",\"old\":\"live\"}}");
    (void)snprintf(says, sizeof(says), "{\"id\":\"%s\",\"name\":\"docs-1\"", one);
    EXPECT(200, says, "GET", NAME("old"));
    (void)snprintf(says, sizeof(says), "{\"id\":\"%s\",\"name\":\"docs-2\"", two);
    EXPECT(200, says, "GET", NAME("live"));
    EXPECT(404, "Alias [gone] does not exist", "POST", ALIASES,
           "{\"aliases\":{\"live\":\"docs-1\",\"gone\":null}}");
    EXPECT(200, says, "GET", NAME("live"));
    /* An alias is not dropped as a collection is. */
    EXPECT(400, "[live] is an alias of collection [docs-2]", "DELETE", NAME("live"));
    EXPECT(200, "{}", "DELETE", NAME("docs-2"));
    EXPECT(404, "Collection [live] does not exist", "GET", NAME("live"));
    EXPECT(200, "[{\"alias\":\"old\"", "GET", ALIASES);
    EXPECT(200, "{}", "DELETE", ALIASES "/old");
    EXPECT(404, "Alias [old] does not exist", "DELETE", ALIASES "/old");
    EXPECT(404, "Alias [old] does not exist", "GET", ALIASES "/old");
    EXPECT(200, "[]", "GET", ALIASES);
    EXPECT(200, "{\"id\"", "POST", BASE "/collections", "{\"name\":\"live\"}");
    stack_done(s);
}

static void wrong_requests_are_refused(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"docs\"}", id);
    EXPECT(404, "Collection [other] does not exist", "PUT", ALIASES "/live",
           "{\"collection\":\"other\"}");
    EXPECT(400, "Validation error: alias", "PUT", ALIASES "/a%20b", "{\"collection\":\"docs\"}");
    EXPECT(422, "", "PUT", ALIASES "/live", "{}");
    EXPECT(422, "", "PUT", ALIASES "/live", "{\"collection\":null}");
    EXPECT(422, "", "PUT", ALIASES "/live", "{\"collection\":\"docs\",\"x\":1}");
    EXPECT(422, "", "POST", ALIASES, "{\"aliases\":{\"live\":1}}");
    EXPECT(200, "[]", "POST", ALIASES, "{\"aliases\":{}}");
    EXPECT(200, "[]", "GET", NOWHERE);
    EXPECT(404, "", "PUT", NOWHERE "/live", "{\"collection\":\"docs\"}");
    EXPECT(405, "", "PUT", ALIASES, "{}");
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_alias_stands_for_its_collection),
        cmocka_unit_test(wrong_requests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
