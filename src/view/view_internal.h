/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside view/ only. */
#ifndef VIEW_INTERNAL_H
#define VIEW_INTERNAL_H

#include "base/map.h"
#include "view/view.h"

#include <stdatomic.h>
#include <sys/queue.h>

/* A collection's loading, resolving and installing happen one at a time under this rank; it is taken
 * before RANK_VIEW and may call into wal/, sysdb/ and part/. */
#define RANK_VIEW_RESOLVE 55

#define TAIL_CHUNK_FIRST 16 /* slots in chunk 0; each further chunk is twice as large */
#define TAIL_CHUNK_MAX   24

struct
    id_table { /* slots by id: open addressing, u64 = hash's upper half | slot + 1; readers take no lock */
    struct id_table *retired; /* smaller tables that a reader may still walk */
    uint32_t cap;             /* a power of two */
    _Atomic uint64_t entries[];
};

struct tail_batch {
    struct wal_batch *batch;
    struct view_counts counts;
};

struct tail_mask { /* a part row superseded by the tail from `offset` on */
    uint32_t row;
    uint64_t offset;
};

/* A refcounted bitmap of dead rows, as of some number of masks. */
struct dead_set {
    _Atomic uint32_t refs;
    size_t mask_count;
    struct bitset bits;
};

/* Ids of operations that left the tail, oldest first; view_trail.c. */
#define TRAIL_BYTES_MAX (32u << 20) /* of all collections */
#define TRAIL_AGE_NS    (600 * 1000000000ull)
struct trail_page;
struct trail {
    struct trail_page **at;
    size_t len, cap;
};

struct generation_part {
    struct part *part;
    uuid file;
    uint64_t offset;
    struct bitset dead;          /* of the version; words NULL: none */
    VEC(struct tail_mask) masks; /* guarded by generation.lock */
    struct dead_set *combined;   /* the newest one asked for; guarded by generation.lock */
};

struct tail_codes;
struct tail_terms;

struct generation {
    _Atomic uint32_t refs;
    struct views *views;
    struct arena arena; /* version, merged metadata: written under the resolve lock */
    int64_t version;
    uint64_t from; /* log_offset */
    uint32_t part_count;
    struct generation_part *parts;

    struct mutex lock; /* RANK_LEAF; guards masks, combined, batches */
    VEC(struct tail_batch) batches;
    struct tail_slot *chunks[TAIL_CHUNK_MAX];
    _Atomic(struct id_table *) table;
    uint32_t table_used;
    size_t charged_bytes;
    enum metric metric;
    float recall; /* target of default effort */

    struct mutex codes_lock; /* RANK_LEAF; held by the reader that makes codes */
    _Atomic(struct tail_codes *) codes;
    _Atomic(struct tail_terms *) terms;

    /* The resolver's own, under the resolve lock: readers learn of them by publish. */
    uint32_t slots_made;
    uint64_t live_made;
    bool expiry_made;

    /* Published together under collection.lock. */
    uint64_t next; /* everything before is resolved */
    uint32_t slot_count;
    size_t batch_count, payload_bytes;
    uint32_t dimension;
    uint64_t live_rows;
    bool has_expiry;
    int64_t created_at; /* of the last batch in the tail */
};

/* A part that the next version is going to have. */
struct prepared {
    uuid file;
    uint64_t offset;
    struct part *part;
};

struct collection {
    uuid id;
    struct views *views;
    uint32_t refs;  /* guarded by views.lock */
    bool forgotten; /* likewise: no longer in the table */
    bool idle;      /* in the idle list */
    TAILQ_ENTRY(collection) link;

    struct mutex resolve_lock;  /* RANK_VIEW_RESOLVE */
    struct mutex lock;          /* RANK_VIEW; guards the following */
    struct generation *current; /* NULL: not loaded */
    VEC(struct wal_batch *) pending;
    uint64_t pending_rows;
    bool lost;        /* a delivery was dropped for want of memory: read it from the log */
    bool resolving;   /* deliveries were taken from `pending` and are not published yet */
    uint32_t tracing; /* views that want to know what is touched after them */
    struct trail trail;
    VEC(struct prepared) prepared;
    _Atomic bool kept;                   /* a kept version of another one */
    _Atomic bool wanted, rebuild_wanted; /* compaction asked for since the last install */
    _Atomic bool expiry_told;            /* that it has rows that expire, since it was loaded */
};

struct views {
    struct views_options options;
    struct mutex lock; /* RANK_VIEW_TABLE; guards the following */
    struct map table;  /* id -> struct collection * */
    TAILQ_HEAD(, collection) idle;
    size_t idle_count;
    struct mutex files_lock; /* RANK_LEAF */
    struct map
        files; /* (file, offset) and (file, all) -> struct file_use * : generations that refer to it */
    _Atomic uint64_t tail_rows, tail_bytes, trail_bytes;
};

struct view {
    struct collection *collection;
    struct generation *generation;
    struct view_info info;
    uint32_t slot_count;
    size_t batch_count;
    int64_t created_at;     /* of the last batch */
    struct dead_set **dead; /* per part, taken when asked for */
    bool traces;            /* counted in collection.tracing */
};

/* view_generation.c */
/** A generation of the current version with an empty tail; parts of `old` are shared. */
MUST_USE och_code generation_new(struct collection *collection, const struct generation *old,
                                 struct generation **ret_generation, och_error *err);
MUST_USE och_code view_part_open(struct views *views, const struct sysdb_collection *owner,
                                 const struct sysdb_part *row, struct part **ret_part,
                                 och_error *err);
void generation_ref(struct generation *generation);
void generation_unref(struct generation *generation); /* NULL is fine */
/** The dead rows of part i for a reader at `to`; counted, NULL when none. */
MUST_USE och_code generation_dead(struct generation *generation, size_t i, uint64_t to,
                                  struct dead_set **ret_set, och_error *err);
void dead_set_unref(struct dead_set *set);

/* view_resolve.c */
/** Resolve one batch against the generation (D12). After an error the generation's tail is broken: drop it. */
MUST_USE och_code generation_resolve(struct generation *generation, struct wal_batch *batch,
                                     och_error *err);
struct tail_slot *generation_slot(const struct generation *generation, uint32_t i);
/** Number + 1 of the newest slot of an id made by an operation before `to`; 0: the tail does not know it. */
uint32_t generation_find(const struct generation *generation, slice id, uint64_t hash,
                         uint32_t slot_count, uint64_t to);

/* view_codes.c */
void tail_codes_free(struct tail_codes *codes, struct budget *budget); /* NULL is fine */
/** Has a query asked for codes of this generation's tail? */
bool tail_codes_asked(const struct generation *generation);
/** If `old`, which `generation` is going to replace, is asked for codes: those of all slots, before anybody reads them.  Without room of fewer, or none. */
void tail_codes_begin(struct generation *generation, const struct generation *old);
/** Codes of what was added, if the generation has codes and nobody else is at it. */
void tail_codes_follow(struct generation *generation, uint32_t slot_count);

/* view_table.c */
/** The collection, counted; NULL: it is in no memory (and, with make, there is none for it). */
struct collection *collection_take(struct views *views, uuid id, bool make);
void collection_release(struct collection *c);
/** Bring the collection up to everything delivered, loading it if need be. */
MUST_USE och_code collection_settle(struct collection *c, och_error *err);

/* view_prepare.c */
/** The part that was prepared, with its reference; NULL: none was. */
struct part *prepared_take(struct collection *c, const struct sysdb_part *row);
void prepared_done(struct collection *c);

/* view_trail.c */
/** Before `next` replaces `old`, under the resolve lock: remember the ids of the batches that it leaves behind, if somebody traces. */
void trail_keep(struct collection *c, struct generation *old, const struct generation *next);
/** A tracing view goes; under collection.lock. */
void trail_release(struct collection *c);
/** What was touched before is not known any more. */
void trail_forget(struct collection *c);
void trail_done(struct collection *c);

/* view_terms.c */
void tail_terms_free(struct tail_terms *terms, struct budget *budget); /* NULL is fine */

/* view_files.c */
/** Count a generation that refers to a part.  False: no memory, nothing is counted. */
MUST_USE bool views_file_take(struct views *views, uuid file, uint64_t offset);
void views_file_give(struct views *views, uuid file, uint64_t offset);
#endif
