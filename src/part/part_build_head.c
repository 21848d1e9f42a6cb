/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a part being built: what a first pass over ids and seq tells, the part's own id, the id filter. */
#include "part/part_build.h"

#include "kernel/kernel.h"

#include <stdlib.h>

/* ---- the pass over ids, seq, expiry ---- */

static void digest_add(struct build *build, const void *at, size_t len)
{
    uint8_t state[24];
    uint64_t hash = slice_hash(slice_make(at, len));
    for (unsigned i = 0; i < 2; i++) {
        store_u64(state, build->digest[i]);
        store_u64(state + 8, hash);
        store_u64(state + 16, i);
        build->digest[i] = slice_hash(slice_make(state, sizeof(state)));
    }
}

static unsigned bits_of(uint64_t value)
{
    return value ? 64 - (unsigned)__builtin_clzll(value) : 0;
}

static och_code survey(struct build *build, och_error *err)
{
    int64_t min = 0, max = 0, last = INT64_MIN;
    uint64_t *hashes = build->hashes.at;
    for (uint32_t row = 0; row < build->rows; row++) {
        struct record record;
        TRY(part_build_fetch(build, row, RECORD_ID | RECORD_SEQ | RECORD_EXPIRY, &record, err));
        hashes[row] = slice_hash(part_build_id(&record));
        uint8_t place[16];
        store_u64(place, hashes[row]);
        store_u64(place + 8, (uint64_t)record.seq);
        digest_add(build, place, sizeof(place));
        if (!build->order && record.seq <= last)
            return FAIL(err, OCH_INTERNAL, "rows of a new part are not in ascending seq");
        last = record.seq;
        min = row % SEQ_ROWS == 0 || record.seq < min ? record.seq : min;
        max = row % SEQ_ROWS == 0 || record.seq > max ? record.seq : max;
        unsigned bits = bits_of((uint64_t)max - (uint64_t)min);
        build->seq_bits = bits > build->seq_bits ? bits : build->seq_bits;
        build->has_expiry = build->has_expiry || record.expires_ms != 0;
    }
    return OCH_OK;
}

/* The part's own id: from what is in it, so that building again gives the same bytes. */
static void name_part(struct build *build)
{
    const struct part_spec *spec = build->spec;
    uint8_t facts[64];
    memcpy(facts, spec->collection.bytes, 16);
    memcpy(facts + 16, build->lineage.bytes, 16);
    store_u64(facts + 32, spec->log_from);
    store_u64(facts + 40, spec->log_to);
    store_u32(facts + 48, build->rows);
    store_u32(facts + 52, spec->dimension);
    store_u32(facts + 56, (uint32_t)spec->metric);
    store_u32(facts + 60, build->totals.kill_count);
    digest_add(build, facts, sizeof(facts));
    const slice *kills = build->kills.at;
    for (uint32_t i = 0; i < build->totals.kill_count; i++)
        digest_add(build, kills[i].at, kills[i].len);
    store_u64(build->sink.id.bytes, build->digest[0]);
    store_u64(build->sink.id.bytes + 8, build->digest[1]);
}

/* ---- what is written ---- */

static int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const slice *)a, *(const slice *)b);
}

static och_code sort_kills(struct build *build, och_error *err)
{
    const struct part_spec *spec = build->spec;
    if (!spec->kill_count)
        return OCH_OK;
    TRY(charged_alloc(part_build_budget(build), spec->kill_count, sizeof(slice), "deleted ids",
                      &build->kills, err));
    slice *kills = build->kills.at;
    memcpy(kills, spec->kills, spec->kill_count * sizeof(slice));
    qsort(kills, spec->kill_count, sizeof(slice), compare_slices);
    size_t kept = 0;
    for (size_t i = 0; i < spec->kill_count; i++) {
        if (!kept || !slice_equal(kills[kept - 1], kills[i]))
            kills[kept++] = kills[i];
    }
    if (kept > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "%zu deleted ids in one part", kept);
    build->totals.kill_count = (uint32_t)kept;
    return OCH_OK;
}

static och_code write_header(struct build *build, och_error *err)
{
    const struct vector_built *built = &build->vectors;
    uint64_t filter_at = round_up(HEADER_SIZE + HEAD_SIZE, SECTION_ALIGN);
    const slice index[] = {built->mean, built->list, built->centq, built->super};
    for (size_t i = 0; build->vector && i < COUNT_OF(index); i++)
        filter_at = index[i].len ? round_up(filter_at, SECTION_ALIGN) + index[i].len : filter_at;
    if (build->filter.at)
        filter_at = round_up(filter_at, SECTION_ALIGN);
    uint64_t head_len = build->filter.at ? filter_at + build->filter.bytes : filter_at;
    if (head_len > UINT32_MAX)
        return FAIL(err, OCH_TOO_LARGE, "a part of %u rows", build->rows);
    build->head_len = (uint32_t)head_len;
    uint8_t header[HEADER_SIZE] = {0};
    memcpy(header, HEADER_MAGIC, 8);
    store_u16(header + 8, PART_MAJOR);
    store_u16(header + 10, PART_MINOR);
    store_u32(header + 12, build->head_len);
    memcpy(header + 16, build->sink.id.bytes, 16);
    store_u32(header + 60, kernel_get()->crc32c(0, header, 60));
    return part_sink_raw(&build->sink, header, sizeof(header), err);
}

static och_code write_head(struct build *build, och_error *err)
{
    const struct part_spec *spec = build->spec;
    uint8_t head[HEAD_SIZE] = {0};
    store_u32(head, HEAD_MAGIC);
    store_u32(head + 4, (build->order ? 0 : HEAD_SEQ_ORDER) | (spec->plain ? HEAD_PLAIN : 0));
    memcpy(head + 8, spec->collection.bytes, 16);
    memcpy(head + 24, build->lineage.bytes, 16);
    store_u32(head + 40, build->rows);
    store_u32(head + 44, spec->dimension);
    store_u32(head + 48, (uint32_t)spec->metric);
    store_u32(head + 52, build->has_expiry);
    store_u64(head + 56, spec->log_from);
    store_u64(head + 64, spec->log_to);
    if (build->vector) {
        store_u32(head + 72, build->vectors.trained_rows);
        memcpy(head + 76, &build->vectors.trained_rms, 4);
        store_u32(head + 80, build->vectors.trained_lists);
        store_u32(head + 84, build->vectors.trained_098);
    }
    return part_sink_section(&build->sink, SECTION_HEAD, head, sizeof(head), err);
}

static och_code make_filter(struct build *build, och_error *err)
{
    uint64_t size = part_filter_size(build->rows), blocks = size / FILTER_BLOCK;
    TRY(charged_alloc(part_build_budget(build), size, 1, "an id filter", &build->filter, err));
    const uint64_t *hashes = build->hashes.at;
    uint8_t *filter = build->filter.at;
    for (uint32_t row = 0; row < build->rows; row++) {
        struct part_filter_bits set = part_filter_of(hashes[row], blocks);
        uint8_t *block = filter + set.block * FILTER_BLOCK;
        for (unsigned i = 0; i < FILTER_HASH; i++)
            block[set.bits[i] / 8] |= (uint8_t)(1u << set.bits[i] % 8);
    }
    return OCH_OK;
}

static och_code write_index_head(struct build *build, och_error *err)
{
    const struct vector_built *built = &build->vectors;
    if (!build->vector)
        return OCH_OK;
    TRY(part_sink_section(&build->sink, SECTION_MEAN, built->mean.at, built->mean.len, err));
    TRY(part_sink_section(&build->sink, SECTION_LIST, built->list.at, built->list.len, err));
    TRY(part_sink_section(&build->sink, SECTION_CENTQ, built->centq.at, built->centq.len, err));
    return built->super.len ? part_sink_section(&build->sink, SECTION_SUPER, built->super.at,
                                                built->super.len, err)
                            : OCH_OK;
}

och_code part_build_head(struct build *build, och_error *err)
{
    TRY(sort_kills(build, err));
    if (build->rows) {
        TRY(charged_alloc(part_build_budget(build), build->rows, 8, "id hashes", &build->hashes,
                          err));
        TRY(survey(build, err));
    }
    name_part(build);
    if (build->rows && !build->spec->plain)
        TRY(make_filter(build, err));
    TRY(write_header(build, err));
    TRY(write_head(build, err));
    TRY(write_index_head(build, err));
    if (build->filter.at)
        TRY(part_sink_section(&build->sink, SECTION_IDFILTER, build->filter.at, build->filter.bytes,
                              err));
    assert(part_sink_offset(&build->sink) == build->head_len);
    charged_free(part_build_budget(build), &build->filter);
    return OCH_OK;
}
