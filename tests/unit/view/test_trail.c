/* SPDX-License-Identifier: Apache-2.0 */
/* Which ids were touched since a view: the same whatever flushes came between, or a clean OCH_STALE; and views that are copied. */
#include "support/stack.h"

struct touched {
    char text[4096];
    size_t len, stop_after, calls;
};

static bool note(void *context, slice id)
{
    struct touched *t = context;
    t->calls++;
    assert_true(t->len + id.len + 2 < sizeof(t->text));
    t->len += (size_t)snprintf(t->text + t->len, sizeof(t->text) - t->len, "%s%.*s",
                               t->len ? "," : "", SLICE_ARG(id));
    return t->stop_after == 0 || t->calls < t->stop_after;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Ids in alphabetical order, repetitions kept. */
static const char *touches(struct stack *s, uuid id, uint64_t since)
{
    static struct touched t;
    static char sorted[4096];
    char *names[512];
    size_t count = 0;
    t = (struct touched){.len = 0};
    struct view *view = NULL;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    och_code code = view_touches(view, since, note, &t, NULL);
    view_release(view);
    if (code == OCH_STALE)
        return "stale";
    assert_int_equal(code, OCH_OK);
    for (char *name = strtok(t.text, ","); name; name = strtok(NULL, ","))
        names[count++] = name;
    qsort(names, count, sizeof(*names), by_name);
    sorted[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        if (i)
            strcat(sorted, ",");
        strcat(sorted, names[i]);
    }
    return sorted;
}

static struct view *acquire(struct stack *s, uuid id)
{
    struct view *view = NULL;
    OK(view_acquire(s->views, id, READ_INDEX_AND_WAL, &view, err));
    return view;
}

static void touches_are_told_across_flushes_while_a_view_traces(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "trail", "l2");
    stack_add_many(&s, id, 0, 3);
    struct view *base = acquire(&s, id);
    uint64_t since = view_info(base)->to;
    view_trace(base);
    view_trace(base); /* counted once */
    assert_string_equal(touches(&s, id, since), "");
    stack_add(&s, id, "x", 1);
    assert_string_equal(touches(&s, id, since), "x");
    stack_flush(&s, id);
    assert_string_equal(touches(&s, id, since), "x");
    stack_delete(&s, id, "id1");
    stack_delete(&s, id, "nobody");
    stack_flush(&s, id);
    stack_flush(&s, id); /* nothing new */
    struct stack_row rows[] = {{.op = BATCH_UPSERT, .id = "x", .value = 3},
                               {.op = BATCH_ADD, .id = "y", .value = 4}};
    uint64_t later = stack_write(&s, id, rows, COUNT_OF(rows));
    assert_string_equal(touches(&s, id, since), "id1,nobody,x,x,y");
    stack_flush(&s, id);
    assert_string_equal(touches(&s, id, since), "id1,nobody,x,x,y");
    assert_string_equal(touches(&s, id, later), "x,y");
    assert_string_equal(touches(&s, id, later + 1), "y");
    assert_string_equal(touches(&s, id, later + 2), "");
    assert_string_equal(touches(&s, id, since - 1), "id1,id2,nobody,x,x,y");
    view_release(base);
    assert_string_equal(touches(&s, id, since), "stale");
    assert_string_equal(touches(&s, id, later + 2), "");
    stack_done(&s);
}

static void what_was_flushed_before_anybody_traced_is_stale(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "gap", "l2");
    stack_add_many(&s, id, 0, 3);
    struct view *base = acquire(&s, id);
    uint64_t since = view_info(base)->to;
    stack_add(&s, id, "a", 1);
    stack_flush(&s, id); /* before anybody traces */
    view_trace(base);
    stack_add(&s, id, "b", 1);
    stack_flush(&s, id);
    assert_string_equal(touches(&s, id, since), "stale");
    assert_string_equal(touches(&s, id, since + 1), "b");
    view_release(base);
    stack_done(&s);
}

static void whoever_has_enough_is_not_called_again(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "enough", "l2");
    stack_add_many(&s, id, 0, 10);
    struct view *base = acquire(&s, id);
    view_trace(base);
    stack_add_many(&s, id, 10, 10);
    for (int flushed = 0; flushed < 2; flushed++) {
        struct touched t = {.stop_after = 3};
        struct view *view = acquire(&s, id);
        OK(view_touches(view, view_info(base)->to, note, &t, err));
        assert_int_equal(t.calls, 3);
        view_release(view);
        stack_flush(&s, id);
    }
    view_release(base);
    stack_done(&s);
}

static void a_copy_is_the_same_state_and_lives_by_itself(void **state)
{
    (void)state;
    struct stack s = {0};
    stack_open(&s);
    uuid id = stack_collection(&s, "copy", "l2");
    stack_add(&s, id, "a", 1);
    stack_flush(&s, id);
    stack_add(&s, id, "b", 2);
    struct view *base = acquire(&s, id), *copy = NULL;
    uintptr_t same, other;
    assert_int_equal(view_held_bytes(base, &same), 0);
    stack_delete(&s, id, "a");
    stack_flush(&s, id);
    OK(view_copy(base, &copy, err));
    assert_true(view_held_bytes(base, &same) > 0);
    assert_int_equal(view_held_bytes(copy, &other), view_held_bytes(base, &same));
    assert_true(same == other);
    assert_int_equal(view_info(copy)->to, view_info(base)->to);
    assert_int_equal(view_info(copy)->now_ms, view_info(base)->now_ms);
    view_release(base);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    assert_string_equal(stack_show(&s, copy, &arena), "a:1,b:2");
    arena_done(&arena);
    view_release(copy);
    stack_done(&s);
}

static void pages_of_a_collection_that_goes_go_with_it(void **state)
{
    (void)state;
    struct stack s = {.idle_max = 1};
    stack_open(&s);
    uuid id = stack_collection(&s, "goes", "l2");
    stack_add(&s, id, "a", 1);
    struct view *base = acquire(&s, id);
    view_trace(base);
    stack_add(&s, id, "b", 1);
    stack_flush(&s, id);
    views_forget(s.views, id);
    view_release(base);
    stack_done(&s); /* the budget is even */
}

static void each_allocation_of_a_trail_may_fail(void **state)
{
    (void)state;
    bool passed = false;
    for (uint64_t n = 1; !passed && n < 2000; n++) {
        struct stack s = {0};
        stack_open(&s);
        uuid id = stack_collection(&s, "fails", "l2");
        stack_add(&s, id, "a", 1);
        struct view *base = acquire(&s, id), *view = NULL;
        uint64_t since = view_info(base)->to;
        struct touched t = {.len = 0};
        view_trace(base);
        stack_add(&s, id, "b", 1);
        stack_commit(&s, id);
        mem_fail_at(n);
        och_code code = views_install(s.views, id, NULL);
        if (code == OCH_OK)
            code = view_acquire(s.views, id, READ_INDEX_AND_WAL, &view, NULL);
        if (code == OCH_OK)
            code = view_touches(view, since, note, &t, NULL);
        mem_fail_at(0);
        passed = code == OCH_OK;
        if (passed)
            assert_string_equal(t.text, "b"); /* never less than what was touched */
        else
            assert_true(code == OCH_NO_MEMORY || code == OCH_STALE || code == OCH_BUSY);
        view_release(view);
        view_release(base);
        stack_done(&s);
    }
    assert_true(passed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(touches_are_told_across_flushes_while_a_view_traces),
        cmocka_unit_test(what_was_flushed_before_anybody_traced_is_stale),
        cmocka_unit_test(whoever_has_enough_is_not_called_again),
        cmocka_unit_test(a_copy_is_the_same_state_and_lives_by_itself),
        cmocka_unit_test(pages_of_a_collection_that_goes_go_with_it),
        cmocka_unit_test(each_allocation_of_a_trail_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
