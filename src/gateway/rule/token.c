/* SPDX-License-Identifier: Apache-2.0 */
/* The table of read tokens.  A token is a number that says nothing; what was read, and the view it was read from, stay here, because clients hand the
 * very same token back through all of a transaction and so cannot carry more. */
#include "gateway/rule/token.h"

#include "base/map.h"
#include "base/vec.h"

#include <inttypes.h>
#include <sys/queue.h>

/* Clients keep numbers in doubles. */
#define TOKEN_BITS 53

struct token {
    uint64_t number;
    uuid collection;
    struct view *view;
    uint64_t made_ns;
    uint32_t refs; /* guarded by tokens.lock, like what follows */
    bool listed, reads_all;
    struct arena arena; /* plans */
    VEC(struct token_read) reads;
    size_t reads_bytes;
    TAILQ_ENTRY(token) link;
};

struct tokens {
    struct gateway *gateway;
    struct mutex lock;                  /* RANK_LEAF; guards the following */
    struct map table;                   /* number -> struct token * */
    TAILQ_HEAD(token_list, token) list; /* oldest first */
    size_t reads_bytes;
    uint64_t next_sweep_ns;
};

static slice key_of(const uint64_t *number)
{
    return slice_make((const uint8_t *)number, sizeof(*number));
}

static void token_free(struct token *token)
{
    view_release(token->view);
    VEC_DONE(&token->reads);
    arena_done(&token->arena);
    mem_free(token);
}

/* Under lock: out of the table; into `gone` when nobody uses it, to be freed without the lock. */
static void unlist(struct tokens *tokens, struct token *token, struct token_list *gone)
{
    assert(token->listed);
    token->listed = false;
    (void)map_remove(&tokens->table, key_of(&token->number));
    TAILQ_REMOVE(&tokens->list, token, link);
    if (--token->refs == 0) {
        tokens->reads_bytes -= token->reads_bytes;
        TAILQ_INSERT_TAIL(gone, token, link);
    }
}

static void free_all(struct token_list *gone)
{
    struct token *token;
    while ((token = TAILQ_FIRST(gone)) != NULL) {
        TAILQ_REMOVE(gone, token, link);
        token_free(token);
    }
}

och_code tokens_new(struct gateway *gateway, struct tokens **ret_tokens, och_error *err)
{
    struct tokens *tokens = MEM_NEW(struct tokens);
    if (!tokens)
        return FAIL_NO_MEMORY(err, "the read tokens");
    tokens->gateway = gateway;
    mutex_init(&tokens->lock, RANK_LEAF);
    map_init(&tokens->table);
    TAILQ_INIT(&tokens->list);
    *ret_tokens = tokens;
    return OCH_OK;
}

void tokens_free(struct tokens *tokens)
{
    if (!tokens)
        return;
    tokens_forget_all(tokens);
    map_done(&tokens->table);
    mutex_done(&tokens->lock);
    mem_free(tokens);
}

/* ---- giving up ---- */

static uint64_t now_ns(const struct tokens *tokens)
{
    return clock_mono_ns(tokens->gateway->options.clock);
}

/* How many of the oldest ones go so that the others keep no more of older versions than they may.  `all` is counted, oldest first. */
static size_t too_much(struct token *const *all, size_t count)
{
    struct map seen;
    uintptr_t *keys = mem_alloc((count + 1) * sizeof(*keys));
    map_init(&seen);
    uint64_t held = 0;
    size_t kept = count;
    for (; keys && kept > 0; kept--) {
        bool is_new;
        uint64_t bytes = view_held_bytes(all[kept - 1]->view, &keys[kept - 1]);
        if (bytes == 0)
            continue;
        slice key = slice_make((const uint8_t *)&keys[kept - 1], sizeof(*keys));
        if (!map_at(&seen, key, &is_new))
            break;
        if (is_new && held + bytes > TOKEN_HELD_BYTES_MAX)
            break;
        held += is_new ? bytes : 0;
    }
    map_done(&seen);
    mem_free(keys);
    return kept;
}

/* The ones in the list, counted, oldest first; VEC_DONE and unref are the caller's. */
struct token_refs {
    struct token **at;
    size_t len, cap;
};

static void take_all(struct tokens *tokens, struct token_refs *refs)
{
    struct token *token;
    mutex_lock(&tokens->lock);
    TAILQ_FOREACH(token, &tokens->list, link)
    {
        if (!VEC_PUSH(refs, token))
            break;
        token->refs++;
    }
    mutex_unlock(&tokens->lock);
}

void tokens_sweep(void *context)
{
    struct tokens *tokens = context;
    struct token_list gone = TAILQ_HEAD_INITIALIZER(gone);
    struct token *token;
    uint64_t now = now_ns(tokens);
    mutex_lock(&tokens->lock);
    tokens->next_sweep_ns = now + 1000000000ull;
    while ((token = TAILQ_FIRST(&tokens->list)) != NULL && now - token->made_ns >= TOKEN_AGE_NS)
        unlist(tokens, token, &gone);
    mutex_unlock(&tokens->lock);
    free_all(&gone);

    struct token_refs all = {0};
    take_all(tokens, &all);
    size_t excess = too_much(all.at, all.len);
    mutex_lock(&tokens->lock);
    for (size_t i = 0; i < excess; i++)
        if (all.at[i]->listed)
            unlist(tokens, all.at[i], &gone);
    mutex_unlock(&tokens->lock);
    for (size_t i = 0; i < all.len; i++)
        token_unref(tokens, all.at[i]);
    VEC_DONE(&all);
    free_all(&gone);
}

static void sweep_when_due(struct tokens *tokens)
{
    mutex_lock(&tokens->lock);
    bool due = now_ns(tokens) >= tokens->next_sweep_ns;
    mutex_unlock(&tokens->lock);
    if (due)
        tokens_sweep(tokens);
}

void token_end(struct tokens *tokens, uint64_t number)
{
    struct token_list gone = TAILQ_HEAD_INITIALIZER(gone);
    mutex_lock(&tokens->lock);
    uint64_t *value = map_find(&tokens->table, key_of(&number));
    if (value)
        unlist(tokens, (struct token *)(uintptr_t)*value, &gone);
    mutex_unlock(&tokens->lock);
    free_all(&gone);
}

static void forget(struct tokens *tokens, const uuid *collection)
{
    struct token_list gone = TAILQ_HEAD_INITIALIZER(gone);
    mutex_lock(&tokens->lock);
    struct token *token = TAILQ_FIRST(&tokens->list);
    while (token) {
        struct token *next = TAILQ_NEXT(token, link);
        if (!collection || uuid_equal(token->collection, *collection))
            unlist(tokens, token, &gone);
        token = next;
    }
    mutex_unlock(&tokens->lock);
    free_all(&gone);
}

void tokens_forget(struct tokens *tokens, uuid collection)
{
    forget(tokens, &collection);
}

void tokens_forget_all(struct tokens *tokens)
{
    forget(tokens, NULL);
}

/* ---- making and finding ---- */

/* Under lock.  False: no memory. */
static bool enlist(struct tokens *tokens, struct token *token, uint64_t number)
{
    bool is_new;
    token->number = number;
    uint64_t *value = map_at(&tokens->table, key_of(&token->number), &is_new);
    if (!value)
        return false;
    assert(is_new);
    *value = (uint64_t)(uintptr_t)token;
    TAILQ_INSERT_TAIL(&tokens->list, token, link);
    token->listed = true;
    token->refs = 2; /* the table's and the caller's */
    return true;
}

/* Numbers are drawn at random: one from before a restart, or of somebody else's transaction, must not be taken for a token of now. */
static uint64_t draw(struct tokens *tokens)
{
    uuid id = gateway_new_id(tokens->gateway);
    uint64_t bits;
    memcpy(&bits, id.bytes + 8, sizeof(bits));
    return bits & ((UINT64_C(1) << TOKEN_BITS) - 1);
}

och_code token_new(struct tokens *tokens, uuid collection, struct view *view,
                   struct token **ret_token, och_error *err)
{
    sweep_when_due(tokens);
    struct token *token = MEM_NEW(struct token);
    if (!token) {
        view_release(view);
        return FAIL_NO_MEMORY(err, "a read token");
    }
    token->collection = collection;
    token->view = view;
    token->made_ns = now_ns(tokens);
    arena_init(&token->arena, tokens->gateway->options.budget, 0);
    struct token_list gone = TAILQ_HEAD_INITIALIZER(gone);
    for (bool done = false; !done;) {
        uint64_t number = draw(tokens);
        mutex_lock(&tokens->lock);
        if (tokens->table.len >= TOKENS_MAX)
            unlist(tokens, TAILQ_FIRST(&tokens->list), &gone);
        done = number != 0 && !map_find(&tokens->table, key_of(&number));
        bool listed = done && enlist(tokens, token, number);
        mutex_unlock(&tokens->lock);
        if (done && !listed) {
            free_all(&gone);
            token_free(token);
            return FAIL_NO_MEMORY(err, "a read token");
        }
    }
    free_all(&gone);
    *ret_token = token;
    return OCH_OK;
}

och_code token_find(struct tokens *tokens, uuid collection, uint64_t number,
                    struct token **ret_token, och_error *err)
{
    sweep_when_due(tokens);
    uint64_t now = now_ns(tokens);
    struct token *token = NULL;
    mutex_lock(&tokens->lock);
    uint64_t *value = map_find(&tokens->table, key_of(&number));
    if (value)
        token = (struct token *)(uintptr_t)*value;
    if (token &&
        (!uuid_equal(token->collection, collection) || now - token->made_ns >= TOKEN_AGE_NS))
        token = NULL;
    if (token)
        token->refs++;
    mutex_unlock(&tokens->lock);
    if (!token)
        return FAIL(err, OCH_STALE,
                    "read token %" PRIu64
                    " is too old to read or commit with: it was given out for "
                    "this collection more than %d s ago, was given up for newer ones, or the "
                    "database was restarted since. Begin the transaction again.",
                    number, (int)(TOKEN_AGE_NS / 1000000000u));
    *ret_token = token;
    return OCH_OK;
}

void token_unref(struct tokens *tokens, struct token *token)
{
    if (!token)
        return;
    mutex_lock(&tokens->lock);
    bool last = --token->refs == 0;
    if (last)
        tokens->reads_bytes -= token->reads_bytes;
    mutex_unlock(&tokens->lock);
    if (last)
        token_free(token);
}

uint64_t token_number(const struct token *token)
{
    return token->number;
}

const struct view *token_view(const struct token *token)
{
    return token->view;
}

/* ---- what it has read ---- */

void token_note(struct tokens *tokens, struct token *token, const struct token_read *read)
{
    size_t bytes = read->plan.len + sizeof(*read);
    mutex_lock(&tokens->lock);
    bool fits = !token->reads_all && token->reads_bytes + bytes <= TOKEN_READS_BYTES_MAX &&
                tokens->reads_bytes + bytes <= TOKEN_READS_BYTES_ALL;
    struct token_read copy = *read;
    if (fits) {
        copy.plan = arena_copy(&token->arena, read->plan);
        fits = copy.plan.at && VEC_PUSH(&token->reads, copy);
    }
    if (fits) {
        token->reads_bytes += bytes;
        tokens->reads_bytes += bytes;
    }
    token->reads_all |= !fits;
    mutex_unlock(&tokens->lock);
}

och_code token_reads(struct tokens *tokens, struct token *token, struct arena *arena,
                     struct token_read **ret_reads, size_t *ret_count, bool *ret_all,
                     och_error *err)
{
    /* The plans' bytes stay where they are as long as the token. */
    mutex_lock(&tokens->lock);
    size_t count = token->reads.len;
    struct token_read *reads = ARENA_ARRAY(arena, struct token_read, count + 1);
    if (reads && count)
        memcpy(reads, token->reads.at, count * sizeof(*reads));
    *ret_all = token->reads_all;
    mutex_unlock(&tokens->lock);
    if (!reads)
        return FAIL_NO_MEMORY(err, "what a transaction has read");
    *ret_reads = reads;
    *ret_count = count;
    return OCH_OK;
}
