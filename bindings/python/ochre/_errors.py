# SPDX-License-Identifier: Apache-2.0
"""The library's errors as exceptions: one class for each reaction that a caller may have."""


class Error(Exception):
    """What the library said.  `code` is the number and `name` the name of its och_code."""

    def __init__(self, message, code=23, os_errno=0):
        super().__init__(message)
        self.code, self.os_errno = code, os_errno

    @property
    def name(self):
        return NAMES[self.code] if 0 <= self.code < len(NAMES) else "internal"


class InvalidError(Error, ValueError):
    """The request is wrong: change it."""


class NotFoundError(Error, LookupError):
    """The thing named does not exist."""


class ExistsError(Error):
    """The name is taken."""


class ConflictError(Error):
    """Someone else changed it meanwhile: read again."""


class BusyError(Error):
    """Refused for now, nothing happened: retry later."""


class DeadlineError(Error, TimeoutError):
    """Time is up."""


class CancelledError(Error):
    """The caller gave up."""


class CorruptError(Error):
    """Bytes on disk are not what was written."""


class InUseError(Error):
    """Another process holds the folder."""


class ForkedError(Error):
    """The database was opened by a parent of this process: open it anew here."""


class ClosedError(Error):
    """The database is closed."""


NAMES = ("ok", "invalid", "shape", "not_found", "exists", "conflict", "stale", "too_large", "quota",
         "unauthenticated", "forbidden", "busy", "unavailable", "deadline", "cancelled",
         "unsupported", "no_memory", "io", "corrupt", "in_use", "forked", "closed", "setting",
         "internal")
CLASSES = {"invalid": InvalidError, "shape": InvalidError, "setting": InvalidError,
           "too_large": InvalidError, "not_found": NotFoundError, "exists": ExistsError,
           "conflict": ConflictError, "stale": ConflictError, "busy": BusyError,
           "deadline": DeadlineError, "cancelled": CancelledError, "corrupt": CorruptError,
           "in_use": InUseError, "forked": ForkedError, "closed": ClosedError}


def error_of(code, message, os_errno=0):
    """The exception for an och_code."""
    name = NAMES[code] if 0 <= code < len(NAMES) else "internal"
    return CLASSES.get(name, Error)(message, code, os_errno)


def error_named(name, message):
    return error_of(NAMES.index(name), message)
