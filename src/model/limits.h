/* SPDX-License-Identifier: Apache-2.0 */
/* Every bound on what a client can make grow (limits.md). */
#ifndef MODEL_LIMITS_H
#define MODEL_LIMITS_H

#define LIMIT_DIMENSION_MAX           65535
#define LIMIT_NAME_MIN                3
#define LIMIT_NAME_MAX                512
#define LIMIT_JSON_DEPTH              128
#define LIMIT_BODY_BYTES              41943040
#define LIMIT_BATCH_ADVERTISED        1000000
#define LIMIT_PAYLOAD_BYTES           2147483648ull /* of one batch in the log */
#define LIMIT_REGEX_BYTES             (10u << 20)   /* compiled program */
#define LIMIT_FILTER_REGEXES          1024          /* patterns in one filter */
#define LIMIT_FILTER_PATTERN          4096          /* bytes of one $like or $icontains */
#define LIMIT_MMR_CANDIDATES          10000         /* of a query that wants unlike hits */
#define LIMIT_FACETS                  64            /* keys of one request */
#define LIMIT_FILTER_BYTES            (512u << 20)  /* one compiled filter, patterns aside */
#define LIMIT_TAIL_ROWS               16384         /* tail -> part (D18) */
#define LIMIT_TAIL_BYTES              (32u << 20)
#define LIMIT_TAIL_PARTS              8 /* tail-sized parts before writers are slowed */
#define LIMIT_LARGE_PARTS             4 /* above tail size */
#define LIMIT_PART_ROWS               20000000
#define LIMIT_LOG_SLOW_BYTES          (256ull << 20)
#define LIMIT_LOG_STOP_BYTES          (1ull << 30)
#define LIMIT_QUERY_N_RESULTS_DEFAULT 10
#define LIMIT_FORK_EDGES              256
#define LIMIT_SEARCHES                1000  /* payloads of one request */
#define LIMIT_SEARCH_STEPS            16384 /* of all rank expressions of a request */
#define LIMIT_SEARCH_KNN              1000  /* $knn in them */
#define LIMIT_SEARCH_KNN_DEFAULT      16    /* hits of one */
#define LIMIT_SEARCH_KEYS             1000  /* in one list of keys */
#endif
