/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes and names of the simulated disk; all under the disk's mutex. */
#include "base/io_sim_private.h"

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
