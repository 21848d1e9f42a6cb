/* SPDX-License-Identifier: Apache-2.0 */
/* `statistics`: how often each (key, value) stands in the metadata of the input; one record each, and one for the number of records.
 *
 * What can be counted: bool, int, float and string values, the elements of arrays and the indices of sparse vectors, each by itself. */
#include "function/function_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char summary_key[] = "summary", summary_value[] = "total_count";

/* A record of the output: what it counts, and by how much that changes. */
struct count {
    slice id, key, value, label; /* label.at NULL: none */
    const char *type;            /* as the metadata says it */
    size_t name_at;              /* where "<prefix>:<value>" begins in the id */
    int64_t delta;
};

struct tally {
    struct run *run;
    struct arena arena; /* counts and their texts */
    struct map by_id;   /* -> number + 1 in counts */
    VEC(struct count *) counts;
    struct buf id; /* the one being looked up */
};

static void tally_init(struct tally *tally, struct run *run)
{
    *tally = (struct tally){.run = run};
    arena_init(&tally->arena, run->functions->options.budget, 0);
    map_init(&tally->by_id);
    buf_init(&tally->id, BUF_MAX_NONE);
}

static void tally_done(struct tally *tally)
{
    buf_done(&tally->id);
    VEC_DONE(&tally->counts);
    map_done(&tally->by_id);
    arena_done(&tally->arena);
}

/* ---- counting ---- */

struct kind_of_value {
    const char *type, *prefix;
};
static const struct kind_of_value of_bool = {"bool", "b"}, of_int = {"int", "i"},
                                  of_float = {"float", "f"}, of_string = {"str", "s"},
                                  of_sparse = {"sparse", "sv"};

static och_code count_new(struct tally *tally, slice key, const struct kind_of_value *kind,
                          slice value, struct count **ret_count, och_error *err)
{
    struct count *count = ARENA_NEW(&tally->arena, struct count);
    slice id = arena_copy(&tally->arena, buf_view(&tally->id));
    if (!count || !id.at)
        return FAIL_NO_MEMORY(err, "statistics");
    *count = (struct count){.id = id,
                            .key = slice_make(id.at, key.len),
                            .value = slice_make(id.at + id.len - value.len, value.len),
                            .type = kind->type,
                            .name_at = key.len + 2};
    bool is_new;
    uint64_t *place = map_at(&tally->by_id, id, &is_new);
    if (!place || !VEC_PUSH(&tally->counts, count))
        return FAIL_NO_MEMORY(err, "statistics");
    *place = tally->counts.len;
    *ret_count = count;
    return OCH_OK;
}

static och_code count_one(struct tally *tally, slice key, const struct kind_of_value *kind,
                          slice value, slice label, int sign, och_error *err)
{
    struct buf *id = &tally->id;
    buf_clear(id);
    buf_slice(id, key);
    buf_text(id, "::");
    buf_text(id, kind->prefix);
    buf_byte(id, ':');
    buf_slice(id, value);
    TRY(buf_check(id, "statistics", err));
    uint64_t *place = map_find(&tally->by_id, buf_view(id));
    struct count *count = place && *place ? tally->counts.at[*place - 1] : NULL;
    if (!count)
        TRY(count_new(tally, key, kind, value, &count, err));
    count->delta += sign;
    if (label.at && sign > 0 && !slice_equal(label, count->label)) {
        count->label = arena_copy(&tally->arena, label);
        if (!count->label.at)
            return FAIL_NO_MEMORY(err, "statistics");
    }
    return OCH_OK;
}

/* d.ddddddddddddddddeX: 17 digits tell every double apart; the exponent is written without '+' and leading zeros. */
static slice float_text(double value, char text[40])
{
    if (!isfinite(value))
        return slice_of(isnan(value) ? "NaN" : value < 0 ? "-inf" : "inf");
    char printed[40];
    (void)snprintf(printed, sizeof(printed), "%.16e", value);
    char *e = strchr(printed, 'e');
    if (!e) /* cannot be */
        return SLICE("");
    const char *digits = e + 1;
    bool negative = *digits == '-';
    digits += *digits == '-' || *digits == '+';
    while (digits[0] == '0' && digits[1] != '\0')
        digits++;
    *e = '\0';
    (void)snprintf(text, 40, "%se%s%s", printed, negative ? "-" : "", digits);
    return slice_of(text);
}

static och_code count_number(struct tally *tally, slice key, bool is_float, const uint8_t *at,
                             int sign, och_error *err)
{
    char text[40];
    if (is_float)
        return count_one(tally, key, &of_float, float_text(load_f64(at), text), SLICE_NONE, sign,
                         err);
    (void)snprintf(text, sizeof(text), "%" PRId64, (int64_t)load_u64(at));
    return count_one(tally, key, &of_int, slice_of(text), SLICE_NONE, sign, err);
}

static och_code count_bool(struct tally *tally, slice key, uint8_t value, int sign, och_error *err)
{
    return count_one(tally, key, &of_bool, value ? SLICE("true") : SLICE("false"), SLICE_NONE, sign,
                     err);
}

static och_code count_sparse(struct tally *tally, slice key, slice value, int sign, och_error *err)
{
    struct reader indices = reader_of(value);
    uint64_t n = reader_varint(&indices);
    struct reader tokens = indices;
    if (indices.failed || n > reader_left(&indices) / 8)
        return FAIL(err, OCH_CORRUPT, "a sparse vector of %.*s is malformed", SLICE_ARG(key));
    (void)reader_skip(&tokens, (size_t)n * 8);
    bool has_tokens = reader_u8(&tokens) != 0;
    for (uint64_t i = 0; i < n; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%" PRIu32, reader_u32(&indices));
        slice label = has_tokens ? reader_sized(&tokens) : SLICE_NONE;
        TRY(count_one(tally, key, &of_sparse, slice_of(text), label, sign, err));
    }
    return OCH_OK;
}

static och_code count_entry(struct tally *tally, const struct meta_entry *entry, int sign,
                            och_error *err)
{
    slice key = entry->key, value = entry->value;
    struct reader strings = reader_of(value);
    och_code code = OCH_OK;
    switch (entry->type) {
    case META_BOOL:
    case META_BOOLS:
        for (size_t i = 0; i < value.len && code == OCH_OK; i++)
            code = count_bool(tally, key, value.at[i], sign, err);
        return code;
    case META_INT:
    case META_INTS:
    case META_FLOAT:
    case META_FLOATS:
        for (size_t i = 0; i + 8 <= value.len && code == OCH_OK; i += 8)
            code = count_number(tally, key, entry->type == META_FLOAT || entry->type == META_FLOATS,
                                value.at + i, sign, err);
        return code;
    case META_STRING:
        return count_one(tally, key, &of_string, value, SLICE_NONE, sign, err);
    case META_STRINGS:
        while (reader_left(&strings) > 0 && !strings.failed && code == OCH_OK) {
            slice text = reader_sized(&strings);
            if (!strings.failed)
                code = count_one(tally, key, &of_string, text, SLICE_NONE, sign, err);
        }
        return code;
    case META_SPARSE:
        return count_sparse(tally, key, value, sign, err);
    default:
        return OCH_OK;
    }
}

static och_code count_record(struct tally *tally, const struct record *record, int sign,
                             och_error *err)
{
    struct meta_iter iter;
    struct meta_entry entry;
    meta_iter_init(&iter, record->metadata);
    while (meta_iter_next(&iter, &entry))
        TRY(count_entry(tally, &entry, sign, err));
    return OCH_OK;
}

static och_code count_summary(struct tally *tally, int sign, och_error *err)
{
    return count_one(tally, slice_of(summary_key), &of_string, slice_of(summary_value), SLICE_NONE,
                     sign, err);
}

/* ---- writing ---- */

static void put_text(struct buf *out, const char *key, slice value)
{
    buf_sized(out, slice_of(key));
    buf_byte(out, META_STRING);
    buf_sized(out, value);
}

static och_code write_count(const struct count *count, int64_t total, struct output_rows *out,
                            och_error *err)
{
    struct buf metadata CLEANUP(buf_cleanup);
    struct buf document CLEANUP(buf_cleanup);
    buf_init(&metadata, BUF_MAX_NONE);
    buf_init(&document, BUF_MAX_NONE);
    buf_varint(&metadata, count->label.at ? 5 : 4); /* keys ascend */
    buf_sized(&metadata, SLICE("count"));
    buf_byte(&metadata, META_INT);
    buf_varint(&metadata, 8);
    buf_u64(&metadata, (uint64_t)total);
    put_text(&metadata, "key", count->key);
    put_text(&metadata, "type", slice_of(count->type));
    put_text(&metadata, "value", count->value);
    if (count->label.at)
        put_text(&metadata, "value_label", count->label);
    buf_text(&document, "statistics about ");
    buf_slice(&document, count->key);
    buf_text(&document, " for ");
    buf_slice(&document, slice_from(count->id, count->name_at));
    TRY(buf_check(&metadata, "statistics", err));
    TRY(buf_check(&document, "statistics", err));
    return output_upsert(out, count->id, buf_view(&document), buf_view(&metadata), err);
}

static bool is_summary(const struct count *count)
{
    return slice_equal(count->id, SLICE("summary::s:total_count"));
}

/* What the output says now: *ret_total 0 also when it says nothing. */
static och_code stored_count(struct tally *tally, slice id, int64_t *ret_total, bool *ret_found,
                             slice *ret_label, och_error *err)
{
    struct arena scratch;
    struct record record;
    struct meta_entry entry;
    arena_init(&scratch, NULL, 0);
    *ret_total = 0;
    *ret_label = SLICE_NONE;
    och_code code = record_find(tally->run, tally->run->before, id, RECORD_METADATA, &scratch,
                                &record, ret_found, err);
    if (code == OCH_OK && *ret_found) {
        if (meta_find(record.metadata, SLICE("count"), &entry) && entry.type == META_INT)
            *ret_total = meta_int(&entry);
        if (meta_find(record.metadata, SLICE("value_label"), &entry) && entry.type == META_STRING) {
            *ret_label = arena_copy(&tally->arena, entry.value);
            code = ret_label->at ? OCH_OK : FAIL_NO_MEMORY(err, "statistics");
        }
    }
    arena_done(&scratch);
    return code;
}

/* `anew`: the counts are all there is, whatever the output says; else they are added to it. */
static och_code write_counts(struct tally *tally, bool anew, struct output_rows *out,
                             och_error *err)
{
    for (size_t i = 0; i < tally->counts.len; i++) {
        const struct count *count = tally->counts.at[i];
        if (i % FUNCTION_READS_KEEP == 0)
            TRY(run_check(tally->run, err));
        if (!anew && count->delta == 0)
            continue;
        int64_t stored, total = count->delta;
        bool found;
        slice label;
        TRY(stored_count(tally, count->id, &stored, &found, &label, err));
        total += anew ? 0 : stored;
        total = total < 0 ? 0 : total;
        bool same =
            found && total == stored && (!count->label.at || slice_equal(label, count->label));
        if (same && total > 0)
            continue;
        if (total > 0 || is_summary(count))
            TRY(write_count(count, total, out, err));
        else if (found)
            TRY(output_delete(out, count->id, err));
        if (anew)
            TRY(run_write_full(tally->run, out, err));
    }
    return OCH_OK;
}

/* ---- the two ways ---- */

static och_code count_change(void *context, const struct change *change, och_error *err)
{
    struct tally *tally = context;
    if (change->before)
        TRY(count_record(tally, change->before, -1, err));
    if (change->after)
        TRY(count_record(tally, change->after, 1, err));
    if (!change->before != !change->after)
        TRY(count_summary(tally, change->after ? 1 : -1, err));
    return OCH_OK;
}

och_code statistics_step(struct run *run, uint64_t from, uint64_t to, struct output_rows *out,
                         och_error *err)
{
    struct tally tally;
    tally_init(&tally, run);
    och_code code = changes_walk(run, from, to, false, RECORD_METADATA, count_change, &tally, err);
    if (code == OCH_OK)
        code = write_counts(&tally, false, out, err);
    tally_done(&tally);
    return code;
}

static och_code count_row(void *context, const struct record *record, och_error *err)
{
    TRY(count_record(context, record, 1, err));
    return count_summary(context, 1, err);
}

struct stale {
    struct tally *tally;
    struct output_rows *out;
};

/* A record of ours that nothing stands for any more.  What a client has put there is left alone. */
static och_code delete_stale(void *context, const struct record *record, och_error *err)
{
    struct stale *stale = context;
    struct meta_entry entry;
    if (map_find(&stale->tally->by_id, record->id))
        return OCH_OK;
    static const char *const keys[] = {"count", "key", "type", "value"};
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        if (!meta_find(record->metadata, slice_of(keys[i]), &entry))
            return OCH_OK;
    }
    TRY(output_delete(stale->out, record->id, err));
    return run_write_full(stale->tally->run, stale->out, err);
}

och_code statistics_rebuild(struct run *run, struct output_rows *out, och_error *err)
{
    struct tally tally;
    tally_init(&tally, run);
    och_code code = count_summary(&tally, 0, err);
    if (code == OCH_OK)
        code = rows_walk(run, run->view, RECORD_METADATA, count_row, &tally, err);
    struct stale stale = {&tally, out};
    if (code == OCH_OK)
        code = rows_walk(run, run->before, RECORD_ID | RECORD_METADATA, delete_stale, &stale, err);
    if (code == OCH_OK)
        code = write_counts(&tally, true, out, err);
    tally_done(&tally);
    return code;
}
