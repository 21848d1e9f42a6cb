/* SPDX-License-Identifier: Apache-2.0 */
/* The table of settings and what its readers share. */
#ifndef MODE_SETTINGS_INTERNAL_H
#define MODE_SETTINGS_INTERNAL_H

#include "mode/settings.h"

enum setting_type {
    TYPE_STRING,     /* const char *, NULL when unset */
    TYPE_BOOL,       /* bool */
    TYPE_BYTES,      /* int64_t, with B, KiB, MiB, GiB, TiB, kB, MB, GB, TB */
    TYPE_MEMORY,     /* int64_t, as TYPE_BYTES, or a share of the machine's memory in % */
    TYPE_INT,        /* int64_t */
    TYPE_MILLIS,     /* int64_t, with ms, s, m, h */
    TYPE_LIST,       /* struct setting_list */
    TYPE_CHOICE,     /* int, place in choices */
    TYPE_DURABILITY, /* struct setting_durability */
    TYPE_COUNT
};
struct setting_row {
    const char *name;
    uint8_t type; /* enum setting_type */
    bool secret;
    size_t offset;        /* in struct settings */
    const char *fallback; /* NULL: unset */
    int64_t min, max;     /* of whole numbers, bytes and times */
    const char *const *choices;
    const char *choices_text; /* the same, for people */
    const char *help;
};
extern const struct setting_row setting_rows[];
extern const size_t setting_row_count;
extern const char *const setting_type_names[TYPE_COUNT];

/* A key of the original: dotted path in its file, CHROMA_ and upper case with __ for dots in its environment. */
struct setting_original {
    const char
        *name; /* a name ending in * is a prefix; any other also stands for what is nested in it */
    const char *ours;   /* the setting it is, or NULL */
    const char *reason; /* why it has no effect here */
};
extern const struct setting_original setting_originals[];
extern const size_t setting_original_count;

/* A value as some source gives it. */
struct setting_given {
    uint8_t source;    /* enum setting_source */
    const char *where; /* in the arena or static */
    unsigned line;
    bool is_list;
    const slice *items;
    size_t count; /* 1 unless is_list */
};

const struct setting_row *setting_find(slice name);
const struct setting_original *setting_find_original(slice name);
/** Nearest name by edit distance, or NULL when none is near. */
const char *setting_nearest(slice name);
/** "ochre.yaml line 7", "OCHRE_PORT", "--port": the place of a complaint. */
const char *setting_place(const struct setting_given *given, struct arena *arena);
/** Read the value and put it into its field; OCH_SETTING. */
MUST_USE och_code setting_apply(struct settings *settings, const struct setting_row *row,
                                const struct setting_given *given, och_error *err);
/** The field as YAML. */
void setting_write_value(const struct settings *settings, const struct setting_row *row,
                         struct buf *out);
/** Keep a sentence for the log. */
MUST_USE och_code settings_note(struct settings *settings, const char *note, och_error *err);
MUST_USE och_code settings_read_yaml(struct settings *settings, slice text, const char *name,
                                     och_error *err);
/** One key of a file or variable of the original; OCH_SETTING when it once meant security. */
MUST_USE och_code setting_check_retired(slice name, slice shown, const struct setting_given *given,
                                        struct arena *arena, och_error *err);
/** Memory this process may use: the machine's, or less where a control group (v1 or v2) says so. */
MUST_USE och_code settings_machine_memory(struct io *io, struct arena *arena, int64_t *ret_bytes,
                                          och_error *err);
/** A whole file of at most `max` bytes, also one whose size the system does not tell. */
MUST_USE och_code settings_read_file(struct io *io, const char *path, size_t max,
                                     struct arena *arena, slice *ret_text, och_error *err);
#endif
