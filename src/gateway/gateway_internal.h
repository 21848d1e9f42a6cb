/* SPDX-License-Identifier: Apache-2.0 */
/* Shared inside gateway/ only. */
#ifndef GATEWAY_INTERNAL_H
#define GATEWAY_INTERNAL_H

#include "gateway/gateway.h"

struct gateway {
    struct gateway_options options;
    struct mutex lock; /* RANK_LEAF; guards random */
    struct random random;
    struct mutex drop_lock;   /* RANK_GATEWAY: drops and resets one at a time */
    struct mutex update_lock; /* RANK_GATEWAY: changes of configurations one at a time */
    struct meter *meter;      /* http/meter.c */
    struct tokens *tokens;    /* rule/token.c */
};
uuid gateway_new_id(struct gateway *gateway);

/** Drop a collection wherever it is (rule/collection.c). */
MUST_USE och_code gateway_drop_by_id(struct gateway *gateway, uuid id, och_error *err);
/** Wait, or be refused, when writers are ahead of compaction. */
MUST_USE och_code gateway_throttle(struct gateway *gateway, uuid collection, uint32_t count,
                                   och_error *err);
/** Give rows of add and upsert that say nothing of expiry the collection's default, if it has one: then *input gets rows of its own, in the arena. */
MUST_USE och_code gateway_default_expiry(struct gateway *gateway,
                                         const struct sysdb_collection *collection,
                                         struct batch_input *input, struct arena *arena,
                                         och_error *err);
/** Is the default in a collection's metadata, if any, one?  OCH_INVALID. */
MUST_USE och_code gateway_check_ttl(slice metadata, const char *member, och_error *err);
/** Is the time that superseded versions are kept, if it is in a collection's metadata, one?  OCH_INVALID. */
MUST_USE och_code gateway_check_retention(slice metadata, const char *member, och_error *err);
/** What a batch did that was applied before under its batch id (D17). */
MUST_USE och_code gateway_counts_of_repeated(struct gateway *gateway, uuid collection,
                                             uuid batch_id, const struct wal_appended *appended,
                                             struct gateway_counts *ret_counts, och_error *err);

/** No id is empty. */
MUST_USE och_code gateway_check_ids(const struct batch_input *input, och_error *err);

/** The HTTP face (http/). */
MUST_USE och_code gateway_http_meter_new(struct meter **ret_meter, och_error *err);
void gateway_http_meter_free(struct meter *meter); /* NULL is fine */
void gateway_http_handle(void *context, const struct http_request *request,
                         struct http_reply *reply);
bool gateway_http_admit(void *context, const struct http_request *head, struct http_reply *reply);
struct http_intake *gateway_http_intake(void *context, const struct http_request *head);
void gateway_http_refuse(void *context, const struct http_request *request, int status,
                         const char *name, const char *message, struct http_reply *reply);
bool gateway_http_is_cheap(void *context, const struct http_request *head);
#endif
