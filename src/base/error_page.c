/* SPDX-License-Identifier: Apache-2.0 */
/* One page a code.  A code without a page fails unit_gateway_help. */
#include "base/error_page.h"

#include "base/attr.h"

static const struct error_page pages[] = {
    {"invalid", "The request says something that cannot be done", "400",
     "The request was read, but a value in it is wrong: a filter, an id, a name, an embedding, a "
     "number of the address.",
     "A filter with an operator that does not fit its value; an embedding of another dimension "
     "than the collection's; an "
     "empty or repeated id; a body that is not JSON; a name with characters that names do not "
     "have.",
     "The message names the place, what was found there and what to write instead; \"path\" holds "
     "the place alone. Change "
     "the request.",
     "No: the same request fails again."},
    {"shape", "The body has the wrong shape", "422",
     "The body is JSON, but a member is missing, repeated, unknown where that is refused, or of "
     "another type than the route "
     "takes.",
     "A misspelt member; a list where an object belongs; a number as text; a client made for "
     "another version.",
     "The message names path, line and column of the member and the type that it should have. "
     "/openapi.json describes every "
     "body.",
     "No: the same request fails again."},
    {"not_found", "The thing named does not exist", "404",
     "There is no tenant, database, collection, alias, function or page of this name or id.",
     "A misspelt name; a collection that was deleted, or made anew and so has another id; another "
     "database or tenant than "
     "meant.",
     "Look at the list (GET .../collections) and at tenant and database of the address. Where a "
     "name is close to one that "
     "exists, the message asks whether you meant that.",
     "No, unless somebody is just creating it."},
    {"exists", "The name is taken", "409", "Something of this name is there already.",
     "A second creation; a rename to a name in use; an alias named like a collection.",
     "Choose another name, or pass get_or_create to take what is there.",
     "No: the same request fails again."},
    {"conflict", "Somebody else changed it meanwhile", "409, 422",
     "A conditional commit found that what it had read or wanted to write was changed since. "
     "Nothing of it was written. As 422: "
     "this Idempotency-Key was used for another request before.",
     "Two writers at the same records; a key used twice for different bodies.",
     "Read again, decide anew, commit with the new read_token. For another request use another "
     "Idempotency-Key.",
     "Not of the same request: begin with reading."},
    {"stale", "What was to be read from is gone", "412",
     "The state that a read_token, as_of or cursor names is no longer kept, or never was.",
     "The token is older than the server keeps states, or the server was restarted; a cursor of "
     "another query.",
     "Read without token or cursor to get a new one, and go on from there.",
     "No: begin with a fresh read."},
    {"too_large", "More than one request may hold", "413",
     "The body, one of its lines or one value is over a hard limit. Nothing of the request, or of "
     "this batch, was written.",
     "Very many records in one call; very long documents.",
     "Send fewer records per call (GET /api/v2/pre-flight-checks says how many are advised), "
     "import as lines "
     "(application/x-ndjson, of any length), or raise max_payload_size_bytes.",
     "No: send less."},
    {"quota", "Over a configured limit", "422",
     "A limit that the operator set for this database or tenant is reached.",
     "As many collections or records as are allowed.",
     "Delete what is no longer needed, or have the limit raised.",
     "Only after something was deleted or the limit was raised."},
    {"unauthenticated", "The server does not know who asks", "401",
     "This server wants a key and the request has none.",
     "The header x-chroma-token or Authorization: Bearer is missing.",
     "Send the key with each request.", "Only with a key."},
    {"forbidden", "This may not be done", "403",
     "The request is understood and refused: by a setting, or because the key does not allow it.",
     "POST /api/v2/reset while the setting allow_reset is off; a key for reading used to write; an "
     "expired key.",
     "Switch the setting on if you mean it (ochre serve --allow-reset), or use a key that may.",
     "No: the same request fails again."},
    {"busy", "Refused for now", "429",
     "The server has no room for this request at the moment: no free worker, or no memory within "
     "memory_limit. Nothing "
     "happened.",
     "More clients at once than it serves; a result, batch or n_results larger than the free "
     "memory; writers faster than the "
     "disk.",
     "Wait as long as the header Retry-After says. If it comes often: smaller batches, a lower "
     "limit or n_results, fewer "
     "clients at once, a higher memory_limit.",
     "Yes, after a pause that grows with each attempt."},
    {"unavailable", "The service cannot do this now", "503",
     "Something that is needed does not work at the moment. For a write: its outcome is unknown, "
     "it may have happened.",
     "The disk is full or fails; the server is read-only after a failed write; it is about to "
     "stop.",
     "Look at GET /api/v2/healthcheck, /metrics and the server's log. Make room on the disk.",
     "Yes. For writes with the same Idempotency-Key, so that none is done twice."},
    {"deadline", "Time was up", "504",
     "The request took longer than its deadline (setting deadline_ms, header Ochre-Deadline-Ms) "
     "and was given up. A write may "
     "have happened.",
     "A machine under load; an exact scan of very many records; a filter that leaves no index to "
     "use.",
     "Give more time by the header, ask for less, or look with \"explain\": true where the time "
     "goes.",
     "Yes, with more time. For writes with the same Idempotency-Key."},
    {"cancelled", "The caller gave up", "503",
     "The client closed its connection, or the cancel handle was fired, before the answer.",
     "A time-out of the client shorter than the request takes; a program that ends.",
     "Give the client more time. A write may have happened.",
     "Yes. For writes with the same Idempotency-Key."},
    {"unsupported", "Not available here", "501",
     "The route, option or coding is known but not offered by this version or mode.",
     "A feature of another deployment; an index or distance that does not exist here; "
     "Transfer-Encoding other than chunked.",
     "The message says what is missing. See /docs/ for what there is.",
     "No: the same request fails again."},
    {"no_memory", "The machine has no memory left", "503",
     "The system refused memory, though memory_limit would have allowed it.",
     "Other programs use the machine's memory; memory_limit is higher than what is there.",
     "Lower memory_limit or free memory on the machine. Ask for less at once.",
     "Perhaps, once memory is free."},
    {"io", "The system refused an operation", "500",
     "Reading or writing a file, or another call to the system, failed; the message says which and "
     "why.",
     "A failing disk; missing permissions; a full disk; too many open files.",
     "Repair what the message names. The server's log has the same trace id.",
     "Only after the cause is gone."},
    {"corrupt", "Bytes on disk are not what was written", "500",
     "A checksum did not fit. Rather than guess, the answer for the records concerned is this "
     "error; all others are answered.",
     "A failing disk or memory; a file changed by another program; an incomplete copy of the "
     "folder.",
     "Run ochre check --path FOLDER to see what is damaged; restore from a backup. The message "
     "names part, section and "
     "offset.",
     "No: the bytes stay as they are."},
    {"in_use", "The folder is in use", "",
     "Another process has the database folder open; two would destroy it. Comes from the command "
     "line and the C library.",
     "A server is running on it; a program has it open; an earlier one has not ended yet.",
     "The message names process, machine and address: stop that one, or talk to it with --url.",
     "Once the other process is gone."},
    {"forked", "The handle belongs to the parent process", "",
     "A database handle was used in a process made by fork() after it was opened. Comes from the C "
     "library and its bindings.",
     "A worker pool that forks after opening the database.",
     "Open the database in the child, or start workers without fork (spawn).", "No."},
    {"closed", "The database is closed", "503",
     "The database was closed, or is closing, when the call came.",
     "The program closed it; the server is stopping.",
     "Open it again, or wait for the server to come back.", "Yes, once it is open again."},
    {"setting", "A setting is wrong", "",
     "A flag, environment variable or line of the configuration file is unknown or has a value "
     "that cannot be. Comes at "
     "start only.",
     "A misspelt name; a number out of range; a setting of the original that means nothing here.",
     "The message names file and line and, where there is one, the nearest name. ochre config "
     "print shows all.",
     "No: change the setting."},
    {"internal", "A mistake of ours", "500",
     "Something happened that the program says cannot happen.",
     "A bug; memory that ran out while the answer was written.",
     "Report it with the trace id and the lines of the log that have it.", "Perhaps."},
    /* of HTTP alone */
    {"no_route", "No such route", "404", "There is nothing at this path.",
     "A misspelt path; a slash too many; a client of another version of the API.",
     "The API is below /api/v2; /docs/ and /openapi.json list every route.",
     "No: the same request fails again."},
    {"method_not_allowed", "The path does not take this method", "405",
     "Something is at this path, but not for this method.",
     "GET where POST is meant, or the other way round.",
     "The message and the header Allow name the methods that it takes.",
     "No: the same request fails again."},
    {"v1_gone", "The v1 API is gone", "410", "Routes below /api/v1 exist no longer.",
     "A client older than version 1 of the original.",
     "Update the client; the API is below /api/v2.", "No: the same request fails again."},
    {"content_type", "The body is of a type or coding that is not taken", "415",
     "Content-Type is neither JSON nor, where records are written, application/x-ndjson; or "
     "Content-Encoding is none of "
     "gzip and deflate.",
     "A form or text sent without Content-Type: application/json.",
     "Set the header to what the body is.", "No: the same request fails again."},
    {"malformed", "This is not sound HTTP", "400, 501, 505",
     "The head, the chunks or the compressed bytes of the request break the rules of the protocol; "
     "the connection is closed.",
     "A client written by hand; a proxy that damages requests; TLS spoken to a plain port; a "
     "compressed body that was cut off.",
     "The message names the rule.", "No, unless the network damaged it."},
    {"slow_request", "The request did not arrive in time", "408",
     "Its head took longer than 10 seconds, or its body came slower than 1 KiB a second.",
     "A bad connection; a client that opens a request and computes its body meanwhile.",
     "Have the body ready before the request begins.", "Yes."},
    {"head_too_large", "The head of the request is too large", "431",
     "The request line and headers together are over 32 KiB, or more than 64 headers.",
     "Large cookies of another service; a very long address.", "Send fewer or shorter headers.",
     "No: the same request fails again."},
};

size_t error_page_count(void)
{
    return COUNT_OF(pages);
}

const struct error_page *error_page_at(size_t i)
{
    assert(i < COUNT_OF(pages));
    return &pages[i];
}

size_t error_page_find(slice code)
{
    size_t i = 0;
    while (i < COUNT_OF(pages) && !slice_equal(code, slice_of(pages[i].code)))
        i++;
    return i;
}
