/* SPDX-License-Identifier: Apache-2.0 */
/* The single-node server: one database behind one HTTP server, both from the settings.  Signals are the program's affair (apps/). */
#ifndef MODE_SERVER_H
#define MODE_SERVER_H

#include "mode/database.h"

#define SERVER_DRAIN_MS \
    3500 /* what requests at work get before they are cut (D26: all ends in 5 s) */

struct server;
struct server_options {
    const struct settings *settings; /* must outlive the server */
    struct trace *trace;
    struct clock *clock; /* NULL: the machine's */
};
/**
 * Open the folder and listen; requests are answered when it returns.
 * Errors: OCH_IN_USE (the folder, D32); OCH_SETTING (address, TLS, X30); OCH_IO (also a port that is taken); what database_open says.
 */
MUST_USE och_code server_start(const struct server_options *options, struct server **ret_server,
                               och_error *err);
/** Stop accepting, let requests end until `drain_ms` passed, cut the rest, flush and close the database.  free follows. */
MUST_USE och_code server_stop(struct server *server, uint32_t drain_ms, och_error *err);
void server_free(struct server *server); /* NULL is fine */

/** The first lines that a person sees (experience.md §2). */
void server_write_banner(const struct server *server, struct buf *out);
uint16_t server_port(const struct server *server);
struct database *server_database(struct server *server);
/** Read the certificate files again; without TLS nothing happens. */
MUST_USE och_code server_renew_tls(struct server *server, och_error *err);

/** Instruction set in use: "avx512". */
const char *server_cpu_level(void);
/** Ask a running server: live = it answers; else it can also write.  Errors: OCH_UNAVAILABLE (nobody answers there), OCH_BUSY (it
 *  answers that it is not ready), OCH_DEADLINE. */
MUST_USE och_code server_probe(const char *host, uint16_t port, bool live, uint32_t timeout_ms,
                               och_error *err);
#endif
