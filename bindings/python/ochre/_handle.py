# SPDX-License-Identifier: Apache-2.0
"""Open databases of this process, counted: one folder is opened once however many hold it.

A handle is closed when its last holder lets go, after the calls at work have ended; whatever is still open
when the interpreter exits is closed then.  After a fork the child knows none of them.
"""
import atexit
import contextlib
import ctypes
import os
import threading

from . import _library as native
from ._errors import error_named


class Handle:
    """One och_database.  Threads: any."""

    def __init__(self, path, options):
        self.path, self.options, self.pid = path, options, os.getpid()
        self.holders, self.calls, self.closed = 0, 0, False
        self.changed = threading.Condition()
        lib, opened = native.library(), ctypes.c_void_p()
        yaml = settings_text(options["settings"]).encode()
        asked = native.OpenOptions(
            struct_size=ctypes.sizeof(native.OpenOptions), thread_count=options["threads"],
            read_only=options["read_only"], create_missing=not options["read_only"],
            memory_limit_bytes=options["memory_limit"],
            settings_yaml=native.borrowed(yaml if yaml else None))
        lib.do("database_open", None if path is None else os.fsencode(path), ctypes.byref(asked),
               ctypes.byref(opened))
        self.lib, self.pointer = lib, opened

    @contextlib.contextmanager
    def using(self):
        """The native pointer, which stays open until the block ends."""
        if os.getpid() != self.pid:
            raise error_named("forked", "this database was opened by a parent of this process: "
                                        "open it anew here")
        with self.changed:
            if self.closed:
                raise error_named("closed", "this database is closed")
            self.calls += 1
        try:
            yield self.pointer
        finally:
            with self.changed:
                self.calls -= 1
                if not self.calls:
                    self.changed.notify_all()

    def exchange(self, method, target, headers=(), body=b"", deadline_ms=0, cancel=None):
        """An HTTP exchange without a socket; all in bytes.  Returns (status, [(name, value)], body)."""
        lines = (native.Header * len(headers))()
        for line, (name, value) in zip(lines, headers):
            line.name, line.value = native.borrowed(name), native.borrowed(value)
        request = native.Request(
            struct_size=ctypes.sizeof(native.Request), deadline_ms=deadline_ms,
            method=native.borrowed(method), target=native.borrowed(target),
            body=native.borrowed(body if body else None), headers=lines,
            header_count=len(headers), cancel=cancel.pointer if cancel else None)
        response = ctypes.c_void_p()
        with self.using() as database:
            self.lib.do("database_exchange", database, ctypes.byref(request), ctypes.byref(response))
            try:
                return self._answer(response)
            finally:
                self.lib.response_free(response)

    def _answer(self, response):
        lines = ctypes.POINTER(native.Header)()
        count = self.lib.response_headers(response, ctypes.byref(lines))
        headers = [(native.taken(lines[i].name), native.taken(lines[i].value) or b"")
                   for i in range(count)]
        return (self.lib.response_status(response), headers,
                native.taken(self.lib.response_body(response)) or b"")

    def close(self):
        """Wait for the calls at work, then close.  A second time does nothing."""
        if os.getpid() != self.pid:
            return
        with self.changed:
            if self.closed:
                return
            self.closed = True
            self.changed.wait_for(lambda: not self.calls)
        try:
            self.lib.do("database_close", self.pointer)
        finally:
            self.lib.database_free(self.pointer)


class Cancel:
    """och_cancel: ends an exchange from another thread.  Freed when nobody refers to it any more."""

    def __init__(self):
        self.lib, self.pointer = native.library(), ctypes.c_void_p()
        self.lib.do("cancel_new", ctypes.byref(self.pointer))

    def fire(self):
        self.lib.cancel_fire(self.pointer)

    def __del__(self):
        if self.pointer:
            self.lib.cancel_free(self.pointer)


_lock = threading.Lock()  # guards _open and the holders of each handle
_open = {}


def settings_text(settings):
    """YAML for a dict of settings; text stays what it is."""
    if not settings:
        return ""
    if isinstance(settings, str):
        return settings
    lines = []
    for name, value in settings.items():
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, (list, tuple)):
            value = "[" + ", ".join(quoted(item) for item in value) + "]"
        elif isinstance(value, str):
            value = quoted(value)
        lines.append(f"{name}: {value}\n")
    return "".join(lines)


def quoted(value):
    return "'" + str(value).replace("'", "''") + "'"


def acquire(path, *, read_only=False, memory_limit=0, threads=0, settings=None):
    """Hold the handle of a folder, opened if need be.  None: a new database in memory."""
    options = {"read_only": read_only, "memory_limit": memory_limit or 0, "threads": threads,
               "settings": settings}
    with _lock:
        if path is None:
            handle = Handle(None, options)
            _open[id(handle)] = handle
        else:
            key = os.path.realpath(os.fspath(path))
            handle = _open.get(key)
            if handle is None:
                handle = _open[key] = Handle(os.fspath(path), options)
            elif handle.options != options:
                raise ValueError(f"{path} is open in this process with other options: "
                                 f"{handle.options}")
        handle.holders += 1
        return handle


def release(handle):
    """Let go of a handle; the last one closes it."""
    if handle.pid != os.getpid():
        return
    with _lock:
        handle.holders -= 1
        if handle.holders > 0:
            return
        for key in [key for key, other in _open.items() if other is handle]:
            del _open[key]
        handle.close()  # under the lock, so that whoever opens the folder next finds it free


@atexit.register
def close_all():
    with _lock:
        left = list(_open.values())
        _open.clear()
    for handle in left:
        handle.close()


def _forget():
    """In a forked child: nothing is open here, and a lock that another thread held is free."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
