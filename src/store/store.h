/* SPDX-License-Identifier: Apache-2.0 */
/* Immutable blobs by name: a folder (local, single node), later S3 behind an SSD cache.  Names are 128-bit random, never reused. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/io.h"

typedef struct object_id { /* same bytes as a uuid of model/; store knows no model */
    uint8_t bytes[16];
} object_id;

struct store;
struct store_writer;
struct store_ops {
    och_code (*create)(struct store *store, object_id id, struct store_writer **ret_writer,
                       och_error *err);
    och_code (*append)(struct store_writer *writer, const void *at, size_t len, och_error *err);
    och_code (*finish)(struct store_writer *writer, och_error *err);
    void (*abandon)(struct store_writer *writer);
    och_code (*read)(struct store *store, object_id id, uint64_t offset, void *at, size_t len,
                     och_error *err);
    void (*read_batch)(struct store *store, object_id id, struct io_read *reads, size_t count);
    void (*expect)(struct store *store, object_id id, uint64_t offset, uint64_t len);
    och_code (*size)(struct store *store, object_id id, uint64_t *ret_size, och_error *err);
    och_code (*remove)(struct store *store, object_id id, och_error *err);
    och_code (*punch)(struct store *store, object_id id, uint64_t offset, uint64_t len,
                      och_error *err);
    och_code (*list)(struct store *store, struct arena *arena, object_id **ret_ids,
                     size_t *ret_count, och_error *err);
    void (*free)(struct store *store);
};
struct store {
    const struct store_ops *ops;
};
struct store_writer {
    struct store *store;
    uint64_t written; /* bytes appended so far: the offset of the next one */
};

/** Blobs as files "<32 hex>.blob" in a folder (fanned out by the first byte), made if missing. Open files are kept in a small LRU. */
MUST_USE och_code store_folder_new(struct io *io, const char *path, struct store **ret_store,
                                   och_error *err);
void store_free(struct store *store);

/** A new object; nothing of it is visible to others before finish. */
MUST_USE och_code store_create(struct store *store, object_id id, struct store_writer **ret_writer,
                               och_error *err);
MUST_USE och_code store_append(struct store_writer *writer, const void *at, size_t len,
                               och_error *err);
/** Durable (data, size, name) when OK.  Frees the writer either way. */
MUST_USE och_code store_finish(struct store_writer *writer, och_error *err);
/** Give up: removes what was written.  NULL is fine. */
void store_abandon(struct store_writer *writer);
/** All of it or an error: OCH_NOT_FOUND (no such object), OCH_CORRUPT (shorter than asked), OCH_IO. */
MUST_USE och_code store_read(struct store *store, object_id id, uint64_t offset, void *at,
                             size_t len, och_error *err);
/** Many places of one object at once: offset, at and len of each are the caller's, code says what became of it as of a store_read. */
void store_read_batch(struct store *store, object_id id, struct io_read *reads, size_t count);
/** These bytes will be read soon.  Never fails, never waits. */
void store_expect(struct store *store, object_id id, uint64_t offset, uint64_t len);
MUST_USE och_code store_size(struct store *store, object_id id, uint64_t *ret_size, och_error *err);
/** Gone for good when OK, whatever the power does.  Gone already is fine. */
MUST_USE och_code store_remove(struct store *store, object_id id, och_error *err);
/** Give back a range's space (a pack's dead part); not an error where impossible. */
MUST_USE och_code store_punch(struct store *store, object_id id, uint64_t offset, uint64_t len,
                              och_error *err);
MUST_USE och_code store_list(struct store *store, struct arena *arena, object_id **ret_ids,
                             size_t *ret_count, och_error *err);
#endif
