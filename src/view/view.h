/* SPDX-License-Identifier: Apache-2.0 */
/* What a read runs on: a version's parts plus the decoded tail up to one offset (D12, D20).  A view never changes while it is held.
 *
 * A *generation* is one version of a collection together with the tail resolved against its parts.  A new version means a new generation,
 * built beside the old one by resolving the batches after its log_offset again; then a pointer is swapped.  Readers hold the generation they
 * started on, so nothing they see moves, and no reader waits for a writer. */
#ifndef VIEW_VIEW_H
#define VIEW_VIEW_H

#include "model/plan.h"
#include "part/part.h"
#include "part/part_sparse.h"
#include "sysdb/sysdb.h"
#include "wal/wal.h"

struct views;
struct view;

struct views_options {
    struct wal *wal;
    struct sysdb *sysdb;
    struct part_env parts;
    struct budget *budget;
    struct clock *clock;
    struct trace *trace;
    size_t idle_max; /* collections kept loaded when nobody uses them; 0 = a default */
    /** Told when a collection's tail passed LIMIT_TAIL_ROWS or LIMIT_TAIL_BYTES, or when a part is damaged; may be called often. NULL = nobody. */
    void (*wants_compaction)(void *context, uuid collection);
    /** Told when a collection was loaded whose parts have rows that expire.  NULL = nobody. */
    void (*has_expiry)(void *context, uuid collection);
    void *wants_context;
    uint32_t tail_rows_max;
    uint64_t tail_bytes_max;
};
MUST_USE och_code views_new(const struct views_options *options, struct views **ret_views,
                            och_error *err);
void views_free(struct views *views);
/** The log opens after the views: hand it over here, once. */
void views_set_wal(struct views *views, struct wal *wal);
void views_set_wants(struct views *views, void (*wants)(void *context, uuid collection),
                     void (*has_expiry)(void *context, uuid collection), void *context);
/** What the log delivers to. */
struct wal_sink views_sink(struct views *views);
/** After an append: resolve delivered batches here when many wait, so that the next reader need not. Never fails. */
void views_settle(struct views *views, uuid id);
/** The collection was dropped: forget it once unused. */
void views_forget(struct views *views, uuid id);

/** Pin a view.  READ_INDEX_AND_WAL: everything acknowledged.  READ_INDEX_ONLY: no tail.
 *  Errors: OCH_NOT_FOUND, OCH_CORRUPT (a part or the tail cannot be resolved, D19), OCH_BUSY, OCH_IO. */
MUST_USE och_code view_acquire(struct views *views, uuid id, uint8_t level, struct view **ret_view,
                               och_error *err);
/** Another view of the very same state, clock included, for another thread or another time. */
MUST_USE och_code view_copy(const struct view *view, struct view **ret_view, och_error *err);
void view_release(struct view *view); /* NULL is fine */
void view_cleanup(struct view **view);

struct view_info {
    uuid collection;
    int64_t version;
    uint64_t from, to;  /* tail offsets: from ≤ offset < to */
    uint32_t dimension; /* 0 = no vector yet */
    uint64_t live_rows; /* exact, expiry not considered */
    bool has_expiry;
    enum metric metric;
    float recall;   /* target of the collection's default effort */
    int64_t now_ms; /* the view's clock: rows with 0 < expires_ms ≤ now_ms are not there */
};
const struct view_info *view_info(const struct view *view);
/** Another clock than that of now, before anything is read: the view is of a state of that time. */
void view_set_clock(struct view *view, int64_t now_ms);

/** Have queries looked for vectors in this version? */
bool view_searched(const struct view *view);

/* ---- parts of a view ---- */
size_t view_part_count(const struct view *view);
struct part *view_part(const struct view *view, size_t i); /* borrowed */
/** Rows of part i that are dead in this view: deleted in the version or superseded by the tail.  *ret_dead NULL: none.  Holds with the view. */
MUST_USE och_code view_dead(struct view *view, size_t i, const struct bitset **ret_dead,
                            och_error *err);

/** The same as of an earlier offset: masks from operations at or after `upto` do not count.  Released by view_release. For the Compactor. */
MUST_USE och_code view_dead_upto(struct view *view, size_t i, uint64_t upto,
                                 struct bitset *ret_copy, och_error *err);

/* ---- tail of a view ---- */
#define VIEW_NO_PART UINT32_MAX
/** One version of one record in the tail.  Immutable but for superseded_at. */
struct tail_slot {
    uint64_t offset; /* of the operation that made it */
    _Atomic uint64_t
        superseded_at; /* offset of the operation that replaced or deleted it; UINT64_MAX: none */
    struct record record; /* fields not in from_part */
    uint32_t base_part,
        base_row; /* the part row it replaces, VIEW_NO_PART: none; fields in from_part are read there */
    uint32_t previous; /* slot + 1 of the same id before it, 0: none */
    uint8_t from_part; /* enum record_field bits: DOCUMENT, URI, METADATA, VECTOR */
    bool tombstone;    /* the id is deleted from here on: never a row */
};
/** Slots to walk, oldest first; each may or may not be a row of this view: ask view_slot_live. */
uint32_t view_slot_count(const struct view *view);
const struct tail_slot *view_slot(const struct view *view, uint32_t i);
/** Is the slot a row of this view (offset, superseded, tombstone, expiry)? */
bool view_slot_live(const struct view *view, const struct tail_slot *slot);
/** The same with expiry judged at the last batch of the view instead of by its clock: false only for what no later operation can find either. */
bool view_slot_stands(const struct view *view, const struct tail_slot *slot);
/** Fields of a tail row, merged with the part row it continues. */
MUST_USE och_code view_slot_read(struct view *view, const struct tail_slot *slot,
                                 struct part_reads *reads, unsigned fields,
                                 struct record *ret_record, och_error *err);

/* ---- codes of the tail (D18) ---- */
#define VIEW_CODES_MIN VECTOR_CODES_MIN /* slots: a shorter tail has none */
struct tail_codes;
struct view_codes {
    struct vector_index index; /* coded: slots below may have a code; it has no lists */
    struct tail_codes *codes;
};
/**
 * The codes of a prefix of the tail's slots; makes some that are missing, unless another reader is at it.  False: there are none, or no memory
 * for them.  `like`: index of the newest part, NULL: none.  Holds with the view.
 */
bool view_codes(struct view *view, const struct vector_index *like, struct view_codes *ret);
/** Which of the 64 slots from `slot` (a multiple of 64) on have a code; the others must be looked at. */
uint64_t view_codes_word(const struct view_codes *codes, uint32_t slot);
/** struct vector_pages.at of them; the context is the struct view_codes. */
och_code view_codes_page(void *context, enum vector_section section, uint64_t unit,
                         const uint8_t **ret_base, uint64_t *ret_first, uint64_t *ret_units,
                         och_error *err);

/* ---- terms of the tail ---- */
#define VIEW_TERMS_SLOTS 256u
/** How many runs of VIEW_TERMS_SLOTS slots from the first on have an index of terms; makes those that are missing, unless another reader is at it or there is no
 *  memory.  Rows of an index are slots of its run; tombstones have no document.  Holds with the view. */
uint32_t view_terms(struct view *view, const struct limits_of_work *limits);
const struct sparse_index *view_terms_index(struct view *view, uint32_t i,
                                            struct sparse_pages *ret_pages);

/* ---- any row of a view ---- */
/** Where a row lives: part < view_part_count and its row, or VIEW_NO_PART and a slot. */
struct view_place {
    uint32_t part, row;
};
/** The live row of an id. *ret_found false: none. */
MUST_USE och_code view_find(struct view *view, slice id, struct view_place *ret_place,
                            bool *ret_found, och_error *err);
MUST_USE och_code view_read(struct view *view, struct view_place place, struct part_reads *reads,
                            unsigned fields, struct record *ret_record, och_error *err);
/** Was this id added, changed or deleted by an operation at or after `offset`? (D14)  Exact for offset ≥ info.from; else true. */
bool view_touched(struct view *view, slice id, uint64_t offset);

/** From this view's `to` on the ids that operations touch are remembered, also when a flush takes them out of the tail, until the view is
 *  released; for a few minutes and as far as memory for it goes. */
void view_trace(struct view *view);
/** Called with each id that was touched, maybe several times; false: enough.  The bytes hold during the call. */
typedef bool (*view_touch)(void *context, slice id);
/** Every id that an operation in [since, info.to) names.  OCH_STALE: that is not known any more. */
MUST_USE och_code view_touches(struct view *view, uint64_t since, view_touch each, void *context,
                               och_error *err);
/** Bytes of the tail that stay only because of views like this one: 0 while its version is the current one.  *ret_same: equal for views that hold
 *  the same bytes. */
size_t view_held_bytes(const struct view *view, uintptr_t *ret_same);

/** What a batch did (D13): exact once the view's `to` is past it. */
struct view_counts {
    uint64_t inserted, updated, skipped, deleted;
};
MUST_USE och_code view_batch_counts(struct view *view, uint64_t first, uint32_t count,
                                    struct view_counts *ret_counts, och_error *err);

/** Schema pairs that batches of the tail use (with repetitions of what the catalogue knows). Borrowed from the view. */
MUST_USE och_code view_pairs(struct view *view, struct arena *arena, struct batch_pair **ret_pairs,
                             size_t *ret_count, och_error *err);
/** The tail's batches in order (for batch ids, created_at), borrowed. */
size_t view_batch_count(const struct view *view);
const struct wal_batch *view_batch(const struct view *view, size_t i);
/** End the tail of a view that nobody has read yet at an earlier batch: at least the first one stays, then as many as make no more than `rows_max`
 *  operations and `bytes_max`.  True: something was left out; live_rows still counts it.  For the Compactor, which makes parts of one size of a
 *  tail of any length. */
bool view_cut(struct view *view, uint64_t rows_max, uint64_t bytes_max);
/** End such a tail at the last batch that ends at or before `upto`.  False: there is none, the view is as it was. */
bool view_cut_at(struct view *view, uint64_t upto);
/** Ids that older parts may hold and that do not stand in the tail: KILL of a flush. Arena. */
MUST_USE och_code view_kills(struct view *view, struct arena *arena, slice **ret_ids,
                             size_t *ret_count, och_error *err);

/**
 * A version is going to be replaced by one that is another state.  From begin to end nobody loads the collection or sees what is written to it; then it is
 * loaded anew, and what was touched before is not known any more.  The thread that begins it ends it; no tail may wait to be flushed.
 */
struct views_replace;
MUST_USE och_code views_replace_begin(struct views *views, uuid id,
                                      struct views_replace **ret_replace, och_error *err);
void views_replace_end(struct views_replace *replace);
/** Kept versions that nobody reads right now are let go, and with them their hold on files. */
void views_drop_kept(struct views *views);

/**
 * A part is going to be in the next version: where queries look, open it and load its codes, so that none of them waits for it after the swap.  Nothing
 * where the collection is not loaded or not searched.  A failure costs queries time, and is met by them.  `limits` ends it early.
 */
void views_prepare(struct views *views, uuid id, const struct sysdb_part *row,
                   const struct limits_of_work *limits);
/** Once its version is installed, or will not be: what nobody took is let go. */
void views_unprepare(struct views *views, uuid id, const struct sysdb_part *row);
/** A new version is committed: build its generation and swap.  Views held go on with theirs. */
MUST_USE och_code views_install(struct views *views, uuid id, och_error *err);
/** Does a version that some view still holds refer to this file, or to the part at this offset of it?  Then it must not go yet (D10). */
bool views_uses_file(struct views *views, uuid file);
bool views_uses_part(struct views *views, uuid file, uint64_t offset);

struct views_stats {
    uint64_t collections_loaded, tail_rows, tail_bytes;
    uint64_t damaged_parts;
};
void views_stats(struct views *views, struct views_stats *ret_stats);
struct views_usage {
    uuid collection;
    uint64_t live_rows;   /* expiry not considered */
    uint64_t stored_rows; /* in parts and tail, the replaced and deleted ones too */
    uint64_t tail_rows, tail_bytes;
    uint64_t parts, part_bytes, damaged_parts;
};
/** The loaded collections with most bytes, largest first, at most `max`.  Cost: all loaded ones are looked at. */
size_t views_largest(struct views *views, struct views_usage *ret_rows, size_t max);
struct views_backlog {
    uint64_t rows, bytes; /* of the tail */
    size_t small_parts;   /* of at most one and a half tails */
    size_t large_parts;   /* the others */
};
/** Bytes of all tails together; costs nothing. */
uint64_t views_tail_bytes(struct views *views);
/** What waits to be compacted in one collection; 0 when it is not loaded. */
void views_backlog(struct views *views, uuid id, struct views_backlog *ret_backlog);
/** Text for a Warning header about damaged parts of this view; false: none.  Asks for a rebuild. */
bool view_warning(struct view *view, struct buf *out);
#endif
