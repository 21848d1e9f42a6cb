/* SPDX-License-Identifier: Apache-2.0 */
/* How many of the true neighbours a collection's queries find, and how fast: approximate answers against exact ones of the same database. */
#ifndef ADMIN_RECALL_H
#define ADMIN_RECALL_H

#include "base/buf.h"
#include "base/io.h"
#include "base/sched.h"

#define RECALL_K_MAX       1000
#define RECALL_QUERIES_MAX 100000
#define RECALL_TARGETS_MAX 16

/** Whom to ask: a server over a socket, or a database in this process.  One exchange of the HTTP API. */
struct recall_peer {
    void *context;
    /** `target` ends with 0; the answer's body lies in the arena.  Errors: only when there is no answer at all. */
    och_code (*exchange)(void *context, const char *method, const char *target, slice body,
                         struct arena *arena, int *ret_status, slice *ret_body, och_error *err);
};

struct recall_options {
    const struct recall_peer *peer;
    slice tenant, database; /* absent: the default ones */
    slice collection;       /* absent: each of them that holds vectors */
    uint32_t k;             /* 1 to RECALL_K_MAX */
    uint32_t
        queries; /* stored rows that are asked for their neighbours, themselves left out; with vectors: at most so many of them */
    const float *vectors; /* vector_count x dimension, asked instead of stored rows; NULL: none */
    uint32_t vector_count;
    uint32_t dimension;    /* 0: the collection's; vector_count then counts floats */
    const double *targets; /* recall to aim at, 0.5 to 1, a line each; none: the collection's own */
    size_t target_count;
    uint64_t seed; /* which rows are drawn */
    struct limits_of_work limits;
};

/** What came of one collection at one target. */
struct recall_line {
    slice collection;
    uint64_t records;
    uint32_t dimension, k, queries;
    double target; /* 0: the collection's own */
    double recall,
        least; /* mean and worst of the queries: the share of the k nearest that was found */
    uint64_t p50_us, p99_us,
        exact_p50_us;         /* the search itself, as the database tells it: without transport */
    double lists, rows_coded; /* mean a query: lists visited, rows whose codes were read */
    uint64_t parts;
};
typedef void (*recall_sink)(void *context, const struct recall_line *line);

/**
 * Probe.  An answer counts as found when it is no farther than the true k-th nearest: ties are equally good.
 *
 * The exact answer is the same database's: every live row compared by its stored vector, no index involved.  Rows written meanwhile may
 * count as missed.
 * Errors:  OCH_NOT_FOUND (no such collection), OCH_INVALID (vectors of another dimension), OCH_UNSUPPORTED (the server does not
 *          tell how it answers), OCH_UNAVAILABLE; what the server refuses as the code that its status stands for.
 * Cost:    queries x records distances, and a request for each query at each target.
 */
MUST_USE och_code recall_probe(const struct recall_options *options, recall_sink sink,
                               void *context, och_error *err);

/**
 * Read query vectors from a file: .npy (float32, two dimensions, C order), else bare little-endian float32.
 * Shapes:  ret_vectors[count x dimension] in the arena; bare: dimension 0 and count in floats.
 * Errors:  OCH_NOT_FOUND, OCH_IO, OCH_INVALID (another type or shape, not finite), OCH_TOO_LARGE (1 GiB).
 */
MUST_USE och_code recall_read_vectors(struct io *io, const char *path, struct arena *arena,
                                      float **ret_vectors, uint32_t *ret_count,
                                      uint32_t *ret_dimension, och_error *err);

/** A server as a peer; `key` (absent: none) goes along as a bearer token.  The strings must outlive it. */
struct recall_server {
    const char *host;
    uint16_t port;
    slice key;
    uint32_t timeout_ms;
};
void recall_peer_init_server(struct recall_peer *peer, struct recall_server *server);

/** {"collection": ..., "recall": ...} and a newline. */
void recall_line_write_json(const struct recall_line *line, struct buf *out);
#endif
