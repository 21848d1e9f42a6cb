/* SPDX-License-Identifier: Apache-2.0 */
/* Attached functions (http-api.md §9): one row for each input of each function.  What must hold when several attach at once holds here: the output
 * is made in the same transaction, a collection has one function of either mode (constraints), chains are short and have no cycle. */
#include "sysdb/sysdb_internal.h"

#define DEPTH_MAX 5

static och_code function_missing(och_error *err)
{
    return FAIL(err, OCH_NOT_FOUND, "Attached function not found");
}

/* The row of a collection by its ord; its id alone. */
static och_code id_of(struct session *session, struct value ord, uuid *ret_id, och_error *err)
{
    struct row row;
    bool found;
    TRY(table_row_get(session, TABLE_COLLECTION, &ord, &session->scratch, &row, &found, err));
    if (!found)
        return FAIL(err, OCH_CORRUPT, "catalogue %s: a function's collection (%lld) is missing",
                    session->sysdb->path, (long long)ord.number);
    memcpy(ret_id->bytes, row.at[COLLECTION_ID].bytes.at, 16);
    return OCH_OK;
}

/* Out of the session's memory into the caller's. */
static och_code give(struct session *session, const struct row *row, struct arena *arena,
                     struct sysdb_function *ret, och_error *err)
{
    *ret = (struct sysdb_function){.name = arena_copy(arena, row->at[FUNCTION_NAME].bytes),
                                   .function = arena_copy(arena, row->at[FUNCTION_FUNCTION].bytes),
                                   .output_name =
                                       arena_copy(arena, row->at[FUNCTION_OUTPUT_NAME].bytes),
                                   .params = arena_copy(arena, row->at[FUNCTION_PARAMS].bytes),
                                   .is_async = row->at[FUNCTION_ASYNC].number != 0,
                                   .built = row->at[FUNCTION_BUILT].number != 0,
                                   .completion = (uint64_t)row->at[FUNCTION_COMPLETION].number,
                                   .min_records = (uint64_t)row->at[FUNCTION_MIN_RECORDS].number};
    if (!ret->name.at || !ret->function.at || !ret->output_name.at || !ret->params.at)
        return FAIL_NO_MEMORY(err, "an attached function");
    memcpy(ret->id.bytes, row->at[FUNCTION_ID].bytes.at, 16);
    TRY(id_of(session, row->at[FUNCTION_INPUT], &ret->input, err));
    return id_of(session, row->at[FUNCTION_OUTPUT], &ret->output, err);
}

/* The functions of a collection, as input or output; VEC_DONE by the caller. */
static och_code rows_of(struct session *session, enum query_id side, struct value ord,
                        row_list *list, och_error *err)
{
    return table_rows_collect(session, side, &ord, 1, &session->scratch, list, err);
}

/* ---- the graph ---- */

struct walk {
    struct session *session;
    enum query_id side; /* from whom to look */
    unsigned next;      /* the column that leads on */
    VEC(int64_t) found; /* collections in the order of their distance, from the start on */
};

/* All collections that are reached from one, and how far the farthest is: level by level, each once a level, so a cycle that a damaged
 * catalogue holds ends at the limit. */
static och_code walk_graph(struct walk *walk, int64_t start, unsigned *ret_depth, och_error *err)
{
    size_t begin = walk->found.len;
    *ret_depth = 0;
    if (!VEC_PUSH(&walk->found, start))
        return FAIL_NO_MEMORY(err, "a chain of functions");
    for (unsigned depth = 1; depth <= DEPTH_MAX + 1; depth++) {
        size_t end = walk->found.len;
        for (size_t i = begin; i < end; i++) {
            row_list rows = {0};
            och_code code =
                rows_of(walk->session, walk->side, value_int(walk->found.at[i]), &rows, err);
            for (size_t j = 0; code == OCH_OK && j < rows.len; j++) {
                if (!VEC_PUSH(&walk->found, rows.at[j].at[walk->next].number))
                    code = FAIL_NO_MEMORY(err, "a chain of functions");
            }
            VEC_DONE(&rows);
            TRY(code);
        }
        if (walk->found.len == end)
            return OCH_OK;
        begin = end;
        *ret_depth = depth;
    }
    return OCH_OK;
}

/* May an edge lead from input to output?  output 0: a new collection, from which nothing leads on. */
static och_code check_graph(struct session *session, int64_t input, int64_t output, och_error *err)
{
    struct walk up = {session, QUERY_FUNCTIONS_OF_OUTPUT, FUNCTION_INPUT, {0}};
    struct walk down = {session, QUERY_FUNCTIONS_OF_INPUT, FUNCTION_OUTPUT, {0}};
    unsigned above = 0, below = 0;
    och_code code = walk_graph(&up, input, &above, err);
    if (code == OCH_OK && output)
        code = walk_graph(&down, output, &below, err);
    bool cycle = false;
    for (size_t i = 0; i < down.found.len; i++)
        cycle |= down.found.at[i] == input;
    VEC_DONE(&up.found);
    VEC_DONE(&down.found);
    TRY(code);
    if (cycle)
        return FAIL(err, OCH_INVALID,
                    "cannot attach function to an output collection: it would follow itself");
    if (above + 1 + below > DEPTH_MAX)
        return FAIL(err, OCH_INVALID, "attached function depth exceeds maximum of %d", DEPTH_MAX);
    return OCH_OK;
}

/* ---- attach ---- */

struct attach {
    const struct sysdb_function_new *spec;
    struct arena *arena;
    struct sysdb_function *function;
    bool created;
};

static och_code mode_taken(const struct row *row, och_error *err)
{
    return FAIL(err, OCH_EXISTS,
                "collection already has an attached function with the same execution mode: "
                "name=%.*s, function=%.*s, output_collection=%.*s",
                SLICE_ARG(row->at[FUNCTION_NAME].bytes),
                SLICE_ARG(row->at[FUNCTION_FUNCTION].bytes),
                SLICE_ARG(row->at[FUNCTION_OUTPUT_NAME].bytes));
}

static bool is_same(const struct row *row, const struct sysdb_function_new *spec)
{
    return slice_equal(row->at[FUNCTION_NAME].bytes, spec->name) &&
           slice_equal(row->at[FUNCTION_FUNCTION].bytes, spec->function) &&
           slice_equal(row->at[FUNCTION_OUTPUT_NAME].bytes, spec->output_name) &&
           slice_equal(row->at[FUNCTION_PARAMS].bytes, spec->params);
}

/* Is there one that says the same, or one that is in the way? */
static och_code find_rival(struct session *session, struct value input, slice name, bool is_async,
                           const struct sysdb_function_new *spec, struct row *ret_same,
                           bool *ret_found, och_error *err)
{
    row_list rows = {0};
    och_code code = rows_of(session, QUERY_FUNCTIONS_OF_INPUT, input, &rows, err);
    *ret_found = false;
    for (size_t i = 0; code == OCH_OK && i < rows.len && !*ret_found; i++) {
        if (spec && is_same(&rows.at[i], spec)) {
            *ret_same = rows.at[i];
            *ret_found = true;
        }
    }
    for (size_t i = 0; code == OCH_OK && i < rows.len && !*ret_found; i++) {
        if ((rows.at[i].at[FUNCTION_ASYNC].number != 0) == is_async)
            code = mode_taken(&rows.at[i], err);
        else if (slice_equal(rows.at[i].at[FUNCTION_NAME].bytes, name))
            code = FAIL(err, OCH_EXISTS, "collection already has an attached function named %.*s",
                        SLICE_ARG(name));
    }
    VEC_DONE(&rows);
    return code;
}

static och_code run_attach(struct session *session, void *arg, och_error *err)
{
    struct attach *attach = arg;
    const struct sysdb_function_new *spec = attach->spec;
    struct row input, same;
    bool found;
    TRY(collection_row(session, spec->input, &input, err));
    struct value ord = input.at[COLLECTION_ORD];
    TRY(find_rival(session, ord, spec->name, spec->is_async, spec, &same, &found, err));
    if (found)
        return give(session, &same, attach->arena, attach->function, err);
    TRY(check_graph(session, ord.number, 0, err));
    struct row output;
    och_code code =
        collection_insert(session, &spec->output, input.at[COLLECTION_DB].number, 1, &output, err);
    if (code == OCH_EXISTS)
        return FAIL(err, OCH_EXISTS, "Output collection [%.*s] already exists",
                    SLICE_ARG(spec->output_name));
    TRY(code);
    int64_t now = (int64_t)(clock_wall_ns(session->sysdb->clock) / 1000000);
    struct row row = {.table = TABLE_FUNCTION,
                      .at = {[FUNCTION_ID] = value_id(&spec->id),
                             [FUNCTION_INPUT] = ord,
                             [FUNCTION_OUTPUT] = output.at[COLLECTION_ORD],
                             [FUNCTION_NAME] = value_text(spec->name),
                             [FUNCTION_FUNCTION] = value_text(spec->function),
                             [FUNCTION_ASYNC] = value_int(spec->is_async),
                             [FUNCTION_OUTPUT_NAME] = value_text(spec->output_name),
                             [FUNCTION_PARAMS] = value_text(spec->params),
                             [FUNCTION_COMPLETION] = value_int(0),
                             [FUNCTION_BUILT] = value_int(1),
                             [FUNCTION_MIN_RECORDS] = value_u64(spec->min_records),
                             [FUNCTION_CREATED] = value_int(now)}};
    TRY(table_row_insert(session, &row, err));
    attach->created = true;
    return give(session, &row, attach->arena, attach->function, err);
}

och_code sysdb_function_attach(struct sysdb *sysdb, const struct sysdb_function_new *spec,
                               struct arena *arena, struct sysdb_function *ret_function,
                               bool *ret_created, och_error *err)
{
    struct attach attach = {spec, arena, ret_function, false};
    TRY(sysdb_write_run(sysdb, run_attach, &attach, err));
    *ret_created = attach.created;
    return OCH_OK;
}

/* ---- one row ---- */

struct named {
    uuid input;
    slice name;
    uuid new_input; /* add_input */
    struct arena *arena;
    struct sysdb_function *function;
    bool created;
};

static och_code find_named(struct session *session, const struct named *named, struct row *ret_row,
                           och_error *err)
{
    struct row input;
    bool found;
    TRY(collection_row(session, named->input, &input, err));
    struct value key[] = {input.at[COLLECTION_ORD], value_text(named->name)};
    TRY(table_row_find(session, QUERY_FUNCTION_BY_NAME, key, 2, &session->scratch, ret_row, &found,
                       err));
    return found ? OCH_OK : function_missing(err);
}

och_code sysdb_function_get(struct sysdb *sysdb, uuid input, slice name, struct arena *arena,
                            struct sysdb_function *ret_function, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    struct named named = {.input = input, .name = name};
    struct row row;
    TRY(find_named(session, &named, &row, err));
    return give(session, &row, arena, ret_function, err);
}

static och_code run_add_input(struct session *session, void *arg, och_error *err)
{
    struct named *named = arg;
    struct row row, input;
    bool found;
    TRY(find_named(session, named, &row, err));
    if (!row.at[FUNCTION_ASYNC].number)
        return FAIL(err, OCH_INVALID,
                    "multiple input collections are only supported for async attached functions");
    TRY(collection_row(session, named->new_input, &input, err));
    struct value key[] = {row.at[FUNCTION_ID], input.at[COLLECTION_ORD]};
    struct row known;
    TRY(table_row_get(session, TABLE_FUNCTION, key, &session->scratch, &known, &found, err));
    if (found)
        return give(session, &known, named->arena, named->function, err);
    TRY(find_rival(session, key[1], named->name, true, NULL, NULL, &found, err));
    TRY(check_graph(session, key[1].number, row.at[FUNCTION_OUTPUT].number, err));
    row.at[FUNCTION_INPUT] = key[1];
    row.at[FUNCTION_COMPLETION] = value_int(0);
    row.at[FUNCTION_BUILT] = value_int(1);
    TRY(table_row_insert(session, &row, err));
    named->created = true;
    return give(session, &row, named->arena, named->function, err);
}

och_code sysdb_function_add_input(struct sysdb *sysdb, uuid input, slice name, uuid new_input,
                                  struct arena *arena, struct sysdb_function *ret_function,
                                  bool *ret_created, och_error *err)
{
    struct named named = {input, name, new_input, arena, ret_function, false};
    TRY(sysdb_write_run(sysdb, run_add_input, &named, err));
    *ret_created = named.created;
    return OCH_OK;
}

static och_code run_detach(struct session *session, void *arg, och_error *err)
{
    const struct named *named = arg;
    struct row row;
    TRY(find_named(session, named, &row, err));
    return table_row_delete(session, &row, err);
}

och_code sysdb_function_detach(struct sysdb *sysdb, uuid input, slice name, och_error *err)
{
    struct named named = {.input = input, .name = name};
    return sysdb_write_run(sysdb, run_detach, &named, err);
}

/* ---- progress ---- */

struct progress {
    uuid id, input;
    uint64_t completion;
    bool built;
};

static och_code run_progress(struct session *session, void *arg, och_error *err)
{
    const struct progress *progress = arg;
    struct row input, row;
    bool found;
    TRY(collection_row(session, progress->input, &input, err));
    struct value key[] = {value_id(&progress->id), input.at[COLLECTION_ORD]};
    TRY(table_row_get(session, TABLE_FUNCTION, key, &session->scratch, &row, &found, err));
    if (!found)
        return function_missing(err);
    if (progress->completion < (uint64_t)row.at[FUNCTION_COMPLETION].number)
        return FAIL(err, OCH_INTERNAL, "completion offset cannot move backwards");
    row.at[FUNCTION_COMPLETION] = value_u64(progress->completion);
    row.at[FUNCTION_BUILT] = value_int(progress->built);
    return table_row_update(session, &row, err);
}

och_code sysdb_function_progress(struct sysdb *sysdb, uuid id, uuid input, uint64_t completion,
                                 bool built, och_error *err)
{
    struct progress progress = {id, input, completion, built};
    return sysdb_write_run(sysdb, run_progress, &progress, err);
}

/* ---- lists, and the end of a collection ---- */

och_code sysdb_function_list(struct sysdb *sysdb, struct arena *arena,
                             struct sysdb_function **ret_rows, size_t *ret_count, och_error *err)
{
    CLEANUP(session_turn_cleanup) struct session *session = NULL;
    TRY(session_turn_enter(sysdb, &session, err));
    row_list list = {0};
    och_code code =
        table_rows_collect(session, QUERY_FUNCTIONS, NULL, 0, &session->scratch, &list, err);
    struct sysdb_function *rows = NULL;
    if (code == OCH_OK) {
        rows = ARENA_ARRAY(arena, struct sysdb_function, list.len + 1);
        if (!rows)
            code = FAIL_NO_MEMORY(err, "attached functions");
    }
    for (size_t i = 0; code == OCH_OK && i < list.len; i++)
        code = give(session, &list.at[i], arena, &rows[i], err);
    if (code == OCH_OK) {
        *ret_rows = rows;
        *ret_count = list.len;
    }
    VEC_DONE(&list);
    return code;
}

och_code functions_bury(struct session *session, struct value collection, och_error *err)
{
    TRY(table_rows_delete(session, QUERY_FUNCTIONS_OF_INPUT, &collection, 1, err));
    return table_rows_delete(session, QUERY_FUNCTIONS_OF_OUTPUT, &collection, 1, err);
}
