# SPDX-License-Identifier: Apache-2.0
"""Ochre inside your process.

    client = ochre.Client("./data")     # Chroma's official client, no server, no socket
    db = ochre.open("./data")           # typed calls on NumPy; needs no chromadb

Both keep the folder open until they are closed: `ochre.close(client)` or `client.close()`, `db.close()`.
Several databases may be open in one process; one folder opened twice is shared and counted.
"""
import importlib

from ._errors import (BusyError, CancelledError, ClosedError, ConflictError, CorruptError,
                      DeadlineError, Error, ExistsError, ForkedError, InUseError, InvalidError,
                      NotFoundError)
from ._version import VERSION as __version__

__all__ = ["AsyncClient", "BusyError", "CancelledError", "Client", "ClosedError", "Collection",
           "ConflictError", "CorruptError", "Counts", "Database", "DeadlineError", "Error",
           "ExistsError", "ForkedError", "Hits", "InUseError", "InvalidError", "NotFoundError",
           "Records", "close", "open"]


_LAZY = {"Client": "_chroma", "AsyncClient": "_chroma", "close": "_chroma",
         "Collection": "_database", "Counts": "_database", "Database": "_database",
         "Hits": "_database", "Records": "_database", "open": "_database"}


def __getattr__(name):
    """chromadb and NumPy are imported when they are first needed, and only then."""
    if name in _LAZY:
        return getattr(importlib.import_module("." + _LAZY[name], __name__), name)
    raise AttributeError(f"module 'ochre' has no attribute {name!r}")


def __dir__():
    return sorted(__all__ + ["__version__"])
