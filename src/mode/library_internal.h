/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by library*.c only: the handles behind ochre.h, and how calls enter them. */
#ifndef MODE_LIBRARY_INTERNAL_H
#define MODE_LIBRARY_INTERNAL_H

#include "mode/database.h"
#include "model/search.h"
#include "ochre/ochre.h"

struct och_database {
    _Atomic uint32_t refs;  /* the handle, its children, calls at work */
    _Atomic uint64_t calls; /* calls at work, and LIBRARY_CLOSED */
    struct mutex
        lock; /* RANK_NONE; with `quiet`, for close to wait until calls is LIBRARY_CLOSED alone */
    struct cond quiet;
    struct settings settings;
    struct trace trace;
    void (*log)(void *user, int level, och_bytes line);
    void *log_user;
    struct database *database;
};
#define LIBRARY_CLOSED (UINT64_C(1) << 63)

struct och_collection {
    och_database *database;
    uuid id;
    char id_text[UUID_TEXT_SIZE];
    const struct gateway_version_ref *version; /* of och_collection_at: `at`; NULL: the present */
    struct gateway_version_ref at;
    slice tenant, name_of_database; /* behind the struct, as at.name */
    uint8_t texts[];
};

struct och_filter {
    struct arena arena;
    struct filter_node *node; /* NULL: all */
};

struct och_cancel {
    struct cancel cancel;
};

struct och_result {
    och_database *database;
    struct arena arena;
    struct query_result rows;
    /* or a list of collections */
    const struct sysdb_collection **collections;
    size_t collection_count;
    size_t facet_count;               /* or values of so many keys */
    struct gateway_version *versions; /* or versions */
    size_t version_count;
    size_t hits_at, row_at;    /* the next row */
    struct buf metadata, json; /* of the last one */
    struct buf cursor;         /* of the next page */
    unsigned include;          /* OCH_DOCUMENT | ... */
    /* of och_collection_search: what each payload wanted and shows; else NULL */
    const struct search *searches;
    const struct search_select *selects;
};

struct och_transaction {
    och_database *database;
    och_collection *collection; /* a handle of its own */
    uint64_t token;             /* 0: nothing read yet */
    struct arena arena;         /* what is noted */
    struct batch_input_row *rows;
    size_t count, capacity;
    uint32_t dimension;
};

struct och_response {
    struct http_reply reply;
    och_header *headers; /* point into reply */
    size_t header_count;
};

/** Begin a call: OCH_CLOSED, OCH_FORKED.  leave follows if it was OK. */
MUST_USE och_code library_enter(och_database *database, och_error *err);
void library_leave(och_database *database);
/** Begin a call that is not for handles of och_collection_at: OCH_INVALID names the call.  collection NULL: OCH_INVALID. */
MUST_USE och_code library_enter_present(const och_collection *collection, const char *call,
                                        och_error *err);
/** Into the caller's struct, if there is one. */
struct gateway_counts;
void library_give_counts(och_counts *ret_counts, const struct gateway_counts *counts);
/** The fields of OCH_DOCUMENT | OCH_URI | OCH_METADATA go; a field that is set is OCH_INVALID. */
struct batch_input_row;
MUST_USE och_code library_clear(uint32_t fields, struct batch_input_row *row, och_error *err);
och_database *library_ref(och_database *database);
void library_unref(och_database *database);
bool library_is_forked(const och_database *database);

static inline slice library_slice(och_bytes bytes)
{
    return slice_make(bytes.at, bytes.len);
}
static inline och_bytes library_bytes(slice text)
{
    return (och_bytes){text.at, text.len};
}
/** Copy a caller's struct into ours: an older, shorter one keeps `known` for the rest, a newer one may hold only zeros beyond.  OCH_INVALID. */
MUST_USE och_code library_read_struct(const void *given, size_t least, void *known, size_t size,
                                      const char *name, och_error *err);
/** Write ours over a caller's, as far as theirs reaches. */
MUST_USE och_code library_check_struct(const void *given, size_t least, const char *name,
                                       och_error *err);
void library_write_struct(void *given, const void *ours, size_t size);
/** Not {NULL, n}, and UTF-8. */
MUST_USE och_code library_check_text(och_bytes text, const char *name, och_error *err);
/** OCH_INVALID naming the vector that holds a value that is not finite. */
MUST_USE och_code library_check_finite(const float *vectors, size_t count, size_t dimension,
                                       size_t stride, och_error *err);
/** JSON of a member, NULL when absent or null. */
MUST_USE och_code library_read_json(och_bytes text, const char *name, struct arena *arena,
                                    const struct json_value **ret_value, och_error *err);
/** Another handle on the same collection, at `version`, which is copied; NULL: the present state. */
MUST_USE och_code library_collection_copy(const och_collection *collection,
                                          const struct gateway_version_ref *version,
                                          och_collection **ret_copy, och_error *err);
struct gateway_scope library_scope(const och_collection *collection, uint32_t deadline_ms,
                                   const och_cancel *cancel);
/** ids, filter, limits of a select as a plan.  `which` NULL: all. */
MUST_USE och_code library_read_select(const och_collection *collection, const och_select *given,
                                      struct arena *arena, och_select *ret_select,
                                      struct plan *ret_plan, och_error *err);
/** Records as rows of a batch, which point at the caller's memory and at this. */
struct library_rows {
    och_collection *collection;
    enum batch_op op;
    och_records records;
    struct arena arena;
    struct batch_input_row *rows;
    struct buf metadata; /* of all records, encoded */
};
void library_rows_init(struct library_rows *w, och_collection *collection, enum batch_op op);
void library_rows_done(struct library_rows *w);
/** Read and check all that does not depend on what the collection holds. */
MUST_USE och_code library_rows_read(struct library_rows *w, const och_records *records,
                                    struct batch_input *ret_input, och_error *err);
/** OCH_DOCUMENT | ...: what the rows of a payload carry. */
uint32_t library_search_include(const och_result *result, size_t payload);
/** The next value of a result of facets. */
MUST_USE och_code library_next_facet(och_result *result, och_row *ours, bool *ret_more,
                                     och_error *err);
/** The next of a list of versions. */
void library_next_version(const och_result *result, och_row *ours, bool *ret_more);
/** A result without rows yet, with a reference on its database. */
MUST_USE och_code library_result_new(och_database *database, och_result **ret_result,
                                     och_error *err);
/** Begin a call that answers with a result: enters the database (NULL: OCH_INVALID), with an empty one.  `wanted` is where the caller wants it in the end.
 *  library_result_end follows if it was OK. */
MUST_USE och_code library_result_begin(och_database *database, och_result *const *wanted,
                                       och_result **ret_result, och_error *err);
/** The end of a call that answers with a result: hands it over, or frees it after an error, and leaves the database.  Returns `code`. */
och_code library_result_end(och_database *database, och_result *result, och_code code,
                            och_result **ret_result);
#endif
