#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""5,000 real paragraphs, found by meaning, by metadata and by text, through Chroma's official client.

    quickstart.py --url http://localhost:8000     against a server
    quickstart.py --path ./quickstart-data        embedded: no server, no socket

Below the line that makes the client nothing differs. The paragraphs come from this machine's documentation, the
embeddings from all-MiniLM-L6-v2; they are computed once and kept in --cache.
"""
import argparse
import hashlib
import json
import pathlib
import sys
import time
import urllib.parse

import numpy as np

import texts

QUESTIONS = ["How do I compress a file?", "searching for a pattern in text",
             "What happens when a process runs out of memory?"]


class Clock:
    """Says how long each step took."""

    def __init__(self):
        self.last = time.perf_counter()

    def lap(self, what, count=None):
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        rate = f"  {count / seconds:,.0f}/s" if count else ""
        print(f"{what:44} {seconds * 1000:10,.1f} ms{rate}")


def embedded(items, cache):
    """Vectors of all paragraphs and of the questions, from the cache if it holds just these."""
    wanted = [item["text"] for item in items] + QUESTIONS
    key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
    if cache.exists():
        with np.load(cache) as kept:
            if str(kept["key"]) == key:
                return kept["vectors"][:len(items)], kept["vectors"][len(items):]
    from minilm import MiniLM
    show = sys.stderr.isatty()
    vectors = MiniLM().embed(wanted, lambda done, total: show and print(
        f"\rembedding {done:,} of {total:,}", end="\n" if done == total else "", file=sys.stderr))
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(cache, key=key, vectors=vectors)
    return vectors[:len(items)], vectors[len(items):]


def connect(options):
    if options.path:
        import ochre
        return ochre.Client(options.path)
    import chromadb
    address = urllib.parse.urlsplit(options.url)
    return chromadb.HttpClient(host=address.hostname, port=address.port or 8000)


def show(title, found):
    print(f"\n{title}")
    for text, metadata, distance in found:
        near = f"{distance:.3f}  " if distance is not None else ""
        print(f"  {near}[{metadata['kind']}/{metadata['package']}] {text[:100]}")
    if not found:
        sys.exit("nothing was found")


def hits(answer):
    return list(zip(answer["documents"][0], answer["metadatas"][0], answer["distances"][0]))


def work(client, items, vectors, questions, clock):
    if any(c.name == "paragraphs" for c in client.list_collections()):
        client.delete_collection("paragraphs")
    collection = client.create_collection("paragraphs", embedding_function=None,
                                          configuration={"hnsw": {"space": "cosine"}})
    clock.lap("collection made")

    for start in range(0, len(items), 1000):
        part = items[start:start + 1000]
        collection.add(
            ids=[f"p{start + n}" for n in range(len(part))], embeddings=vectors[start:start + 1000],
            documents=[item["text"] for item in part],
            metadatas=[{"kind": item["kind"], "package": item["package"], "file": item["file"],
                        "words": len(item["text"].split())} for item in part])
    clock.lap(f"{len(items):,} paragraphs added", len(items))
    assert collection.count() == len(items)

    for question, vector in zip(QUESTIONS, questions):
        answer = collection.query(query_embeddings=[vector], n_results=3)
        clock.lap("found by meaning")
        show(f'By meaning: "{question}"', hits(answer))

    where = {"$and": [{"kind": "man"}, {"words": {"$lt": 25}}]}
    answer = collection.query(query_embeddings=[questions[0]], n_results=3, where=where)
    clock.lap("found by meaning among a filter's")
    show(f"By meaning, only where {json.dumps(where)}", hits(answer))
    assert all(m["kind"] == "man" and m["words"] < 25 for m in answer["metadatas"][0])

    found = collection.get(where={"kind": "python"}, limit=3)
    clock.lap("found by metadata")
    show('By metadata: kind is "python"', list(zip(found["documents"], found["metadatas"], [None] * 3)))

    found = collection.get(where_document={"$contains": "environment variable"})
    clock.lap("found by text")
    show(f'By text: {len(found["ids"])} paragraphs with "environment variable", of them',
         list(zip(found["documents"][:3], found["metadatas"], [None] * 3)))

    own = collection.query(query_embeddings=vectors[:200], n_results=1)
    clock.lap("200 paragraphs found by their own vectors", 200)
    assert all(distances[0] < 1e-5 for distances in own["distances"])
    print(f"\nAll right: {collection.count():,} paragraphs in \"{collection.name}\".")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default="http://localhost:8000")
    where.add_argument("--path", help="a folder: run embedded, without a server")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(".cache/quickstart.npz"))
    options = parser.parse_args()
    clock = Clock()
    items = texts.paragraphs(options.count)
    clock.lap(f"{len(items):,} paragraphs read")
    vectors, questions = embedded(items, options.cache)
    clock.lap(f"{len(items):,} embeddings", len(items))
    client = connect(options)
    clock.lap("opened")
    try:
        work(client, items, vectors, questions, clock)
    finally:
        if hasattr(client, "close"):
            client.close()


if __name__ == "__main__":
    main()
