/* SPDX-License-Identifier: Apache-2.0 */
/* One line per event, composed on the stack and written by one call, so that lines of threads do not
 * mix.  A line that is too long is cut at a whole value. */
#include "base/trace.h"

#include "base/clock.h"
#include "base/sched.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096u

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool full;
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};

static void add(struct line *line, const char *text, size_t len)
{
    if (line->full ||
        len > sizeof(line->text) - 2 - line->len) { // 2: a closing brace, and one spare
        line->full = true;
        return;
    }
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void add_text(struct line *line, const char *text)
{
    add(line, text, strlen(text));
}

static void add_quoted(struct line *line, const char *text)
{
    add_text(line, "\"");
    for (; *text; text++) {
        char escape[8];
        uint8_t byte = (uint8_t)*text;
        if (byte == '"' || byte == '\\')
            (void)snprintf(escape, sizeof(escape), "\\%c", byte);
        else if (byte == '\n')
            (void)snprintf(escape, sizeof(escape), "\\n");
        else if (byte < 0x20 || byte == 0x7F)
            (void)snprintf(escape, sizeof(escape), "\\u%04x", byte);
        else
            (void)snprintf(escape, sizeof(escape), "%c", byte);
        add_text(line, escape);
    }
    add_text(line, "\"");
}

/* Bare where it can be told from the next key: no blanks, quotes, equal signs or control bytes. */
static bool is_bare(const char *text)
{
    if (!*text)
        return false;
    for (; *text; text++) {
        uint8_t byte = (uint8_t)*text;
        if (byte <= ' ' || byte == '"' || byte == '=' || byte == '\\' || byte == 0x7F)
            return false;
    }
    return true;
}

static void add_time(struct line *line)
{
    uint64_t ms = clock_wall_ns(clock_system()) / 1000000;
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts = {0};
    (void)gmtime_r(&seconds, &parts);
    char text[80];
    (void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", parts.tm_year + 1900,
                   parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                   (unsigned)(ms % 1000));
    add_text(line, text);
}

static void add_pair(struct line *line, bool json, const char *key, const char *value)
{
    size_t before = line->len;
    if (json) {
        add_text(line, ",");
        add_quoted(line, key);
        add_text(line, ":");
        add_quoted(line, value);
    } else {
        add_text(line, " ");
        add_text(line, key);
        add_text(line, "=");
        if (is_bare(value))
            add_text(line, value);
        else
            add_quoted(line, value);
    }
    if (line->full)
        line->len = before; // this pair and all after it are left out
}

static void add_head(struct line *line, bool json, enum trace_level level, const char *module,
                     const char *message)
{
    if (json) {
        add_text(line, "{\"time\":\"");
        add_time(line);
        add_text(line, "\",\"level\":\"");
        add_text(line, level_names[level]);
        add_text(line, "\"");
        add_pair(line, true, "module", module);
        add_pair(line, true, "message", message);
    } else {
        add_time(line);
        add_text(line, " ");
        add_text(line, level_names[level]);
        add_text(line, " ");
        add_text(line, module);
        add_text(line, " ");
        size_t before = line->len;
        add_quoted(line, message);
        if (line->full)
            line->len = before;
    }
}

/* Lines said lately, over all sinks, by the hash of what follows the time.  When the table is full
 * the oldest is forgotten, and said again if it comes back. */
#define REPEAT_NS  10000000000ull
#define REPEAT_MAX 64
struct said {
    uint64_t hash, at_ns, dropped;
};
static struct mutex said_mutex = {PTHREAD_MUTEX_INITIALIZER, RANK_NONE}; // traced under any lock
static struct said said[REPEAT_MAX];                                     // guarded by said_mutex

/* False when the line was said within 10 s; else how many were dropped since then. */
static bool say(uint64_t hash, uint64_t *ret_dropped)
{
    bool ret = true;
    uint64_t now = sched_mono_ns();
    mutex_lock(&said_mutex);
    struct said *place = &said[0];
    for (size_t i = 0; i < REPEAT_MAX; i++) {
        if (said[i].hash == hash && said[i].at_ns) {
            place = &said[i];
            break;
        }
        if (said[i].at_ns < place->at_ns)
            place = &said[i];
    }
    *ret_dropped = 0;
    if (place->hash == hash && place->at_ns && now - place->at_ns < REPEAT_NS) {
        place->dropped++;
        ret = false;
    } else {
        if (place->hash == hash)
            *ret_dropped = place->dropped;
        *place = (struct said){.hash = hash, .at_ns = now};
    }
    mutex_unlock(&said_mutex);
    return ret;
}

static void compose(struct line *line, const struct trace *trace, enum trace_level level,
                    const char *module, const char *message, va_list pairs)
{
    const char *key;
    line->len = 0;
    line->full = false;
    add_head(line, trace->json, level, module, message);
    while ((key = va_arg(pairs, const char *)) != NULL) {
        const char *value = va_arg(pairs, const char *);
        add_pair(line, trace->json, key, value ? value : "-");
    }
}

static void write_line(struct trace *trace, enum trace_level level, struct line *line)
{
    if (trace->json)
        line->text[line->len++] = '}';
    trace->write(trace->user, level, slice_make(line->text, line->len));
}

static bool is_wanted(const struct trace *trace, enum trace_level level)
{
    assert((size_t)level < COUNT_OF(level_names));
    return trace && trace->write && level <= trace->level;
}

void trace_event(struct trace *trace, enum trace_level level, const char *module,
                 const char *message, ...)
{
    struct line line;
    va_list args;
    if (!is_wanted(trace, level))
        return;
    va_start(args, message);
    compose(&line, trace, level, module, message, args);
    va_end(args);
    write_line(trace, level, &line);
}

void trace_line(struct trace *trace, enum trace_level level, const char *module,
                const char *message, ...)
{
    struct line line;
    va_list args;
    if (!is_wanted(trace, level))
        return;
    va_start(args, message);
    compose(&line, trace, level, module, message, args);
    va_end(args);
    if (level < TRACE_DEBUG) {
        size_t time_end = strlen(trace->json ? "{\"time\":\"2026-11-22T10:02:11.482Z"
                                             : "2026-11-22T10:02:11.482Z");
        slice said_text = slice_from(slice_make(line.text, line.len), time_end);
        uint64_t dropped;
        if (!say(slice_hash(said_text) ^ (uint64_t)(uintptr_t)trace, &dropped))
            return;
        char number[24];
        (void)snprintf(number, sizeof(number), "%" PRIu64, dropped);
        if (dropped)
            add_pair(&line, trace->json, "repeated", number);
    }
    write_line(trace, level, &line);
}

/* systemd names the device and inode of the stream that it reads priorities from. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat info;
    if (!stream || fstat(STDERR_FILENO, &info) != 0)
        return false;
    char ours[64];
    (void)snprintf(ours, sizeof(ours), "%" PRIu64 ":%" PRIu64, (uint64_t)info.st_dev,
                   (uint64_t)info.st_ino);
    return strcmp(stream, ours) == 0;
}

static void write_stderr(void *user, enum trace_level level, slice line)
{
    static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"};
    static char newline[] = "\n";
    char priority[4] = "";
    if (user)
        memcpy(priority, priorities[level], sizeof(priority));
    struct iovec parts[] = {
        {priority, strlen(priority)}, {(void *)(uintptr_t)line.at, line.len}, {newline, 1}};
    // there is nobody to tell when the log itself cannot be written
    if (writev(STDERR_FILENO, parts, (int)COUNT_OF(parts)) < 0)
        return;
}

void trace_init_stderr(struct trace *trace, enum trace_level level, bool json)
{
    static char journal; // only its address matters
    *trace = (struct trace){.level = level,
                            .json = json,
                            .write = write_stderr,
                            .user = stderr_is_journal() ? &journal : NULL};
}
