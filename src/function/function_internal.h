/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside function/ only. */
#ifndef FUNCTION_INTERNAL_H
#define FUNCTION_INTERNAL_H

#include "base/map.h"
#include "base/vec.h"
#include "function/function.h"
#include "part/part.h"

#include <sys/queue.h>

#define FUNCTION_STEP_ROWS \
    8192 /* operations that one step consumes, or one batch if that is longer */
#define FUNCTION_STEP_BYTES (8u << 20) /* of their payloads */
#define FUNCTION_STACK      (512u << 10)
#define FUNCTION_TRIES_HELD \
    3 /* a function that failed so often does not hold up flushes; it is rebuilt when it works again */
#define FUNCTION_READS_KEEP 256 /* rows between two times that pinned pieces are given back */

struct entry;
struct run;

/** A step writes these rows to the output, in one batch. */
struct output_rows {
    struct arena *arena; /* of the rows and what they point to */
    VEC(struct batch_input_row) rows;
    size_t bytes;
    uint32_t dimension;
    const float *zeros; /* the vector that all of them have */
};

/** What a kind does.  All may fail with the codes of views and of memory. */
struct function_work {
    struct function_kind kind;
    /** The rows that follow from the operations [from, to) of the input, for which the tail reaches back.  NULL: `rebuild` costs no more. */
    och_code (*step)(struct run *run, uint64_t from, uint64_t to, struct output_rows *out,
                     och_error *err);
    /** Make the output what it is for all rows of the input's view; run_write as often as there is enough.  May be done again after being given up
     *  anywhere. */
    och_code (*rebuild)(struct run *run, struct output_rows *out, och_error *err);
};
/** Of a name that function_kind_find knows. */
const struct function_work *function_work_find(slice name);

/** One function at one of its inputs. */
struct entry {
    uuid id, input, output;
    const struct function_work *work;
    char *params; /* JSON text */
    uint64_t min_records;
    TAILQ_ENTRY(entry) link;       /* all of them */
    TAILQ_ENTRY(entry) ready_link; /* has work */
    LIST_ENTRY(entry) input_link, output_link;

    /* guarded by functions.lock */
    uint64_t
        completion; /* operations before this offset are consumed, the output and the catalogue say so */
    uint64_t head; /* of the input, as far as told */
    uint64_t
        wanted; /* operations before this are to be consumed, also when they are fewer than min_records */
    bool
        built; /* the output is what it is for [0, completion), so that a step may begin there; else the next run is a rebuild */
    bool unsure; /* the step from `completion` on may be in the output's log already */
    bool held;   /* the compactor wanted more of the input than it got */
    bool running, gone, ready;
    uint64_t
        keep_input; /* a rebuild is at work on this: the tail from here on is kept; UINT64_MAX: none */
    uint64_t
        keep_output; /* a step's batch stands at or after this offset and is not noted; UINT64_MAX: none */
    unsigned failures;   /* in a row */
    uint64_t not_before; /* mono ns */
    uint64_t rebuild_ns; /* what the last one took */
};

TAILQ_HEAD(entry_list, entry);
LIST_HEAD(entry_side, entry);

/** What is attached to one collection. */
struct place {
    uuid collection;
    struct entry_side inputs, outputs;
};

enum lane {
    LANE_STEPS,    /* short, and flushes wait for them */
    LANE_REBUILDS, /* as long as the input is large */
    LANES
};

struct functions {
    struct functions_options options;
    struct wal *wal;
    struct compactor *compactor;
    struct wal_sink next;
    _Atomic uint64_t attached; /* 0: batches pass by without the lock */
    struct mutex lock;         /* RANK_LEAF; guards the following */
    struct cond wake[LANES];
    struct map places; /* collection -> struct place * */
    struct entry_list all, ready;
    bool started, stopping;
    bool starting[LANES]; /* somebody has started its thread, or is about to */
    struct functions_stats stats;
    struct thread threads[LANES];
    struct cancel cancel;
};

/** One run of one entry, in one thread. */
struct run {
    struct functions *functions;
    struct entry *entry; /* only for run_keep */
    uuid id, input, output;
    const struct function_work *work;
    const char *params;
    uint64_t completion;
    bool built, unsure;
    uint64_t consumed, written;
    bool rebuilt;
    bool
        demoted; /* what it should compare with has left the tail, or rows expire: it must be rebuilt */
    struct limits_of_work limits;
    struct view *view;   /* of the input */
    struct view *before; /* of the output, as it was when the run began */
};

/* ---- function.c: under lock ---- */
static inline enum lane entry_lane(const struct entry *e)
{
    return e->work->step && !e->built ? LANE_REBUILDS : LANE_STEPS;
}
/** Into the queue if there is work and nobody is at it. */
void entry_offer(struct functions *functions, struct entry *entry);
/** Out of all lists; whoever runs it frees it when he is done. */
void entry_remove(struct functions *functions, struct entry *entry);
void entry_free(struct entry *entry);

/* ---- function_threads.c ---- */
/** Unless they run.  Most databases have no functions, and no threads for them. */
MUST_USE och_code functions_start_threads(struct functions *functions, och_error *err);

/* ---- function_run.c ---- */
/** One step or one rebuild, noted in the catalogue.  The run's figures say how far it came, also after an error. */
MUST_USE och_code run_once(struct run *run, och_error *err);
/** Append what has gathered, without a mark (a rebuild's), and begin anew. */
MUST_USE och_code run_write(struct run *run, struct output_rows *out, och_error *err);
/** The same when a batch is full. */
MUST_USE och_code run_write_full(struct run *run, struct output_rows *out, och_error *err);
/** OCH_CANCELLED when everything stops or the function was detached. */
MUST_USE och_code run_check(struct run *run, och_error *err);
/** The compactor leaves the tails from these offsets on; UINT64_MAX: no wish. */
void function_keep(struct functions *functions, struct entry *entry, uint64_t input,
                   uint64_t output);
bool function_is_gone(struct functions *functions, struct entry *entry);

/* ---- function_rows.c ---- */
/** Add a row; `id`, document and metadata are copied.  document or metadata at NULL: left as it is. */
MUST_USE och_code output_upsert(struct output_rows *out, slice id, slice document, slice metadata,
                                och_error *err);
MUST_USE och_code output_delete(struct output_rows *out, slice id, och_error *err);

/** A record of the output, or of any view, by id: its fields, copied into the arena. */
MUST_USE och_code record_find(struct run *run, struct view *view, slice id, unsigned fields,
                              struct arena *arena, struct record *ret_record, bool *ret_found,
                              och_error *err);
/** Called for each row; what it is given holds until it returns. */
typedef och_code (*row_visit)(void *context, const struct record *record, och_error *err);
/** All rows of a view at its clock; fields besides RECORD_EXPIRY.  Cost: reads them all, in the order of the parts. */
MUST_USE och_code rows_walk(struct run *run, struct view *view, unsigned fields, row_visit visit,
                            void *context, och_error *err);

/** What became of one id: at NULL pointers it was not there. */
struct change {
    slice id;
    const struct record *before, *after;
};
typedef och_code (*change_visit)(void *context, const struct change *change, och_error *err);
/** Rows that operations in [from, to) changed.  `each`: once for every operation that did something, in their order; else once an id, with what was
 *  before `from` and what is at `to`.  view_info.from ≤ from, and no row expires. */
MUST_USE och_code changes_walk(struct run *run, uint64_t from, uint64_t to, bool each,
                               unsigned fields, change_visit visit, void *context, och_error *err);

/* ---- the kinds ---- */
och_code counter_rebuild(struct run *run, struct output_rows *out, och_error *err);
och_code statistics_step(struct run *run, uint64_t from, uint64_t to, struct output_rows *out,
                         och_error *err);
och_code statistics_rebuild(struct run *run, struct output_rows *out, och_error *err);
och_code history_step(struct run *run, uint64_t from, uint64_t to, struct output_rows *out,
                      och_error *err);
och_code history_rebuild(struct run *run, struct output_rows *out, och_error *err);
och_code dummy_rebuild(struct run *run, struct output_rows *out, och_error *err);
#endif
