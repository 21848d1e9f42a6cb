/* SPDX-License-Identifier: Apache-2.0 */
/* Read tokens: what a transaction has read, and at which state (docs/decisions/0017-what-a-commit-checks.md).  Inside gateway/ only. */
#ifndef GATEWAY_RULE_TOKEN_H
#define GATEWAY_RULE_TOKEN_H

#include "gateway/gateway_internal.h"

#define TOKENS_MAX   16384
#define TOKEN_AGE_NS (300 * 1000000000ull) /* then it is too old */
#define TOKEN_HELD_BYTES_MAX \
    (64u << 20) /* tails of older versions that all tokens keep in memory */
#define TOKEN_READS_BYTES_MAX (4u << 20)  /* what one token remembers of its reads */
#define TOKEN_READS_BYTES_ALL (64u << 20) /* what all of them do */

/* One read. */
struct token_read {
    slice plan;         /* plan_encode: ids, or filter, which says what was read */
    int64_t seq_max;    /* rows behind this one were beyond its limit */
    int64_t expires_ms; /* when the first row that it saw is gone by itself, 0: never */
};
struct token; /* counted */

struct tokens;
MUST_USE och_code tokens_new(struct gateway *gateway, struct tokens **ret_tokens, och_error *err);
void tokens_free(struct tokens *tokens); /* NULL is fine */

/** A token for this view, which it takes over, also after an error. */
MUST_USE och_code token_new(struct tokens *tokens, uuid collection, struct view *view,
                            struct token **ret_token, och_error *err);
/** Errors: OCH_STALE: never given out for this collection, too old, given up, or from before a restart. */
MUST_USE och_code token_find(struct tokens *tokens, uuid collection, uint64_t number,
                             struct token **ret_token, och_error *err);
void token_unref(struct tokens *tokens, struct token *token); /* NULL is fine */
uint64_t token_number(const struct token *token);
/** The state that it reads at; holds as long as the token. */
const struct view *token_view(const struct token *token);
/** Remember a read.  Without room for it all that anybody writes from now on counts as touching it. */
void token_note(struct tokens *tokens, struct token *token, const struct token_read *read);
/** Its reads so far, copied to the arena.  *ret_all: it counts as having read everything. */
MUST_USE och_code token_reads(struct tokens *tokens, struct token *token, struct arena *arena,
                              struct token_read **ret_reads, size_t *ret_count, bool *ret_all,
                              och_error *err);

/** The transaction is over. */
void token_end(struct tokens *tokens, uint64_t number);
/** The collection is gone, and nobody shall keep its files. */
void tokens_forget(struct tokens *tokens, uuid collection);
void tokens_forget_all(struct tokens *tokens);
/** Give up what is too old, and the oldest ones while all of them keep too much.  Called now and then, with `tokens` as context. */
void tokens_sweep(void *context);
#endif
