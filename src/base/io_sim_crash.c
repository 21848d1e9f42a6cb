/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine finds after the power failed.
 *
 * Contents: a file starts as it was last synced.  Every 512-byte sector then takes a prefix of the
 * changes that touch it (the page cache holds only its newest state, so an older one never replaces a
 * newer), each sector its own; so one write tears, and writes arrive in any order.  The size takes a
 * prefix of its own.  A cut of the size (truncate) happens or not; if not, nothing after it did.  In
 * the grown region, sectors that were written but not taken read as zeros or as old bytes.
 *
 * Names: each change since its folder's sync happened or not, by the seed; changes of one name keep
 * their order, and a rename is one change: old name or new name, never none or both. */
#include "base/io_sim_private.h"

#include "base/bitset.h"

#include <string.h>

struct cut_file {
    struct random random;
    double keep, keep_size; /* chances */
    bool garbage;
    struct bitset stopped, taken; /* sectors */
};

/* All or nothing are the likely outcomes of a short time; the rest is somewhere between. */
static double draw_chance(struct random *random)
{
    switch (random_below(random, 6)) {
    case 0:
        return 0;
    case 1:
        return 1;
    default:
        return random_unit(random);
    }
}

static bool happens(struct random *random, double chance)
{
    return random_unit(random) < chance;
}

/* Take the sectors of a write or a punched hole that arrived. */
static bool cut_range(struct cut_file *cut, struct content *content, const struct change *change)
{
    uint64_t at = change->offset, end = at + change->len;
    while (at < end) {
        size_t sector = (size_t)(at / SIM_SECTOR);
        uint64_t next = ((uint64_t)sector + 1) * SIM_SECTOR;
        size_t len = (size_t)((next < end ? next : end) - at);
        if (!bitset_has(&cut->stopped, sector) && happens(&cut->random, cut->keep)) {
            bitset_add(&cut->taken, sector);
            if (change->kind == CHANGE_ZERO)
                (void)content_zero(content, at, len);
            else if (!content_write(content, at, change->data + (at - change->offset), len))
                return false;
        } else {
            bitset_add(&cut->stopped, sector);
        }
        at += len;
    }
    return true;
}

/* Sectors of the grown region that were written to in vain: the disk may show what lay there before. */
static bool cut_garbage(struct cut_file *cut, struct content *content, uint64_t durable_size)
{
    uint64_t size = content->size;
    size_t first = (size_t)((durable_size + SIM_SECTOR - 1) / SIM_SECTOR);
    for (size_t i = bitset_next(&cut->stopped, first); i < cut->stopped.bits;
         i = bitset_next(&cut->stopped, i + 1)) {
        uint8_t sector[SIM_SECTOR];
        if (bitset_has(&cut->taken, i) || (uint64_t)i * SIM_SECTOR >= size)
            continue;
        if (random_below(&cut->random, 2)) // stale bytes that look right, or noise
            content_read(content, random_below(&cut->random, i + 1) * SIM_SECTOR, sector,
                         sizeof(sector));
        else
            random_fill(&cut->random, sector, sizeof(sector));
        if (!content_write(content, (uint64_t)i * SIM_SECTOR, sector, sizeof(sector)))
            return false;
    }
    (void)content_set_size(content, size);
    return true;
}

static uint64_t touched_end(const struct node *node)
{
    uint64_t end = 0;
    for (const struct change *change = node->changes; change; change = change->next) {
        if ((change->kind == CHANGE_WRITE || change->kind == CHANGE_ZERO) && change->len)
            end = change->offset + change->len > end ? change->offset + change->len : end;
    }
    return end;
}

static bool cut_changes(struct cut_file *cut, struct node *node, struct content *content)
{
    uint64_t size = content->size; // decided apart from the sectors, set at the end
    bool size_stopped = false;
    for (const struct change *change = node->changes; change; change = change->next) {
        if (change->kind == CHANGE_SIZE && change->offset < size) {
            if (!happens(&cut->random, cut->keep_size))
                break;
            size = change->offset;
            (void)content_zero(content, size, SIM_SIZE_MAX);
            size_stopped = false;
            continue;
        }
        if (change->kind == CHANGE_WRITE || change->kind == CHANGE_ZERO) {
            if (!cut_range(cut, content, change))
                return false;
        }
        if (change->size_after > size && !size_stopped) {
            size_stopped = !happens(&cut->random, cut->keep_size);
            size = size_stopped ? size : change->size_after;
        }
    }
    (void)content_zero(content, size, SIM_SIZE_MAX);
    content->size = size;
    return true;
}

static bool cut_content(struct node *node, uint64_t seed, struct content *ret)
{
    struct cut_file cut = {0};
    if (!content_copy(ret, &node->durable))
        return false;
    if (!node->changes)
        return true;
    random_seed(&cut.random, seed);
    cut.keep = draw_chance(&cut.random);
    cut.keep_size = draw_chance(&cut.random);
    cut.garbage = random_below(&cut.random, 3) == 0;
    // a punch may reach far past the end; there is nothing to zero there
    uint64_t reach = node->now.size > node->durable.size ? node->now.size : node->durable.size;
    uint64_t end = touched_end(node);
    end = end > reach ? end : reach;
    size_t sectors = (size_t)(end / SIM_SECTOR + 1);
    bool done = bitset_init(&cut.stopped, sectors) && bitset_init(&cut.taken, sectors) &&
                cut_changes(&cut, node, ret) &&
                (!cut.garbage || cut_garbage(&cut, ret, node->durable.size));
    bitset_done(&cut.stopped);
    bitset_done(&cut.taken);
    if (!done)
        content_done(ret);
    return done;
}

/* Fill every folder's CUT list: durable names, then those changes that the seed lets happen. */
static bool cut_names(struct disk *disk, uint64_t seed)
{
    for (struct node *node = disk->all; node; node = node->next_all) {
        const name_list *from = &node->lists[LIST_DURABLE];
        for (size_t i = 0; i < from->len; i++) {
            if (!names_put(disk, &node->lists[LIST_CUT], slice_of(from->at[i].text),
                           from->at[i].node))
                return false;
        }
    }
    struct random random;
    random_seed(&random, seed);
    double keep = draw_chance(&random);
    for (struct name_change *change = disk->name_changes; change; change = change->next) {
        bool held_up = false; // an earlier change of the same name did not happen
        for (const struct name_change *early = disk->name_changes; early != change && !held_up;
             early = early->next)
            held_up = !early->marked && name_changes_touch(early, change);
        change->marked = happens(&random, keep) && !held_up;
        if (change->marked && !name_change_apply(disk, LIST_CUT, change))
            return false;
    }
    return true;
}

/* ---- images ---- */

struct image {
    struct disk *from, *to;
    enum list_kind list;
    uint64_t seed;
};
struct pair { /* a folder and its copy */
    struct node *from, *to;
    uint64_t path_hash;
};
typedef VEC(struct pair) pair_list;

static bool image_file(struct image *image, struct node *from, struct node *to, uint64_t hash)
{
    mutex_lock(&from->mutex);
    bool done = image->list == LIST_CUT ? cut_content(from, image->seed ^ hash, &to->now)
                                        : content_copy(&to->now, &from->now);
    mutex_unlock(&from->mutex);
    if (!done)
        return false;
    atomic_fetch_add(&image->to->used_blocks, content_blocks(&to->now));
    return !image->to->keep_history || content_copy(&to->durable, &to->now);
}

static bool image_folder(struct image *image, struct pair folder, pair_list *todo)
{
    const name_list *list = &folder.from->lists[image->list];
    for (size_t i = 0; i < list->len; i++) {
        slice text = slice_of(list->at[i].text);
        struct node *from = list->at[i].node, *to = node_new(image->to, from->is_folder);
        if (!to)
            return false;
        uint64_t hash = (folder.path_hash ^ slice_hash(text)) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 29;
        bool done = names_put(image->to, &folder.to->lists[LIST_NOW], text, to) &&
                    (!image->to->keep_history ||
                     names_put(image->to, &folder.to->lists[LIST_DURABLE], text, to));
        if (done && from->is_folder)
            done = VEC_PUSH(todo, (struct pair){from, to, hash});
        else if (done)
            done = image_file(image, from, to, hash);
        node_unref(image->to, to);
        if (!done)
            return false;
    }
    return true;
}

static struct io *image_new(struct disk *from, enum list_kind list, uint64_t seed)
{
    struct image image = {.from = from, .list = list, .seed = seed};
    image.to = disk_new(from->keep_history);
    if (!image.to)
        return NULL;
    atomic_store(&image.to->capacity_bytes, atomic_load(&from->capacity_bytes));
    pair_list todo = {0};
    bool done = VEC_PUSH(&todo, (struct pair){from->root, image.to->root, 1});
    while (done && todo.len > 0) {
        struct pair next = todo.at[--todo.len];
        done = image_folder(&image, next, &todo);
    }
    VEC_DONE(&todo);
    if (done)
        return &image.to->io;
    io_sim_free(&image.to->io);
    return NULL;
}

struct io *io_sim_power_cut(struct io *io, uint64_t seed)
{
    struct disk *disk = disk_of(io);
    assert(disk->keep_history && "without history nothing is known of what was synced");
    mutex_lock(&disk->mutex);
    struct io *ret = cut_names(disk, seed) ? image_new(disk, LIST_CUT, seed) : NULL;
    for (struct node *node = disk->all; node; node = node->next_all)
        names_clear(disk, &node->lists[LIST_CUT]);
    mutex_unlock(&disk->mutex);
    return ret;
}

struct io *io_sim_copy(struct io *io)
{
    struct disk *disk = disk_of(io);
    mutex_lock(&disk->mutex);
    struct io *ret = image_new(disk, LIST_NOW, 0);
    mutex_unlock(&disk->mutex);
    return ret;
}
