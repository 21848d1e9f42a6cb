/* SPDX-License-Identifier: Apache-2.0 */
/* What can go wrong, as one kind of value.  Part of the public library and open to every folder. */
#ifndef OCHRE_ERROR_H
#define OCHRE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/** Say how the caller should react; each code means a different reaction.  Values are never reused. */
typedef enum och_code {
    OCH_OK = 0,
    OCH_INVALID = 1,         /* the request is wrong: change it */
    OCH_SHAPE = 2,           /* well-formed JSON of the wrong shape: change it */
    OCH_NOT_FOUND = 3,       /* the thing named does not exist */
    OCH_EXISTS = 4,          /* the name is taken */
    OCH_CONFLICT = 5,        /* someone else changed it meanwhile: read again */
    OCH_STALE = 6,           /* the snapshot is gone: read again */
    OCH_TOO_LARGE = 7,       /* over a hard limit: send less */
    OCH_QUOTA = 8,           /* over a configured quota */
    OCH_UNAUTHENTICATED = 9, /* say who you are */
    OCH_FORBIDDEN = 10,      /* this key may not */
    OCH_BUSY = 11,           /* refused for now, nothing happened: retry later */
    OCH_UNAVAILABLE = 12,    /* outcome unknown or service down: retry with the same batch id */
    OCH_DEADLINE = 13,       /* time is up */
    OCH_CANCELLED = 14,      /* the caller gave up */
    OCH_UNSUPPORTED = 15,    /* not available (yet, or in this mode) */
    OCH_NO_MEMORY = 16,      /* memory or its budget is used up */
    OCH_IO = 17,             /* the system refused; os_errno says why */
    OCH_CORRUPT = 18,        /* bytes on disk are not what was written */
    OCH_IN_USE = 19,         /* another process holds the folder */
    OCH_FORKED = 20,         /* handle belongs to the parent process */
    OCH_CLOSED = 21,         /* the handle is closed */
    OCH_SETTING = 22,        /* a setting is wrong; usage error */
    OCH_INTERNAL = 23        /* a bug of ours */
} och_code;

/** One failure, on the caller's stack; never allocates.  Zero it before use: `och_error err = {0}`. */
typedef struct och_error {
    och_code code;    /* OCH_OK until something fails */
    int os_errno;     /* of the system call that failed, else 0 */
    const char *file; /* where the failure was first noticed */
    int line;
    char message[1024]; /* what, where, expected and got, a way out; UTF-8, cut if too long */
    /* Parts of the message, for programs: path_len bytes at path_at name the place (as a JSON path; 0: none); the way
     * out is what stands from hint_at on (0: none).  In what was padding: the size is that of 1.0. */
    unsigned path_at : 10, path_len : 10, hint_at : 10;
} och_error;

#ifdef __cplusplus
}
#endif
#endif
