/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata index against a plain evaluator: random rows, random trees, every way of reading a column. */
#include "meta_model.h"

static struct random random_state;

static uint32_t below(uint32_t n)
{
    return (uint32_t)random_below(&random_state, n);
}

/* ---- random rows ---- */

static const int64_t edge_ints[] = {0,
                                    1,
                                    -1,
                                    2,
                                    9007199254740991,
                                    9007199254740992,
                                    9007199254740993,
                                    -9007199254740991,
                                    -9007199254740992,
                                    -9007199254740993,
                                    INT64_MAX,
                                    INT64_MAX - 1,
                                    INT64_MIN,
                                    INT64_MIN + 1,
                                    INT64_MAX - 512};
static const double edge_floats[] = {0.0,
                                     -0.0,
                                     1.0,
                                     -1.0,
                                     0.5,
                                     1.5,
                                     -1.5,
                                     9007199254740991.0,
                                     9007199254740992.0,
                                     9007199254740994.0,
                                     -9007199254740992.0,
                                     9223372036854774784.0,
                                     9223372036854775808.0,
                                     -9223372036854775808.0,
                                     -9223372036854777856.0,
                                     5e-324,
                                     -5e-324,
                                     1.7976931348623157e308,
                                     -1.7976931348623157e308,
                                     (double)INFINITY,
                                     -(double)INFINITY,
                                     (double)NAN};
#define LONG_MAX_LEN 600
static uint8_t long_text[LONG_MAX_LEN + 1];

/* Strings that meet every edge: empty, NUL inside, about 256 bytes, alike for longer than the dictionary keeps, é in two forms. */
static slice edge_string(uint32_t i)
{
    static const uint8_t forms[] = "\xc3\xa9"
                                   "e\xcc\x81"
                                   "\xf4\x8f\xbf\xbf"
                                   "a\0b";
    switch (i % 14) {
    case 0:
        return SLICE("");
    case 1:
        return slice_make(forms, 2);
    case 2:
        return slice_make(forms + 2, 3);
    case 3:
        return slice_make(forms + 5, 4);
    case 4:
        return slice_make(forms + 9, 3);
    case 5:
        return slice_make(forms + 9, 2);
    case 6:
        return slice_make(long_text, 255);
    case 7:
        return slice_make(long_text, 256);
    case 8:
        return slice_make(long_text, 257);
    case 9:
        return slice_make(long_text, 300);
    case 10:
        return slice_make(long_text, LONG_MAX_LEN);
    case 11:
        return slice_make(long_text + 1, 257); /* the same letters, one less in front */
    case 12:
        return SLICE("berlin");
    default:
        return SLICE("berling");
    }
}

struct shape {        /* of one key */
    unsigned missing; /* of 100 */
    unsigned spread;  /* distinct values, about */
    uint32_t types;   /* bit per enum meta_type */
    bool edges, clustered;
};

static struct model_scalar random_scalar(struct arena *arena, uint8_t kind, uint32_t spread,
                                         bool edges, uint32_t at)
{
    struct model_scalar s = {.kind = kind};
    uint32_t i = at != UINT32_MAX ? at : below(2) ? below(spread) : below(spread / 8 + 1);
    if (kind == FILTER_BOOL) {
        s.boolean = i % 2;
    } else if (kind == FILTER_INT) {
        s.integer = edges ? edge_ints[i % COUNT_OF(edge_ints)] : (int64_t)i * 3 - 20;
    } else if (kind == FILTER_FLOAT) {
        s.number = edges ? edge_floats[i % COUNT_OF(edge_floats)] : (double)i * 1.5 - 20;
    } else if (edges) {
        s.string = edge_string(i);
    } else {
        const char *text = arena_printf(arena, "%s-%u", i % 3 ? "value" : "other", i);
        s.string = slice_of(text);
    }
    return s;
}

static uint8_t kind_of(uint8_t type)
{
    static const uint8_t kinds[] = {
        [META_BOOL] = FILTER_BOOL,     [META_INT] = FILTER_INT,       [META_FLOAT] = FILTER_FLOAT,
        [META_STRING] = FILTER_STRING, [META_BOOLS] = FILTER_BOOL,    [META_INTS] = FILTER_INT,
        [META_FLOATS] = FILTER_FLOAT,  [META_STRINGS] = FILTER_STRING};
    return kinds[type];
}

static uint8_t pick_type(uint32_t types)
{
    uint8_t type;
    do {
        type = (uint8_t)(META_BOOL + below(META_SPARSE));
    } while (!(types >> type & 1));
    return type;
}

static void fill_rows(struct model *m, const struct shape *shapes)
{
    for (uint32_t row = 0; row < m->rows; row++) {
        for (unsigned k = 1; k < MODEL_KEYS; k++) { /* the key "" cannot arrive */
            const struct shape *shape = &shapes[k];
            struct model_value *v = &m->values[row][k];
            if (below(100) < shape->missing)
                continue;
            v->type = pick_type(shape->types);
            uint32_t at = shape->clustered ? row / 100 : UINT32_MAX;
            if (v->type == META_EMPTY || v->type == META_SPARSE)
                continue;
            v->count = v->type >= META_BOOLS ? 1 + below(MODEL_ELEMENTS) : 1;
            for (uint32_t i = 0; i < v->count; i++)
                v->at[i] =
                    random_scalar(&m->arena, kind_of(v->type), shape->spread, shape->edges, at);
        }
        model_encode(m, row);
    }
}

static void random_shapes(struct shape *shapes, uint32_t rows)
{
    static const unsigned missing[] = {0, 0, 10, 50, 99, 100};
    const unsigned spreads[] = {1, 2, 4, 5, 40, 1000, rows + 1, 4 * rows + 1};
    for (unsigned k = 1; k < MODEL_KEYS; k++) {
        shapes[k] = (struct shape){.missing = missing[below(COUNT_OF(missing))],
                                   .spread = spreads[below(COUNT_OF(spreads))],
                                   .edges = below(3) == 0,
                                   .clustered = below(5) == 0};
        if (below(3))
            shapes[k].types = 1u << (META_BOOL + below(META_SPARSE));
        else
            shapes[k].types = ((1u << (META_SPARSE + 1)) - 2) & (below(1024) * 2 | 1u << META_INT);
    }
}

/* ---- random trees ---- */

static struct filter_value random_operand(const struct model *m, struct arena *arena, slice key)
{
    struct model_scalar s = {0};
    uint32_t row = below(m->rows ? m->rows : 1);
    unsigned k = 0;
    while (k < MODEL_KEYS - 1 && !slice_equal(slice_of(model_keys[k]), key))
        k++;
    const struct model_value *v = &m->values[row][k];
    if (v->count && below(3)) /* one that is there, or close to one */
        s = v->at[below(v->count)];
    else
        s = random_scalar(arena, (uint8_t)below(4), 50, below(2), UINT32_MAX);
    struct filter_value value = {.kind = s.kind};
    if (s.kind == FILTER_BOOL)
        value.boolean = s.boolean;
    else if (s.kind == FILTER_INT)
        value.integer = s.integer;
    else if (s.kind == FILTER_FLOAT)
        value.number = s.number;
    else
        value.string = s.string;
    if (value.kind == FILTER_INT && below(4) == 0) { /* the same as the other kind of number */
        double number = (double)value.integer;
        value.kind = FILTER_FLOAT;
        value.number = number + (below(3) ? 0 : 0.5);
    }
    return value;
}

/* From a value to a pattern: pieces, other case, % and _. */
static slice random_pattern(struct arena *arena, uint8_t op, slice text)
{
    uint8_t *out = ARENA_ARRAY(arena, uint8_t, 2 * text.len + 8);
    size_t len = 0, first = 0;
    size_t end = below(3) ? text.len : text.len - below((uint32_t)text.len + 1);
    if (op == FILTER_META_REGEX)
        return SLICE("..");
    if (op == FILTER_META_ICONTAINS && text.len && below(2))
        first = below((uint32_t)end + 1);
    while (first < text.len && (text.at[first] & 0xc0) == 0x80)
        first++; /* operands are UTF-8 */
    while (end > first && end < text.len && (text.at[end] & 0xc0) == 0x80)
        end--;
    if (op == FILTER_META_LIKE && below(4) == 0)
        out[len++] = '%';
    for (size_t i = first; i < end; i++) {
        uint8_t c = text.at[i];
        if (op == FILTER_META_LIKE && c < 0x80 && below(8) == 0 && end < 50)
            out[len++] = below(2) ? '%' : '_';
        else if (op == FILTER_META_ICONTAINS && (c | 0x20) >= 'a' && (c | 0x20) <= 'z')
            out[len++] = below(2) ? c ^ 0x20 : c;
        else {
            if (op == FILTER_META_LIKE && below(8) == 0)
                out[len++] = '\\';
            out[len++] = c;
        }
    }
    if (op == FILTER_META_LIKE && below(3) == 0)
        out[len++] = '%';
    return slice_make(out, len);
}

static struct filter_node *random_leaf(const struct model *m, struct arena *arena, bool others)
{
    static const uint8_t ops[] = {FILTER_EQ,        FILTER_NE,
                                  FILTER_GT,        FILTER_GTE,
                                  FILTER_LT,        FILTER_LTE,
                                  FILTER_IN,        FILTER_NIN,
                                  FILTER_CONTAINS,  FILTER_NOT_CONTAINS,
                                  FILTER_EXISTS,    FILTER_META_PREFIX,
                                  FILTER_META_LIKE, FILTER_META_ICONTAINS,
                                  FILTER_META_REGEX};
    static const struct filter_value nothing = {.kind = FILTER_STRING};
    static const uint8_t other_ops[] = {FILTER_DOC_CONTAINS, FILTER_DOC_NOT_CONTAINS, FILTER_ID_IN,
                                        FILTER_ID_NIN};
    struct filter_node *node = ARENA_NEW(arena, struct filter_node);
    if (others && below(4) == 0) {
        node->op = other_ops[below(COUNT_OF(other_ops))];
        node->values = &nothing;
        node->value_count = 1;
        return node;
    }
    node->op = ops[below(COUNT_OF(ops))];
    node->key = below(20) ? slice_of(model_keys[below(MODEL_KEYS)]) : SLICE("nobody");
    node->value_count = node->op == FILTER_IN || node->op == FILTER_NIN ? 1 + below(12) : 1;
    struct filter_value *values = ARENA_ARRAY(arena, struct filter_value, node->value_count);
    for (uint32_t i = 0; i < node->value_count; i++) {
        do {
            values[i] = random_operand(m, arena, node->key);
        } while ((node->op >= FILTER_GT && node->op <= FILTER_LTE && values[i].kind != FILTER_INT &&
                  values[i].kind != FILTER_FLOAT));
        if (node->op >= FILTER_META_REGEX) {
            slice text = values[i].kind == FILTER_STRING ? values[i].string : SLICE("v");
            values[i] = (struct filter_value){.kind = FILTER_STRING,
                                              .string = random_pattern(arena, node->op, text)};
        }
        if (node->op == FILTER_EXISTS)
            values[i] = (struct filter_value){.kind = FILTER_BOOL, .boolean = below(2)};
    }
    node->values = values;
    return node;
}

static struct filter_node *random_tree(const struct model *m, struct arena *arena, unsigned depth,
                                       bool others)
{
    uint32_t what = depth ? below(6) : 5;
    if (what > 2)
        return random_leaf(m, arena, others);
    struct filter_node *node = ARENA_NEW(arena, struct filter_node);
    node->op = what == 0 ? FILTER_AND : what == 1 ? FILTER_OR : FILTER_NOT;
    node->child_count = what == 2 ? 1 : below(5);
    node->children = ARENA_ARRAY(arena, struct filter_node *, node->child_count + 1);
    for (uint32_t i = 0; i < node->child_count; i++)
        node->children[i] = random_tree(m, arena, depth - 1, others);
    return node;
}

/* ---- comparing ---- */

/* Answers a leaf in one of four ways: exactly in one of two forms, with candidates, not at all. */
static och_code answer_other(void *context, const struct filter_node *leaf, uint32_t open,
                             struct arena *arena, struct rows_answer *ret, och_error *err)
{
    const struct model *m = context;
    bool is_doc = leaf->op >= FILTER_DOC_CONTAINS;
    uint32_t step = is_doc ? 3 : 7, how = below(4), count = 0;
    (void)err;
    assert_true(open <= m->rows);
    *ret = rows_unknown(m->rows);
    if (how == 3)
        return OCH_OK;
    uint32_t *list = ARENA_ARRAY(arena, uint32_t, m->rows + 1);
    uint64_t *words = ARENA_ARRAY(arena, uint64_t, bitset_words(m->rows) + 1);
    for (uint32_t row = 0; row < m->rows; row++) {
        bool candidate = row % step == 0 || (how == 2 && below(10) == 0);
        if (!candidate)
            continue;
        list[count++] = row;
        words[row / 64] |= 1ull << row % 64;
    }
    ret->exact = how != 2;
    ret->maybe = how == 0 ? (struct rows){.kind = ROWS_BITS, .count = count, .words = words}
                          : (struct rows){.kind = ROWS_LIST, .count = count, .list = list};
    return OCH_OK;
}

static void check_tree(struct model *m, struct section *s, const struct filter_node *node,
                       enum meta_force force)
{
    struct arena arena;
    struct meta_search search;
    size_t words = (m->rows + META_CHUNK - 1) / META_CHUNK * META_CHUNK_WORDS;
    uint64_t *sure = malloc(words * 8 + 8), *maybe = malloc(words * 8 + 8);
    uint32_t truth = 0;
    arena_init(&arena, NULL, 0);
    MUST(section_search(s, node, answer_other, m, force, &search, sure, maybe, &arena, err));
    assert_int_equal(s->held, 0);
    for (uint32_t row = 0; row < m->rows; row++) {
        bool is = model_matches(m, row, node);
        truth += is;
        if ((sure[row / 64] >> row % 64 & 1) && !is)
            fail_msg("row %u is said to pass", row);
        if (!(maybe[row / 64] >> row % 64 & 1) && is)
            fail_msg("row %u is said to fail", row);
    }
    assert_in_range(truth, search.at_least, search.at_most);
    for (size_t i = m->rows; i < bitset_words(m->rows) * 64; i++)
        assert_int_equal((sure[i / 64] | maybe[i / 64]) >> i % 64 & 1, 0);
    arena_done(&arena);
    free(sure);
    free(maybe);
}

/* Does an operand or a value make it a matter of candidates?  Then sets may differ from each other, never from the truth. */
static void check_rows(uint32_t rows, uint32_t trees, uint64_t seed)
{
    struct model m;
    struct section s;
    struct shape shapes[MODEL_KEYS] = {{0}};
    struct arena arena;
    random_seed(&random_state, seed);
    model_init(&m, rows);
    random_shapes(shapes, rows);
    fill_rows(&m, shapes);
    if (section_build(&s, rows, model_metadata, &m, 0, NULL)) {
        for (uint32_t i = 0; i < trees; i++) {
            arena_init(&arena, NULL, 0);
            const struct filter_node *node = random_tree(&m, &arena, i % 9, i % 2);
            for (unsigned force = META_BY_COST; force <= META_BY_SLICES; force++)
                check_tree(&m, &s, node, (enum meta_force)force);
            arena_done(&arena);
        }
    }
    section_done(&s);
    model_done(&m);
}

static void test_any_filter_gives_the_rows_for_which_it_holds(void **state)
{
    static const uint32_t sizes[] = {1, 2, 63, 64, 65, 300, 511, 512, 513, 2000};
    (void)state;
    for (uint32_t i = 0; i < 60; i++)
        check_rows(sizes[i % COUNT_OF(sizes)], 40, 1000 + i);
}

static void test_chunks_meet_where_they_should(void **state)
{
    static const uint32_t sizes[] = {65535, 65536, 65537, 131073};
    (void)state;
    for (uint32_t i = 0; i < COUNT_OF(sizes); i++)
        check_rows(sizes[i], 9, 77 + i);
}

static void test_exact_trees_need_no_second_look(void **state)
{
    struct model m;
    struct section s;
    struct arena arena;
    struct shape shapes[MODEL_KEYS] = {{0}};
    (void)state;
    random_seed(&random_state, 5);
    model_init(&m, 1000);
    for (unsigned k = 1; k < MODEL_KEYS; k++)
        shapes[k] = (struct shape){.missing = 20, .spread = 100, .types = 2046};
    fill_rows(&m, shapes);
    assert_true(section_build(&s, 1000, model_metadata, &m, 0, NULL));
    for (uint32_t i = 0; i < 200; i++) {
        struct meta_search search;
        uint64_t sure[META_CHUNK_WORDS];
        arena_init(&arena, NULL, 0);
        const struct filter_node *node = random_tree(&m, &arena, 6, false);
        CLEANUP(filter_cleanup) struct filter *compiled = NULL;
        MUST(filter_compile(node, &compiled, err));
        struct meta_search_options options = {
            .index = &s.index, .pages = &s.pages, .rows = 1000, .compiled = compiled};
        MUST(meta_search_init(&search, &options, node, &arena, err));
        /* operands of this test are short where values are, long ones are in no dictionary here */
        assert_true(search.exact);
        MUST(meta_search_chunk(&search, 0, sure, NULL, err));
        for (uint32_t row = 0; row < 1000; row++)
            assert_int_equal(sure[row / 64] >> row % 64 & 1, model_matches(&m, row, node));
        arena_done(&arena);
    }
    section_done(&s);
    model_done(&m);
}

/* ---- counting ---- */

struct told {
    struct model *m;
    const uint64_t *mask;
    unsigned key;
    uint64_t pairs;
};

/* Is this scalar among the values of a row? */
static bool row_has(const struct model_value *v, uint8_t type, slice value)
{
    for (uint32_t i = 0; v->type >= META_BOOL && v->type <= META_STRINGS && i < v->count; i++) {
        const struct model_scalar *s = &v->at[i];
        bool same =
            type == META_BOOL  ? s->kind == FILTER_BOOL && s->boolean == value.at[0]
            : type == META_INT ? s->kind == FILTER_INT && s->integer == (int64_t)load_u64(value.at)
            : type == META_FLOAT
                ? s->kind == FILTER_FLOAT && (s->number == load_f64(value.at) ||
                                              (isnan(s->number) && isnan(load_f64(value.at))))
                : s->kind == FILTER_STRING && slice_equal(s->string, value);
        if (same)
            return true;
    }
    return false;
}

static och_code check_told(void *context, uint8_t type, slice value, uint64_t count, och_error *err)
{
    struct told *told = context;
    uint64_t scalars = 0, arrays = 0;
    (void)err;
    for (uint32_t row = 0; row < told->m->rows; row++) {
        const struct model_value *v = &told->m->values[row][told->key];
        bool in = !told->mask || (told->mask[row / 64] >> row % 64 & 1);
        if (!in || !row_has(v, type, value))
            continue;
        scalars += v->type < META_BOOLS;
        arrays += v->type >= META_BOOLS;
    }
    assert_true(count && (count == scalars || count == arrays)); /* a column each */
    told->pairs += count;
    return OCH_OK;
}

/* Rows and their distinct values: what all counts together must be. */
static uint64_t pairs_of(const struct told *told)
{
    uint64_t pairs = 0;
    for (uint32_t row = 0; row < told->m->rows; row++) {
        const struct model_value *v = &told->m->values[row][told->key];
        bool in = !told->mask || (told->mask[row / 64] >> row % 64 & 1);
        for (uint32_t i = 0; in && v->type <= META_STRINGS && i < v->count; i++) {
            bool before = false;
            for (uint32_t j = 0; j < i; j++) {
                const struct model_scalar *x = &v->at[i], *y = &v->at[j];
                bool nan = x->kind == FILTER_FLOAT && y->kind == FILTER_FLOAT && isnan(x->number) &&
                           isnan(y->number);
                before = before || nan || (x->kind == y->kind && model_compare(x, y) == 0);
            }
            pairs += !before;
        }
    }
    return pairs;
}

static void test_counts_by_value_are_those_of_the_rows(void **state)
{
    static const uint32_t sizes[] = {1, 64, 300, 513, 3000};
    uint32_t known_ones = 0;
    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        struct model m;
        struct section s;
        struct shape shapes[MODEL_KEYS] = {{0}};
        random_seed(&random_state, 900 + i);
        model_init(&m, sizes[i % COUNT_OF(sizes)]);
        random_shapes(shapes, m.rows);
        fill_rows(&m, shapes);
        uint64_t *mask = calloc(META_CHUNK_WORDS, sizeof(uint64_t));
        for (uint32_t row = 0; row < m.rows; row++)
            mask[row / 64] |= (uint64_t)(below(1 + i % 4) == 0) << row % 64;
        if (section_build(&s, m.rows, model_metadata, &m, 0, NULL)) {
            for (unsigned key = 1; key < 2 * MODEL_KEYS; key++) {
                struct arena arena;
                struct told told = {&m, key % 2 ? mask : NULL, key / 2, 0};
                bool known, damaged;
                arena_init(&arena, NULL, 0);
                struct meta_count_options options = {.index = &s.index,
                                                     .pages = &s.pages,
                                                     .rows = m.rows,
                                                     .key = slice_of(model_keys[key / 2]),
                                                     .mask = told.mask,
                                                     .arena = &arena,
                                                     .counted = check_told,
                                                     .context = &told};
                MUST(meta_count_values(&options, &known, &damaged, err));
                assert_false(damaged);
                assert_int_equal(s.held, 0);
                if (known)
                    assert_int_equal(told.pairs, pairs_of(&told));
                known_ones += known && told.pairs;
                arena_done(&arena);
            }
        }
        free(mask);
        section_done(&s);
        model_done(&m);
    }
    assert_true(known_ones > 100);
}

/* ---- memory ---- */

static void test_little_memory_means_more_passes_and_the_same_bytes(void **state)
{
    struct model m;
    struct section whole, little;
    struct budget budget;
    struct shape shapes[MODEL_KEYS] = {{0}};
    (void)state;
    random_seed(&random_state, 6);
    budget_init(&budget, 0, NULL);
    model_init(&m, 5000);
    for (unsigned k = 1; k < MODEL_KEYS; k++)
        shapes[k] = (struct shape){.missing = 5, .spread = 3000, .types = 2046};
    fill_rows(&m, shapes);
    assert_true(section_build(&whole, 5000, model_metadata, &m, 0, &budget));
    assert_true(section_build(&little, 5000, model_metadata, &m, 20000, &budget));
    assert_int_equal(whole.passes, 1);
    assert_true(little.passes > 3);
    assert_int_equal(whole.bytes.len, little.bytes.len);
    assert_memory_equal(whole.bytes.at, little.bytes.at, whole.bytes.len);
    assert_int_equal(budget_used(&budget), 0);
    section_done(&whole);
    section_done(&little);
    model_done(&m);
}

static void test_columns_too_big_for_the_budget_are_left_to_the_rows(void **state)
{
    struct model m;
    struct section s;
    struct budget budget;
    struct arena arena;
    struct shape shapes[MODEL_KEYS] = {{0}};
    (void)state;
    random_seed(&random_state, 7);
    model_init(&m, 3000);
    for (unsigned k = 1; k < MODEL_KEYS; k++)
        shapes[k] = (struct shape){.missing = k == 2 ? 99u : 0u, .spread = 2000, .types = 2046};
    fill_rows(&m, shapes);
    for (int64_t limit = 5000; limit < 400000; limit += limit / 3) {
        budget_init(&budget, limit, NULL);
        if (section_build(&s, 3000, model_metadata, &m, 0, &budget)) {
            for (uint32_t i = 0; i < 20; i++) {
                arena_init(&arena, NULL, 0);
                check_tree(&m, &s, random_tree(&m, &arena, 3, true), META_BY_COST);
                arena_done(&arena);
            }
        }
        assert_int_equal(budget_used(&budget), 0);
        section_done(&s);
    }
    model_done(&m);
}

static void test_no_memory_is_an_error_and_leaks_nothing(void **state)
{
    struct model m;
    struct shape shapes[MODEL_KEYS] = {{0}};
    (void)state;
    random_seed(&random_state, 8);
    model_init(&m, 200);
    for (unsigned k = 1; k < MODEL_KEYS; k++)
        shapes[k] = (struct shape){.missing = 20, .spread = 20, .types = 2046};
    fill_rows(&m, shapes);
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        uint64_t live = mem_count_live();
        struct section s = {0};
        struct meta_build *build = NULL;
        struct meta_build_options options = {.rows = 200, .work_bytes = SIZE_MAX};
        bool more;
        buf_init(&s.bytes, BUF_MAX_NONE);
        mem_fail_at(nth);
        och_code code = meta_build_new(&options, &build, NULL);
        for (uint32_t row = 0; row < 200 && code == OCH_OK; row++)
            code = meta_build_row(build, buf_view(&m.encoded[row]), NULL);
        if (code == OCH_OK)
            code = meta_build_pass_end(build, section_emit, &s, &more, NULL);
        if (code == OCH_OK)
            code = meta_build_finish(build, section_emit, &s, &s.dir_len, NULL);
        mem_fail_at(0);
        failed = code != OCH_OK;
        if (failed)
            assert_int_equal(code, OCH_NO_MEMORY);
        meta_build_free(build);
        section_done(&s);
        assert_int_equal(mem_count_live(), live);
    }
    model_done(&m);
}

int main(void)
{
    for (size_t i = 0; i < sizeof(long_text); i++)
        long_text[i] = (uint8_t)('a' + i % 26);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_filter_gives_the_rows_for_which_it_holds),
        cmocka_unit_test(test_chunks_meet_where_they_should),
        cmocka_unit_test(test_exact_trees_need_no_second_look),
        cmocka_unit_test(test_counts_by_value_are_those_of_the_rows),
        cmocka_unit_test(test_little_memory_means_more_passes_and_the_same_bytes),
        cmocka_unit_test(test_columns_too_big_for_the_budget_are_left_to_the_rows),
        cmocka_unit_test(test_no_memory_is_an_error_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
