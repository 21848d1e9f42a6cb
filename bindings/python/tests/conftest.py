# SPDX-License-Identifier: Apache-2.0
"""While a test runs, Python may open no network socket, and the library must open none of any kind."""
import os
import pathlib
import sys

import pytest

try:
    import urllib3.util.connection  # noqa: F401  binds a socket when it is imported; older clients bring it
except ImportError:
    pass

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

FORBIDDEN = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
             "socket.sendto"}
watching = []


def refuse(event, arguments):
    if watching and event in FORBIDDEN:
        watching.append(event)
        raise AssertionError(f"a network socket was used: {event} {arguments}")


sys.addaudithook(refuse)


def sockets():
    """The sockets that this process holds, whoever in it opened them."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            where = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if where.startswith("socket:"):
            found.add(where)
    return found


@pytest.fixture(autouse=True)
def no_sockets(request):
    if request.node.get_closest_marker("event_loop"):  # asyncio wakes itself through a pair of sockets
        watching.append("start")
        yield
        seen, watching[:] = watching[1:], []
        assert not seen
        return
    before = sockets()
    watching.append("start")
    yield
    seen, watching[:] = watching[1:], []
    assert not seen and sockets() <= before


@pytest.fixture(autouse=True)
def nothing_stays_open():
    yield
    from ochre import _handle
    left = list(_handle._open)
    _handle.close_all()
    assert not left, f"left open: {left}"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def pytest_configure(config):
    config.addinivalue_line("markers", "event_loop: the test runs asyncio")
