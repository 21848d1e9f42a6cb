#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Requests as large as they come, over HTTP: `$in` of 100,000 values, `$or` of 1,000 terms, 50,000 ids.

    bench/giants.py build/release/ochre [ROWS]

Each is asked seven times over ROWS (60,000) records with metadata and documents, of which the last thousand are still in the
log alone; the answer is checked, the median and the slowest are told.  All shall take less than 100 ms."""
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    def __init__(self, binary, folder):
        port = free_port()
        self.process = subprocess.Popen([binary, "serve", "--path", folder, "--port", str(port)],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(200):
            try:
                self.ask("GET", "/api/v2/heartbeat")
                return
            except OSError:
                self.client.close()
                time.sleep(0.05)
        raise SystemExit("the server does not start")

    def ask(self, method, path, body=None):
        text = body if isinstance(body, (str, type(None))) else json.dumps(body)
        self.client.request(method, path, text, {"content-type": "application/json"})
        answer = self.client.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {data[:300].decode()}")
        return data


def fill(server, path, rows):
    for first in range(0, rows, 2000):
        batch = range(first, min(first + 2000, rows))
        server.ask("POST", path + "/add", {
            "ids": [f"row{i}" for i in batch], "embeddings": [[i % 7, i % 11, 1] for i in batch],
            "documents": [f"number {i} of many" for i in batch],
            "metadatas": [{"n": i, "s": f"value {i}", "f": i / 3} for i in batch]})


def questions(rows):
    """Name, what is asked, how many records it is about."""
    numbers = random.Random(5).sample(range(4 * rows), 100_000)
    hits = sum(n < rows for n in numbers)
    terms = [{"n": n} if n % 2 else {"s": f"value {n}"} for n in numbers[:1000]]
    ids = [f"row{i}" for i in random.Random(6).sample(range(rows), min(rows, 50_000))]
    yield "$in of 100,000 integers", {"where": {"n": {"$in": numbers}}, "include": []}, hits
    yield "$in of 100,000 strings", {"where": {"s": {"$in": [f"value {n}" for n in numbers]}}, "include": []}, hits
    yield "$nin of 100,000 integers", {"where": {"n": {"$nin": numbers}}, "include": []}, rows - hits
    yield "$or of 1,000 terms", {"where": {"$or": terms}, "include": []}, sum(n < rows for n in numbers[:1000])
    yield "$and of 1,000 $ne", {"where": {"$and": [{"n": {"$ne": n}} for n in numbers[:1000]]}, "include": []}, \
        rows - sum(n < rows for n in numbers[:1000])
    yield f"{len(ids):,} ids", {"ids": ids, "include": []}, len(ids)
    yield f"{len(ids):,} ids and a filter", {"ids": ids, "where": {"n": {"$lt": rows // 2}}, "include": []}, \
        sum(int(name[3:]) < rows // 2 for name in ids)


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 60_000
    with tempfile.TemporaryDirectory() as folder:
        server = Server(sys.argv[1], folder)
        made = json.loads(server.ask("POST", BASE, {"name": "giants"}))
        path = f"{BASE}/{made['id']}"
        fill(server, path, rows - 1000)
        time.sleep(12)  # parts and their indexes are made when nobody writes
        server.ask("POST", path + "/add", {
            "ids": [f"row{i}" for i in range(rows - 1000, rows)], "embeddings": [[i % 7, i % 11, 1] for i in range(1000)],
            "documents": [f"number {i} of many" for i in range(rows - 1000, rows)],
            "metadatas": [{"n": i, "s": f"value {i}", "f": i / 3} for i in range(rows - 1000, rows)]})
        late = False
        for name, body, wanted in questions(rows):
            text, took = json.dumps(body), []
            for _ in range(7):
                began = time.perf_counter()
                answer = server.ask("POST", path + "/get", text)
                took.append((time.perf_counter() - began) * 1000)
                found = len(json.loads(answer)["ids"])
                if found != wanted:
                    raise SystemExit(f"{name}: {found} records, not {wanted}")
            late |= statistics.median(took) > 100
            print(f"{name:28} {len(text) / 1e6:6.2f} MB asked {wanted:7,} found "
                  f"{statistics.median(took):8.1f} ms {max(took):8.1f} ms at most")
        server.process.terminate()
        server.process.wait()
        raise SystemExit(late)


main()
