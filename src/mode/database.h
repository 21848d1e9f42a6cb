/* SPDX-License-Identifier: Apache-2.0 */
/* One database in this process, all components wired: what the library opens and what the single-node server serves. */
#ifndef MODE_DATABASE_H
#define MODE_DATABASE_H

#include "gateway/gateway.h"
#include "mode/settings.h"

struct database;
struct database_options {
    const char *path;                /* the folder; NULL: in memory, gone at close */
    bool create;                     /* make the folder and its catalogue if missing */
    bool read_only;                  /* shared with other readers, not with a writer */
    const struct settings *settings; /* sizes and policies; must outlive the database */
    const char *address; /* what the lock file says about where we listen; NULL: nothing */
    struct trace *trace;
    struct io *io; /* NULL: io_posix(), or memory without a path.  Tests bring a simulated disk */
    struct clock *clock;  /* NULL: the machine's */
    bool start_compactor; /* false: only by request (tests) */
};
/** Errors: OCH_IN_USE "folder ./ochre is in use by pid 812 on web1 (http://localhost:8000) since 10:02 UTC. ..." (D32); OCH_NOT_FOUND, OCH_CORRUPT, OCH_IO. */
MUST_USE och_code database_open(const struct database_options *options,
                                struct database **ret_database, och_error *err);
/** Flush, stop threads, release the folder.  Requests must have ended.  free follows. */
MUST_USE och_code database_close(struct database *database, och_error *err);
void database_free(struct database *database);
/** In a forked child: let go of the folder's lock, which it would hold for the parent (D32).  Everything else is left as it is. */
void database_abandon(struct database *database);

struct gateway *database_gateway(struct database *database);
struct compactor *database_compactor(struct database *database);
struct functions *database_functions(struct database *database);
struct sysdb *database_sysdb(struct database *database);
struct wal *database_wal(struct database *database);
struct views *database_views(struct database *database);
struct budget *database_budget(struct database *database);
struct clock *database_clock(struct database *database);
struct trace *database_trace(struct database *database);
/** Sockets in front of the gateway, for their figures; NULL before they go. */
void database_set_http(struct database *database, struct http_server *http,
                       void (*read)(const struct http_server *http,
                                    struct http_server_stats *ret_stats));
/** True in a process that forked off the one that opened it. */
bool database_is_forked(const struct database *database);
#endif
