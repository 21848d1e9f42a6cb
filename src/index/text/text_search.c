/* SPDX-License-Identifier: Apache-2.0 */
/* One query over all segments: look up its grams, then intersect and join lists as bits, rarest first, as long as a list costs less to
 * decode than the rows it could rule out cost to test. */
#include "index/text/text_internal.h"
#include "kernel/code.h"
#include "kernel/kernel.h"

#include <stdlib.h>

/* Costs, in ns (measured: docs/formats/text.md names the run; they only steer). */
#define COST_VERIFY     400u /* of a row's text */
#define COST_WORD_RATIO 4u   /* words of a bitmap per ns */
#define CHECK_STEPS     256u
#define COST_READ       4000u /* of a document here and there */
#define LISTS_MAX       32u   /* looked at in one AND: the rarest */
#define DENSE_SHARE     8u    /* of a segment's rows */
#define READ_MAX        1024u /* documents read in place of a range's lists */

struct search {
    const struct text_index *index;
    const struct text_pages *pages;
    const struct text_rows *documents; /* NULL: not at hand */
    const struct limits_of_work *limits;
    struct text_segment segment;
    size_t words;            /* of the segment's bits */
    struct text_list *found; /* by node; what a node lets pass at most: found.count */
    uint8_t *estimated;      /* by node: done for this segment */
    uint64_t *bits;          /* `words` for each of several sets */
    uint8_t *scratch;        /* for a list that lies in two pieces */
    uint64_t fault_at;
    uint32_t steps;
};

static och_code corrupt(struct search *s, uint64_t offset, och_error *err)
{
    s->fault_at = offset;
    return FAIL(err, OCH_CORRUPT, "a text index's figures do not fit");
}

static och_code check_work(struct search *s, och_error *err)
{
    if (++s->steps % CHECK_STEPS || !s->limits)
        return OCH_OK;
    return work_check(s->limits, err);
}

/* ---- bytes ---- */

/* `len` bytes at `offset`; copied together when they lie in several pieces.  len is at most a bitmap of a segment, or a dictionary block. */
static och_code bytes_at(struct search *s, uint64_t offset, size_t len, slice *ret, och_error *err)
{
    const uint8_t *at;
    size_t have, done = 0;
    TRY(s->pages->at(s->pages->context, offset, &at, &have, err));
    if (have >= len) {
        *ret = slice_make(at, len);
        return OCH_OK;
    }
    for (;;) {
        size_t step = min_size(have, len - done);
        memcpy(s->scratch + done, at, step);
        done += step;
        if (done == len)
            break;
        TRY(s->pages->at(s->pages->context, offset + done, &at, &have, err));
    }
    *ret = slice_make(s->scratch, len);
    return OCH_OK;
}

/* The longest that a sound list, and a dictionary block of 64 entries of at most 3 + 4 + 4 bytes, can be. */
#define BLOCK_BYTES_MAX (TEXT_BLOCK_KEYS * 11)
static size_t scratch_size(uint32_t segment_rows)
{
    return text_bitmap_size(segment_rows) + BLOCK_BYTES_MAX;
}

/* ---- dictionary ---- */

struct walk { /* over the entries of one block */
    struct reader reader;
    uint32_t key;
    bool begun;
    uint64_t list_at;
};

static och_code block_open(struct search *s, uint32_t block, struct walk *walk, och_error *err)
{
    const struct text_segment *segment = &s->segment;
    const uint8_t *top = segment->top + (size_t)block * TEXT_TOP_SIZE;
    uint32_t from = load_u32(top + 4);
    uint32_t end =
        block + 1 < segment->blocks ? load_u32(top + TEXT_TOP_SIZE + 4) : segment->dict_len;
    slice bytes;
    if (end - from > BLOCK_BYTES_MAX)
        return corrupt(s, segment->dict_at + from, err);
    TRY(bytes_at(s, segment->dict_at + from, end - from, &bytes, err));
    *walk = (struct walk){
        .reader = reader_of(bytes), .key = load_u32(top), .list_at = load_u32(top + 8)};
    return OCH_OK;
}

/* The next entry; *ret_end when there is none. */
static och_code block_next(struct search *s, struct walk *walk, struct text_list *ret_list,
                           bool *ret_end, och_error *err)
{
    const struct text_segment *segment = &s->segment;
    struct reader *reader = &walk->reader;
    *ret_end = reader_left(reader) == 0;
    if (*ret_end)
        return OCH_OK;
    uint64_t key = walk->key;
    if (walk->begun)
        key += reader_varint(reader) + 1;
    walk->begun = true;
    uint64_t word = reader_varint(reader), count = word >> 2, len;
    uint8_t encoding = word & 3;
    if (encoding == TEXT_BITMAP)
        len = text_bitmap_size(segment->rows);
    else
        len = reader_varint(reader);
    if (reader->failed || key >= TEXT_KEYS || encoding > TEXT_BITMAP || !count ||
        count > segment->rows || len > text_bitmap_size(segment->rows) ||
        len > segment->lists_len - walk->list_at)
        return corrupt(s, segment->dict_at, err);
    walk->key = (uint32_t)key;
    *ret_list = (struct text_list){.count = (uint32_t)count,
                                   .encoding = encoding,
                                   .offset = segment->lists_at + walk->list_at,
                                   .len = (uint32_t)len};
    walk->list_at += len;
    return OCH_OK;
}

/* The last block whose first key is at most `key`; 0 when there is none. */
static uint32_t block_of(const struct text_segment *segment, uint32_t key)
{
    uint32_t low = 0, high = segment->blocks;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (load_u32(segment->top + (size_t)middle * TEXT_TOP_SIZE) <= key)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Takes the lists of the keys [first, last], a dictionary block's at a time; they lie one behind the other. */
typedef och_code (*list_taker)(struct search *s, const struct text_list *lists, uint32_t count,
                               void *context, och_error *err);
static och_code range_walk(struct search *s, uint32_t first, uint32_t last, list_taker take_list,
                           void *context, och_error *err)
{
    struct text_list lists[TEXT_BLOCK_KEYS] = {0};
    for (uint32_t block = block_of(&s->segment, first); block < s->segment.blocks; block++) {
        struct walk walk = {0};
        uint32_t count = 0;
        bool end = false;
        if (load_u32(s->segment.top + (size_t)block * TEXT_TOP_SIZE) > last)
            break;
        TRY(check_work(s, err));
        TRY(block_open(s, block, &walk, err));
        while (count < TEXT_BLOCK_KEYS) {
            TRY(block_next(s, &walk, &lists[count], &end, err));
            if (end || walk.key > last)
                break;
            count += walk.key >= first;
        }
        // the block's bytes are done with: a list may take their place
        if (count)
            TRY(take_list(s, lists, count, context, err));
    }
    return OCH_OK;
}

static och_code look_up(struct search *s, uint32_t key, struct text_list *ret_list, och_error *err)
{
    struct walk walk;
    struct text_list list;
    bool end = false;
    *ret_list = (struct text_list){0};
    if (!s->segment.blocks)
        return OCH_OK;
    TRY(check_work(s, err));
    TRY(block_open(s, block_of(&s->segment, key), &walk, err));
    while (!end) {
        TRY(block_next(s, &walk, &list, &end, err));
        if (end || walk.key > key)
            return OCH_OK;
        if (walk.key == key) {
            *ret_list = list;
            return OCH_OK;
        }
    }
    return OCH_OK;
}

/* ---- lists into bits ---- */

static och_code list_into(struct search *s, const struct text_list *list, uint64_t *words,
                          bool intersect, och_error *err)
{
    slice bytes;
    TRY(check_work(s, err));
    TRY(bytes_at(s, list->offset, list->len, &bytes, err));
    bool sound = intersect ? text_list_and(bytes, list, s->segment.rows, words)
                           : text_list_or(bytes, list, s->segment.rows, words);
    return sound ? OCH_OK : corrupt(s, list->offset, err);
}

struct dense { /* what a range's dense lists tell, and how many postings the others have */
    uint64_t *words, left;
};

static bool is_dense(const struct search *s, const struct text_list *list)
{
    return list->count >= s->segment.rows / DENSE_SHARE;
}

static och_code take_dense(struct search *s, const struct text_list *lists, uint32_t count,
                           void *context, och_error *err)
{
    struct dense *dense = context;
    for (uint32_t i = 0; i < count; i++) {
        if (is_dense(s, &lists[i]))
            TRY(list_into(s, &lists[i], dense->words, false, err));
        else
            dense->left += lists[i].count;
    }
    return OCH_OK;
}

/* The others.  Most lists of a range are of a row or two: their bytes are fetched together. */
static och_code take_or(struct search *s, const struct text_list *lists, uint32_t count,
                        void *context, och_error *err)
{
    while (count && is_dense(s, &lists[0])) {
        lists++;
        count--;
    }
    while (count && is_dense(s, &lists[count - 1]))
        count--;
    if (!count)
        return OCH_OK;
    uint64_t begin = lists[0].offset,
             total = lists[count - 1].offset + lists[count - 1].len - begin;
    slice bytes;
    if (total > scratch_size(s->segment.rows)) {
        for (uint32_t i = 0; i < count; i++) {
            if (!is_dense(s, &lists[i]))
                TRY(list_into(s, &lists[i], context, false, err));
        }
        return OCH_OK;
    }
    TRY(bytes_at(s, begin, (size_t)total, &bytes, err));
    for (uint32_t i = 0; i < count; i++) {
        slice list = slice_make(bytes.at + (lists[i].offset - begin), lists[i].len);
        if (!is_dense(s, &lists[i]) && !text_list_or(list, &lists[i], s->segment.rows, context))
            return corrupt(s, lists[i].offset, err);
    }
    return OCH_OK;
}

static och_code take_count(struct search *s, const struct text_list *lists, uint32_t count,
                           void *context, och_error *err)
{
    uint64_t *sum = context;
    (void)s;
    (void)err;
    for (uint32_t i = 0; i < count; i++)
        *sum += lists[i].count;
    return OCH_OK;
}

static och_code or_present(struct search *s, uint64_t *words, och_error *err)
{
    const struct text_segment *segment = &s->segment;
    if (segment->all_present) {
        for (size_t w = 0; w < s->words; w++)
            words[w] = UINT64_MAX;
        if (segment->rows % 64)
            words[s->words - 1] = (1ull << segment->rows % 64) - 1;
        return OCH_OK;
    }
    if (!segment->presence.count)
        return OCH_OK;
    return list_into(s, &segment->presence, words, false, err);
}

/* ---- the tree ---- */

static och_code estimate(struct search *s, const struct text_node *node, och_error *err);

static och_code estimate_group(struct search *s, const struct text_node *node, uint64_t *ret_rows,
                               och_error *err)
{
    bool is_and = node->op == TEXT_AND;
    uint64_t rows = s->segment.rows, sum = 0;
    for (uint32_t i = 0; i < node->child_count; i++) {
        TRY(estimate(s, node->children[i], err));
        uint32_t child = s->found[node->children[i]->number].count;
        sum += child;
        if (is_and && child < rows)
            rows = child;
        if (is_and && !rows)
            break; // nothing can pass: the other grams need not be looked up
    }
    *ret_rows = is_and || sum > rows ? rows : sum;
    return OCH_OK;
}

/* How many rows a node lets pass at most; looks up the grams under it. */
static och_code estimate(struct search *s, const struct text_node *node, och_error *err)
{
    struct text_list *found = &s->found[node->number];
    uint64_t rows = 0;
    if (s->estimated[node->number])
        return OCH_OK;
    s->estimated[node->number] = 1;
    if (node->op == TEXT_RANGE && node->first == node->last)
        return look_up(s, node->first, found, err);
    if (node->op == TEXT_RANGE)
        TRY(range_walk(s, node->first, node->last, take_count, &rows, err));
    else if (node->op == TEXT_ALL)
        rows = s->segment.presence.count;
    else
        TRY(estimate_group(s, node, &rows, err));
    found->count = rows < s->segment.rows ? (uint32_t)rows : s->segment.rows;
    return OCH_OK;
}

static uint64_t cost_of(const struct search *s, const struct text_node *node)
{
    const struct text_list *found = &s->found[node->number];
    bool is_list = node->op == TEXT_RANGE && node->first == node->last;
    if (is_list)
        return found->encoding == TEXT_BITMAP ? s->words / COST_WORD_RATIO : found->count;
    return s->words + 2ull * found->count;
}

static och_code eval(struct search *s, const struct text_node *node, uint32_t level,
                     uint64_t *words, och_error *err);

/* words &= node. */
static och_code eval_and(struct search *s, const struct text_node *node, uint32_t level,
                         uint64_t *words, och_error *err)
{
    if (node->op == TEXT_RANGE && node->first == node->last)
        return list_into(s, &s->found[node->number], words, true, err);
    uint64_t *more = s->bits + level * s->words;
    memset(more, 0, s->words * 8);
    TRY(eval(s, node, level + 1, more, err));
    for (size_t w = 0; w < s->words; w++)
        words[w] &= more[w];
    return OCH_OK;
}

/* The child that comes after (rows, index) in ascending order; child_count: none. */
static uint32_t next_child(const struct search *s, const struct text_node *node, bool begun,
                           uint32_t rows, uint32_t index)
{
    uint32_t best = node->child_count, best_rows = 0;
    for (uint32_t i = 0; i < node->child_count; i++) {
        uint32_t mine = s->found[node->children[i]->number].count;
        bool after = !begun || mine > rows || (mine == rows && i > index);
        if (after && (best == node->child_count || mine < best_rows)) {
            best = i;
            best_rows = mine;
        }
    }
    return best;
}

/* words |= children[0] & children[1] & ...: the rarest first, others only if that spares more than it costs. */
static och_code eval_all_of(struct search *s, const struct text_node *node, uint32_t level,
                            uint64_t *words, och_error *err)
{
    uint64_t *mine = s->bits + level * s->words, left = 0;
    assert(node->child_count); // else it would let nothing pass
    uint32_t child = next_child(s, node, false, 0, 0);
    for (uint32_t i = 0; i < LISTS_MAX && child < node->child_count; i++) {
        const struct text_node *next = node->children[child];
        uint32_t rows = s->found[next->number].count;
        if (i == 0) {
            memset(mine, 0, s->words * 8);
            TRY(eval(s, next, level + 1, mine, err));
            left = kernel_code_get()->popcount(mine, s->words);
        } else if (cost_of(s, next) <= left * COST_VERIFY) {
            TRY(eval_and(s, next, level + 1, mine, err));
            left = kernel_code_get()->popcount(mine, s->words);
        }
        if (!left)
            return OCH_OK;
        child = next_child(s, node, true, rows, child);
    }
    for (size_t w = 0; w < s->words; w++)
        words[w] |= mine[w];
    return OCH_OK;
}

/* Look into the documents of rows that are not in words yet.  False: one cannot be read. */
static bool read_undecided(struct search *s, const struct text_node *node, uint64_t *words)
{
    const struct text_rows *documents = s->documents;
    const uint8_t bytes[] = {(uint8_t)(node->first >> 16), (uint8_t)(node->first >> 8)};
    size_t len = node->last - node->first == 0xff ? 2 : 1;
    for (size_t w = 0; w < s->words; w++) {
        for (uint64_t left = ~words[w]; left; left &= left - 1) {
            uint32_t row = (uint32_t)w * 64 + (uint32_t)__builtin_ctzll(left);
            slice document;
            if (row >= s->segment.rows)
                break;
            if (check_work(s, NULL) != OCH_OK || /* said again by the lists */
                documents->row(documents->context, s->segment.first_row + row, &document, NULL) !=
                    OCH_OK)
                return false;
            if (document.len >= len &&
                kernel_get()->find(document.at, document.len, bytes, len) != SIZE_MAX)
                words[w] |= 1ull << row % 64;
        }
    }
    return true;
}

/* All rows that have a gram of the range: of prefixes, a string of one or two bytes.  Dense lists come first.  When they leave few rows open, those are read:
 * that is cheaper than thousands of lists.  Of lists, blocks are left out whose rows are all known by then. */
static och_code eval_range(struct search *s, const struct text_node *node, uint64_t *words,
                           och_error *err)
{
    struct dense dense = {words, 0};
    TRY(range_walk(s, node->first, node->last, take_dense, &dense, err));
    uint64_t open = s->segment.rows - kernel_code_get()->popcount(words, s->words);
    if (!dense.left || !open)
        return OCH_OK;
    if (s->documents && open <= READ_MAX && open * COST_READ < dense.left &&
        read_undecided(s, node, words))
        return OCH_OK;
    return range_walk(s, node->first, node->last, take_or, words, err);
}

/* words |= node.  Recursion ends at TEXT_DEPTH_MAX; each level uses two sets of bits at most. */
static och_code eval(struct search *s, const struct text_node *node, uint32_t level,
                     uint64_t *words, och_error *err)
{
    const struct text_list *found = &s->found[node->number];
    if (!found->count)
        return OCH_OK;
    switch (node->op) {
    case TEXT_ALL:
        return or_present(s, words, err);
    case TEXT_RANGE:
        if (node->first == node->last)
            return list_into(s, found, words, false, err);
        return eval_range(s, node, words, err);
    case TEXT_AND:
        return eval_all_of(s, node, level, words, err);
    default:
        for (uint32_t i = 0; i < node->child_count; i++)
            TRY(eval(s, node->children[i], level, words, err));
        return OCH_OK;
    }
}

/* ---- segments ---- */

/* to |= from << first. */
static void or_shifted(uint64_t *to, size_t to_words, uint32_t first, const uint64_t *from,
                       size_t words)
{
    size_t at = first / 64;
    unsigned shift = first % 64;
    for (size_t w = 0; w < words; w++) {
        to[at + w] |= from[w] << shift;
        if (shift && at + w + 1 < to_words)
            to[at + w + 1] |= from[w] >> (64 - shift);
    }
}

static och_code search_segment(struct search *s, const struct text_query *query, uint64_t *ret,
                               uint64_t *ret_count, och_error *err)
{
    s->words = bitset_words(s->segment.rows);
    const struct text_node *root = query->root;
    memset(s->estimated, 0, query->nodes);
    bool is_range = root->op == TEXT_RANGE && root->first != root->last;
    if (is_range) /* alone: how many it lets pass decides nothing */
        s->found[root->number].count = s->segment.rows;
    else
        TRY(estimate(s, root, err));
    if (!s->found[root->number].count)
        return OCH_OK;
    memset(s->bits, 0, s->words * 8);
    TRY(eval(s, root, 1, s->bits, err));
    *ret_count += kernel_code_get()->popcount(s->bits, s->words);
    or_shifted(ret, bitset_words(s->index->rows), s->segment.first_row, s->bits, s->words);
    return OCH_OK;
}

static uint32_t longest_segment(const struct text_index *index)
{
    struct text_cursor cursor = {0};
    struct text_segment segment;
    uint32_t rows = 0;
    while (text_segment_next(index, &cursor, &segment))
        rows = segment.rows > rows ? segment.rows : rows;
    return rows;
}

och_code text_search(const struct text_index *index, const struct text_pages *pages,
                     const struct text_query *query, const struct text_rows *documents,
                     const struct limits_of_work *limits, struct arena *arena, uint64_t **ret_words,
                     uint32_t *ret_count, uint64_t *ret_offset, och_error *err)
{
    uint32_t rows = longest_segment(index);
    size_t sets = 2 * (size_t)query->depth + 2;
    struct search s = {.index = index, .pages = pages, .documents = documents, .limits = limits};
    struct text_cursor cursor = {0};
    uint64_t *words = ARENA_ARRAY(arena, uint64_t, bitset_words(index->rows) + 1), count = 0;
    s.found = ARENA_ARRAY(arena, struct text_list, query->nodes);
    s.estimated = arena_zalloc(arena, query->nodes);
    /* not zeroed: a query that finds nothing would spend most of its time on that */
    s.bits = arena_alloc(arena, sets * bitset_words(rows) * 8 + 8);
    s.scratch = arena_alloc(arena, scratch_size(rows));
    if (!words || !s.found || !s.estimated || !s.bits || !s.scratch)
        return FAIL_NO_MEMORY(err, "a search in texts");
    if (query->len_min <= index->len_max) {
        while (text_segment_next(index, &cursor, &s.segment)) {
            och_code code = search_segment(&s, query, words, &count, err);
            *ret_offset = s.fault_at;
            TRY(code);
        }
    }
    *ret_words = words;
    *ret_count = (uint32_t)count;
    return OCH_OK;
}
