/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluating a filter, one chunk of rows after the other, in bitsets that fit the first-level cache.  Nothing is allocated per row. */
#include "index/meta/meta_tree.h"

#include "kernel/code.h"

/* Nanoseconds, measured by bench/meta.c; only their proportions matter. */
#define COST_READ      300.0 /* to find a list or a chunk */
#define COST_LIST_ROW  1.3
#define COST_SLICE_ROW 0.004 /* per bit of the code */
#define COST_GROUP_ROW 4.0   /* to put it with those of its chunk, and to take it from there */
#define COST_WORD      0.8   /* of memory not touched before */
#define COST_PROBE     6.0   /* and per bit: */
#define COST_PROBE_BIT 0.7
#define KEPT_BYTES_MAX ((size_t)64 << 20) /* of lists decoded for one search */
#define CHECK_NODES    256u

/* ---- how a leaf is read ---- */

static double list_cost(const struct meta_eval *eval, const struct meta_spans *spans)
{
    uint32_t blocks = 1 + spans->entries / META_LIST_BLOCK;
    return (COST_READ * blocks + COST_LIST_ROW * spans->entries) / eval->chunks;
}

static unsigned code_width(const struct meta_spans *spans)
{
    return meta_bits_of(spans->column.ordinals);
}

static double slice_cost(const struct meta_eval *eval, const struct meta_spans *spans)
{
    double rows = eval->rows < META_CHUNK ? eval->rows : META_CHUNK;
    return spans->count * (COST_READ + COST_SLICE_ROW * code_width(spans) * rows);
}

void meta_leaf_plan(struct meta_eval *eval, struct meta_leaf *leaf)
{
    leaf->cost_ns = 0;
    leaf->by_list = false;
    for (uint32_t i = 0; i < leaf->column_count; i++) {
        struct meta_spans *spans = &leaf->columns[i];
        uint8_t has = spans->column.has;
        double list = list_cost(eval, spans), slices = slice_cost(eval, spans);
        spans->by_list = (has & META_HAS_LIST) && (list < slices || !(has & META_HAS_SLICES));
        if (eval->options.force == META_BY_LISTS)
            spans->by_list = has & META_HAS_LIST;
        if (eval->options.force == META_BY_SLICES)
            spans->by_list = !(has & META_HAS_SLICES);
        leaf->cost_ns += spans->by_list ? list : slices;
        leaf->by_list = leaf->by_list || spans->by_list;
    }
}

/* ---- lists ---- */

/* All entries of the leaf's lists, those of a chunk together. */
static och_code keep_groups(struct meta_eval *eval, struct meta_leaf *leaf, uint32_t entries,
                            och_error *err)
{
    uint32_t *met = arena_alloc(eval->arena, ((size_t)entries + 1) * 2 * sizeof(*met));
    uint32_t *starts = ARENA_ARRAY(eval->arena, uint32_t, (size_t)eval->chunks + 2);
    uint32_t count = 0;
    if (!met || !starts)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < leaf->column_count; i++) {
        const struct meta_spans *spans = &leaf->columns[i];
        for (uint32_t s = 0; spans->by_list && s < spans->count; s++) {
            const struct meta_span *span = &spans->at[s];
            TRY(meta_list_rows(&eval->reader, &spans->column, span->first_entry, span->end_entry,
                               met + count, err));
            count += span->end_entry - span->first_entry;
        }
    }
    assert(count == entries);
    uint32_t *rows = met + count;
    for (uint32_t i = 0; i < count; i++)
        starts[met[i] / META_CHUNK + 2]++;
    for (uint32_t c = 0; c < eval->chunks; c++)
        starts[c + 2] += starts[c + 1];
    for (uint32_t i = 0; i < count; i++) /* starts[c + 1] runs to the end of c */
        rows[starts[met[i] / META_CHUNK + 1]++] = met[i];
    leaf->rows = rows;
    leaf->starts = starts;
    return OCH_OK;
}

static och_code set_bits(struct meta_eval *eval, const struct meta_leaf *leaf,
                         struct meta_window window, uint64_t *words, och_error *err)
{
    for (uint32_t i = 0; i < leaf->column_count; i++) {
        const struct meta_spans *spans = &leaf->columns[i];
        for (uint32_t s = 0; spans->by_list && s < spans->count; s++)
            TRY(meta_list_bits(&eval->reader, &spans->column, spans->at[s].first_entry,
                               spans->at[s].end_entry, window, words, err));
    }
    return OCH_OK;
}

/* What lists give is decoded once, as rows or as bits, whichever is less work; a list for a single chunk, or one too long, is not kept at all. */
static och_code prepare(struct meta_eval *eval, struct meta_leaf *leaf, och_error *err)
{
    uint64_t entries = 0;
    leaf->prepared = true;
    for (uint32_t i = 0; i < leaf->column_count; i++)
        entries += leaf->columns[i].by_list ? leaf->columns[i].entries : 0;
    size_t words = bitset_words(eval->rows);
    bool by_chunk =
        entries <= eval->rows && COST_GROUP_ROW * (double)entries < COST_WORD * (double)words;
    size_t bytes = by_chunk ? (size_t)entries * 8 : words * 8;
    leaf->direct = eval->chunks == 1 || eval->kept_bytes + bytes > KEPT_BYTES_MAX;
    if (!leaf->by_list || leaf->direct)
        return OCH_OK;
    eval->kept_bytes += bytes;
    if (by_chunk)
        return keep_groups(eval, leaf, (uint32_t)entries, err);
    uint64_t *bits = ARENA_ARRAY(eval->arena, uint64_t, words + 1);
    if (!bits)
        return FAIL_NO_MEMORY(err, "a filter");
    leaf->bits = bits;
    return set_bits(eval, leaf, (struct meta_window){0, eval->rows}, bits, err);
}

/* ---- bits of a chunk ---- */

struct chunk {
    uint32_t number, first, rows, words;
    uint64_t last_mask; /* bits of the last word that are rows */
};

static struct chunk chunk_of(const struct meta_eval *eval, uint32_t number)
{
    struct chunk c = {.number = number, .first = number * META_CHUNK};
    c.rows = meta_chunk_rows(eval->rows, number);
    c.words = (c.rows + 63) / 64;
    c.last_mask = c.rows % 64 ? (1ull << c.rows % 64) - 1 : UINT64_MAX;
    return c;
}

static void fill(const struct chunk *c, uint64_t *words)
{
    memset(words, 0xff, c->words * sizeof(*words));
    words[c->words - 1] = c->last_mask;
}

static void invert(const struct chunk *c, uint64_t *words)
{
    for (uint32_t i = 0; i < c->words; i++)
        words[i] = ~words[i];
    words[c->words - 1] &= c->last_mask;
}

static void add_bits(const struct chunk *c, const uint64_t *bits, uint64_t *words)
{
    for (uint32_t i = 0; i < c->words; i++)
        words[i] |= bits[c->first / 64 + i];
    words[c->words - 1] &= c->last_mask;
}

/* Rows of a set that fall into the chunk, added to its bits. */
static void add_rows(const struct chunk *c, const struct rows *rows, uint64_t *words)
{
    switch (rows->kind) {
    case ROWS_ALL:
        fill(c, words);
        return;
    case ROWS_BITS:
        add_bits(c, rows->words, words);
        return;
    case ROWS_LIST: {
        uint32_t low = 0, high = rows->count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (rows->list[middle] < c->first)
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < rows->count && rows->list[low] - c->first < c->rows; low++) {
            uint32_t i = rows->list[low] - c->first;
            words[i / 64] |= 1ull << i % 64;
        }
        return;
    }
    default:
        return;
    }
}

static void add_kept(const struct chunk *c, const struct meta_leaf *leaf, uint64_t *words)
{
    if (leaf->bits)
        add_bits(c, leaf->bits, words);
    for (uint32_t i = leaf->rows ? leaf->starts[c->number] : 0,
                  end = leaf->rows ? leaf->starts[c->number + 1] : 0;
         i < end; i++) {
        uint32_t row = leaf->rows[i] - c->first;
        words[row / 64] |= 1ull << row % 64;
    }
}

static uint64_t *buffer(struct meta_eval *eval, unsigned number)
{
    if (!eval->buffers[number])
        eval->buffers[number] = arena_alloc_aligned(eval->arena, 64, META_CHUNK_WORDS * 8);
    return eval->buffers[number];
}

/* ---- slices ---- */

static och_code scan_span(struct meta_eval *eval, const struct chunk *c,
                          const struct meta_zone *zone, const uint8_t *body,
                          const struct meta_span *span, uint64_t *words, och_error *err)
{
    uint32_t last = span->to - 1;
    if (!zone->max || span->from > zone->max || last < zone->min)
        return OCH_OK;
    uint32_t low = span->from > zone->min ? span->from - zone->min : 0;
    uint32_t high = (last < zone->max ? last : zone->max) - zone->min;
    if (low == 0 && high == zone->max - zone->min && !zone->missing) {
        fill(c, words);
        return OCH_OK;
    }
    uint64_t *found = buffer(eval, 0);
    if (!found)
        return FAIL_NO_MEMORY(err, "a filter");
    assert(body);
    eval->bits->range(body, zone->width, (c->rows + BITS_ROWS - 1) / BITS_ROWS, low + zone->missing,
                      high + zone->missing, found);
    for (uint32_t i = 0; i < c->words; i++)
        words[i] |= found[i];
    words[c->words - 1] &= c->last_mask; /* the last block's rest is zeros, or anything */
    return OCH_OK;
}

/* Does any span leave the zone's rows to be told apart? */
static bool needs_body(const struct meta_spans *spans, const struct meta_zone *zone)
{
    for (uint32_t i = 0; i < spans->count; i++) {
        const struct meta_span *span = &spans->at[i];
        if (!zone->max || span->from > zone->max || span->to <= zone->min)
            continue;
        if (zone->missing || span->from > zone->min || span->to <= zone->max)
            return true;
    }
    return false;
}

static och_code scan_column(struct meta_eval *eval, const struct chunk *c,
                            const struct meta_spans *spans, uint64_t *words, och_error *err)
{
    struct meta_zone zone = meta_zone_at(spans->column.zones, c->number);
    const uint8_t *body = NULL;
    if (needs_body(spans, &zone))
        TRY(meta_chunk_body(&eval->reader, &spans->column, c->number, &zone, &body, err));
    for (uint32_t i = 0; i < spans->count; i++)
        TRY(scan_span(eval, c, &zone, body, &spans->at[i], words, err));
    return OCH_OK;
}

static och_code eval_leaf(struct meta_eval *eval, const struct chunk *c, struct meta_leaf *leaf,
                          uint64_t *words, och_error *err)
{
    memset(words, 0, c->words * sizeof(*words));
    if (!leaf->count)
        return OCH_OK;
    if (!leaf->prepared)
        TRY(prepare(eval, leaf, err));
    if (leaf->direct)
        TRY(set_bits(eval, leaf, (struct meta_window){c->first, c->rows}, words, err));
    else
        add_kept(c, leaf, words);
    for (uint32_t i = 0; i < leaf->column_count; i++) {
        if (!leaf->columns[i].by_list)
            TRY(scan_column(eval, c, &leaf->columns[i], words, err));
    }
    return OCH_OK;
}

/* ---- a few rows, one by one ---- */

struct probe {
    const struct meta_spans *spans;
    struct meta_zone zone;
    const uint8_t *body;
};

static bool probe_row(const struct probe *probe, uint32_t row)
{
    uint32_t ordinal = probe->zone.min, low = 0, high = probe->spans->count;
    if (probe->zone.width) {
        uint32_t code = bits_code(probe->body, probe->zone.width, row);
        if (probe->zone.missing && !code)
            return false;
        ordinal = probe->zone.min + code - probe->zone.missing;
    }
    while (low < high) { /* the first span that ends behind it */
        uint32_t middle = low + (high - low) / 2;
        if (probe->spans->at[middle].to <= ordinal)
            low = middle + 1;
        else
            high = middle;
    }
    return ordinal && low < probe->spans->count && probe->spans->at[low].from <= ordinal;
}

#define PROBE_COLUMNS 4u

/* Is it less work to look at `count` rows than to make the leaf's bits? */
static bool probing_pays(const struct meta_eval *eval, const struct meta_node *node, uint64_t count)
{
    double cost = 0;
    if (node->kind != NODE_LEAF || !node->exact || node->leaf.column_count > PROBE_COLUMNS ||
        eval->options.force == META_BY_LISTS)
        return false;
    for (uint32_t i = 0; i < node->leaf.column_count; i++) {
        const struct meta_spans *spans = &node->leaf.columns[i];
        if (!(spans->column.has & META_HAS_SLICES))
            return false;
        cost += COST_READ + (double)count * (COST_PROBE + COST_PROBE_BIT * code_width(spans));
    }
    return cost < node->leaf.cost_ns;
}

/* Take those rows out of `left` (and of `sure`) for which the leaf does not hold. */
static och_code probe_leaf(struct meta_eval *eval, const struct chunk *c,
                           const struct meta_node *node, uint64_t *left, uint64_t *sure,
                           och_error *err)
{
    struct probe probes[PROBE_COLUMNS];
    uint32_t count = node->leaf.column_count;
    for (uint32_t i = 0; i < count; i++) {
        probes[i].spans = &node->leaf.columns[i];
        TRY(meta_chunk_body(&eval->reader, &probes[i].spans->column, c->number, &probes[i].zone,
                            &probes[i].body, err));
    }
    for (uint32_t w = 0; w < c->words; w++) {
        for (uint64_t rest = left[w]; rest; rest &= rest - 1) {
            uint32_t row = w * 64 + (uint32_t)__builtin_ctzll(rest);
            bool holds = false;
            for (uint32_t i = 0; i < count && !holds; i++)
                holds = probe_row(&probes[i], row);
            if (holds == node->negate)
                left[w] &= ~(1ull << row % 64);
        }
        if (sure)
            sure[w] &= left[w];
    }
    return OCH_OK;
}

/* ---- the tree ---- */

/* Bits of a node: `sure` always, `maybe` only when the node is not exact.  Recursion is bounded by META_DEPTH_MAX. */
static och_code eval_node(struct meta_eval *eval, const struct chunk *c, struct meta_node *node,
                          unsigned depth, uint64_t *sure, uint64_t *maybe, och_error *err);

static void combine(const struct chunk *c, bool is_and, const uint64_t *from, uint64_t *to)
{
    if (is_and) {
        for (uint32_t i = 0; i < c->words; i++)
            to[i] &= from[i];
    } else {
        for (uint32_t i = 0; i < c->words; i++)
            to[i] |= from[i];
    }
}

static och_code eval_group(struct meta_eval *eval, const struct chunk *c, struct meta_node *node,
                           unsigned depth, uint64_t *sure, uint64_t *maybe, och_error *err)
{
    const struct kernel_code *kernel = kernel_code_get();
    bool is_and = node->kind == NODE_AND, exact = node->exact;
    uint64_t *child_sure = buffer(eval, 2 * depth + 1), *child_maybe = buffer(eval, 2 * depth + 2);
    /* What can still change: rows not yet out of an AND, rows not yet in an OR. */
    uint64_t *left = is_and && !exact ? maybe : sure;
    if (!child_sure || !child_maybe)
        return FAIL_NO_MEMORY(err, "a filter");
    for (uint32_t i = 0; i < node->child_count; i++) {
        struct meta_node *child = node->children[i];
        if (!i) { /* straight into the answer */
            TRY(eval_node(eval, c, child, depth + 1, sure, maybe, err));
            if (!exact && child->exact)
                memcpy(maybe, sure, c->words * sizeof(*maybe));
            continue;
        }
        uint64_t count = kernel->popcount(left, c->words);
        if (count == (is_and ? 0 : c->rows))
            break;
        if (is_and && probing_pays(eval, child, count)) {
            TRY(probe_leaf(eval, c, child, left, exact ? NULL : sure, err));
            continue;
        }
        TRY(eval_node(eval, c, child, depth + 1, child_sure, child_maybe, err));
        combine(c, is_and, child_sure, sure);
        if (!exact)
            combine(c, is_and, child->exact ? child_sure : child_maybe, maybe);
    }
    if (node->child_count)
        return OCH_OK;
    memset(sure, 0, c->words * sizeof(*sure));
    if (is_and)
        fill(c, sure);
    return OCH_OK;
}

static och_code eval_node(struct meta_eval *eval, const struct chunk *c, struct meta_node *node,
                          unsigned depth, uint64_t *sure, uint64_t *maybe, och_error *err)
{
    if (++eval->evaluated % CHECK_NODES == 0 && eval->options.limits)
        TRY(work_check(eval->options.limits, err));
    switch (node->kind) {
    case NODE_CONST:
        fill(c, sure);
        break;
    case NODE_LEAF:
        TRY(eval_leaf(eval, c, &node->leaf, node->exact ? sure : maybe, err));
        if (!node->exact)
            memset(sure, 0, c->words * sizeof(*sure));
        break;
    case NODE_ROWS:
        memset(sure, 0, c->words * sizeof(*sure));
        add_rows(c, node->exact ? &node->answer.maybe : &node->answer.sure, sure);
        if (!node->exact) {
            memset(maybe, 0, c->words * sizeof(*maybe));
            add_rows(c, &node->answer.maybe, maybe);
        }
        break;
    default:
        TRY(eval_group(eval, c, node, depth, sure, maybe, err));
        break;
    }
    if (!node->negate)
        return OCH_OK;
    invert(c, sure);
    if (node->exact)
        return OCH_OK;
    invert(c, maybe);
    for (uint32_t i = 0; i < c->words; i++) { /* what surely fails is what may not hold */
        uint64_t other = sure[i];
        sure[i] = maybe[i];
        maybe[i] = other;
    }
    return OCH_OK;
}

/* ---- chunks without rows ---- */

static bool leaf_is_empty(const struct meta_leaf *leaf, uint32_t chunk)
{
    if (!leaf->count)
        return true;
    if (leaf->by_list && (!leaf->prepared || leaf->direct || leaf->bits))
        return false;
    if (leaf->rows && leaf->starts[chunk] != leaf->starts[chunk + 1])
        return false;
    for (uint32_t i = 0; i < leaf->column_count; i++) {
        const struct meta_spans *spans = &leaf->columns[i];
        if (spans->by_list)
            continue;
        struct meta_zone zone = meta_zone_at(spans->column.zones, chunk);
        if (zone.max && spans->at[0].from <= zone.max && spans->at[spans->count - 1].to > zone.min)
            return false;
    }
    return true;
}

/* Recursion is bounded by META_DEPTH_MAX. */
static bool node_is_empty(const struct meta_node *node, uint32_t chunk)
{
    if (node->negate)
        return false;
    if (node->kind == NODE_LEAF)
        return leaf_is_empty(&node->leaf, chunk);
    bool is_and = node->kind == NODE_AND, empty = node->kind == NODE_OR;
    for (uint32_t i = 0; i < node->child_count && empty != is_and; i++)
        empty = node_is_empty(node->children[i], chunk);
    return empty;
}

bool meta_search_is_empty(const struct meta_search *search, uint32_t chunk)
{
    assert(chunk < search->eval->chunks);
    return node_is_empty(search->eval->root, chunk);
}

och_code meta_search_chunk(struct meta_search *search, uint32_t chunk, uint64_t *sure,
                           uint64_t *maybe, och_error *err)
{
    struct meta_eval *eval = search->eval;
    struct chunk c = chunk_of(eval, chunk);
    assert(chunk < eval->chunks);
    och_code code = eval_node(eval, &c, eval->root, 0, sure, maybe, err);
    if (eval->options.pages)
        eval->options.pages->release(eval->options.pages->context);
    search->damaged = code != OCH_OK && eval->reader.damaged;
    return code;
}
