# SPDX-License-Identifier: Apache-2.0
"""Chroma's official Python client over a database in this process.

The client keeps its own name for its API class and is handed ours when it looks that name up; ours differs from
it in the transport alone, so requests, answers and error classes are those that a server gives.
"""
import contextlib
import inspect
import os
import threading
import uuid

try:
    import anyio.to_thread
    import httpx
    from chromadb.api.async_client import AsyncClient as ChromaAsyncClient
    from chromadb.api.async_fastapi import AsyncFastAPI
    from chromadb.api.client import Client as ChromaClient
    from chromadb.api.fastapi import FastAPI
    from chromadb.api.shared_system_client import SharedSystemClient
    from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Component, Settings
except ImportError as problem:
    raise ImportError("ochre.Client is Chroma's official client: pip install chromadb. "
                      "Without it, ochre.open(path) has typed calls.") from problem

from . import _handle

try:  # the client's classes refuse methods that override theirs without saying so
    from overrides import override
except ImportError:
    def override(method):
        return method

OFFICIAL = {"chromadb.api.fastapi.FastAPI": "ochre._chroma.InProcessAPI",
            "chromadb.api.async_fastapi.AsyncFastAPI": "ochre._chroma.InProcessAsyncAPI"}
SKIPPED = frozenset((b"accept-encoding", b"connection", b"host"))  # they speak of a network

_lock = threading.RLock()  # guards _connections and the API objects of each
_connections = {}          # by host name: settings have to be plain data


class Connection:
    """One hold of a database, let go when the last API object made for it has stopped.

    A client makes two of them, one for itself and one for the admin client inside it.
    """

    def __init__(self, handle):
        self.handle, self.apis, self.done = handle, [], False
        self.host = f"{uuid.uuid4().hex}.in-process.invalid"
        with _lock:
            _connections[self.host] = self

    def joined(self, api):
        with _lock:
            self.apis.append(api)

    def left(self, api):
        with _lock:
            self.apis = [other for other in self.apis if other is not api]
            if self.apis:
                return
        self.end()

    def end(self):
        """Stop what still runs and let go of the database, once."""
        with _lock:
            if self.done:
                return
            self.done = True
            rest, self.apis = self.apis, []
            _connections.pop(self.host, None)
        try:
            self._forget(rest)
        finally:
            _handle.release(self.handle)

    def _forget(self, apis):
        """Take our systems out of the table that the client keeps on its class."""
        for api in apis:
            with contextlib.suppress(Exception):
                Component.stop(api)
        systems = SharedSystemClient._identifier_to_system
        counts = getattr(SharedSystemClient, "_identifier_to_refcount", {})
        for key, system in list(systems.items()):
            if system.settings.chroma_server_host == self.host:
                systems.pop(key, None)
                counts.pop(key, None)


class InProcessSettings(Settings):
    def require(self, key):
        value = super().require(key)
        return OFFICIAL.get(value, value) if key == "chroma_api_impl" else value


def request_lines(request):
    """(method, target, headers) of an httpx request, as bytes."""
    headers = [(name, value) for name, value in request.headers.raw
               if name.lower() not in SKIPPED]
    return request.method.encode(), request.url.raw_path, headers


def answer_to(request, answer):
    status, headers, body = answer
    return httpx.Response(status, headers=headers, content=body, request=request)


class Transport(httpx.BaseTransport):
    def __init__(self, handle):
        self.handle = handle

    def handle_request(self, request):
        method, target, headers = request_lines(request)
        return answer_to(request, self.handle.exchange(method, target, headers, request.read()))


class AsyncTransport(httpx.AsyncBaseTransport):
    """Exchanges on worker threads; a task that is cancelled cancels its exchange."""

    def __init__(self, handle):
        self.handle = handle

    async def handle_async_request(self, request):
        method, target, headers = request_lines(request)
        body = await request.aread()
        cancel = _handle.Cancel()
        try:
            answer = await anyio.to_thread.run_sync(lambda: self.handle.exchange(
                method, target, headers, body, cancel=cancel), **ABANDON)
        except BaseException:
            cancel.fire()
            raise
        return answer_to(request, answer)


def _abandon_option():
    """anyio renamed the option in version 4.1."""
    names = inspect.signature(anyio.to_thread.run_sync).parameters
    return {"abandon_on_cancel" if "abandon_on_cancel" in names else "cancellable": True}


ABANDON = _abandon_option()


class InProcessAPI(FastAPI):
    def __init__(self, system):
        super().__init__(system)
        self._connection = _connections[system.settings.chroma_server_host]
        headers = self._session.headers
        self._session.close()
        self._session = httpx.Client(transport=Transport(self._connection.handle), timeout=None,
                                     headers=headers)
        self._connection.joined(self)

    @override
    def stop(self):
        Component.stop(self)
        self._connection.left(self)


class InProcessAsyncAPI(AsyncFastAPI):
    def __init__(self, system):
        self._connection = _connections[system.settings.chroma_server_host]
        self._client = None
        super().__init__(system)
        self._connection.joined(self)

    @override
    def _get_client(self) -> httpx.AsyncClient:
        if self._client is None:  # it holds no socket, so one serves every event loop
            headers = {"Content-Type": "application/json", "User-Agent": "ochre"}
            headers.update(self._settings.chroma_server_headers or {})
            self._client = httpx.AsyncClient(transport=AsyncTransport(self._connection.handle),
                                             timeout=None, headers=headers)
        return self._client

    @override
    async def _cleanup(self) -> None:
        pass

    @override
    def stop(self) -> None:
        Component.stop(self)
        self._connection.left(self)


def _settings(connection, implementation):
    return InProcessSettings(chroma_api_impl=implementation, chroma_server_host=connection.host,
                             chroma_server_http_port=80, anonymized_telemetry=False)


def Client(path=None, *, tenant=DEFAULT_TENANT, database=DEFAULT_DATABASE, **options):
    """Chroma's client on the folder `path`, in this process; without a path, on a new database in memory.

    Options: read_only, memory_limit (bytes), threads, settings (a dict or YAML, as for the server).
    Close it with `ochre.close(client)`, or `client.close()` where the client has it (from 1.5.2 on).
    """
    connection = Connection(_handle.acquire(path, **options))
    try:
        client = ChromaClient(tenant=tenant, database=database, settings=_settings(
            connection, "chromadb.api.fastapi.FastAPI"))
    except BaseException:
        connection.end()
        raise
    client._ochre = connection
    return client


async def AsyncClient(path=None, *, tenant=DEFAULT_TENANT, database=DEFAULT_DATABASE, **options):
    """The same as an asynchronous client.  Close it with `ochre.close(client)`."""
    handle = await anyio.to_thread.run_sync(lambda: _handle.acquire(path, **options))
    connection = Connection(handle)
    try:
        client = await ChromaAsyncClient.create(tenant=tenant, database=database, settings=_settings(
            connection, "chromadb.api.async_fastapi.AsyncFastAPI"))
    except BaseException:
        connection.end()
        raise
    client._ochre = connection
    return client


def close(client):
    """Close a client that Client() or AsyncClient() gave, or a Database; a second time does nothing."""
    connection = getattr(client, "_ochre", None)
    if connection is not None:
        connection.end()
    elif hasattr(client, "close"):
        client.close()
    else:
        raise TypeError(f"ochre.close() takes a client of ochre.Client(), not {type(client)}")


def _forget_locks():
    """In a forked child a lock that another thread held is free again."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)
