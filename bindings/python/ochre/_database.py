# SPDX-License-Identifier: Apache-2.0
"""Typed calls on NumPy arrays: what `ochre.open(path)` gives, without chromadb.

Vectors go to the library as they lie in memory (float32, row by row) and are copied once on the way out.
"""
import ctypes
import dataclasses
import json
import math
import numbers
import operator
import weakref

import numpy as np

from . import _handle
from . import _library as native
from ._errors import error_named

DEFAULT_TENANT, DEFAULT_DATABASE = "default_tenant", "default_database"
INCLUDES = {"documents": native.DOCUMENT, "uris": native.URI, "metadatas": native.METADATA,
            "vectors": native.VECTOR}


@dataclasses.dataclass
class Counts:
    """What a write did.  `skipped`: ids that an add found present or an update found missing."""
    inserted: int = 0
    updated: int = 0
    skipped: int = 0
    deleted: int = 0


@dataclasses.dataclass
class Records:
    """Columns of equal length; None for what was not asked for."""
    ids: list
    vectors: "np.ndarray | None" = None
    documents: "list | None" = None
    metadatas: "list | None" = None
    uris: "list | None" = None

    def __len__(self):
        return len(self.ids)


@dataclasses.dataclass
class Hits(Records):
    """The nearest records of one query vector, nearest first."""
    distances: "np.ndarray | None" = None


def open(path=None, *, tenant=DEFAULT_TENANT, database=DEFAULT_DATABASE, **options):
    """Open a folder (made if missing), or without a path a new database in memory.

    Options: read_only, memory_limit (bytes), threads, settings (a dict or YAML, as for the server).
    """
    return Database(_handle.acquire(path, **options), tenant, database)


class Database:
    """An open folder.  Threads: any.  Close it, or use it in a `with` block."""

    def __init__(self, handle, tenant, database):
        self._handle, self.tenant, self.database = handle, tenant, database
        self._open = True

    def close(self):
        """Let go of the folder; collections of this database stop working.  A second time does nothing."""
        if self._open:
            self._open = False
            _handle.release(self._handle)

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.close()

    def _using(self):
        if not self._open:
            raise error_named("closed", "this database is closed")
        return self._handle.using()

    def _spec(self, name=None, **more):
        keep = [text.encode() if text is not None else None
                for text in (self.tenant, self.database, name)]
        parts = {key: None if value is None else json.dumps(value).encode()
                 for key, value in more.items() if key != "get_or_create"}
        keep.extend(parts.values())
        spec = native.CollectionSpec(
            struct_size=ctypes.sizeof(native.CollectionSpec),
            get_or_create=more.get("get_or_create", False),
            tenant=native.borrowed(keep[0]), database=native.borrowed(keep[1]),
            name=native.borrowed(keep[2]),
            **{key + "_json": native.borrowed(value) for key, value in parts.items()})
        spec.keep = keep
        return spec

    def create_collection(self, name, *, metadata=None, configuration=None, schema=None,
                          get_or_create=False):
        """Make a collection; configuration and schema as in Chroma's HTTP API."""
        spec = self._spec(name, metadata=metadata, configuration=configuration, schema=schema,
                          get_or_create=get_or_create)
        return self._collection("collection_create", name, spec)

    def get_or_create_collection(self, name, **more):
        return self.create_collection(name, get_or_create=True, **more)

    def collection(self, name):
        """An existing collection."""
        return self._collection("collection_open", name, self._spec(name))

    def _collection(self, call, name, spec):
        pointer = ctypes.c_void_p()
        with self._using() as database:
            self._handle.lib.do(call, database, ctypes.byref(spec), ctypes.byref(pointer))
        return Collection(self, name, pointer)

    def drop_collection(self, name):
        spec = self._spec(name)
        with self._using() as database:
            self._handle.lib.do("collection_drop", database, ctypes.byref(spec))

    def collections(self):
        """Names, in the order in which the collections were made."""
        spec, result, names = self._spec(), ctypes.c_void_p(), []
        with self._using() as database:
            self._handle.lib.do("collection_list", database, ctypes.byref(spec),
                                ctypes.byref(result))
            for row in rows_of(self._handle.lib, result):
                names.append(text_of(row.id))
        return names

    def exchange(self, method, target, body=b"", headers=()):
        """An HTTP exchange without a socket: (status, headers, body), as a server would answer.

        >>> db.exchange("GET", "/api/v2/version")
        """
        lines = [(as_bytes(name), as_bytes(value)) for name, value in headers]
        if not self._open:
            raise error_named("closed", "this database is closed")
        return self._handle.exchange(as_bytes(method), as_bytes(target), lines, as_bytes(body))


class Collection:
    """Records of one collection.  Threads: any."""

    def __init__(self, database, name, pointer):
        self._database, self.name, self._pointer = database, name, pointer
        self._lib = database._handle.lib
        self._free = weakref.finalize(self, free_collection, database._handle, pointer)

    def __repr__(self):
        return f"<ochre.Collection {self.name!r}>"

    def add(self, ids, vectors=None, *, documents=None, metadatas=None, uris=None):
        """Insert records; ids that are present are skipped and counted.  All of them, or none."""
        return self._write("collection_add", ids, vectors, documents, metadatas, uris)

    def upsert(self, ids, vectors=None, *, documents=None, metadatas=None, uris=None):
        """Insert records, or replace what is given of those that are present."""
        return self._write("collection_upsert", ids, vectors, documents, metadatas, uris)

    def update(self, ids, vectors=None, *, documents=None, metadatas=None, uris=None):
        """Replace what is given; ids that are missing are skipped and counted."""
        return self._write("collection_update", ids, vectors, documents, metadatas, uris)

    def _write(self, call, ids, vectors, documents, metadatas, uris):
        ids = [as_bytes(item) for item in ids]
        matrix = as_matrix(vectors) if vectors is not None else None
        if matrix is not None and len(matrix) != len(ids):
            raise error_named("invalid", f"{len(matrix)} vectors for {len(ids)} ids")
        texts = {"ids": ids, "documents": encoded(documents, as_bytes),
                 "uris": encoded(uris, as_bytes), "metadatas": encoded(metadatas, as_json)}
        for name, values in texts.items():
            if values is not None and len(values) != len(ids):
                raise error_named("invalid", f"{len(values)} {name} for {len(ids)} ids")
        columns = {name: native.column(values) for name, values in texts.items()}
        records = native.RecordColumns(
            struct_size=ctypes.sizeof(native.RecordColumns), count=len(ids), ids=columns["ids"][0],
            dimension=0 if matrix is None else matrix.shape[1],
            vectors=None if matrix is None else matrix.ctypes.data,
            documents=columns["documents"][0], uris=columns["uris"][0],
            metadatas_json=columns["metadatas"][0])
        return self._counted(call, records)

    def _counted(self, call, what):
        counts = native.CountsOut(struct_size=ctypes.sizeof(native.CountsOut))
        with self._database._using():
            self._lib.do(call, self._pointer, ctypes.byref(what), ctypes.byref(counts))
        return Counts(counts.inserted, counts.updated, counts.skipped, counts.deleted)

    def delete(self, ids=None, *, where=None, where_document=None, limit=None):
        """Delete by ids, by filter, or what both name; the count is what was there."""
        if ids is None and where is None and where_document is None:
            raise error_named("invalid", "delete needs ids, where or where_document")
        with Selection(self._lib, ids, where, where_document, limit=limit) as select:
            return self._counted("collection_delete", select)

    def count(self, where=None, *, where_document=None):
        found = ctypes.c_uint64()
        with Selection(self._lib, None, where, where_document) as select, self._database._using():
            self._lib.do("collection_count", self._pointer, select.filter, ctypes.byref(found))
        return found.value

    def get(self, ids=None, *, where=None, where_document=None, limit=None, offset=0,
            include=("documents", "metadatas")):
        """Records in the order in which they were first added."""
        result = ctypes.c_void_p()
        with Selection(self._lib, ids, where, where_document, limit, offset, include) as select, \
                self._database._using():
            self._lib.do("collection_get", self._pointer, ctypes.byref(select),
                         ctypes.byref(result))
            return gathered(rows_of(self._lib, result), include, 1, Records)[0]

    def query(self, vectors, k=10, *, ids=None, where=None, where_document=None,
              include=("documents", "metadatas"), max_distance=None, recall=None):
        """The k nearest records for each query vector: a list of Hits, or one Hits for a single vector.

        What is farther than max_distance is no hit.  recall: the share of the true neighbours to aim
        at, 0.5 to 1, which is exact; None: the collection's own.
        """
        matrix = as_matrix(vectors)
        result = ctypes.c_void_p()
        with Selection(self._lib, ids, where, where_document, include=include) as select, \
                self._database._using():
            if max_distance is not None:
                select.max_distance = ctypes.pointer(ctypes.c_float(distance(max_distance)))
            if recall is not None:
                select.recall = share(recall)
            self._lib.do("collection_query", self._pointer, matrix.ctypes.data, len(matrix),
                         matrix.shape[1], amount("k", k), ctypes.byref(select), ctypes.byref(result))
            hits = gathered(rows_of(self._lib, result), include, len(matrix), Hits)
        return hits[0] if np.ndim(vectors) == 1 else hits

    def search(self, *payloads):
        """A list of Hits, one for each payload of Search (dicts, as POST .../search takes them).

        `distances` are the scores; the other columns hold what a payload selects.
        """
        result = ctypes.c_void_p()
        text = as_json(list(payloads))
        with self._database._using():
            self._lib.do("collection_search", self._pointer, native.borrowed(text),
                         ctypes.byref(result))
            return gathered(rows_of(self._lib, result), INCLUDES, len(payloads), Hits)


def amount(name, value):
    """A number of records.  ctypes would take -1 for the greatest number there is: no limit."""
    number = operator.index(value)
    if not 0 <= number < 2**63:
        raise error_named("invalid", f"{name} must not be {'negative' if number < 0 else 'so large'}"
                                     f", got {number}")
    return number


def number(value):
    """A number as JSON has it: no bool, no text; NaN for what is none."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    return math.nan


def distance(value):
    """A number that float32 can hold."""
    if not abs(number(value)) <= float(np.finfo(np.float32).max):
        raise error_named("invalid", "max_distance must be a number that a distance can be")
    return number(value)


def share(value):
    """Not for the library to check alone: there 0 is the collection's own."""
    if not 0.5 <= number(value) <= 1:
        raise error_named("invalid", "recall must be a number from 0.5 to 1 (1: exact)")
    return number(value)


class Selection:
    """An och_select and what it borrows, for the time of a `with` block."""

    def __init__(self, lib, ids, where, where_document, limit=None, offset=0, include=()):
        self.lib, self.filter = lib, ctypes.c_void_p()
        self.parts = [None if part is None else as_json(part) for part in (where, where_document)]
        self.ids = None if ids is None else [as_bytes(item) for item in ids]
        self.limit = native.NO_LIMIT if limit is None else amount("limit", limit)
        self.offset, self.include = amount("offset", offset), include

    def __enter__(self):
        array = None if self.ids is None else (native.Bytes * max(len(self.ids), 1))()
        for index, item in enumerate(self.ids or ()):
            array[index] = native.borrowed(item)
        flags = 0
        for name in self.include:
            if name not in INCLUDES:
                raise error_named("invalid", f'include has no "{name}"; it knows '
                                             + ", ".join(INCLUDES))
            flags |= INCLUDES[name]
        if any(part is not None for part in self.parts):
            self.lib.do("filter_parse", *map(native.borrowed, self.parts),
                        ctypes.byref(self.filter))
        select = native.Select(
            struct_size=ctypes.sizeof(native.Select), include=flags, ids=array,
            id_count=len(self.ids or ()), filter=self.filter, offset=self.offset,
            limit=self.limit)
        select.keep = self
        return select

    def __exit__(self, *problem):
        if self.filter:
            self.lib.filter_free(self.filter)
            self.filter = ctypes.c_void_p()


def free_collection(handle, pointer):
    """Also after the database was closed: handles are counted in the library."""
    if handle.pid == _handle.os.getpid():
        handle.lib.collection_free(pointer)


def rows_of(lib, result):
    """Each row of a result, valid until the next; the result is freed at the end."""
    row, more = native.Row(struct_size=ctypes.sizeof(native.Row)), ctypes.c_bool()
    try:
        while True:
            lib.do("result_next", result, ctypes.byref(row), ctypes.byref(more))
            if not more.value:
                return
            yield row
    finally:
        lib.result_free(result)


def gathered(rows, include, groups, kind):
    """Rows as columns, one set of them for each query."""
    columns = [{name: [] for name in ("ids", "distances", *include)} for _ in range(groups)]
    for row in rows:
        into = columns[row.query_index]
        into["ids"].append(text_of(row.id))
        into["distances"].append(row.distance)
        if "documents" in into:
            into["documents"].append(text_of(row.document))
        if "uris" in into:
            into["uris"].append(text_of(row.uri))
        if "metadatas" in into:
            text = native.taken(row.metadata_json)
            into["metadatas"].append(None if text is None else json.loads(text))
        if "vectors" in into:
            into["vectors"].append(vector_of(row))
    found = []
    for into in columns:
        distances = into.pop("distances")
        if "vectors" in into and all(vector is not None for vector in into["vectors"]):
            into["vectors"] = np.array(into["vectors"], np.float32)
        if kind is Hits:
            into["distances"] = np.array(distances, np.float32)
        found.append(kind(**into))
    return found


def vector_of(row):
    if not row.vector:
        return None
    floats = ctypes.cast(row.vector, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(floats, (row.dimension,)).copy()


def text_of(view):
    data = native.taken(view)
    return None if data is None else data.decode("utf-8", "surrogateescape")


def as_bytes(value):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    raise error_named("invalid", f"expected text, got {type(value).__name__}")


def as_json(value):
    if isinstance(value, bytes):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=plain).encode()


def plain(value):
    """NumPy's numbers and arrays for JSON."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def encoded(values, encode):
    return None if values is None else [None if value is None else encode(value)
                                        for value in values]


def as_matrix(vectors):
    """float32, row by row, contiguous: the caller's own memory where it already is."""
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.ndim == 1:
        matrix = matrix[None, :]
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise error_named("invalid", f"vectors need two dimensions, got the shape {matrix.shape}")
    return matrix
