/* SPDX-License-Identifier: Apache-2.0 */
/* META: built beside VALUES, its directory resident, its blocks pinned while a chunk of rows is evaluated, damage gone round. */
#include "part/part_meta.h"
#include "part/part_compare.h"
#include "part/part_sink.h"

#define WORK_MIN        (8u << 20)
#define WORK_MAX        (256u << 20)
#define PIECE_BYTES     (256u << 10) /* as part_group_of cuts sections above 1 MiB */
#define OWN_EXTENT      (1u << 31)   /* in keys: a block that lies across pieces */
#define BLOCK_BYTES_MAX (1u << 20)
#define RECENT          4u /* pins looked at before the cache is asked */

/* ---- writing ---- */

och_code part_meta_begin(const struct part_sink *sink, uint32_t rows,
                         const struct limits_of_work *limits, struct meta_build **ret_build,
                         och_error *err)
{
    struct budget *budget = sink->budget;
    int64_t room = budget ? budget_free(budget) / 4 : WORK_MAX;
    struct meta_build_options options = {.rows = rows,
                                         .budget = budget,
                                         .limits = limits,
                                         .work_bytes = room > WORK_MAX   ? WORK_MAX
                                                       : room < WORK_MIN ? WORK_MIN
                                                                         : (size_t)room};
    *ret_build = NULL;
    return rows < META_ROWS_MIN ? OCH_OK : meta_build_new(&options, ret_build, err);
}

static och_code emit(void *context, const void *at, size_t len, och_error *err)
{
    return part_sink_append(context, at, len, err);
}

och_code part_meta_end(struct part_sink *sink, struct meta_build *build, uint32_t rows,
                       part_meta_row row, void *context, och_error *err)
{
    bool more = false;
    uint64_t directory_len = 0;
    if (!build || !meta_build_wanted(build))
        return OCH_OK;
    TRY(part_sink_begin(sink, SECTION_META, 0, err));
    TRY(meta_build_pass_end(build, emit, sink, &more, err));
    while (more) {
        for (uint32_t i = 0; i < rows; i++) {
            slice metadata;
            TRY(row(context, i, &metadata, err));
            TRY(meta_build_row(build, metadata, err));
        }
        TRY(meta_build_pass_end(build, emit, sink, &more, err));
    }
    if (meta_build_wanted(build)) /* else its directory is empty: no index */
        TRY(meta_build_finish(build, emit, sink, &directory_len, err));
    return part_sink_end(sink, directory_len, err);
}

/* ---- opening ---- */

static och_code load_index(struct part *part, struct meta_index *ret, och_error *err)
{
    const struct part_section *section = &part->sections[SECTION_META];
    const uint8_t *at;
    if (section->aux > section->size)
        return part_corrupt(part, SECTION_META, 0, "its directory is longer than all of it", err);
    TRY(part_resident(part, SECTION_META, section->size - section->aux, (size_t)section->aux, NULL,
                      &at, err));
    if (!meta_index_open(slice_make(at, (size_t)section->aux), section->size, part->info.rows, ret))
        return part_corrupt(part, SECTION_META, section->size - section->aux,
                            "figures that do not fit together", err);
    return OCH_OK;
}

/* Failures that are no damage: without it for now when there is no room, else told. */
static och_code pass_on(och_code code, const och_error *failure, och_error *err)
{
    if (code == OCH_BUSY)
        return OCH_OK;
    if (err)
        *err = *failure;
    return code;
}

och_code part_meta_index(struct part *part, const struct meta_index **ret_index, och_error *err)
{
    // pairs with the store below
    uint32_t state = atomic_load_explicit(&part->meta_state, memory_order_acquire);
    *ret_index = NULL;
    if (state == INDEX_NONE || part_damage(part) & PART_BIT(SECTION_META))
        return OCH_OK;
    if (state == INDEX_READY) {
        *ret_index = &part->meta;
        return OCH_OK;
    }
    struct meta_index index;
    och_error failure = {0};
    och_code code = OCH_NOT_FOUND;
    if (part_has(part, SECTION_META) && part->sections[SECTION_META].aux) {
        code = load_index(part, &index, &failure);
        if (code != OCH_OK && !part_is_damage(code, &failure))
            return pass_on(code, &failure, err);
        if (code != OCH_OK)
            part_note_damage(part, SECTION_META, &failure);
    }
    mutex_lock(&part->mutex);
    if (atomic_load_explicit(&part->meta_state, memory_order_relaxed) == INDEX_UNKNOWN) {
        if (code == OCH_OK)
            part->meta = index;
        atomic_store_explicit(&part->meta_state, code == OCH_OK ? INDEX_READY : INDEX_NONE,
                              memory_order_release);
    }
    mutex_unlock(&part->mutex);
    *ret_index = code == OCH_OK ? &part->meta : NULL;
    return OCH_OK;
}

/* ---- pages ---- */

static och_code load_block(void *context, struct cache_key key, uint8_t *at, size_t len,
                           och_error *err)
{
    return part_load_range(context, SECTION_META, (uint64_t)(key.index & ~OWN_EXTENT) * 8, at, len,
                           err);
}

static och_code keep_pin(struct part_filter *filter, const struct extent *extent, uint64_t from,
                         och_error *err)
{
    if (filter->pin_count == filter->pin_room) {
        size_t room = filter->pin_room ? 2 * filter->pin_room : 16;
        const struct extent **pins = ARENA_ARRAY(filter->arena, const struct extent *, room);
        uint64_t *pin_from = ARENA_ARRAY(filter->arena, uint64_t, room);
        if (!pins || !pin_from) {
            cache_unpin(filter->part->env.cache, extent);
            return FAIL_NO_MEMORY(err, "a filter");
        }
        for (size_t i = 0; i < filter->pin_count; i++) {
            pins[i] = filter->pins[i];
            pin_from[i] = filter->pin_from[i];
        }
        filter->pins = pins;
        filter->pin_from = pin_from;
        filter->pin_room = room;
    }
    filter->pins[filter->pin_count] = extent;
    filter->pin_from[filter->pin_count++] = from;
    return OCH_OK;
}

static och_code pages_at(void *context, uint64_t offset, size_t len, const uint8_t **ret_at,
                         och_error *err)
{
    struct part_filter *filter = context;
    struct part *part = filter->part;
    static const uint8_t nothing;
    if (!len) {
        *ret_at = &nothing;
        return OCH_OK;
    }
    for (size_t i = filter->pin_count; i-- > 0 && filter->pin_count - i <= RECENT;) {
        uint64_t from = filter->pin_from[i];
        if (offset >= from && offset - from <= filter->pins[i]->len &&
            len <= filter->pins[i]->len - (offset - from)) {
            *ret_at = filter->pins[i]->at + (offset - from);
            return OCH_OK;
        }
    }
    struct part_piece piece;
    uint64_t group = part_group_of(&part->sections[SECTION_META], SECTION_META, 1);
    if (offset / group == (offset + len - 1) / group) {
        TRY(part_pin(part, SECTION_META, 1, offset, &piece, err));
    } else {
        if (offset % 8 || offset / 8 >= OWN_EXTENT - 1 || len > BLOCK_BYTES_MAX)
            return part_corrupt(part, SECTION_META, offset, "a block at an odd place", err);
        // the length is in the key: bytes of no sound index may name two blocks at one place
        struct cache_key key = {part->owner, SECTION_META | (uint32_t)len << 6,
                                OWN_EXTENT | (uint32_t)(offset / 8)};
        TRY(cache_pin(part->env.cache, key, len, part_heat(SECTION_META), load_block, part,
                      &piece.extent, err));
        piece.from = offset;
    }
    *ret_at = piece.extent->at + (offset - piece.from);
    return keep_pin(filter, piece.extent, piece.from, err);
}

static void pages_release(void *context)
{
    struct part_filter *filter = context;
    while (filter->pin_count)
        cache_unpin(filter->part->env.cache, filter->pins[--filter->pin_count]);
}

/* ---- searching ---- */

/* OCH_OK: go round the index. */
static och_code give_up(struct part_filter *filter, och_code code, const och_error *failure,
                        och_error *err)
{
    if (filter->search.damaged && part_is_damage(code, failure)) {
        part_note_damage(filter->part, SECTION_META, failure);
        return OCH_OK;
    }
    if (filter->search.damaged)
        return pass_on(code, failure, err);
    if (err)
        *err = *failure;
    return code;
}

och_code part_filter_new(struct part *part, const struct filter_node *node,
                         const struct part_filter_options *asked, struct arena *arena,
                         struct part_filter **ret_filter, och_error *err)
{
    static const struct part_filter_options none;
    const struct meta_index *index;
    och_error failure = {0};
    *ret_filter = NULL;
    if (!part->info.rows)
        return OCH_OK;
    asked = asked ? asked : &none;
    TRY(part_meta_index(part, &index, err));
    if (!index && !asked->other)
        return OCH_OK;
    struct part_filter *filter = ARENA_NEW(arena, struct part_filter);
    if (!filter)
        return FAIL_NO_MEMORY(err, "a filter");
    filter->part = part;
    filter->arena = arena;
    filter->pages = (struct meta_pages){filter, pages_at, pages_release};
    struct meta_search_options options = {.index = index,
                                          .pages = &filter->pages,
                                          .rows = part->info.rows,
                                          .other = asked->other,
                                          .other_context = asked->other_context,
                                          .compiled = asked->compiled,
                                          .limits = asked->limits};
    och_code code = meta_search_init(&filter->search, &options, node, arena, &failure);
    pages_release(filter);
    if (code != OCH_OK)
        return give_up(filter, code, &failure, err);
    if (!filter->search.nothing)
        *ret_filter = filter;
    return OCH_OK;
}

och_code part_filter_chunk(struct part_filter *filter, uint32_t chunk, uint64_t *sure,
                           uint64_t *maybe, bool *ret_usable, och_error *err)
{
    och_error failure = {0};
    och_code code = meta_search_chunk(&filter->search, chunk, sure, maybe, &failure);
    pages_release(filter);
    *ret_usable = code == OCH_OK;
    return code == OCH_OK ? OCH_OK : give_up(filter, code, &failure, err);
}

/* How reading the index ended: damage of it is noted and leaves the question open. */
static och_code judge(struct part *part, och_code code, bool damaged, const och_error *failure,
                      bool *ret_known, och_error *err)
{
    if (code == OCH_OK)
        return OCH_OK;
    *ret_known = false;
    if (!damaged || !part_is_damage(code, failure))
        return pass_on(code, failure, err);
    part_note_damage(part, SECTION_META, failure);
    return OCH_OK;
}

och_code part_count_values(struct part *part, slice key, const uint64_t *mask,
                           const struct limits_of_work *limits, struct arena *arena,
                           meta_counted take_value, void *context, bool *ret_known, och_error *err)
{
    const struct meta_index *index;
    och_error failure = {0};
    bool damaged;
    *ret_known = false;
    TRY(part_meta_index(part, &index, err));
    if (!index || !part->info.rows)
        return OCH_OK;
    struct part_filter reading = {.part = part, .arena = arena};
    reading.pages = (struct meta_pages){&reading, pages_at, pages_release};
    struct meta_count_options options = {.index = index,
                                         .pages = &reading.pages,
                                         .rows = part->info.rows,
                                         .key = key,
                                         .mask = mask,
                                         .arena = arena,
                                         .limits = limits,
                                         .counted = take_value,
                                         .context = context};
    och_code code = meta_count_values(&options, ret_known, &damaged, &failure);
    pages_release(&reading);
    return judge(part, code, damaged, &failure, ret_known, err);
}

och_code part_walk_order(struct part *part, const struct meta_order_options *asked,
                         struct arena *arena, bool *ret_known, och_error *err)
{
    const struct meta_index *index;
    och_error failure = {0};
    bool damaged;
    *ret_known = false;
    TRY(part_meta_index(part, &index, err));
    if (!index || !part->info.rows)
        return OCH_OK;
    struct part_filter reading = {.part = part, .arena = arena};
    reading.pages = (struct meta_pages){&reading, pages_at, pages_release};
    struct meta_order_options options = *asked;
    options.index = index;
    options.pages = &reading.pages;
    options.rows = part->info.rows;
    och_code code = meta_walk_order(&options, ret_known, &damaged, &failure);
    pages_release(&reading);
    return judge(part, code, damaged, &failure, ret_known, err);
}

/* ---- checking ---- */

#define CHECK_ROWS_MAX \
    4000000u /* of more, an index built again would take too much memory unasked */

static och_code build_again(struct part_comparison *c, struct meta_build *build, och_error *err)
{
    uint64_t directory_len = 0;
    for (bool more = true; more;) {
        for (uint32_t row = 0; row < c->part->info.rows; row++) {
            slice metadata;
            TRY(part_comparison_row(c, row, &metadata, err));
            TRY(meta_build_row(build, metadata, err));
        }
        TRY(meta_build_pass_end(build, part_comparison_emit, c, &more, err));
    }
    if (meta_build_wanted(build))
        TRY(meta_build_finish(build, part_comparison_emit, c, &directory_len, err));
    c->differs = c->differs || directory_len != c->part->sections[SECTION_META].aux;
    return OCH_OK;
}

och_code part_meta_check(struct part *part, const char **ret_fault, uint64_t *ret_offset,
                         och_error *err)
{
    const struct meta_index *index;
    struct meta_build *build;
    struct part_comparison c;
    *ret_fault = NULL;
    *ret_offset = 0;
    TRY(part_meta_index(part, &index, err));
    if (!index || index->incomplete || meta_index_has_gaps(index) ||
        part->info.rows > CHECK_ROWS_MAX)
        return OCH_OK;
    struct meta_build_options options = {.rows = part->info.rows, .work_bytes = WORK_MAX};
    TRY(meta_build_new(&options, &build, err));
    part_comparison_init(&c, part, SECTION_META, RECORD_METADATA);
    och_code code = build_again(&c, build, err);
    part_comparison_done(&c, "it is not the index of the metadata", ret_fault, ret_offset);
    meta_build_free(build);
    return code;
}
