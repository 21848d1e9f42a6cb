#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Recall of default settings where data or queries are odd, in process.

    OCHRE_LIBRARY=build/release/libochre.so.1 python bench/odd.py [--rows 30000] [--queries 300] [--sets "a;b"] [--spaces l2,ip]

Needs numpy.  One line for each set and space; three kinds of queries, each asked for ten neighbours:
  like   made as the rows are;  near   rows, each number up to some 10 % off;  off   of a normal distribution about 0, as long as the numbers of rows are
Found are those no farther than the true tenth, in double precision.  `lists`: visited on the average.  Then, once correction by real queries has had
an idle while, the same `off` queries again."""
import argparse
import json
import pathlib
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "bindings/python"))
import ochre  # noqa: E402

BASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"
K = 10


def sets(random):
    normal = lambda rows, dim: random.normal(size=(rows, dim))
    centres = normal(300, 96)

    def long_ones(rows):
        made = normal(rows, 32)
        made[random.random(rows) < 0.01] *= 7
        return made

    return {
        "integers 0-3, 16": lambda n: random.integers(0, 4, size=(n, 16)),
        "bits, 64": lambda n: random.integers(0, 2, size=(n, 64)),
        "counts, 100": lambda n: random.poisson(0.3, size=(n, 100)),
        "heavy tails, 64": lambda n: random.standard_t(1.5, size=(n, 64)),
        "heavy tails, 16": lambda n: random.standard_t(1.5, size=(n, 16)),
        "normal, 16": lambda n: normal(n, 16),
        "normal, 128": lambda n: normal(n, 128),
        "uniform, 8": lambda n: random.random((n, 8)),
        "3 % not 0, 128": lambda n: normal(n, 128) * (random.random((n, 128)) < 0.03),
        "1 % long, 32": long_ones,
        "lengths lognormal, 64": lambda n: normal(n, 64) * np.exp(0.5 * normal(n, 1)),
        "near unit vectors, 128": lambda n: np.eye(128)[random.integers(0, 128, n)] + 0.01 * normal(n, 128),
        "300 clusters, 96": lambda n: centres[random.integers(0, 300, n)] + 0.5 * normal(n, 96),
        "far from 0, 32": lambda n: 1000 + 0.01 * normal(n, 32),
    }


def distances(space, query, rows):
    if space == "l2":
        return ((rows - query) ** 2).sum(1)
    if space == "ip":
        return 1 - rows @ query
    lengths = np.sqrt((rows * rows).sum(1)) * np.sqrt((query * query).sum())
    return 1 - (rows @ query) / np.maximum(lengths, 1e-300)


class Asked:
    """One collection; found recall of some queries and what they cost."""

    def __init__(self, db, name, space, rows):
        self.db, self.space, self.rows = db, space, rows.astype(np.float64)
        self.collection = db.create_collection(name, configuration={"hnsw": {"space": space}})
        for first in range(0, len(rows), 3000):
            batch = rows[first:first + 3000]
            self.collection.add([str(first + i) for i in range(len(batch))], batch)
        _, _, body = db.exchange("GET", f"{BASE}/{name}")
        self.path = f"{BASE}/{json.loads(body)['id']}/query"
        until = time.time() + 60
        while time.time() < until:
            told = self.ask(rows[0], explain=True)["explain"]
            if told["parts"] <= 1 and told["tail_slots"] == 0:
                return
            time.sleep(0.2)

    def ask(self, query, **more):
        body = json.dumps({"query_embeddings": [query.tolist()], "n_results": K, "include": [], **more})
        status, _, answer = self.db.exchange("POST", self.path, body.encode(), [("content-type", "application/json")])
        if status != 200:
            raise SystemExit(answer.decode())
        return json.loads(answer)

    def recall(self, queries):
        found, lists = [], []
        for query in queries:
            exact = query.astype(np.float64)
            truth = distances(self.space, exact, self.rows)
            last = np.partition(truth, K - 1)[K - 1]
            slack = 3e-6 * abs(last) + (5e-7 if self.space == "cosine" else 0)
            if self.space == "ip":
                slack += 2e-6 * np.sqrt((exact ** 2).sum() * (self.rows[0] ** 2).sum())
            told = self.ask(query, explain=True)
            found.append((truth[[int(i) for i in told["ids"][0]]] <= last + slack).mean())
            lists.append(sum(source.get("lists_probed", 0) for source in told["explain"]["sources"]))
        return np.mean(found), np.std(found) / np.sqrt(len(found)), np.mean(lists)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=30000)
    options.add_argument("--queries", type=int, default=300)
    options.add_argument("--sets", default="")
    options.add_argument("--spaces", default="l2,cosine,ip")
    given = options.parse_args()
    wanted = [name for name in given.sets.split(";") if name]
    with tempfile.TemporaryDirectory() as folder, ochre.open(folder, settings={"compact_idle_ms": 300}) as db:
        for number, name in enumerate(sets(np.random.default_rng(0))):
            random = np.random.default_rng(number)
            make = sets(random)[name]
            if wanted and name not in wanted:
                continue
            rows, like = make(given.rows).astype(np.float32), make(given.queries).astype(np.float32)
            some = rows[random.integers(0, given.rows, given.queries)]
            near = (some * (1 + 0.1 * random.normal(size=some.shape))).astype(np.float32)
            off = (random.normal(size=some.shape) * np.abs(some).mean(1)[:, None]).astype(np.float32)
            for space in given.spaces.split(","):
                asked = Asked(db, f"set{number}-{space}", space, rows)
                texts = []
                for kind, queries in {"like": like, "near": near, "off": off}.items():
                    mean, error, lists = asked.recall(queries)
                    texts.append(f"{kind} {mean:.3f} ±{error:.3f} ({lists:.0f} lists)")
                time.sleep(10)
                texts.append(f"corrected {asked.recall(off)[0]:.3f}")
                print(f"{name}, {space}: " + ", ".join(texts), flush=True)
                db.drop_collection(f"set{number}-{space}")


if __name__ == "__main__":
    main()
