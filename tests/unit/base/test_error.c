/* SPDX-License-Identifier: Apache-2.0 */
/* Errors and diagnostics: what a message looks like, and what is cut. */
#include "base/error.h"
#include "base/trace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

static och_code fails_below(och_error *err)
{
    return FAIL(err, OCH_NOT_FOUND, "no part %d", 7);
}

static och_code passes_up(och_error *err)
{
    TRY(fails_below(err));
    return OCH_OK;
}

static void an_error_travels_up_with_its_place_and_context(void **state)
{
    (void)state;
    och_error err = {0};
    assert_int_equal(passes_up(&err), OCH_NOT_FOUND);
    error_context(&err, "collection %s", "docs");
    error_append(&err, ". Run %s", "check");
    assert_int_equal(err.code, OCH_NOT_FOUND);
    assert_string_equal(err.message, "collection docs: no part 7. Run check");
    assert_non_null(strstr(err.file, "test_error.c"));
    assert_true(err.line > 0);
    error_clear(&err);
    assert_int_equal(err.code, OCH_OK);
    error_context(&err, "nothing");
    error_append(&err, "nothing");
    assert_string_equal(err.message, "");
}

static void the_place_does_not_depend_on_where_the_tree_lies(void **state)
{
    (void)state;
    och_error err = {0};
    (void)error_set(&err, OCH_IO, 0, "/home/x/src/ochre/src/base/io.c", 3, "x");
    assert_string_equal(err.file, "src/base/io.c");
}

static void a_failed_system_call_is_told_in_words(void **state)
{
    (void)state;
    och_error err = {0};
    assert_int_equal(FAIL_OS(&err, OCH_IO, ENOSPC, "cannot write %s", "a"), OCH_IO);
    assert_string_equal(err.message, "cannot write a: No space left on device");
    assert_int_equal(err.os_errno, ENOSPC);
    /* Once is enough, however many quote it. */
    (void)FAIL_OS(&err, OCH_BUSY, err.os_errno, "the log cannot grow: %s", err.message);
    assert_string_equal(err.message,
                        "the log cannot grow: cannot write a: No space left on device");
}

static void nobody_has_to_listen(void **state)
{
    (void)state;
    assert_int_equal(passes_up(NULL), OCH_NOT_FOUND);
    error_context(NULL, "x");
    error_append(NULL, "x");
    error_clear(NULL);
}

static void a_message_may_be_made_of_itself(void **state)
{
    (void)state;
    och_error err = {0};
    (void)FAIL(&err, OCH_IO, "one");
    (void)FAIL(&err, OCH_CORRUPT, "%s, two", err.message);
    error_context(&err, "zero, %s", err.message);
    assert_string_equal(err.message, "zero, one, two: one, two");
}

/* Every length around the limit, with characters of 1 to 4 bytes at the end. */
static void a_long_message_is_cut_between_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t c = 0; c < COUNT_OF(characters); c++) {
        size_t width = strlen(characters[c]);
        for (size_t before = 1010; before < 1030; before++) {
            char text[1200];
            memset(text, 'a', before);
            for (size_t i = 0; i < 20; i++)
                memcpy(text + before + i * width, characters[c], width);
            text[before + 20 * width] = '\0';
            och_error err = {0};
            (void)FAIL(&err, OCH_INVALID, "%s", text);
            size_t len = strlen(err.message);
            assert_true(len < sizeof(err.message));
            assert_true(len > sizeof(err.message) - 5);
            assert_memory_equal(err.message, text, len);
            if (len > before)
                assert_int_equal((len - before) % width, 0);
        }
    }
}

static void every_code_has_a_name(void **state)
{
    (void)state;
    for (int code = OCH_OK; code <= OCH_INTERNAL; code++)
        assert_string_not_equal(error_code_name((och_code)code), "unknown");
    assert_string_equal(error_code_name(OCH_NO_MEMORY), "no_memory");
    assert_string_equal(error_code_name((och_code)999), "unknown");
}

struct sink {
    char text[8192];
    size_t count;
};

static void keep(void *user, enum trace_level level, slice line)
{
    (void)level;
    struct sink *sink = user;
    assert_true(line.len < sizeof(sink->text));
    memcpy(sink->text, line.at, line.len);
    sink->text[line.len] = '\0';
    sink->count++;
}

static void a_trace_line_reads_as_documented(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct trace trace = {.level = TRACE_INFO, .write = keep, .user = &sink};
    trace_line(&trace, TRACE_WARN, "compact", "part \"x\" quarantined", "collection", "images",
               "note", "two words", "empty", "", "request", (const char *)NULL, NULL);
    assert_int_equal(strlen("2026-11-22T10:02:11.482Z"), 24);
    assert_int_equal(sink.text[10], 'T');
    assert_int_equal(sink.text[19], '.');
    assert_int_equal(sink.text[23], 'Z');
    assert_string_equal(sink.text + 24, " warn compact \"part \\\"x\\\" quarantined\" "
                                        "collection=images note=\"two words\" empty=\"\" "
                                        "request=-");
    trace_line(&trace, TRACE_DEBUG, "compact", "not wanted", NULL);
    assert_int_equal(sink.count, 1);
    trace_line(NULL, TRACE_ERROR, "compact", "nobody listens", NULL);
}

/* A line said twice is counted, an event is an event; many of them make no other line come back. */
static void events_are_told_each_time(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct trace trace = {.level = TRACE_INFO, .write = keep, .user = &sink};
    for (int i = 0; i < 2; i++)
        trace_line(&trace, TRACE_WARN, "compact", "again", NULL);
    assert_int_equal(sink.count, 1);
    for (int i = 0; i < 100; i++) {
        char number[12];
        (void)snprintf(number, sizeof(number), "%d", i / 2);
        trace_event(&trace, TRACE_INFO, "http", "request", "n", number, NULL);
    }
    assert_int_equal(sink.count, 101);
    assert_string_equal(sink.text + 24, " info http \"request\" n=49");
    trace_line(&trace, TRACE_WARN, "compact", "again", NULL);
    trace_event(&trace, TRACE_DEBUG, "http", "not wanted", NULL);
    assert_int_equal(sink.count, 101);
}

static void a_json_trace_line_has_the_same_keys(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct trace trace = {.level = TRACE_INFO, .json = true, .write = keep, .user = &sink};
    trace_line(&trace, TRACE_ERROR, "wal", "bad\n\x01", "part", "a\\b", NULL);
    assert_memory_equal(sink.text, "{\"time\":\"20", 11);
    assert_string_equal(sink.text + 33, "\",\"level\":\"error\",\"module\":\"wal\","
                                        "\"message\":\"bad\\n\\u0001\",\"part\":\"a\\\\b\"}");
}

static void a_trace_line_that_is_too_long_is_cut_at_a_value(void **state)
{
    (void)state;
    char big[6000];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    struct sink sink = {0};
    struct trace trace = {.level = TRACE_INFO, .json = true, .write = keep, .user = &sink};
    trace_line(&trace, TRACE_ERROR, "wal", "m", "a", "1", "b", big, "c", "2", NULL);
    const char *end = strstr(sink.text, ",\"a\":\"1\"}");
    assert_non_null(end);
    assert_int_equal(strlen(end), 9);
    trace.json = false;
    trace_line(&trace, TRACE_ERROR, "wal", big, "a", "1", NULL);
    assert_non_null(strstr(sink.text, "Z error wal "));
}

static bool part_is(const och_error *err, size_t at, size_t len, const char *expected)
{
    return len == strlen(expected) && memcmp(err->message + at, expected, len) == 0;
}

static void place_and_way_out_are_found_in_the_message(void **state)
{
    (void)state;
    och_error err = {0};
    (void)FAIL(&err, OCH_INVALID, "filter: a.b: wrong");
    error_mark_path(&err, "a.b", 3);
    error_hint(&err, "Write %d.", 5);
    assert_string_equal(err.message, "filter: a.b: wrong. Write 5.");
    error_context(&err, "line %d", 12);
    assert_string_equal(err.message, "line 12: filter: a.b: wrong. Write 5.");
    assert_true(part_is(&err, err.path_at, err.path_len, "a.b"));
    assert_true(part_is(&err, err.hint_at, strlen(err.message) - err.hint_at, "Write 5."));
    error_mark_path(&err, "line 12", 7);
    assert_true(part_is(&err, err.path_at, err.path_len, "a.b")); /* the deeper one stays */
    (void)FAIL(&err, OCH_INVALID, "another");
    assert_true(err.path_len == 0 && err.hint_at == 0);
    error_mark_path(&err, "nowhere", 7);
    error_mark_hint(&err, "nothing");
    assert_true(err.path_len == 0 && err.hint_at == 0);
    char big[1100];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    error_mark_hint(&err, "other");
    error_mark_path(&err, "another", 7);
    error_context(&err, "%s", big); /* pushes both out */
    assert_true(err.path_len == 0 && err.hint_at == 0);
    assert_int_equal(sizeof(och_error), sizeof(void *) == 8 ? 1048 : 1044); /* that of 1.0 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_travels_up_with_its_place_and_context),
        cmocka_unit_test(the_place_does_not_depend_on_where_the_tree_lies),
        cmocka_unit_test(a_failed_system_call_is_told_in_words),
        cmocka_unit_test(nobody_has_to_listen),
        cmocka_unit_test(a_message_may_be_made_of_itself),
        cmocka_unit_test(a_long_message_is_cut_between_characters),
        cmocka_unit_test(every_code_has_a_name),
        cmocka_unit_test(place_and_way_out_are_found_in_the_message),
        cmocka_unit_test(a_trace_line_reads_as_documented),
        cmocka_unit_test(events_are_told_each_time),
        cmocka_unit_test(a_json_trace_line_has_the_same_keys),
        cmocka_unit_test(a_trace_line_that_is_too_long_is_cut_at_a_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
