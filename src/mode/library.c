/* SPDX-License-Identifier: Apache-2.0 */
/* ochre.h: databases, and what all calls share.
 *
 * A database handle counts its owner, its collections and results, and the calls at work; the last one to go frees everything.  Closing sets a
 * bit beside the number of calls at work, waits until they have left, and stops the database while its memory stays for the results. */
#include "kernel/kernel.h"
#include "mode/library_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

uint32_t och_version_number(void)
{
    return OCH_VERSION_NUMBER;
}

void och_set_allocator(void *(*alloc)(void *user, void *old, size_t size), void *user)
{
    mem_set_allocator(alloc, user);
}

/* ---- entering and leaving ---- */

bool library_is_forked(const och_database *database)
{
    return database_is_forked(database->database);
}

och_database *library_ref(och_database *database)
{
    (void)atomic_fetch_add_explicit(&database->refs, 1, memory_order_relaxed);
    return database;
}

static void destroy(och_database *database)
{
    if (database->database && !(atomic_load(&database->calls) & LIBRARY_CLOSED) &&
        database_close(database->database, NULL) != OCH_OK)
        trace_line(&database->trace, TRACE_ERROR, "mode", "the database was not closed cleanly",
                   NULL);
    database_free(database->database);
    settings_done(&database->settings);
    cond_done(&database->quiet);
    mutex_done(&database->lock);
    mem_free(database);
}

void library_unref(och_database *database)
{
    /* Release what this thread did, acquire what the others did. */
    if (atomic_fetch_sub_explicit(&database->refs, 1, memory_order_acq_rel) == 1)
        destroy(database);
}

och_code library_enter(och_database *database, och_error *err)
{
    if (!database)
        return FAIL(err, OCH_INVALID, "the handle is NULL");
    if (library_is_forked(database))
        return FAIL(err, OCH_FORKED,
                    "this database was opened by the parent process; open it again here after the "
                    "parent closed it");
    (void)library_ref(database);
    if (!(atomic_fetch_add(&database->calls, 1) & LIBRARY_CLOSED))
        return OCH_OK;
    library_leave(database);
    return FAIL(err, OCH_CLOSED, "the database is closed");
}

void library_leave(och_database *database)
{
    if (atomic_fetch_sub(&database->calls, 1) == (LIBRARY_CLOSED | 1)) {
        mutex_lock(&database->lock);
        cond_broadcast(&database->quiet);
        mutex_unlock(&database->lock);
    }
    library_unref(database);
}

/* ---- arguments ---- */

och_code library_check_struct(const void *given, size_t least, const char *name, och_error *err)
{
    uint32_t size;
    if (!given)
        return FAIL(err, OCH_INVALID, "%s is NULL", name);
    memcpy(&size, given, sizeof(size));
    if (size < least)
        return FAIL(err, OCH_INVALID,
                    "%s.struct_size is %" PRIu32 ", at least %zu is needed. Start the struct from "
                    "the macro of its name.",
                    name, size, least);
    return OCH_OK;
}

och_code library_read_struct(const void *given, size_t least, void *known, size_t size,
                             const char *name, och_error *err)
{
    uint32_t given_size;
    TRY(library_check_struct(given, least, name, err));
    memcpy(&given_size, given, sizeof(given_size));
    const uint8_t *bytes = given;
    for (size_t i = size; i < given_size; i++)
        if (bytes[i])
            return FAIL(err, OCH_UNSUPPORTED,
                        "%s uses members that this library does not know; it is version %s", name,
                        OCH_VERSION);
    memcpy(known, given, min_size(given_size, size));
    return OCH_OK;
}

void library_write_struct(void *given, const void *ours, size_t size)
{
    uint32_t given_size;
    memcpy(&given_size, given, sizeof(given_size));
    memcpy((uint8_t *)given + sizeof(uint32_t), (const uint8_t *)ours + sizeof(uint32_t),
           min_size(given_size, size) - sizeof(uint32_t));
}

och_code library_check_text(och_bytes text, const char *name, och_error *err)
{
    if (!text.at && text.len)
        return FAIL(err, OCH_INVALID, "%s: %zu bytes at NULL", name, text.len);
    if (!json_utf8_valid(library_slice(text)))
        return FAIL(err, OCH_INVALID, "%s is not UTF-8", name);
    return OCH_OK;
}

och_code library_check_finite(const float *vectors, size_t count, size_t dimension, size_t stride,
                              och_error *err)
{
    const struct kernel *kernel = kernel_get();
    for (size_t i = 0; i < count; i++) {
        const float *row = vectors + i * stride;
        uint32_t bad = 0;
        /* sixteen at a time; what is too long for that is looked at one by one */
        if (isfinite(kernel->dot_f32(row, row, dimension)))
            continue;
        for (size_t j = 0; j < dimension; j++) {
            uint32_t bits;
            memcpy(&bits, &row[j], sizeof(bits));
            bad |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        if (bad)
            return FAIL(err, OCH_INVALID,
                        "Validation error: embeddings: Embeddings must not contain NaN or Infinity "
                        "values: vector %zu",
                        i);
    }
    return OCH_OK;
}

och_code library_read_json(och_bytes text, const char *name, struct arena *arena,
                           const struct json_value **ret_value, och_error *err)
{
    *ret_value = NULL;
    if (!text.at && text.len)
        return FAIL(err, OCH_INVALID, "%s: %zu bytes at NULL", name, text.len);
    if (!text.at)
        return OCH_OK;
    struct json_value *value = ARENA_NEW(arena, struct json_value);
    if (!value)
        return FAIL_NO_MEMORY(err, name);
    och_code code = json_read(library_slice(text), NULL, arena, value, NULL, err);
    if (code != OCH_OK) {
        error_context(err, "%s", name);
        return code;
    }
    if (value->kind != JSON_NULL)
        *ret_value = value;
    return OCH_OK;
}

/* ---- open, close ---- */

static void write_log(void *user, enum trace_level level, slice line)
{
    const och_database *database = user;
    database->log(database->log_user, (int)level, library_bytes(line));
}

static och_code read_settings(const och_open_options *options, struct settings *ret_settings,
                              och_error *err)
{
    struct setting_flag flags[2];
    size_t count = 0;
    char limit[24], threads[16];
    if (options->memory_limit_bytes) {
        (void)snprintf(limit, sizeof(limit), "%" PRIu64, options->memory_limit_bytes);
        flags[count++] = (struct setting_flag){"memory-limit", limit};
    }
    if (options->thread_count) {
        (void)snprintf(threads, sizeof(threads), "%" PRIu32, options->thread_count);
        flags[count++] = (struct setting_flag){"threads", threads};
    }
    struct settings_input input = {
        .flags = flags, .flag_count = count, .yaml_text = library_slice(options->settings_yaml)};
    return settings_init(&input, ret_settings, err);
}

static och_code open_database(och_database *database, const char *path,
                              const och_open_options *options, och_error *err)
{
    database->log = options->log;
    database->log_user = options->log_user;
    database->trace = (struct trace){.level = (enum trace_level)database->settings.log_level,
                                     .json = database->settings.log_format == SETTING_LOG_JSON,
                                     .write = write_log,
                                     .user = database};
    struct database_options inner = {.path = path,
                                     .create = options->create_missing && !options->read_only,
                                     .read_only = options->read_only,
                                     .settings = &database->settings,
                                     .trace = options->log ? &database->trace : NULL,
                                     .start_compactor = true};
    if (!options->log)
        database->trace.write = NULL;
    return database_open(&inner, &database->database, err);
}

och_code och_database_open(const char *path, const och_open_options *options,
                           och_database **ret_database, och_error *err)
{
    och_open_options known = OCH_OPEN_OPTIONS;
    if (options)
        TRY(library_read_struct(options, sizeof(known), &known, sizeof(known), "och_open_options",
                                err));
    if (!ret_database)
        return FAIL(err, OCH_INVALID, "ret_database is NULL");
    if (path && !path[0])
        return FAIL(err, OCH_INVALID, "the path is empty; NULL is a database in memory");
    if (path)
        TRY(library_check_text(och_text(path), "the path", err));
    else if (known.read_only)
        return FAIL(err, OCH_INVALID, "a database in memory cannot be read only: it is empty");
    TRY(library_check_text(known.settings_yaml, "settings_yaml", err));
    och_database *database = MEM_NEW(och_database);
    if (!database)
        return FAIL_NO_MEMORY(err, "a database");
    och_code code = read_settings(&known, &database->settings, err);
    if (code != OCH_OK) {
        mem_free(database);
        return code;
    }
    atomic_init(&database->refs, 1);
    mutex_init(&database->lock, RANK_NONE);
    cond_init(&database->quiet);
    code = open_database(database, path, &known, err);
    if (code != OCH_OK) {
        library_unref(database);
        return code;
    }
    *ret_database = database;
    return OCH_OK;
}

och_code och_database_close(och_database *database, och_error *err)
{
    TRY(library_enter(database, err));
    if (atomic_fetch_or(&database->calls, LIBRARY_CLOSED) & LIBRARY_CLOSED) {
        library_leave(database);
        return FAIL(err, OCH_CLOSED, "the database is closed");
    }
    (void)atomic_fetch_sub(&database->calls, 1); /* this call is not waited for */
    mutex_lock(&database->lock);
    while (atomic_load(&database->calls) != LIBRARY_CLOSED)
        cond_wait(&database->quiet, &database->lock);
    mutex_unlock(&database->lock);
    och_code code = database_close(database->database, err);
    library_unref(database);
    return code;
}

void och_database_free(och_database *database)
{
    if (!database)
        return;
    if (library_is_forked(database))
        database_abandon(database->database);
    else
        library_unref(database);
}

/* ---- cancel ---- */

och_code och_cancel_new(och_cancel **ret_cancel, och_error *err)
{
    if (!ret_cancel)
        return FAIL(err, OCH_INVALID, "ret_cancel is NULL");
    och_cancel *cancel = MEM_NEW(och_cancel);
    if (!cancel)
        return FAIL_NO_MEMORY(err, "a cancel flag");
    *ret_cancel = cancel;
    return OCH_OK;
}

void och_cancel_fire(och_cancel *cancel)
{
    if (cancel)
        atomic_store(&cancel->cancel.fired, true);
}

void och_cancel_free(och_cancel *cancel)
{
    mem_free(cancel);
}
