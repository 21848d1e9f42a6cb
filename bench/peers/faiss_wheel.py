#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""faiss as PyPI ships it (built for AVX2 and AVX-512; Debian's build has neither), in the lines of the kit's libpeers.

    faiss_wheel.py DATA ROWS faiss-hnsw | faiss-ivf-pqfs-refine

One thread, one query a call (a call costs some microseconds of Python: told as call_us, not subtracted), CPU time.
"""
import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import pathlib
import sys
import time

import faiss
import numpy as np

K, TRUTH_K = 10, 100
EFFORTS = (10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 800)
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def rss_mb():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def make(kind, rows, dim):
    """The index, the way to set its effort, and what must live as long; as libpeers makes them."""
    if kind == "faiss-hnsw":
        index = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
        return index, "ef", EFFORTS, lambda effort: setattr(index.hnsw, "efSearch", effort), ()
    coarse = faiss.IndexFlatIP(dim)
    lists, parts = 1024 if rows >= 50000 else 256, dim // 2 if dim <= 128 else dim // 4
    inner = faiss.IndexIVFPQFastScan(coarse, dim, lists, parts, 4, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexRefineFlat(inner)
    index.k_factor = 20
    return index, "nprobe", PROBES, lambda effort: setattr(inner, "nprobe", effort), (coarse, inner)


def main():
    folder, rows, kind = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    count, dim, queries = map(int, (folder / "shape.txt").read_text().split())
    base = np.fromfile(folder / "base.f32", np.float32, rows * dim).reshape(rows, dim)
    query = np.fromfile(folder / "query.f32", np.float32).reshape(queries, dim)
    truth = np.fromfile(folder / f"truth-none-0-{rows}.bin", np.uint32).reshape(queries, TRUTH_K)[:, :K]
    faiss.omp_set_num_threads(1)
    index, name, efforts, set_effort, _kept = make(kind, rows, dim)
    before, start = rss_mb(), time.process_time()
    if not index.is_trained:
        index.train(base)
    index.add(base)
    line = {"lib": kind + "-wheel", "rows": rows, "dim": dim, "build_threads": 1,
            "build_s": round(time.process_time() - start, 2), "index_mb": round(rss_mb() - before)}
    print(json.dumps(line), flush=True)
    for effort in efforts:
        set_effort(effort)
        found, done, start = None, 0, time.process_time()
        while time.process_time() - start < 0.5:
            found = [index.search(query[q:q + 1], K)[1][0] for q in range(queries)]
            done += queries
        spent = time.process_time() - start
        hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth.astype(np.int64)))
        print(json.dumps({"lib": kind + "-wheel", "threads": 1, name: effort, "recall": round(hits / K / queries, 4),
                          "qps": round(done / spent)}), flush=True)


if __name__ == "__main__":
    main()
