#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stopping (D26, D32): SIGTERM and SIGINT end an idle server within a second and a busy one within five, with exit status 0 and nothing
acknowledged lost; a second server on the folder is told at once who holds it, exit status 7."""
import argparse
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import Client, Refused, Server, free_port  # noqa: E402

FLAGS = ["--tail-rows-max", "300", "--compact-idle-ms", "100", "--log-level", "warn"]
ROWS = 20


class Writer(threading.Thread):
    def __init__(self, port, collection, name):
        super().__init__()
        self.port, self.collection, self.name_of = port, collection, name
        self.acknowledged, self.tried, self.refused = 0, 0, 0
        self.failure = None

    def run(self):
        try:
            client = Client(self.port, timeout=30)
            while True:
                n = self.tried
                self.tried += 1
                body = {"ids": [f"{self.name_of}-{n}-{i}" for i in range(ROWS)],
                        "embeddings": [[float(n % 97), float(i), 1.0, 0.5] for i in range(ROWS)],
                        "metadatas": [{"batch": n}] * ROWS}
                client.write(self.collection, "add", body)
                self.acknowledged = n + 1
        except Refused as refused:
            if refused.status not in (429, 503):
                self.failure = refused
        except (OSError, http.client.HTTPException):
            pass


class Reader(threading.Thread):
    def __init__(self, port, collection):
        super().__init__()
        self.port, self.collection = port, collection

    def run(self):
        try:
            client = Client(self.port, timeout=30)
            while True:
                client.nearest(self.collection, [[1.0, 2.0, 3.0, 4.0]] * 4)
        except (OSError, http.client.HTTPException, Refused):
            pass


def check_second(binary, server, parent):
    """A second server on the folder."""
    start = time.monotonic()
    second = subprocess.run([binary, "serve", "--path", server.folder, "--port", str(free_port())],
                            capture_output=True, timeout=10, check=False)
    took = time.monotonic() - start
    text = second.stderr.decode()
    assert second.returncode == 7, f"a second server exits with {second.returncode}: {text}"
    assert f"pid {server.process.pid}" in text and server.folder in text, f"it says: {text}"
    assert str(server.port) in text, f"it does not say where the first one listens: {text}"
    assert took < 1.5, f"a second server is told after {took:.1f} s"


def check_rows(client, collection, writers):
    rows = client.rows(collection, include=("metadatas",))
    for writer in writers:
        for n in range(writer.tried):
            there = sum(f"{writer.name_of}-{n}-{i}" in rows for i in range(ROWS))
            assert there in (0, ROWS), f"batch {n} has {there} of {ROWS} rows"
            assert there == ROWS or n >= writer.acknowledged, f"acknowledged batch {n} is lost"


def idle(server, number):
    server.start()
    assert server.wait_ready(), server.log_tail()
    keep = Client(server.port)  # an open connection without a request
    keep.call("GET", "/api/v2/heartbeat")
    server.process.send_signal(number)  # the same stop, sent to the process and to its group
    status, took = server.stop(number, 10)
    keep.close()
    assert status == 0, f"exit status {status}: {server.log_tail()}"
    assert took <= 1.0, f"idle, it took {took:.2f} s"
    return took


def busy(server, number, round_number):
    server.start()
    assert server.wait_ready(), server.log_tail()
    client = Client(server.port)
    collection = client.collection("stop")
    client.close()
    writers = [Writer(server.port, collection, f"r{round_number}w{i}") for i in range(6)]
    readers = [Reader(server.port, collection) for _ in range(4)]
    for thread in writers + readers:
        thread.start()
    time.sleep(0.7)
    status, took = server.stop(number, 15)
    for thread in writers + readers:
        thread.join()
    for writer in writers:
        if writer.failure:
            raise AssertionError(f"a writer got {writer.failure}")
    assert status == 0, f"exit status {status}: {server.log_tail()}"
    assert took <= 5.0, f"under load, it took {took:.2f} s"
    server.start()
    assert server.wait_ready(), server.log_tail()
    client = Client(server.port)
    check_rows(client, collection, writers)
    client.close()
    status, _ = server.stop(number, 10)
    assert status == 0, f"exit status {status}"
    return took, sum(writer.acknowledged for writer in writers)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    parent = tempfile.mkdtemp(prefix="ochre-stop-")
    server = Server(options.binary, os.path.join(parent, "data"), *FLAGS)
    slowest_idle = slowest_busy = batches = 0
    try:
        server.start()
        assert server.wait_ready(), server.log_tail()
        check_second(options.binary, server, parent)
        status, _ = server.stop(signal.SIGTERM, 10)
        assert status == 0, f"exit status {status}"
        for round_number in range(options.rounds):
            number = (signal.SIGTERM, signal.SIGINT)[round_number % 2]
            slowest_idle = max(slowest_idle, idle(server, number))
            took, acknowledged = busy(server, number, round_number)
            slowest_busy = max(slowest_busy, took)
            batches += acknowledged
    except AssertionError as error:
        print(f"stop_test: FAILED, folder {parent}: {error}", file=sys.stderr)
        if server.process and server.process.poll() is None:
            server.kill()
        return 1
    print(f"stop_test: {options.rounds} rounds; idle at most {slowest_idle * 1000:.0f} ms, under load at most "
          f"{slowest_busy * 1000:.0f} ms; {batches} acknowledged batches, none lost")
    shutil.rmtree(parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
