/* SPDX-License-Identifier: Apache-2.0 */
/* What the files share that give a get another order than that of insertion.  Inside query/ only. */
#ifndef QUERY_QUERY_ORDER_H
#define QUERY_QUERY_ORDER_H

#include "query/query_answer.h"

struct kept {
    struct plan_key key; /* value: memory of its own */
    struct view_place place;
};

/* The `room` first rows in the plan's order, the last of them on top. */
struct ordered {
    struct run *run;
    uint64_t room;
    struct kept *at;
    size_t count, cap;
    size_t charged;
    struct row_range {
        size_t source;
        uint32_t first, count;
    } * ranges;
    bool *done;        /* parts that the index has answered */
    struct mutex lock; /* guards the heap, code, err */
    _Atomic bool failed;
    och_code code;
    och_error err;
};

/* ---- query_order.c ---- */
/** Give a row its place if it is among the first.  `row` is copied. */
MUST_USE och_code order_keep(struct ordered *o, const struct kept *row, och_error *err);
MUST_USE och_code order_key_of(struct lookup *l, struct view_place place, struct plan_key *ret,
                               och_error *err);
/** False: it is on a page before this one. */
bool order_is_on(const struct ordered *o, const struct kept *row);
/** Free what it keeps. */
void order_drop(struct ordered *o);
/** A task has failed; the first failure stays. */
void order_fail(struct ordered *o, och_code code, const och_error *failure);

/* ---- query_order_index.c ---- */
/** Parts whose first rows their metadata index finds without a look at all keys: they are kept, and `done`.  All answers are evaluated. */
MUST_USE och_code order_by_index(struct ordered *o, och_error *err);
#endif
