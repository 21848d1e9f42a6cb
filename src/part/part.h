/* SPDX-License-Identifier: Apache-2.0 */
/* The part file: an immutable blob of rows with all their sections (DESIGN §5, D3, D4, D6).  docs/formats/part.md. */
#ifndef PART_PART_H
#define PART_PART_H

#include "base/bitset.h"
#include "base/buf.h"
#include "base/pool.h"
#include "base/trace.h"
#include "base/vec.h"
#include "index/rows.h"
#include "index/vector/vector.h"
#include "model/record.h"
#include "model/uuid.h"
#include "store/cache.h"
#include "store/store.h"

#define PART_NO_ROW UINT32_MAX

/** Where a part lies and how to open it; the catalogue keeps these figures. */
struct part_ref {
    object_id object;
    uint64_t offset, size;
    uint64_t dir_offset; /* relative to offset */
    uint32_t dir_len, dir_crc, head_len;
};
struct part_info {
    struct part_ref ref;
    uuid collection, lineage;
    uint32_t rows, dimension;
    enum metric metric;
    uint64_t log_from, log_to;
    uint64_t raw_bytes; /* vectors and text of its rows */
};

/* ---- building ---- */
/** Random access to the rows to store, in ascending seq; fields as asked; pointers hold until the next call with the same arena reset. */
struct part_source {
    void *context;
    uint32_t count;
    och_code (*row)(void *context, uint32_t i, unsigned fields, struct arena *arena,
                    struct record *ret_record, och_error *err);
    /** Another context for `row`, for one more thread; NULL: one thread builds. */
    och_code (*reader_new)(void *context, void **ret_context, och_error *err);
    void (*reader_free)(void *reader);
    /** Of a merge, with part_spec.inputs: which input a row comes from, and its row there; constant, any thread. */
    void (*place)(const void *context, uint32_t i, uint32_t *ret_input, uint32_t *ret_row);
};
struct part_spec {
    uuid collection;
    uuid
        lineage; /* of a mean and rotation of its own; the part has that of an input or of `like` if it takes theirs */
    slice tenant, database, name, schema_json; /* so that `repair` can rebuild a lost catalogue */
    uint32_t dimension;                        /* 0: no vectors */
    enum metric metric;
    uint64_t log_from, log_to;
    const slice *kills; /* ids deleted in the log range (D3), any order */
    size_t kill_count;
    bool plain; /* records only, no derived sections (D19) */
    /** A merge: the parts that the rows come from; their codes are copied and the lists of the largest kept where they fit.  NULL: none. */
    struct part *const *inputs;
    size_t input_count;
    struct part *
        like; /* no inputs: its mean and rotation are taken if they fit, so that merges copy codes (D18); NULL: none */
};
struct part_build_options {
    struct budget *budget;
    struct pool *pool; /* NULL = one thread */
    struct limits_of_work limits;
    uint32_t flat_rows; /* up to so many vectors one list; 0: as usual */
    uint32_t
        list_rows; /* lists of so many vectors, as vector_options has it; 0: as queries want them */
};
/**
 * Append one part to a writer (several parts may share one object).  ret_rows, if not NULL, gets count entries: source index -> row.
 * The object id in ret_info is the caller's to fill.  Errors: the source's, the store's, OCH_BUSY (budget), OCH_CANCELLED.
 */
MUST_USE och_code part_build(const struct part_spec *spec, const struct part_source *source,
                             const struct part_build_options *options, struct store_writer *writer,
                             uint32_t *ret_rows, struct part_info *ret_info, och_error *err);

/* ---- reading ---- */
struct part; /* counted, any thread */
struct part_env {
    struct store *store;
    struct cache *cache;
    struct trace *trace;
};
/** Reads directory and head.  `collection` must be the one in the part (misplaced files are noticed).  Errors: OCH_CORRUPT naming part and place, OCH_IO, OCH_NOT_FOUND. */
MUST_USE och_code part_open(const struct part_env *env, const struct part_ref *ref, uuid collection,
                            struct part **ret_part, och_error *err);
/** The same for a collection that may have parts of others, those that it was forked from: any of `owners` will do. */
MUST_USE och_code part_open_shared(const struct part_env *env, const struct part_ref *ref,
                                   const uuid *owners, size_t owner_count, struct part **ret_part,
                                   och_error *err);
struct part *part_ref_take(struct part *part);
void part_unref(struct part *part);
const struct part_info *part_info(const struct part *part);
static inline uint32_t part_rows(const struct part *part)
{
    return part_info(part)->rows;
}

/** What a reader holds while it uses pointers into parts: pinned extents and an arena. One thread. */
struct part_reads {
    struct cache *cache;
    struct arena *arena; /* borrowed */
    VEC(const struct extent *) pins;
    /* last pieces used, by kind, so that neighbours cost nothing; owner is the part's number in the
     * cache (0 = none), not its address, which may come again */
    struct part_block {
        uint64_t owner;
        uint32_t section, first_row, row_count;
        const struct extent *extent;
        const uint8_t *base; /* of first_row */
    } blocks[8];
};
void part_reads_init(struct part_reads *reads, struct cache *cache, struct arena *arena);
void part_reads_done(
    struct part_reads *reads); /* unpins all: pointers die; reads can go on being used */

/** The row of an id, PART_NO_ROW when absent.  hash = slice_hash(id).  Falls back to the ids themselves when the index is damaged. */
MUST_USE och_code part_find(struct part *part, slice id, uint64_t hash, uint32_t *ret_row,
                            och_error *err);
/** One row's fields (enum record_field); pointers hold until part_reads_done.  Sequential rows are cheap. */
MUST_USE och_code part_read(struct part *part, struct part_reads *reads, uint32_t row,
                            unsigned fields, struct record *ret_record, och_error *err);
/**
 * Vectors of rows [row, row + *ret_count) lying one behind the other, dimension floats apart: for scans.  Pinned by *ret_extent until cache_unpin.
 * Ends where the extent ends.
 */
MUST_USE och_code part_vectors(struct part *part, uint32_t row, const float **ret_vectors,
                               uint32_t *ret_count, const struct extent **ret_extent,
                               och_error *err);
/** Vectors of rows here and there: those that are not in memory are read in one batch, and all stay pinned until part_picked_done.  Rows
 *  ascend; each has a vector's bytes in the part (see part_vectors).  *ret_vectors[i] belongs to rows[i]; the array is the arena's. */
struct part_picked {
    struct part *part;
    const struct extent **pins;
    size_t pin_count;
    bool was_cold; /* some had to be read */
};
MUST_USE och_code part_pick_vectors(struct part *part, const uint32_t *rows, size_t count,
                                    struct arena *arena, const float ***ret_vectors,
                                    struct part_picked *ret_picked, och_error *err);
void part_picked_done(struct part_picked *picked);
/** Begin to read what part_read will want of these rows: those that are not in memory, in one batch, kept by `reads`.  Any order; a
 *  wish, so nothing that goes wrong is told. */
void part_read_ahead(struct part *part, struct part_reads *reads, const uint32_t *rows,
                     size_t count, unsigned fields);
/** True when every row has a vector: then scans need not ask row by row. */
bool part_all_vectors(const struct part *part);
/** Σx² of rows like part_vectors (cosine only; computed from the vectors when the section is damaged or absent). */
MUST_USE och_code part_norms(struct part *part, uint32_t row, const float **ret_norms,
                             uint32_t *ret_count, const struct extent **ret_extent, och_error *err);
/** seq of a row. */
MUST_USE och_code part_seq(struct part *part, uint32_t row, int64_t *ret_seq, och_error *err);
/** The same for many rows here and there: the piece that was touched last stays pinned by `reads`. */
MUST_USE och_code part_seq_kept(struct part *part, struct part_reads *reads, uint32_t row,
                                int64_t *ret_seq, och_error *err);
/** Is row order the seq order?  Else part_seq_order gives rows in seq order. */
bool part_is_seq_ordered(const struct part *part);
MUST_USE och_code part_seq_order(struct part *part, struct part_reads *reads,
                                 const uint32_t **ret_rows, och_error *err);
/** True when some row expires: then reads look at RECORD_EXPIRY. */
bool part_has_expiry(const struct part *part);
/** KILL: ids deleted in its log range; arena. */
MUST_USE och_code part_kills(struct part *part, struct arena *arena, slice **ret_ids,
                             size_t *ret_count, och_error *err);
/** Which rows have a vector: bit per row, pinned by reads; *ret_words NULL when all have one.  (Rows without read as zeros in
 *  part_vectors; when no row of the part has one, part_vectors gives *ret_count 0.) */
MUST_USE och_code part_vector_presence(struct part *part, struct part_reads *reads,
                                       const uint64_t **ret_words, och_error *err);
/** The vector index; NULL when the part has none or it is damaged: then every vector must be looked at.  Holds with the part. */
MUST_USE och_code part_vector_index(struct part *part, const struct vector_index **ret_index,
                                    och_error *err);
/** vector_search in this part; index and pages of the query are filled in.  *ret_usable false: look at every vector. */
MUST_USE och_code part_vector_search(struct part *part, struct vector_query *query,
                                     struct arena *arena, struct vector_found *ret_found,
                                     bool *ret_usable, och_error *err);
/**
 * What the text index says of FILTER_DOC_* (the NOT_ forms: of what they deny); a rows_leaf without context.
 *
 * No index, a damaged one, no memory for it now, `open` too few rows to be worth it: rows_unknown.
 */
MUST_USE och_code part_text_rows(struct part *part, const struct filter_node *leaf, uint32_t open,
                                 const struct limits_of_work *limits, struct arena *arena,
                                 struct rows_answer *ret, och_error *err);
/** How many rows have a vector. */
uint32_t part_vector_count(const struct part *part);
/** For repair without a catalogue: the part that ends at `end` in an object (parts of a pack lie one behind the other, so its offset, or
 *  up to 63 bytes before it, is where the one before ends).  OCH_CORRUPT when there is none. */
MUST_USE och_code part_ref_at_end(struct store *store, object_id object, uint64_t end,
                                  struct part_ref *ret_ref, uuid *ret_collection, och_error *err);
/** Names stored for repair; all empty when they cannot be read. */
void part_names(const struct part *part, slice *ret_tenant, slice *ret_database, slice *ret_name,
                slice *ret_schema_json);

/** What part_warm loads: ids, order, norms and 1-bit codes; the 8-bit codes besides; the other indexes besides; vectors besides. */
enum part_warmth { PART_WARM_HOT, PART_WARM_CODES, PART_WARM_INDEXES, PART_WARM_VECTORS };
struct part_warmed {
    uint64_t bytes, wanted_bytes; /* in memory at that moment; of all that the level names */
    bool full;                    /* the cache takes no more without giving up what is as hot */
};
/** Load what searches look at, hottest first, adding to *ret_warmed; nothing more once it is full.  Cost: reads all of it that is not there. */
MUST_USE och_code part_warm(struct part *part, enum part_warmth level,
                            const struct limits_of_work *limits, struct part_warmed *ret_warmed,
                            och_error *err);

/** Has a vector search looked into it since it was opened? */
bool part_was_searched(const struct part *part);
/** It is likely to be merged before `until_ns` (sched_mono_ns): until then rows here and there are read by themselves, however many. */
void part_set_passing(struct part *part, uint64_t until_ns);

/** Damage met so far in derived sections (bit per section id): answers fell back to primary ones; a rebuild is wanted (D4). */
uint32_t part_damage(const struct part *part);
/** Read and check every page and cross-check derived against primary sections.  One line per fault: "part …, section …, offset …: …". */
MUST_USE och_code part_verify(struct part *part, struct buf *report, uint64_t *ret_faults,
                              och_error *err);

/* ---- deletion bitmaps: dense in memory, Roaring portable on disk ---- */
MUST_USE och_code part_bitmap_encode(const struct bitset *dead, struct buf *out, och_error *err);
/** OCH_CORRUPT when malformed or a row ≥ rows. */
MUST_USE och_code part_bitmap_decode(slice encoded, uint32_t rows, struct bitset *ret_dead,
                                     och_error *err);
#endif
