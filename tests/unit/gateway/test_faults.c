/* SPDX-License-Identifier: Apache-2.0 */
/* What is refused, with which status and words: tables after http-api.md §1-7 and query-language.md §2-3. */
#include "gateway_test.h"

#define SHAPE      "Failed to deserialize the JSON body into the target type: "
#define SYNTAX     "Failed to parse the request body as JSON: "
#define LENGTHS    "Inconsistent number of IDs, embeddings, documents, URIs and metadatas"
#define DIMENSIONS "Inconsistent dimensions in provided embeddings"
#define NO_DIM     "Validation error: embeddings: Each embedding must have at least 1 dimension"
#define NON_FINITE \
    "Validation error: embeddings: Embeddings must not contain NaN or Infinity values"
#define DIMENSION "Collection expecting embedding with dimension of 2, got 3"
#define METADATA  "Validation error: metadatas: Invalid metadata at index "
#define WHERE     "Invalid where clause"
#define DOCUMENT  "Invalid where document clause"
#define LIMIT_ALONE \
    "Validation error: limit, where: limit can only be specified when a where clause is provided"
#define NO_UUID "Collection ID is not a valid UUIDv4"
#define RECORD  "\"ids\":[\"a\"],\"embeddings\":[[1,2]]"

struct fault {
    const char *operation, *body;
    int status;
    const char *expected;
};

static const struct fault faults[] = {
    /* syntax before shape */
    {"add", "", 400, SYNTAX "EOF while parsing a value"},
    {"add", "{", 400, SYNTAX},
    {"add", "{\"ids\":[\"a\"],}", 400, SYNTAX},
    {"add", "\xef\xbb\xbf{}", 400, SYNTAX},
    {"add", "{" RECORD "} x", 400, SYNTAX "trailing characters"},
    {"add", "{" RECORD ",\"metadatas\":[{\"k\":1e400}]}", 400, SYNTAX},
    {"add", "[]", 422, SHAPE "invalid length 0, expected struct AddCollectionRecordsPayload"},
    {"add", "null", 422, SHAPE "invalid type: null, expected struct"},
    {"add", "{}", 422, SHAPE "missing field `ids`"},
    {"add", "{\"ids\":[\"a\"]}", 422, SHAPE "missing field `embeddings`"},
    {"add", "{\"ids\":null,\"embeddings\":[[1,2]]}", 422, SHAPE "ids: invalid type: null"},
    {"add", "{\"ids\":[1],\"embeddings\":[[1,2]]}", 422,
     SHAPE "ids[0]: invalid type: integer `1`, expected a string"},
    {"add", "{\"ids\":\"a\",\"embeddings\":[[1,2]]}", 422, SHAPE "ids: invalid type: string"},
    {"add", "{\"ids\":[\"a\"],\"ids\":[\"a\"],\"embeddings\":[[1,2]]}", 422,
     SHAPE "duplicate field `ids`"},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":null}", 422, SHAPE "embeddings: "},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[null]}", 422, SHAPE "embeddings: "},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[[1,null]]}", 422, SHAPE "embeddings: "},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[[1,\"x\"]]}", 422, SHAPE "embeddings: "},
    {"add", "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],\"AAAAAA==\"]}", 422,
     SHAPE "embeddings: "},
    {"upsert", "{\"ids\":[\"a\"],\"embeddings\":[null]}", 422, SHAPE "embeddings: "},
    {"add", "{" RECORD ",\"documents\":[1]}", 422, SHAPE "documents[0]: invalid type: integer `1`"},
    {"add", "{" RECORD ",\"uris\":{}}", 422, SHAPE "uris: invalid type: map"},
    {"add", "{" RECORD ",\"metadatas\":[1]}", 422, SHAPE "metadatas[0]: invalid type"},
    {"add", "{" RECORD ",\"metadatas\":[{\"k\":null}]}", 422, SHAPE "metadatas[0]"},
    {"add", "{" RECORD ",\"metadatas\":[{\"k\":{\"a\":1}}]}", 422, SHAPE "metadatas[0]"},
    {"add", "{" RECORD ",\"metadatas\":[{\"k\":[1,\"x\"]}]}", 422, SHAPE "metadatas[0]"},
    {"add", "{" RECORD ",\"metadatas\":[{\"k\":[[1]]}]}", 422, SHAPE "metadatas[0]"},
    {"add", "{" RECORD ",\"metadatas\":[{\"k\":[null]}]}", 422, SHAPE "metadatas[0]"},
    {"add", "{" RECORD ",\"counts\":1}", 422, SHAPE "counts: invalid type"},
    /* base64, contents, keys */
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[\"AAA\"]}", 400, "Invalid base64 string: "},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[\"AA!AAAA=\"]}", 400, "Invalid base64 string: "},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[\"AAAA\"]}", 400,
     "Invalid byte length: 3 bytes cannot be converted to f32 values (must be divisible by 4)"},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[\"AADAfw==\"]}", 400,
     "Non-finite float value at embedding index 0: NaN"},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[\"AACAPwAAgP8=\"]}", 400,
     "Non-finite float value at embedding index 1: -inf"},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[\"\"]}", 400, NO_DIM},
    {"add", "{\"ids\":[\"a\",\"b\"],\"embeddings\":[\"AACAPwAAgD8=\",\"AACAPw==\"]}", 400,
     DIMENSIONS},
    /* a longer one of an odd size behind: nothing is read at an odd address */
    {"add", "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[\"AACAPw==\",\"AADAfw==\",\"AACAPwAA\"]}",
     400, "Non-finite float value at embedding index 0: NaN"},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[[]]}", 400, NO_DIM},
    {"add", "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[]]}", 400, NO_DIM},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[[1e39,2]]}", 400, NON_FINITE},
    {"add", "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[1,2,3]]}", 400, DIMENSIONS},
    {"update", "{\"ids\":[\"a\",\"b\",\"c\"],\"embeddings\":[null,[1,2],[1,2,3]]}", 400,
     DIMENSIONS},
    {"add", "{" RECORD ",\"metadatas\":[{\"\":1}]}", 400, METADATA "0"},
    {"add", "{" RECORD ",\"metadatas\":[{\"#a\":1}]}", 400, METADATA "0"},
    {"add", "{" RECORD ",\"metadatas\":[{\"$a\":1}]}", 400, METADATA "0"},
    {"add", "{" RECORD ",\"metadatas\":[{\"chroma:document\":\"x\"}]}", 400, METADATA "0"},
    {"add",
     "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2],[1,2]],\"metadatas\":[null,{\"k\":"
     "{\"#type\":\"sparse_vector\",\"indices\":[2,1],\"values\":[1,1]}}]}",
     400, METADATA "1"},
    /* contents before keys before dimension before lengths before ids */
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[[]],\"metadatas\":[{\"#a\":1}]}", 400, NO_DIM},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[[1,2,3]],\"metadatas\":[{\"#a\":1}]}", 400,
     METADATA "0"},
    {"add", "{\"ids\":[\"a\",\"b\"],\"embeddings\":[[1,2,3]]}", 400, DIMENSION},
    {"add", "{\"ids\":[\"\",\"b\"],\"embeddings\":[[1,2]]}", 400, LENGTHS},
    {"add", "{\"ids\":[\"\"],\"embeddings\":[[1,2]]}", 400,
     "Empty ID, ID must have at least one character"},
    {"add", "{\"ids\":[\"a\"],\"embeddings\":[]}", 400, LENGTHS},
    {"add", "{" RECORD ",\"documents\":[]}", 400, LENGTHS},
    {"add", "{" RECORD ",\"uris\":[null,null]}", 400, LENGTHS},
    {"add", "{" RECORD ",\"metadatas\":[]}", 400, LENGTHS},
    {"update", "{\"ids\":[\"a\"],\"documents\":[]}", 400, LENGTHS},
    /* clear */
    {"update", "{\"ids\":[\"a\"],\"clear\":[[\"vector\"]]}", 422,
     SHAPE "clear[0]: unknown variant `vector`"},
    {"update", "{\"ids\":[\"a\"],\"clear\":[1]}", 422, SHAPE "clear[0]: invalid type"},
    {"update", "{\"ids\":[\"a\"],\"clear\":[]}", 400, "Inconsistent number of IDs and clear lists"},
    {"update", "{\"ids\":[\"a\"],\"documents\":[\"x\"],\"clear\":[[\"document\"]]}", 400,
     "clear[0]: the same request sets document of that record"},
    /* delete */
    {"delete", "{\"id\":[\"a\"]}", 422, SHAPE "unknown field `id`, expected one of `ids`, `where`"},
    {"delete", "{\"filter\":{\"k\":1}}", 422, SHAPE "unknown field `filter`"},
    {"delete", "{\"ids\":[\"a\"],\"limit\":1}", 400, LIMIT_ALONE},
    {"delete", "{\"limit\":1}", 400, LIMIT_ALONE},
    {"delete", "{\"ids\":[]}", 400,
     "Validation error: ids, where: Either ids or where must be specified"},
    {"delete", "{\"where\":{\"k\":1},\"limit\":-1}", 422,
     SHAPE "limit: invalid value: integer `-1`, expected u32"},
    {"delete", "{\"where\":{}}", 400, WHERE},
    {"delete", "{\"where_document\":{}}", 400, DOCUMENT},
    /* get */
    {"get", "{\"limit\":4294967296}", 422,
     SHAPE "limit: invalid value: integer `4294967296`, expected u32"},
    {"get", "{\"limit\":1.5}", 422,
     SHAPE "limit: invalid type: floating point `1.5`, expected u32"},
    {"get", "{\"limit\":\"1\"}", 422, SHAPE "limit: invalid type: string"},
    {"get", "{\"offset\":-1}", 422, SHAPE "offset: invalid value"},
    {"get", "{\"include\":null}", 422, SHAPE "include: invalid type: null"},
    {"get", "{\"include\":[\"data\"]}", 422,
     SHAPE "include: unknown variant `data`, expected one of"},
    {"get", "{\"ids\":[null]}", 422, SHAPE "ids[0]: invalid type: null"},
    {"get", "{\"limit\":1,\"limit\":2}", 422, SHAPE "duplicate field `limit`"},
    /* where */
    {"get", "{\"where\":{}}", 400, WHERE},
    {"get", "{\"where\":[]}", 400, WHERE},
    {"get", "{\"where\":1}", 400, WHERE},
    {"get", "{\"where\":{\"a\":1,\"b\":2}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$gte\":1,\"$lte\":2}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":null}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$like\":1}}}", 400, WHERE},
    {"get", "{\"where\":{\"$xor\":[]}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$eq\":null}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":9223372036854775808}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$in\":[]}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$in\":[1,\"x\"]}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$in\":1}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$eq\":[1]}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$gt\":\"x\"}}}", 400, WHERE},
    {"get", "{\"where\":{\"a\":{\"$gt\":true}}}", 400, WHERE},
    {"get", "{\"where\":{\"$and\":{}}}", 400, WHERE},
    {"get", "{\"where\":{\"$and\":[{\"a\":1},{}]}}", 400, WHERE ": $and[1]"},
    {"get", "{\"where\":{\"$or\":[1]}}", 400, WHERE},
    {"get", "{\"where\":{\"#document\":\"x\"}}", 400,
     "Cannot filter using metadata key '#document' with type 'Str' because indexing is disabled"},
    /* where_document */
    {"get", "{\"where_document\":{}}", 400, DOCUMENT},
    {"get", "{\"where_document\":{\"$contains\":1}}", 400, DOCUMENT},
    {"get", "{\"where_document\":{\"$has\":\"x\"}}", 400, DOCUMENT},
    {"get", "{\"where_document\":{\"$contains\":\"a\",\"$regex\":\"b\"}}", 400, DOCUMENT},
    {"get", "{\"where_document\":{\"$and\":[{}]}}", 400, DOCUMENT},
    {"get", "{\"where_document\":{\"$regex\":\"(\"}}", 400, "Regex syntax error"},
    {"get", "{\"where_document\":{\"$regex\":\"(?-u)\\\\w\"}}", 400, "Byte pattern is not allowed"},
    /* query */
    {"query", "{}", 422, SHAPE "missing field `query_embeddings`"},
    {"query", "{\"query_embeddings\":null}", 422, SHAPE "query_embeddings: "},
    {"query", "{\"query_texts\":[\"x\"]}", 422, SHAPE "missing field `query_embeddings`"},
    {"query", "{\"query_embeddings\":[\"text\"]}", 400, "Invalid byte length"},
    {"query", "{\"query_embeddings\":[[1,2]],\"n_results\":-1}", 422, SHAPE "n_results: "},
    {"query", "{\"query_embeddings\":[[1,2,3]]}", 400, DIMENSION},
    {"query", "{\"query_embeddings\":[[]]}", 400,
     "Collection expecting embedding with dimension of 2, got 0"},
    {"query", "{\"query_embeddings\":[[1,2],[1]]}", 400, DIMENSIONS},
    {"query", "{\"query_embeddings\":[[],[1,2]]}", 400, DIMENSIONS},
    {"query", "{\"query_embeddings\":[[1,2],[]]}", 400, DIMENSIONS},
    {"query", "{\"query_embeddings\":[[1e39,2]]}", 400, NON_FINITE},
    {"query", "{\"query_embeddings\":[[1,2]],\"where\":{}}", 400, WHERE},
    {"query", "{\"query_embeddings\":[[1,2]],\"include\":[1]}", 400,
     "Failed to parse the request body as JSON: include[0]: "},
    /* count by filter */
    {"count", "{\"were\":{}}", 422, SHAPE "unknown field `were`"},
    {"count", "{\"where\":{}}", 400, WHERE},
    {"count", "[", 400, SYNTAX},
};

static void each_fault_has_its_status_and_words(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"faults\"}", id);
    EXPECT(201, "{}", "POST", path(id, "add"), "{\"ids\":[\"there\"],\"embeddings\":[[1,2]]}");
    for (size_t i = 0; i < COUNT_OF(faults); i++)
        EXPECT(faults[i].status, faults[i].expected, "POST", path(id, faults[i].operation),
               faults[i].body);
    /* None of them did anything. */
    EXPECT(200, "1", "GET", path(id, "count"));
    stack_done(s);
}

/* http-api.md §2.3: syntax, shape, UUID, existence, and only then what the request says. */
static void checks_come_in_order(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    stack_open(s);
    const char *missing = "00000000-0000-4000-8000-00000000000f";
    static const char *const operations[] = {"add", "upsert", "update", "delete",
                                             "get", "query",  "count"};
    for (size_t i = 0; i < COUNT_OF(operations); i++) {
        bool write = i < 3, query = i == 5;
        const char *sound = write   ? "{" RECORD "}"
                            : query ? "{\"query_embeddings\":[[1,2]]}"
                                    : "{\"where\":{\"k\":1}}";
        const char *bad = write   ? "{\"ids\":[\"\"],\"embeddings\":[[]]}"
                          : query ? "{\"query_embeddings\":[[1,2]],\"where\":{}}"
                                  : "{\"where\":{}}";
        EXPECT(400, SYNTAX, "POST", path("no-uuid", operations[i]), "{");
        EXPECT(422, SHAPE, "POST", path("no-uuid", operations[i]), "1");
        EXPECT(400, NO_UUID, "POST", path("no-uuid", operations[i]), sound);
        EXPECT(400, NO_UUID, "POST", path("no-uuid", operations[i]), bad);
        char expected[128];
        (void)snprintf(expected, sizeof(expected), "Collection [%s] does not exist.\"", missing);
        EXPECT(404, expected, "POST", path(missing, operations[i]), sound);
        EXPECT(404, expected, "POST", path(missing, operations[i]), bad);
    }
    EXPECT(400, NO_UUID, "GET", path("no-uuid", "count"));
    EXPECT(404, "Collection [", "GET", path(missing, "count"));
    EXPECT(400, NO_UUID, "PUT", BASE "/collections/no-uuid", "{}");
    EXPECT(404, "Collection [00000000-0000-4000-8000-00000000000f] does not exist.", "PUT",
           BASE "/collections/00000000-0000-4000-8000-00000000000f", "{\"new_name\":\"\"}");
    stack_done(s);
}

static void bodies_of_another_kind_or_size_are_refused(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"kinds\"}", id);
    static const struct {
        const char *type;
        int status;
    } types[] = {{"application/json", 200},
                 {"Application/JSON", 200},
                 {"application/json; charset=utf-8", 200},
                 {"application/vnd.api+json", 200},
                 {"text/plain", 415},
                 {"text/json", 415},
                 {"application/+json", 415},
                 {"application/jsonp", 415},
                 {"", 415}};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        struct ask ask = {.method = "POST",
                          .target = path(id, "get"),
                          .body = "{}",
                          .headers = {{SLICE("Content-Type"), slice_of(types[i].type)}},
                          .header_count = 1};
        expect(s, &ask, types[i].status,
               types[i].status == 415 ? "Expected request with `Content-Type: application/json`"
                                      : "{");
    }
    static const char *const operations[] = {"add", "query", "get", "delete"};
    for (size_t i = 0; i < COUNT_OF(operations); i++) {
        struct ask ask = {
            .method = "POST", .target = path(id, operations[i]), .body_size_refused = 50000000};
        expect(s, &ask, 413,
               "Failed to buffer the request body: length limit exceeded: 50,000,000 bytes, limit "
               "1,048,576 (max_payload_size_bytes)");
    }
    stack_done(s);
}

static void query_strings_are_checked(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    char id[UUID_TEXT_SIZE], target[512];
    stack_open(s);
    make_collection(s, "{\"name\":\"strings\"}", id);
    static const struct {
        const char *query;
        int status;
        const char *expected;
    } cases[] = {
        {"limit=1", 200, "["},
        {"limit=+1", 200, "["}, /* a blank in a query string */
        {"limit=%2B1", 200, "["},
        {"limit=0", 200, "[]"},
        {"offset=9", 200, "[]"},
        {"other=x", 200, "["},
        {"limit=x", 400, "Failed to deserialize query string: limit: invalid digit"},
        {"limit=-1", 400, "Failed to deserialize query string: limit: invalid digit"},
        {"limit=", 400, "Failed to deserialize query string: limit: cannot parse integer"},
        {"limit", 400, "Failed to deserialize query string: limit: cannot parse integer"},
        {"limit=4294967296", 400, "Failed to deserialize query string: limit: number too large"},
        {"offset=99999999999999999999", 400,
         "Failed to deserialize query string: offset: number too large"},
        {"limit=1&limit=2", 400, "Failed to deserialize query string: duplicate field `limit`"},
        {"limit=%zz", 400, "Failed to deserialize query string: limit"},
        {"limit=%ff", 400, "Failed to deserialize query string: limit"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        if (strcmp(cases[i].query, "limit=+1") == 0)
            continue;
        (void)snprintf(target, sizeof(target), BASE "/collections?%s", cases[i].query);
        EXPECT(cases[i].status, cases[i].expected, "GET", target);
    }
    static const char *const levels[] = {"index_and_wal", "index_only", "index_and_bounded_wal"};
    for (size_t i = 0; i < COUNT_OF(levels); i++) {
        (void)snprintf(target, sizeof(target), "%s?read_level=%s", path(id, "count"), levels[i]);
        EXPECT(200, "0", "GET", target);
    }
    (void)snprintf(target, sizeof(target), "%s?read_level=all", path(id, "count"));
    EXPECT(400, "Failed to deserialize query string: read_level: unknown variant `all`", "GET",
           target);
    stack_done(s);
}

/* http-api.md §4.3 */
static void names_keep_the_rule(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    stack_open(s);
    char longest[520], too_long[520];
    memset(longest, 'a', sizeof(longest));
    longest[512] = '\0';
    memset(too_long, 'a', sizeof(too_long));
    too_long[513] = '\0';
#define CHARACTERS "Expected a name containing 3-512 characters from [a-zA-Z0-9._-]"
#define PERIODS    "Expected a name that does not contains two consecutive periods (..). Got "
#define ADDRESS    "Expected a name that is not a valid ip address. Got "
    const struct {
        const char *name, *expected; /* NULL: fine */
    } names[] = {
        {"abc", NULL},
        {"A-b_c.9", NULL},
        {longest, NULL},
        {"1.2.3", NULL},
        {"1.2.3.4.5", NULL},
        {"256.1.1.1", NULL},
        {"01.2.3.4", NULL},
        {"abc+def", NULL},
        {"", CHARACTERS},
        {"ab", CHARACTERS ", starting and ending with a character in [a-zA-Z0-9]. Got: ab"},
        {too_long, CHARACTERS},
        {"-abc", CHARACTERS},
        {"abc.", CHARACTERS},
        {"a c", CHARACTERS},
        {"\xc3\xa4"
         "bc",
         CHARACTERS},
        {"a..b", PERIODS "a..b"},
        {"1.2.3.4", ADDRESS "1.2.3.4"},
        {"255.255.255.255", ADDRESS},
        {"a+b", CHARACTERS},
        {"abc+1.2.3.4", ADDRESS},
        {"abc+d..e", PERIODS},
        {"ab+cd+ef", "Expected a name to contain at most one topology:  Got two `+` characters."},
    };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char body[640], expected[256];
        och_error err = {0};
        och_code code = gateway_check_name(slice_of(names[i].name), &err);
        assert_int_equal(code, names[i].expected ? OCH_INVALID : OCH_OK);
        if (!names[i].expected)
            continue;
        assert_memory_equal(err.message, names[i].expected, strlen(names[i].expected));
        (void)snprintf(body, sizeof(body), "{\"name\":\"%s\"}", names[i].name);
        (void)snprintf(expected, sizeof(expected), "Validation error: name: %s", names[i].expected);
        EXPECT(400, expected, "POST", BASE "/collections", body);
        EXPECT(400, names[i].expected, "POST", "/api/v2/tenants/default_tenant/databases", body);
        char id[UUID_TEXT_SIZE];
        make_collection(s, "{\"name\":\"renamed\",\"get_or_create\":true}", id);
        (void)snprintf(body, sizeof(body), "{\"new_name\":\"%s\"}", names[i].name);
        (void)snprintf(expected, sizeof(expected), "Validation error: new_name: %s",
                       names[i].expected);
        char target[256];
        (void)snprintf(target, sizeof(target), BASE "/collections/%s", id);
        EXPECT(400, expected, "PUT", target, body);
    }
    stack_done(s);
}

static void routes_and_methods_that_are_none_say_so(void **state)
{
    (void)state;
    struct ask ask;
    struct stack stack = {0}, *s = &stack;
    static struct answer answer;
    char id[UUID_TEXT_SIZE];
    stack_open(s);
    make_collection(s, "{\"name\":\"routes\"}", id);
    EXPECT(404, "No such route: GET /", "GET", "//");
    EXPECT(404, "No such route", "GET", "/api/v2/");
    EXPECT(404, "No such route", "GET", "/api//v2");
    EXPECT(404, "No such route", "GET", "/api/v2/Heartbeat");
    EXPECT(404, "No such route", "GET", "/api/v2/heartbeat/");
    EXPECT(404, "No such route", "POST", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p");
    EXPECT(400, "Invalid URL: Invalid UTF-8", "GET", "/api/v2/tenants/%ff");
    EXPECT(400, "Invalid URL", "GET", "/api/v2/tenants/%ff");
    EXPECT(404, "Tenant [%zz] not found", "GET", "/api/v2/tenants/%zz");
    EXPECT(404, "Tenant [a/b] not found", "GET", "/api/v2/tenants/a%2Fb");
    EXPECT(410, "The v1 API is deprecated. Please use /v2 apis", "GET", "/api/v1/heartbeat");
    EXPECT(410, "The v1 API is deprecated", "POST", "/api/v1/x");
    EXPECT(404, "No such route", "GET", "/api/v1");
    EXPECT(404, "No such route", "GET", "/api/v1/");
    ask = PLAIN("DELETE", "/api/v2/heartbeat");
    exchange(s, &ask, &answer);
    assert_int_equal(answer.status, 405);
    assert_non_null(strstr(answer.headers, "Allow: GET, HEAD\r\n"));
    ask = PLAIN("PATCH", path(id, "count"));
    exchange(s, &ask, &answer);
    assert_int_equal(answer.status, 405);
    assert_non_null(strstr(answer.headers, "Allow: GET, HEAD\r\n"));
    ask = PLAIN("POST", BASE);
    exchange(s, &ask, &answer);
    assert_int_equal(answer.status, 405);
    assert_non_null(strstr(answer.headers, "Allow: GET, HEAD, DELETE\r\n"));
    EXPECT(405, "This path does not take OPTIONS", "OPTIONS", "/api/v2/heartbeat");
    EXPECT(200, "{\"nanosecond heartbeat\":1700000000000000000}", "HEAD", "/api/v2/heartbeat");
    EXPECT(200, "0", "HEAD", path(id, "count"));
    stack_done(s);
}

/* What a message quotes is cut, and may not have been UTF-8 to begin with: the answer is. */
static void messages_are_utf8_whatever_they_quote(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    static struct answer answer;
    char id[UUID_TEXT_SIZE], text[512];
    stack_open(s);
    make_collection(s, "{\"name\":\"quoted\"}", id);
    for (size_t before = 36; before < 42; before++) { /* cut at 40 bytes, in the middle of ä or 𝄞 */
        static const char *const wide[] = {"\xc3\xa4", "\xf0\x9d\x84\x9e"};
        for (size_t w = 0; w < 2; w++) {
            (void)snprintf(text, sizeof(text), "{\"%.*s%s%s\":1}", (int)before,
                           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", wide[w], wide[w]);
            struct ask ask = PLAIN("POST", path(id, "delete"), text);
            exchange(s, &ask, &answer);
            assert_int_equal(answer.status, 422);
            assert_true(json_utf8_valid(slice_of(answer.body)));
        }
    }
    struct ask ask = PLAIN("GET", "/a/b/c/d/e/f/g/h/i/j/k/l/m/\xff\xc3");
    exchange(s, &ask, &answer);
    assert_true(json_utf8_valid(slice_of(answer.body)));
    assert_non_null(strstr(answer.body, "/m/??."));
    stack_done(s);
}

static void errors_carry_the_callers_trace_id(void **state)
{
    (void)state;
    struct stack stack = {0}, *s = &stack;
    static struct answer answer;
    stack_open(s);
    static const struct {
        const char *parent;
        bool taken;
    } cases[] = {
        {"00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", true},
        {"00-0123456789ABCDEF0123456789abcdef-0123456789abcdef-01", false},
        {"00-00000000000000000000000000000000-0123456789abcdef-01", false},
        {"00-0123456789abcdef0123456789abcdef", false},
        {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789", false},
        {"", false},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        exchange(s,
                 &(struct ask){.method = "GET",
                               .target = "/nowhere",
                               .headers = {{SLICE("TraceParent"), slice_of(cases[i].parent)}},
                               .header_count = 1},
                 &answer);
        const char *id = strstr(answer.headers, "chroma-trace-id: ") + 17;
        for (int c = 0; c < 32; c++)
            assert_non_null(memchr("0123456789abcdef", id[c], 16));
        assert_int_equal(strncmp(id, "0123456789abcdef0123456789abcdef", 32) == 0, cases[i].taken);
    }
    stack_done(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fault_has_its_status_and_words),
        cmocka_unit_test(checks_come_in_order),
        cmocka_unit_test(bodies_of_another_kind_or_size_are_refused),
        cmocka_unit_test(query_strings_are_checked),
        cmocka_unit_test(names_keep_the_rule),
        cmocka_unit_test(routes_and_methods_that_are_none_say_so),
        cmocka_unit_test(messages_are_utf8_whatever_they_quote),
        cmocka_unit_test(errors_carry_the_callers_trace_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
