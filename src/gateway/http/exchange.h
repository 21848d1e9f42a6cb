/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP exchange inside the gateway; shared by http/ only. */
#ifndef GATEWAY_HTTP_EXCHANGE_H
#define GATEWAY_HTTP_EXCHANGE_H

#include "gateway/gateway_internal.h"
#include "json/json.h"

#define EXCHANGE_SEGMENTS_MAX 12

struct exchange {
    struct gateway *gateway;
    const struct http_request *request;
    struct http_reply *reply;
    struct arena arena;
    slice segments[EXCHANGE_SEGMENTS_MAX]; /* percent-decoded path */
    size_t segment_count;
    struct gateway_scope scope;
    slice target; /* the last variable segment: a name or a UUID */
    struct json_value body;
    size_t route;       /* its number, route_count() when there is none */
    int error_status;   /* of an error that is not what its code usually means; 0: by the code */
    const char *within; /* path of the object within the body that is being read, NULL: the body */
    uint32_t float_depth;     /* json_options: where embeddings are, 0: in the body itself */
    const char *vectors_name; /* the member that wire_vectors reads, NULL: embeddings */
    /* where an error is in the body: the whole path, or the member below which the one marked in och_error is; NULL: not said */
    const char *error_path, *error_root;
    struct import_intake
        *intake;          /* the body comes in pieces, this is the first; NULL: it is whole */
    const char *ask_less; /* how this request could do with less memory, NULL: no idea */
    char trace_id[33];    /* "": not made yet, see exchange_trace_id */
};

typedef och_code (*exchange_handler)(struct exchange *x, och_error *err);

/* ---- wire.c: reading bodies ---- */
enum wire_type {
    WIRE_ANY,
    WIRE_STRING,
    WIRE_BOOL,
    WIRE_U32,
    WIRE_OBJECT,
    WIRE_STRINGS,            /* [string] */
    WIRE_STRINGS_UNLESS_SET, /* the same; not required beside a member `set` */
    WIRE_NULLABLE_STRINGS,   /* [string | null] */
    WIRE_EMBEDDINGS,         /* [[number]] or [base64] */
    WIRE_NULLABLE_EMBEDDINGS,
    WIRE_METADATAS, /* [object | null]; values by meta.h */
    WIRE_INCLUDE,
    WIRE_CLEAR,  /* [[field name] | null] */
    WIRE_FIELDS, /* [field name]: document, uri, metadata */
    WIRE_INT,
    WIRE_NULLABLE_INTS, /* [integer | null] */
    WIRE_SEQUENCE       /* what its elements are is judged elsewhere */
};
struct wire_member {
    const char *name;
    enum wire_type type;
    bool required, refuses_null;
    size_t at; /* offsetof the const struct json_value * that receives it (NULL: absent or null) */
};
struct wire_body {
    const char *struct_name; /* as the original's messages call it */
    const struct wire_member *members;
    size_t count;
    bool refuses_unknown;
};
/** Parse the body and spread its members over `ret_values` (zeroed before). 400 not JSON, 415, 413, 422 shape. */
MUST_USE och_code wire_read(struct exchange *x, const struct wire_body *shape, void *ret_values,
                            och_error *err);
/** The same for an object within the body, or the body once more by another shape. */
MUST_USE och_code wire_spread(struct exchange *x, const struct wire_body *shape,
                              const struct json_value *object, void *ret_values, och_error *err);
/** 413 when the body was refused for its size; wire_read does it by itself. */
MUST_USE och_code wire_check_size(struct exchange *x, och_error *err);
/** 422 with path, reason and the place of `value`. */
och_code wire_fail(struct exchange *x, const struct json_value *value, och_error *err,
                   const char *path, const char *format, ...) PRINTF_LIKE(5, 6);
/** A u32 of the query string, `fallback` when absent. 400 when malformed. */
MUST_USE och_code wire_query_u64(struct exchange *x, const char *name, uint64_t fallback,
                                 uint64_t *ret_value, och_error *err);
MUST_USE och_code wire_query_text(struct exchange *x, const char *name, slice *ret_value,
                                  och_error *err);
/** include -> enum record_field bits; WIRE_DISTANCES besides. */
#define WIRE_DISTANCES 256u
unsigned wire_include(const struct json_value *include, unsigned fallback);
/** read_level text; false when unknown. */
bool wire_read_level(slice text, uint8_t *ret_level);

/* ---- vectors.c ---- */
struct wire_vectors {
    const float *matrix;       /* rows one behind the other; zeros where absent */
    const bool *present;       /* NULL: all */
    uint32_t count, dimension; /* dimension 0: no vector at all */
};
/** Decode an embeddings member (JSON rows or base64) after the collection is known to exist; 400s of http-api.md §6.1.
 *  allow_empty: queries may hold empty vectors; a collection with a dimension refuses them by it. */
MUST_USE och_code wire_vectors(struct exchange *x, const struct json_value *value, bool allow_empty,
                               struct wire_vectors *ret_vectors, och_error *err);

/* ---- writes.c ---- */
/** Idempotency-Key: batch id = hash of collection and key (D17); the body's hash tells whether it is the same request.  No key: left as it is. */
MUST_USE och_code exchange_key(struct exchange *x, enum batch_op op, uuid collection,
                               struct gateway_once *ret_once, och_error *err);

/** {"inserted":n,"updated":n,"skipped":n,"deleted":n} (D13) */
void exchange_counts(struct buf *out, const struct gateway_counts *counts);

/** The fields named are cleared in a row.  OCH_INVALID when the row sets one of them; `where` names the place. */
MUST_USE och_code exchange_clear(const struct json_value *names, const char *where,
                                 struct batch_input_row *row, och_error *err);

/* ---- conditional.c ---- */
/** A token from JSON; NULL is 0, none.  422 when it is no number, OCH_STALE when none such was ever given out. */
MUST_USE och_code exchange_read_token(struct exchange *x, const struct json_value *value,
                                      uint64_t *ret_token, och_error *err);

/* ---- versions.c ---- */
/** as_of of a read into x->scope: a read token, or an object that names a version.  NULL: now. */
MUST_USE och_code exchange_as_of(struct exchange *x, const struct json_value *value,
                                 och_error *err);

/** When a record expires: `expires_at` in ms since 1970 (0: never), else `ttl_seconds` from now; NULL or null: not said, *expires_ms stays. */
MUST_USE och_code exchange_expiry(struct exchange *x, const struct json_value *expires_at,
                                  const struct json_value *ttl_seconds, int64_t *expires_ms,
                                  och_error *err);

/* ---- import_request.c ---- */
/** Is the body NDJSON, one record a line? */
bool import_is_wanted(const struct exchange *x);
/** Write it, `batch_size` lines at a time, each batch atomic; after success answers with `status`.  Of a body in pieces (x->intake) the first. */
MUST_USE och_code import_lines(struct exchange *x, enum batch_op op, int status, och_error *err);

/* ---- chosen.c ---- */
/** An update with `set`: after wire_read. */
MUST_USE och_code update_chosen(struct exchange *x, och_error *err);

/* ---- records.c ---- */
/** A plan over x->target from members that reads share, each NULL or as wire_read gives it. */
MUST_USE och_code exchange_plan(struct exchange *x, const struct json_value *ids,
                                const struct json_value *where,
                                const struct json_value *where_document, enum plan_kind kind,
                                struct plan *ret_plan, och_error *err);

/* ---- order.c ---- */
/** order_by of a get, NULL: by insertion.  OCH_INVALID: another shape, a name that means nothing. */
MUST_USE och_code exchange_order(const struct json_value *order_by, struct plan *plan,
                                 och_error *err);
/** The page that a cursor names, once all else of the plan is set; NULL or "": the first. */
MUST_USE och_code exchange_cursor(struct exchange *x, const struct json_value *cursor,
                                  struct plan *plan, och_error *err);
/** recall of a query: the share of the true neighbours to aim at, 1 is exact; NULL: the collection's own.  OCH_INVALID: no number, out of range. */
MUST_USE och_code exchange_recall(const struct json_value *recall, struct plan *plan,
                                  och_error *err);
/** max_distance and mmr of a query, after plan->k; each may be NULL.  OCH_INVALID: another shape, out of range. */
MUST_USE och_code exchange_bounds(const struct json_value *max_distance,
                                  const struct json_value *mmr, struct plan *plan, och_error *err);
/** Append the next page's cursor to an answer, if one was asked for; null: this is the last page. */
MUST_USE och_code exchange_next(struct exchange *x, const struct json_value *cursor,
                                const struct plan *plan, const struct query_result *result,
                                och_error *err);

/* ---- reply.c ---- */
/** The error that comes is at this place of the body, below x->within; the first one told counts. */
void exchange_at(struct exchange *x, const char *format, ...) PRINTF_LIKE(2, 3);
void reply_error(struct exchange *x, och_code code, const och_error *err);
/** 32 hex digits by which clients and the log name this request: the client's own if it sent a traceparent, else made now. */
const char *exchange_trace_id(struct exchange *x);
void reply_error_as(struct exchange *x, int status, const char *name, const char *code,
                    const char *message);
/** CORS headers by the configured origins. */
void reply_cors(struct exchange *x);

/* ---- route.c ---- */
/** Find the route and have it handled; errors are answered. */
void exchange_dispatch(struct exchange *x);
size_t route_count(void);
/** Method and pattern of a route, the pattern without its first '/'. */
void route_name(size_t route, const char **ret_method, const char **ret_pattern);

/* ---- openapi.c ---- */
/** What openapi.json in this folder says, as it is there. */
slice openapi_embedded(void);

/* ---- meter.c ---- */
/** A request begins; the answer to it is ready after `duration_ns`. */
void meter_begin(struct meter *meter);
void meter_end(struct meter *meter, size_t route, int status, uint64_t duration_ns);
/** A request that meter_begin() has counted is given up. */
void meter_leave(struct meter *meter);
/** An error is answered; `page` as of error_page_find. */
void meter_error(struct meter *meter, size_t page);

/* ---- request_log.c ---- */
/** What the line of a request says, kept while its body comes in pieces. */
struct request_line {
    size_t route; /* its number, route_count() when there is none */
    uint64_t bytes_in;
    char method[20], tenant[132], id[33];
};
/** Are there such lines at all?  Else neither of the others is called. */
bool request_log_wanted(const struct gateway *gateway);
/** Once the route is known. */
void request_log_begin(struct exchange *x, struct request_line *ret_line);
void request_log_end(const struct gateway *gateway, const struct request_line *line,
                     const struct http_reply *reply, uint64_t duration_ns);

/* ---- help.c ---- */
och_code handle_root(struct exchange *x, och_error *err);
och_code handle_help_errors(struct exchange *x, och_error *err);
och_code handle_help_error(struct exchange *x, och_error *err);

/* ---- handlers ---- */
och_code handle_metrics(struct exchange *x, och_error *err);
och_code handle_openapi(struct exchange *x, och_error *err);
och_code handle_docs(struct exchange *x, och_error *err);
och_code handle_docs_file(struct exchange *x, och_error *err);
och_code handle_indexing_status(struct exchange *x, och_error *err);
och_code handle_fork(struct exchange *x, och_error *err);
och_code handle_fork_count(struct exchange *x, och_error *err);
och_code handle_version_list(struct exchange *x, och_error *err);
och_code handle_version_keep(struct exchange *x, och_error *err);
och_code handle_version_drop(struct exchange *x, och_error *err);
och_code handle_restore(struct exchange *x, och_error *err);
och_code handle_heartbeat(struct exchange *x, och_error *err);
och_code handle_healthcheck(struct exchange *x, och_error *err);
och_code handle_version(struct exchange *x, och_error *err);
och_code handle_pre_flight(struct exchange *x, och_error *err);
och_code handle_identity(struct exchange *x, och_error *err);
och_code handle_reset(struct exchange *x, och_error *err);
och_code handle_not_yet(struct exchange *x, och_error *err);
och_code handle_tenant_create(struct exchange *x, och_error *err);
och_code handle_tenant_get(struct exchange *x, och_error *err);
och_code handle_tenant_update(struct exchange *x, och_error *err);
och_code handle_database_create(struct exchange *x, och_error *err);
och_code handle_database_list(struct exchange *x, och_error *err);
och_code handle_database_get(struct exchange *x, och_error *err);
och_code handle_database_drop(struct exchange *x, och_error *err);
och_code handle_collection_create(struct exchange *x, och_error *err);
och_code handle_collection_list(struct exchange *x, och_error *err);
och_code handle_collection_count(struct exchange *x, och_error *err);
och_code handle_collection_get(struct exchange *x, och_error *err);
och_code handle_collection_by_id(struct exchange *x, och_error *err);
och_code handle_collection_by_crn(struct exchange *x, och_error *err);
och_code handle_collection_update(struct exchange *x, och_error *err);
och_code handle_collection_drop(struct exchange *x, och_error *err);
och_code handle_alias_list(struct exchange *x, och_error *err);
och_code handle_alias_get(struct exchange *x, och_error *err);
och_code handle_alias_put(struct exchange *x, och_error *err);
och_code handle_alias_drop(struct exchange *x, och_error *err);
och_code handle_alias_change(struct exchange *x, och_error *err);
och_code handle_export(struct exchange *x, och_error *err);
och_code handle_warm(struct exchange *x, och_error *err);
och_code handle_add(struct exchange *x, och_error *err);
och_code handle_upsert(struct exchange *x, och_error *err);
och_code handle_update(struct exchange *x, och_error *err);
och_code handle_delete(struct exchange *x, och_error *err);
och_code handle_count(struct exchange *x, och_error *err);
och_code handle_count_where(struct exchange *x, och_error *err);
och_code handle_facets(struct exchange *x, och_error *err);
och_code handle_get(struct exchange *x, och_error *err);
och_code handle_query(struct exchange *x, och_error *err);
och_code handle_search(struct exchange *x, och_error *err);
och_code handle_function_attach(struct exchange *x, och_error *err);
och_code handle_function_get(struct exchange *x, och_error *err);
och_code handle_function_detach(struct exchange *x, och_error *err);
och_code handle_function_add_input(struct exchange *x, och_error *err);
och_code handle_conditional_get(struct exchange *x, och_error *err);
och_code handle_conditional_commit(struct exchange *x, och_error *err);
/** The collection named by x->target as a UUID within x->scope, for its existence; 400 when not a UUID. */
MUST_USE och_code exchange_collection(struct exchange *x,
                                      const struct sysdb_collection **ret_collection,
                                      och_error *err);
#endif
