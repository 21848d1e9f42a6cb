#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Search by vectors, by words and by both in one request, over HTTP, one client: what a hybrid costs beside its dearest part.

    hybrid.py BINARY FILE [--docs 50000] [--dimension 384] [--queries 100] [--port 8466]

Documents are paragraphs of FILE, vectors random around a thousand centres, sparse vectors BM25's own counts of some words. Every query is asked each way in turn;
p50 and p90 in ms, and the median of the ratios hybrid : dearest part of the same query. Standard library only.
"""
import argparse
import http.client
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib

BASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"
SCHEMA = {"defaults": {}, "keys": {"words": {"sparse_vector": {"sparse_vector_index": {"enabled": True, "config": {"bm25": True}}}}}}


def call(connection, method, path, body=None):
    connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    data = answer.read()
    if answer.status >= 300:
        sys.exit(f"{method} {path}: {answer.status} {data[:300]!r}")
    return json.loads(data)


def paragraphs(path, count):
    text = open(path, encoding="utf-8", errors="ignore").read(count * 1200)
    at = 0
    for _ in range(count):
        end = text.find("\n\n", at + 600)
        end = min(len(text), at + 4000) if end < 0 else min(end, at + 4000)
        if end <= at:
            return
        yield text[at:end]
        at = end


def sparse(text):
    counts = {}
    for word in re.findall(r"[a-z]{3,}", text.lower())[:60]:
        key = zlib.crc32(word.encode())
        counts[key] = counts.get(key, 0) + 1
    keys = sorted(counts)
    return {"#type": "sparse_vector", "indices": keys, "values": [counts[k] / (counts[k] + 1.2) for k in keys]}


def rrf(*lists):
    terms = [{"$div": {"left": {"$val": 1}, "right": {"$sum": [{"$val": 60}, one]}}} for one in lists]
    return {"$mul": [{"$val": -1}, {"$sum": terms}]}


def ranked(one, **more):
    (name, body), = one.items()
    return {name: {**body, **more}}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("file")
    for name, value in (("docs", 50000), ("dimension", 384), ("queries", 100), ("port", 8466)):
        parser.add_argument("--" + name, type=int, default=value)
    options = parser.parse_args()
    rng = random.Random(3)
    centres = [[rng.gauss(0, 1) for _ in range(options.dimension)] for _ in range(1000)]
    noise = [rng.gauss(0, 0.7) for _ in range(1 << 16)]

    def vector():
        at = rng.randrange(len(noise) - options.dimension)
        return [round(a + b, 4) for a, b in zip(rng.choice(centres), noise[at:])]

    documents = list(paragraphs(options.file, options.docs))
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([options.binary, "serve", "--path", folder, "--port", str(options.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", options.port)
                    call(connection, "GET", "/api/v2/heartbeat")
                    break
                except OSError:
                    time.sleep(0.1)
            path = BASE + "/" + call(connection, "POST", BASE, {"name": "hybrid", "schema": SCHEMA})["id"]
            for first in range(0, len(documents), 500):
                batch = documents[first : first + 500]
                call(connection, "POST", path + "/add", {"ids": [f"d{first + i}" for i in range(len(batch))], "documents": batch,
                                                         "embeddings": [vector() for _ in batch], "metadatas": [{"words": sparse(d)} for d in batch]})
            print(f"{len(documents)} documents; waiting until nothing is compacted any more", flush=True)
            before = None
            while before != (now := spent(server.pid)):
                before = now
                time.sleep(1)
            measure(connection, path, documents, vector, options.queries, rng)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()


def spent(pid):
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) // 10


def measure(connection, path, documents, vector, queries, rng):
    ways = {"dense": [], "bm25": [], "sparse": [], "dense + bm25": [], "dense + bm25 + sparse": [], "two payloads": []}
    ratios = {"dense + bm25": [], "dense + bm25 + sparse": []}
    for _ in range(queries):
        words = rng.sample(re.findall(r"[A-Za-z]{3,}", rng.choice(documents)) or ["the"], 1)
        words += rng.sample(re.findall(r"[A-Za-z]{3,}", rng.choice(documents)) * 8 or ["the"] * 8, 7)
        dense = {"$knn": {"query": vector(), "limit": 100}}
        bm25 = {"$bm25": {"query": " ".join(words), "limit": 100}}
        query = sparse(" ".join(words))
        query.pop("#type")
        held = {"$knn": {"query": query, "key": "words", "limit": 100}}
        fuse = [ranked(one, return_rank=True, default=1000) for one in (dense, bm25, held)]
        asked = {"dense": [dense], "bm25": [bm25], "sparse": [held], "dense + bm25": [rrf(*fuse[:2])],
                 "dense + bm25 + sparse": [rrf(*fuse)], "two payloads": [dense, bm25]}
        took = {}
        for way, ranks in asked.items():
            body = {"searches": [{"rank": rank, "limit": {"limit": 10}, "select": {"keys": ["#score"]}} for rank in ranks]}
            best = None
            for _ in range(3):
                began = time.perf_counter()
                call(connection, "POST", path + "/search", body)
                best = min(best or 1e9, time.perf_counter() - began)
            took[way] = best * 1000
            ways[way].append(took[way])
        ratios["dense + bm25"].append(took["dense + bm25"] / max(took["dense"], took["bm25"]))
        ratios["dense + bm25 + sparse"].append(took["dense + bm25 + sparse"] / max(took["dense"], took["bm25"], took["sparse"]))
    for way, times in ways.items():
        times.sort()
        ratio = f"   x{statistics.median(ratios[way]):.2f} of the dearest part" if way in ratios else ""
        print(f"{way:22} p50 {times[len(times) // 2]:7.2f}  p90 {times[len(times) * 9 // 10]:7.2f} ms{ratio}")


main()
