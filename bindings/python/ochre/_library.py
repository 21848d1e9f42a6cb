# SPDX-License-Identifier: Apache-2.0
"""libochre through ctypes: the declarations of ochre.h, and nothing that decides anything.

Every call releases the interpreter's lock while it runs.
"""
import ctypes
import os
import pathlib
from ctypes import (CFUNCTYPE, POINTER, Structure, byref, c_bool, c_char, c_char_p, c_float, c_int,
                    c_size_t, c_uint32, c_uint64, c_void_p)

from ._errors import error_of

NAME = "libochre.so.1"
MAJOR = 1
DOCUMENT, URI, METADATA, VECTOR, EXPLAIN = 1, 2, 4, 8, 16
NO_LIMIT = 2 ** 64 - 1


class Bytes(Structure):
    _fields_ = [("at", c_void_p), ("len", c_size_t)]


class Failure(Structure):
    _fields_ = [("code", c_int), ("os_errno", c_int), ("file", c_char_p), ("line", c_int),
                ("message", c_char * 1024)]


LOG = CFUNCTYPE(None, c_void_p, c_int, Bytes)


class OpenOptions(Structure):
    _fields_ = [("struct_size", c_uint32), ("thread_count", c_uint32), ("read_only", c_bool),
                ("create_missing", c_bool), ("memory_limit_bytes", c_uint64),
                ("settings_yaml", Bytes), ("log", LOG), ("log_user", c_void_p)]


class Header(Structure):
    _fields_ = [("name", Bytes), ("value", Bytes)]


class Request(Structure):
    _fields_ = [("struct_size", c_uint32), ("deadline_ms", c_uint32), ("method", Bytes),
                ("target", Bytes), ("body", Bytes), ("headers", POINTER(Header)),
                ("header_count", c_size_t), ("cancel", c_void_p)]


class CollectionSpec(Structure):
    _fields_ = [("struct_size", c_uint32), ("get_or_create", c_bool), ("tenant", Bytes),
                ("database", Bytes), ("name", Bytes), ("metadata_json", Bytes),
                ("configuration_json", Bytes), ("schema_json", Bytes)]


class RecordColumns(Structure):
    _fields_ = [("struct_size", c_uint32), ("count", c_size_t), ("dimension", c_size_t),
                ("vector_stride", c_size_t), ("ids", POINTER(Bytes)), ("vectors", c_void_p),
                ("documents", POINTER(Bytes)), ("uris", POINTER(Bytes)),
                ("metadatas_json", POINTER(Bytes))]


class CountsOut(Structure):
    _fields_ = [("struct_size", c_uint32), ("inserted", c_uint64), ("updated", c_uint64),
                ("skipped", c_uint64), ("deleted", c_uint64)]


class Select(Structure):
    _fields_ = [("struct_size", c_uint32), ("include", c_uint32), ("deadline_ms", c_uint32),
                ("ids", POINTER(Bytes)), ("id_count", c_size_t), ("filter", c_void_p),
                ("offset", c_uint64), ("limit", c_uint64), ("cancel", c_void_p),
                ("order_by", Bytes), ("cursor", Bytes), ("descending", c_bool),
                ("max_distance", POINTER(c_float)), ("mmr_candidates", c_uint32),
                ("mmr_lambda", c_float), ("recall", c_float)]


class Row(Structure):
    _fields_ = [("struct_size", c_uint32), ("query_index", c_uint32), ("seq", c_uint64),
                ("id", Bytes), ("document", Bytes), ("uri", Bytes), ("metadata_json", Bytes),
                ("vector", c_void_p), ("dimension", c_size_t), ("distance", c_float)]


_ERR = POINTER(Failure)
_WRITE = [c_void_p, POINTER(RecordColumns), POINTER(CountsOut), _ERR]
_CALLS = {
    "database_open": (c_int, [c_char_p, POINTER(OpenOptions), POINTER(c_void_p), _ERR]),
    "database_close": (c_int, [c_void_p, _ERR]),
    "database_free": (None, [c_void_p]),
    "database_exchange": (c_int, [c_void_p, POINTER(Request), POINTER(c_void_p), _ERR]),
    "response_status": (c_int, [c_void_p]),
    "response_body": (Bytes, [c_void_p]),
    "response_headers": (c_size_t, [c_void_p, POINTER(POINTER(Header))]),
    "response_free": (None, [c_void_p]),
    "cancel_new": (c_int, [POINTER(c_void_p), _ERR]),
    "cancel_fire": (None, [c_void_p]),
    "cancel_free": (None, [c_void_p]),
    "collection_create": (c_int, [c_void_p, POINTER(CollectionSpec), POINTER(c_void_p), _ERR]),
    "collection_open": (c_int, [c_void_p, POINTER(CollectionSpec), POINTER(c_void_p), _ERR]),
    "collection_drop": (c_int, [c_void_p, POINTER(CollectionSpec), _ERR]),
    "collection_list": (c_int, [c_void_p, POINTER(CollectionSpec), POINTER(c_void_p), _ERR]),
    "collection_id": (Bytes, [c_void_p]),
    "collection_free": (None, [c_void_p]),
    "collection_count": (c_int, [c_void_p, c_void_p, POINTER(c_uint64), _ERR]),
    "collection_add": (c_int, _WRITE),
    "collection_upsert": (c_int, _WRITE),
    "collection_update": (c_int, _WRITE),
    "collection_delete": (c_int, [c_void_p, POINTER(Select), POINTER(CountsOut), _ERR]),
    "collection_get": (c_int, [c_void_p, POINTER(Select), POINTER(c_void_p), _ERR]),
    "collection_query": (c_int, [c_void_p, c_void_p, c_size_t, c_size_t, c_size_t, POINTER(Select),
                                 POINTER(c_void_p), _ERR]),
    "collection_search": (c_int, [c_void_p, Bytes, POINTER(c_void_p), _ERR]),
    "filter_parse": (c_int, [Bytes, Bytes, POINTER(c_void_p), _ERR]),
    "filter_free": (None, [c_void_p]),
    "result_next": (c_int, [c_void_p, POINTER(Row), POINTER(c_bool), _ERR]),
    "result_count": (c_size_t, [c_void_p]),
    "result_explain_json": (Bytes, [c_void_p]),
    "result_free": (None, [c_void_p]),
    "version_number": (c_uint32, []),
}


def _candidates():
    """Where the library may be: told, in the wheel, in the source tree's build, on the system."""
    if os.environ.get("OCHRE_LIBRARY"):
        yield os.environ["OCHRE_LIBRARY"]
        return
    here = pathlib.Path(__file__).resolve().parent
    yield str(here / NAME)
    for folder in here.parents:
        if (folder / "include" / "ochre" / "ochre.h").is_file():
            yield str(folder / "build" / "release" / NAME)
            break
    yield NAME


class Library:
    """The loaded library; `lib.database_open` is och_database_open."""

    def __init__(self):
        tried, handle = [], None
        for path in _candidates():
            if path == NAME or os.path.exists(path):
                try:
                    handle = ctypes.CDLL(path)
                    break
                except OSError as problem:
                    tried.append(str(problem))
            else:
                tried.append(f"{path}: no such file")
        if handle is None:
            raise ImportError("libochre was not found (OCHRE_LIBRARY names another place): "
                              + "; ".join(tried))
        for name, (result, arguments) in _CALLS.items():
            call = getattr(handle, "och_" + name)
            call.restype, call.argtypes = result, arguments
            setattr(self, name, call)
        version = self.version_number()
        if version // 10000 != MAJOR:
            raise ImportError(f"libochre {version // 10000}.x was found, {MAJOR}.x is needed")

    def do(self, name, *arguments):
        """Call a function whose last parameter is the error; raise what it reports."""
        failure = Failure()
        code = getattr(self, name)(*arguments, byref(failure))
        if code != 0:
            raise error_of(code, failure.message.decode("utf-8", "replace"), failure.os_errno)


_library = None


def library():
    global _library
    if _library is None:
        _library = Library()
    return _library


def borrowed(data):
    """och_bytes over a bytes object that the caller keeps alive; None is absent."""
    if data is None:
        return Bytes(None, 0)
    return Bytes(ctypes.cast(c_char_p(data), c_void_p), len(data))


def column(values):
    """(och_bytes array, what keeps it alive) of bytes objects and None; (None, None) if all are absent."""
    if values is None or all(value is None for value in values):
        return None, None
    array = (Bytes * len(values))()
    for at, value in zip(array, values):
        if value is not None:
            at.at, at.len = ctypes.cast(c_char_p(value), c_void_p), len(value)
    return array, values


def taken(view):
    """The bytes that an och_bytes shows, copied; None when absent."""
    return ctypes.string_at(view.at, view.len) if view.at else None

