#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small collections in great number: memory, restart, time to the first answer of a cold one.

    many.py BINARY [--collections 100000] [--rows 10] [--dimension 384] [--path DIR] [--port N]

Creates and fills them over HTTP, lets the server come to rest, stops and restarts it, then asks collections that nothing has touched since
for a row they hold. Prints one JSON line. Standard library only.
"""
import argparse
import base64
import http.client
import json
import os
import random
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

BASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"


def rss_mb(pid, key="VmRSS"):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024


def call(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {data[:300]!r}")
    return json.loads(data)


def start(args, path):
    began = time.monotonic()
    process = subprocess.Popen([args.binary, "serve", "--path", path, "--port", str(args.port)], stderr=subprocess.DEVNULL)
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", args.port)
            call(connection, "GET", "/api/v2/heartbeat")
            return process, time.monotonic() - began
        except ConnectionError:
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}")
            time.sleep(0.005)


def row_of(collection, row, dimension):
    values = random.Random(collection * 1000 + row)
    return [values.uniform(-1, 1) for _ in range(dimension)]


def fill(args, numbers, ids, peak, pid):
    connection = http.client.HTTPConnection("127.0.0.1", args.port)
    for n in numbers:
        ids[n] = call(connection, "POST", BASE, {"name": f"many-{n:06d}"})["id"]
        rows = [base64.b64encode(struct.pack(f"<{args.dimension}f", *row_of(n, r, args.dimension))).decode() for r in range(args.rows)]
        call(connection, "POST", f"{BASE}/{ids[n]}/add", {"ids": [f"r{r}" for r in range(args.rows)], "embeddings": rows,
                                                          "metadatas": [{"row": r} for r in range(args.rows)]})
        if n % 500 == 0:
            peak[0] = max(peak[0], rss_mb(pid))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--collections", type=int, default=100000)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--path")
    parser.add_argument("--port", type=int, default=8137)
    args = parser.parse_args()
    path = args.path or tempfile.mkdtemp(prefix="ochre-many-")
    process, _ = start(args, os.path.join(path, "db"))
    ids, peak, began = [None] * args.collections, [0.0], time.monotonic()
    workers = [threading.Thread(target=fill, args=(args, range(w, args.collections, 4), ids, peak, process.pid)) for w in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    filled = time.monotonic() - began
    time.sleep(20)
    settled = rss_mb(process.pid)
    peak = max(peak[0], rss_mb(process.pid, "VmHWM"))
    process.send_signal(signal.SIGTERM)
    stop_began = time.monotonic()
    if process.wait(10) != 0:
        sys.exit("the server did not end with 0")
    stopped = time.monotonic() - stop_began
    process, restarted = start(args, os.path.join(path, "db"))
    connection = http.client.HTTPConnection("127.0.0.1", args.port)
    touches, wrong = [], 0
    for n in random.Random(7).sample(range(args.collections), min(2000, args.collections)):
        body = {"query_embeddings": [row_of(n, 3, args.dimension)], "n_results": 1, "include": ["distances"]}
        touch = time.monotonic()
        answer = call(connection, "POST", f"{BASE}/{ids[n]}/query", body)
        touches.append((time.monotonic() - touch) * 1000)
        wrong += answer["ids"] != [["r3"]] or answer["distances"][0][0] > 1e-6
    touches.sort()
    line = {"bench": "many", "collections": args.collections, "rows": args.rows, "dimension": args.dimension, "filled_s": round(filled, 1),
            "peak_rss_mb": round(peak, 1), "settled_rss_mb": round(settled, 1), "stop_s": round(stopped, 3), "restart_s": round(restarted, 3),
            "first_touch_ms_p50": round(statistics.median(touches), 3), "first_touch_ms_p99": round(touches[int(len(touches) * 0.99)], 3),
            "first_touch_ms_max": round(touches[-1], 3), "rss_after_touching_mb": round(rss_mb(process.pid), 1), "wrong": wrong}
    print(json.dumps(line))
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
