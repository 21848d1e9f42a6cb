/* SPDX-License-Identifier: Apache-2.0 */
/* What each code of an error means to the one who got it: the pages of /help/errors, of `ochre help`, and the list of codes. */
#ifndef BASE_ERROR_PAGE_H
#define BASE_ERROR_PAGE_H

#include "base/slice.h"

/** One page; all text is plain, paragraphs of one line, static. */
struct error_page {
    const char *code;     /* "not_found", as in "code" of an error body */
    const char *title;    /* a few words */
    const char *statuses; /* of HTTP, "400" or "400, 501"; "" when it never comes over HTTP */
    const char *meaning, *causes, *remedy;
    const char *retry; /* whether sending the same again helps, a sentence */
};

/** In the order of och_code, then those of the HTTP layer alone. */
size_t error_page_count(void);
const struct error_page *error_page_at(size_t i);
/** Index of the page for a code, error_page_count() when there is none. */
size_t error_page_find(slice code);
#endif
