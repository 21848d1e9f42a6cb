/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the simulated disk share; for io_sim*.c only.
 *
 * A node is a file or folder; names point to it from up to three lists: what programs see (NOW), what
 * a power cut cannot take (DURABLE), and what a cut in progress leaves (CUT).  Name changes since the
 * last folder sync stand in one ordered list, content changes since the last file sync in each node.
 *
 * Locks: disk->mutex before node->mutex. */
#ifndef BASE_IO_SIM_PRIVATE_H
#define BASE_IO_SIM_PRIVATE_H

#include "base/io_sim.h"
#include "base/sched.h"
#include "base/vec.h"

#define SIM_CHUNK    16384u
#define SIM_BLOCK    4096u /* unit of disk space */
#define SIM_SECTOR   512u  /* what the disk writes whole */
#define SIM_SIZE_MAX (1ull << 40)
#define SIM_KINDS    ((size_t)IO_SIM_READ + 1)

struct chunk {
    uint8_t *data;     /* SIM_CHUNK bytes; NULL reads as zeros */
    uint16_t reserved; /* its blocks that take disk space */
};
struct content { /* bytes past `size` are zero */
    struct chunk *chunks;
    size_t chunk_count;
    uint64_t size;
};

void content_done(struct content *content);
MUST_USE bool content_copy(struct content *to, const struct content *from);
void content_read(const struct content *content, uint64_t offset, uint8_t *at, size_t len);
/** Write, reserve the blocks touched, extend the size.  False: no memory. */
MUST_USE bool content_write(struct content *content, uint64_t offset, const uint8_t *at,
                            size_t len);
/** Reserve the blocks and extend the size.  False: no memory. */
MUST_USE bool content_reserve(struct content *content, uint64_t offset, uint64_t len);
/** Blocks of the range that are not reserved yet. */
uint64_t content_missing(const struct content *content, uint64_t offset, uint64_t len);
/** Zero a range and give back the blocks wholly inside; how many those were. */
uint64_t content_zero(struct content *content, uint64_t offset, uint64_t len);
/** Blocks given back. */
uint64_t content_set_size(struct content *content, uint64_t size);
uint64_t content_blocks(const struct content *content);

enum change_kind { CHANGE_WRITE, CHANGE_ALLOCATE, CHANGE_ZERO, CHANGE_SIZE };
struct change { /* of a file's content, not synced */
    struct change *next;
    enum change_kind kind;
    bool lost; /* a sync failed on it: a later sync does not save it (D11) */
    uint64_t offset, len, size_after;
    uint8_t data[]; /* CHANGE_WRITE: len bytes */
};

enum list_kind { LIST_NOW, LIST_DURABLE, LIST_CUT, LIST_KINDS };
struct node;
struct name {
    char *text;
    struct node *node; /* a reference */
};
typedef VEC(struct name) name_list; /* sorted by text */

struct node {
    bool is_folder;
    size_t
        refs; /* names, open files, name changes; guarded by the disk's mutex, as are the lists */
    name_list lists[LIST_KINDS];
    struct node *next_dead, *next_all, **link_all;
    size_t shared_locks;
    bool locked;
    struct mutex mutex; /* guards: the rest */
    struct content now, durable;
    struct change *changes, **changes_end;
};

enum name_change_kind { NAME_LINK, NAME_UNLINK, NAME_RENAME };
struct name_change {
    struct name_change *next;
    enum name_change_kind kind;
    struct node *folder, *to_folder; /* references; to_folder only for renames */
    char *text, *to_text;
    struct node *node; /* a reference */
    bool marked;
};

struct disk {
    struct io io;
    bool keep_history;
    struct mutex mutex; /* guards: names */
    struct node *root, *all;
    struct name_change *name_changes, **name_changes_end;
    size_t open_files;
    _Atomic uint64_t used_blocks, capacity_bytes;
    _Atomic uint64_t counts[SIM_KINDS], fail_at[SIM_KINDS];
    _Atomic int fail_errno[SIM_KINDS];
    _Atomic bool fail_stuck[SIM_KINDS];
};

struct disk *disk_of(struct io *io);
struct disk *disk_new(bool keep_history);
/** With one reference. */
struct node *node_new(struct disk *disk, bool is_folder);
void node_ref(struct node *node);
void node_unref(struct disk *disk, struct node *node);
/** Where the name is in a list, or where it would stand. */
bool names_find(const name_list *list, slice text, size_t *ret_i);
/** Add or replace; takes a reference.  False: no memory. */
MUST_USE bool names_put(struct disk *disk, name_list *list, slice text, struct node *node);
void names_remove(struct disk *disk, name_list *list, slice text);
void names_clear(struct disk *disk, name_list *list);
/** Do what the change says in one of the lists. */
MUST_USE bool name_change_apply(struct disk *disk, enum list_kind kind,
                                const struct name_change *change);
bool name_changes_touch(const struct name_change *a, const struct name_change *b);
bool change_apply(struct content *content, const struct change *change);

struct place {           /* what a path means */
    struct node *folder; /* NULL for the root itself */
    slice name;
    struct node *node; /* NULL when the name is free */
};
/** 0 or an errno.  The last name may be missing, a folder before it not. */
int place_find(struct disk *disk, const char *path, struct place *ret);
/** Do a change of names, and remember it until the folder is synced; 0 or an errno. */
int names_change(struct disk *disk, enum name_change_kind kind, const struct place *from,
                 const struct place *to, struct node *node);
/** Make durable what touches the folder, and what that builds on elsewhere; 0 or an errno. */
int names_sync(struct disk *disk, const struct node *folder);
void name_change_free(struct disk *disk, struct name_change *change);

och_code sim_fail(och_error *err, int os_errno, const char *verb, const char *path);
/** Count the operation; the errno it must fail with, or 0. */
int disk_count(struct disk *disk, enum io_sim_operation kind);
uint64_t node_size(struct node *node);

/* Of struct io_ops, in io_sim_file.c: */
och_code sim_open(struct io *io, const char *path, unsigned flags, struct file **ret_file,
                  och_error *err);
void sim_close(struct file *file);
och_code sim_read(struct file *file, uint64_t offset, void *at, size_t len, size_t *ret_len,
                  och_error *err);
och_code sim_write_v(struct file *file, uint64_t offset, const struct iovec *parts, size_t count,
                     och_error *err);
och_code sim_sync(struct file *file, och_error *err);
och_code sim_allocate(struct file *file, uint64_t offset, uint64_t len, och_error *err);
och_code sim_punch(struct file *file, uint64_t offset, uint64_t len, och_error *err);
och_code sim_truncate(struct file *file, uint64_t size, och_error *err);
och_code sim_size(struct file *file, uint64_t *ret_size, och_error *err);
och_code sim_lock(struct io *io, const char *path, bool shared, struct arena *arena,
                  struct file **ret_file, slice *ret_holder, och_error *err);
#endif
