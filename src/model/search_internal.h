/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing searches: shared by search_parse.c and search_parse_rank.c only. */
#ifndef MODEL_SEARCH_INTERNAL_H
#define MODEL_SEARCH_INTERNAL_H

#include "model/limits.h"
#include "model/plan.h"
#include "model/record.h"
#include "model/search.h"

#include <stdlib.h>

struct search_parser {
    struct arena *arena;
    och_error *err;
    slice text;
    uint32_t index;       /* of the payload */
    uint32_t steps, knns; /* of the whole request */
    struct search_request *request;
};
struct search_member {
    const char *name;
    const struct json_value **place; /* NULL when absent; JSON null is a value */
};

/** OCH_SHAPE "searches[i]<path>: <reason> at line L column C". */
och_code search_fail(struct search_parser *p, const struct json_value *value, const char *path,
                     const char *format, ...) PRINTF_LIKE(4, 5);
och_code search_wrong_type(struct search_parser *p, const struct json_value *value,
                           const char *path, const char *expected);
/** Spread an object's members; unknown and repeated ones are refused. */
MUST_USE och_code search_members(struct search_parser *p, const struct json_value *object,
                                 const char *path, const char *expected,
                                 const struct search_member *members, size_t count);
MUST_USE och_code search_u32(struct search_parser *p, const struct json_value *value,
                             const char *path, uint32_t *ret);
/** Keep the first failure that is judged after the collection is known. */
static inline void search_late(struct search_parser *p, och_code code, const och_error *err)
{
    if (p->request->late != OCH_OK)
        return;
    p->request->late = code;
    p->request->late_err = *err;
}
/** search_parse_rank.c */
MUST_USE och_code search_parse_rank(struct search_parser *p, const struct json_value *rank,
                                    struct search *search);
#endif
