/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes, names and paths of the simulated disk; all under the disk's mutex. */
#include "base/io_sim_private.h"

#include <errno.h>
#include <string.h>

struct node *node_new(struct disk *disk, bool is_folder)
{
    struct node *node = MEM_NEW(struct node);
    if (!node)
        return NULL;
    node->is_folder = is_folder;
    node->refs = 1;
    node->changes_end = &node->changes;
    mutex_init(&node->mutex, RANK_NONE); // taken inside the disk's, which is a leaf to the rest
    node->next_all = disk->all;
    node->link_all = &disk->all;
    if (disk->all)
        disk->all->link_all = &node->next_all;
    disk->all = node;
    return node;
}

void node_ref(struct node *node)
{
    node->refs++;
}

static void node_free(struct disk *disk, struct node *node)
{
    uint64_t blocks = content_blocks(&node->now);
    atomic_fetch_sub_explicit(&disk->used_blocks, blocks, memory_order_relaxed);
    content_done(&node->now);
    content_done(&node->durable);
    while (node->changes) {
        struct change *next = node->changes->next;
        mem_free(node->changes);
        node->changes = next;
    }
    *node->link_all = node->next_all;
    if (node->next_all)
        node->next_all->link_all = node->link_all;
    mutex_done(&node->mutex);
    mem_free(node);
}

/* A folder that goes takes its entries along; a list instead of recursion, folders nest deeply. */
void node_unref(struct disk *disk, struct node *node)
{
    assert(node->refs > 0);
    if (--node->refs > 0)
        return;
    node->next_dead = NULL;
    while (node) {
        struct node *rest = node->next_dead;
        for (size_t kind = 0; kind < LIST_KINDS; kind++) {
            name_list *list = &node->lists[kind];
            for (size_t i = 0; i < list->len; i++) {
                struct node *child = list->at[i].node;
                mem_free(list->at[i].text);
                assert(child->refs > 0);
                if (--child->refs == 0) {
                    child->next_dead = rest;
                    rest = child;
                }
            }
            VEC_DONE(list);
        }
        node_free(disk, node);
        node = rest;
    }
}

bool names_find(const name_list *list, slice text, size_t *ret_i)
{
    size_t low = 0, high = list->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = slice_compare(slice_of(list->at[middle].text), text);
        if (order == 0) {
            *ret_i = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_i = low;
    return false;
}

bool names_put(struct disk *disk, name_list *list, slice text, struct node *node)
{
    size_t i;
    if (names_find(list, text, &i)) {
        struct node *before = list->at[i].node;
        node_ref(node);
        list->at[i].node = node;
        node_unref(disk, before);
        return true;
    }
    char *copy = mem_copy_text(text.at, text.len);
    if (!copy || !VEC_RESERVE(list, list->len + 1)) {
        mem_free(copy);
        return false;
    }
    memmove(&list->at[i + 1], &list->at[i], (list->len - i) * sizeof(list->at[0]));
    node_ref(node);
    list->at[i] = (struct name){copy, node};
    list->len++;
    return true;
}

void names_remove(struct disk *disk, name_list *list, slice text)
{
    size_t i;
    if (!names_find(list, text, &i))
        return;
    struct name gone = list->at[i];
    memmove(&list->at[i], &list->at[i + 1], (list->len - i - 1) * sizeof(list->at[0]));
    list->len--;
    mem_free(gone.text);
    node_unref(disk, gone.node);
}

void names_clear(struct disk *disk, name_list *list)
{
    for (size_t i = 0; i < list->len; i++) {
        mem_free(list->at[i].text);
        node_unref(disk, list->at[i].node);
    }
    VEC_DONE(list);
}

bool name_change_apply(struct disk *disk, enum list_kind kind, const struct name_change *change)
{
    name_list *list = &change->folder->lists[kind];
    slice text = slice_of(change->text);
    switch (change->kind) {
    case NAME_LINK:
        return names_put(disk, list, text, change->node);
    case NAME_RENAME:
        if (!names_put(disk, &change->to_folder->lists[kind], slice_of(change->to_text),
                       change->node))
            return false;
        names_remove(disk, list, text);
        return true;
    case NAME_UNLINK:
        names_remove(disk, list, text);
        return true;
    }
    return true;
}

static bool touches(const struct name_change *change, const struct node *folder, const char *text)
{
    return (change->folder == folder && strcmp(change->text, text) == 0) ||
           (change->to_folder == folder && strcmp(change->to_text, text) == 0);
}

bool name_changes_touch(const struct name_change *a, const struct name_change *b)
{
    return touches(a, b->folder, b->text) || (b->to_folder && touches(a, b->to_folder, b->to_text));
}

int place_find(struct disk *disk, const char *path, struct place *ret)
{
    *ret = (struct place){.node = disk->root};
    const char *at = path;
    for (;;) {
        at += strspn(at, "/");
        size_t len = strcspn(at, "/");
        if (len == 0)
            return 0;
        if (len == 2 && memcmp(at, "..", 2) == 0)
            return EINVAL;
        if (len == 1 && at[0] == '.') {
            at += len;
            continue;
        }
        if (!ret->node)
            return ENOENT;
        if (!ret->node->is_folder)
            return ENOTDIR;
        size_t i;
        ret->folder = ret->node;
        ret->name = slice_make(at, len);
        const name_list *list = &ret->folder->lists[LIST_NOW];
        ret->node = names_find(list, ret->name, &i) ? list->at[i].node : NULL;
        at += len;
    }
}

void name_change_free(struct disk *disk, struct name_change *change)
{
    if (change->folder)
        node_unref(disk, change->folder);
    if (change->to_folder)
        node_unref(disk, change->to_folder);
    if (change->node)
        node_unref(disk, change->node);
    mem_free(change->text);
    mem_free(change->to_text);
    mem_free(change);
}

static void name_changes_append(struct disk *disk, struct name_change *change)
{
    *disk->name_changes_end = change;
    disk->name_changes_end = &change->next;
}

/* Do a change of names, and remember it until the folder is synced. */
int names_change(struct disk *disk, enum name_change_kind kind, const struct place *from,
                 const struct place *to, struct node *node)
{
    struct name_change *change = MEM_NEW(struct name_change);
    if (!change)
        return ENOMEM;
    change->kind = kind;
    node_ref(change->folder = from->folder);
    node_ref(change->node = node);
    change->text = mem_copy_text(from->name.at, from->name.len);
    if (to) {
        node_ref(change->to_folder = to->folder);
        change->to_text = mem_copy_text(to->name.at, to->name.len);
    }
    if (!change->text || (to && !change->to_text) || !name_change_apply(disk, LIST_NOW, change)) {
        name_change_free(disk, change);
        return ENOMEM;
    }
    if (disk->keep_history)
        name_changes_append(disk, change);
    else
        name_change_free(disk, change);
    return 0;
}

/* Make durable what touches the folder, and what that builds on in other folders. */
int names_sync(struct disk *disk, const struct node *folder)
{
    for (struct name_change *change = disk->name_changes; change; change = change->next)
        change->marked = change->folder == folder || change->to_folder == folder;
    bool more = true;
    while (more) {
        more = false;
        for (struct name_change *early = disk->name_changes; early; early = early->next) {
            if (early->marked)
                continue;
            for (const struct name_change *late = early->next; late && !early->marked;
                 late = late->next)
                early->marked = late->marked && name_changes_touch(early, late);
            more |= early->marked;
        }
    }
    struct name_change **link = &disk->name_changes;
    while (*link) {
        struct name_change *change = *link;
        if (!change->marked) {
            link = &change->next;
            continue;
        }
        if (!name_change_apply(disk, LIST_DURABLE, change))
            return ENOMEM;
        *link = change->next;
        if (!*link)
            disk->name_changes_end = link;
        name_change_free(disk, change);
    }
    return 0;
}
