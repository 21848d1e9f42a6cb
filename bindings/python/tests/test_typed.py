# SPDX-License-Identifier: Apache-2.0
"""Typed calls on NumPy, which need no chromadb."""
import json
import os
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

import ochre


@pytest.fixture
def db(folder):
    with ochre.open(folder) as made:
        yield made


def filled(db, count=100, dimension=8):
    docs = db.create_collection("docs")
    vectors = np.random.default_rng(7).standard_normal((count, dimension)).astype(np.float32)
    docs.add([f"d{i}" for i in range(count)], vectors,
             documents=[None if i == 5 else f"paragraph number {i}" for i in range(count)],
             metadatas=[{"i": i, "half": i / 2} for i in range(count)],
             uris=[f"file:///{i}" for i in range(count)])
    return docs, vectors


def test_writes_say_what_they_did(db):
    docs, vectors = filled(db, 10)
    assert docs.add(["d1", "new"], vectors[:2]) == ochre.Counts(inserted=1, skipped=1)
    assert docs.upsert(["d1", "newer"], vectors[:2]) == ochre.Counts(inserted=1, updated=1)
    assert docs.update(["d1", "none"], documents=["a", "b"]) == ochre.Counts(updated=1, skipped=1)
    assert docs.delete(["d1", "none"]) == ochre.Counts(deleted=1)
    assert docs.delete(where={"i": {"$gte": 8}}) == ochre.Counts(deleted=2)
    assert docs.delete(where={"i": {"$gte": 0}}, limit=3) == ochre.Counts(deleted=3)
    assert docs.count() == 6


def test_negative_numbers_are_refused(db):
    docs, vectors = filled(db, 10)
    everything = {"i": {"$gte": 0}}
    for call in (lambda: docs.delete(where=everything, limit=-1), lambda: docs.get(limit=-1),
                 lambda: docs.get(offset=-1), lambda: docs.query(vectors[0], k=-1),
                 lambda: docs.get(limit=2**64 + 1)):
        with pytest.raises(ochre.InvalidError, match="limit|offset|k must not be"):
            call()
    with pytest.raises(ochre.Error, match="for 4294967296 neighbours: no number may be above"):
        docs.query(vectors[0], k=2**32)
    assert docs.count() == 10
    assert len(docs.get(limit=2**32)) == 10


def test_get_gives_columns(db):
    docs, vectors = filled(db)
    everything = docs.get(include=("vectors", "documents", "metadatas", "uris"))
    assert everything.ids == [f"d{i}" for i in range(100)] and len(everything) == 100
    assert np.array_equal(everything.vectors, vectors)
    assert everything.documents[5] is None and everything.documents[6] == "paragraph number 6"
    assert everything.metadatas[3] == {"i": 3, "half": 1.5}
    assert everything.uris[2] == "file:///2"
    assert docs.get(["d7", "d3", "none"]).ids == ["d3", "d7"]
    assert docs.get(limit=2, offset=4).ids == ["d4", "d5"]
    assert docs.get(where={"i": {"$lt": 2}}).ids == ["d0", "d1"]
    assert docs.get(where_document={"$contains": "number 42"}, include=()).ids == ["d42"]
    assert docs.count({"i": {"$lt": 30}}) == 30


def test_query_is_exact(db):
    docs, vectors = filled(db)
    asked = np.random.default_rng(8).standard_normal((3, 8)).astype(np.float32)
    for question, hits in zip(asked, docs.query(asked, 5, include=("vectors",))):
        right = ((vectors.astype(float) - question) ** 2).sum(1)
        order = np.argsort(right)[:5]
        assert hits.ids == [f"d{i}" for i in order]
        assert np.allclose(hits.distances, right[order], rtol=1e-5)
        assert np.array_equal(hits.vectors, vectors[order])
    single = docs.query(asked[0], 5, where={"i": {"$gte": 50}})
    assert isinstance(single, ochre.Hits) and all(m["i"] >= 50 for m in single.metadatas)
    assert docs.query(asked[0], 3, ids=["d1", "d2"], include=()).ids in (["d1", "d2"], ["d2", "d1"])


def test_a_query_may_be_bounded(db):
    docs, vectors = filled(db)
    far = ((vectors - vectors[0]) ** 2).sum(1)
    wanted = float(np.sort(far)[4]) + 1e-3
    assert docs.query(vectors[0], 50, max_distance=wanted, include=()).ids == [
        f"d{i}" for i in np.argsort(far)[:5]]
    assert docs.query(vectors[0], 50, max_distance=np.float32(0)).ids == ["d0"]
    for bad in (float("nan"), float("inf"), 1e300, "1", True):
        with pytest.raises(ochre.InvalidError, match="max_distance must be a number"):
            docs.query(vectors[0], max_distance=bad)


def test_a_query_may_name_its_recall(db, monkeypatch):
    docs, vectors = filled(db)
    for recall in (None, 0.5, 1, np.float64(0.75)):
        assert docs.query(vectors[3], 1, recall=recall).ids == ["d3"]
    for bad in (0, 0.49, 1.01, -1, float("nan"), "1", True, [1]):
        with pytest.raises(ochre.InvalidError, match=r"recall must be a number from 0.5 to 1"):
            docs.query(vectors[0], recall=bad)
    monkeypatch.setattr("ochre._database.share", lambda recall: recall)  # it reaches the library
    with pytest.raises(ochre.InvalidError, match=r"recall must be a number from 0.5 to 1"):
        docs.query(vectors[0], recall=0.49)


def test_a_search_ranks_and_shows_what_it_selects(db):
    docs, vectors = filled(db)
    ranked = {"rank": {"$knn": {"query": vectors[7].tolist()}}, "limit": {"limit": 2},
              "select": {"keys": ["#document", "half"]}}
    near, plain = docs.search(ranked, {"filter": {"i": {"$lt": 2}}})
    assert near.ids[0] == "d7" and near.distances[0] == 0 and len(near) == 2
    assert near.documents[0] == "paragraph number 7" and near.metadatas[0] == {"half": 3.5}
    assert near.vectors == [None, None] and near.uris == [None, None]
    assert plain.ids == ["d0", "d1"] and plain.metadatas == [None, None]
    assert docs.search() == []
    with pytest.raises(ochre.Error, match="rnak"):
        docs.search({"rnak": 1})


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, list])
def test_vectors_of_any_kind(db, kind):
    docs = db.create_collection("kinds")
    rows = [[1, 2], [3, 4]]
    docs.add(["a", "b"], rows if kind is list else np.array(rows, kind))
    docs.upsert(["c"], np.asfortranarray(np.array([[5, 6], [7, 8]], np.float32))[:1])
    assert docs.get(include=("vectors",)).vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_collections(db):
    first = db.create_collection("first", metadata={"a": 1},
                                 configuration={"hnsw": {"space": "cosine"}})
    db.get_or_create_collection("first")
    db.create_collection("second")
    assert db.collections() == ["first", "second"]
    with pytest.raises(ochre.ExistsError):
        db.create_collection("first")
    db.drop_collection("first")
    with pytest.raises(ochre.NotFoundError):
        db.collection("first")
    with pytest.raises(ochre.NotFoundError):
        first.count()
    with pytest.raises(ochre.NotFoundError):
        db.drop_collection("first")


def test_errors_say_what_is_wrong(db):
    docs, vectors = filled(db, 10)
    with pytest.raises(ochre.InvalidError, match="dimension of 8, got 3"):
        docs.add(["x"], [[1, 2, 3]])
    with pytest.raises(ochre.InvalidError, match="2 vectors for 1 ids"):
        docs.add(["x"], vectors[:2])
    with pytest.raises(ochre.InvalidError, match="1 documents for 2 ids"):
        docs.add(["x", "y"], vectors[:2], documents=["a"])
    with pytest.raises(ochre.InvalidError, match="unknown operator"):
        docs.get(where={"i": {"$bad": 1}})
    with pytest.raises(ochre.InvalidError, match='include has no "embeddings"'):
        docs.get(include=("embeddings",))
    with pytest.raises(ochre.InvalidError):
        docs.add([""], vectors[:1])
    with pytest.raises(ochre.InvalidError):
        docs.add(["x"], np.full((1, 8), np.nan, np.float32))
    with pytest.raises(ochre.InvalidError):
        docs.delete()
    with pytest.raises(ValueError):
        docs.add(["x"], vectors[:1], metadatas=[{"x": float("nan")}])
    assert docs.count() == 10


def test_text_of_all_kinds_survives(db):
    docs = db.create_collection("texts")
    texts = ["", "plain", "žluťoučký kůň", "漢字 🙂", "line\nbreak\ttab", "nul\0inside", "x" * 100_000]
    docs.add([str(i) for i in range(len(texts))], np.zeros((len(texts), 2)), documents=texts,
             metadatas=[{"text": text, "flag": True, "list": [1, 2]} for text in texts])
    got = docs.get()
    assert got.documents == texts
    assert [m["text"] for m in got.metadatas] == texts
    assert got.metadatas[0]["list"] == [1, 2] and got.metadatas[0]["flag"] is True
    docs.add(["numpy"], [[1, 1]], metadatas=[{"n": np.int64(7), "f": np.float32(0.5)}])
    assert docs.get(["numpy"]).metadatas == [{"n": 7, "f": 0.5}]


def test_an_exchange_is_what_a_server_answers(db):
    status, headers, body = db.exchange("GET", "/api/v2/heartbeat")
    assert status == 200 and json.loads(body)["nanosecond heartbeat"] > 0
    assert dict(headers)[b"content-type"] == b"application/json"
    assert db.exchange("GET", "/api/v2/nothing")[0] == 404
    status, _, body = db.exchange("POST", "/api/v2/tenants", '{"name": "another"}',
                                  [("content-type", "application/json")])
    assert status == 200
    with pytest.raises(ochre.InvalidError):
        db.exchange("GET", "no slash")


def test_it_is_the_same_data_as_the_official_clients(folder):
    pytest.importorskip("chromadb")
    client = ochre.Client(folder)
    with ochre.open(folder) as db:
        docs, vectors = filled(db, 10)
        theirs = client.get_collection("docs", embedding_function=None)
        assert theirs.count() == 10
        theirs.delete(ids=["d0"])
        assert docs.count() == 9
    ochre.close(client)


def test_closed_means_closed(folder):
    db = ochre.open(folder)
    docs, vectors = filled(db, 10)
    db.close()
    db.close()
    for call in (docs.count, docs.get, db.collections, lambda: docs.query(vectors[0]),
                 lambda: db.exchange("GET", "/")):
        with pytest.raises(ochre.ClosedError):
            call()
    with ochre.open(folder) as again:
        assert again.collection("docs").count() == 10


def test_in_memory_nothing_stays():
    with ochre.open() as first, ochre.open() as second:
        filled(first, 3)
        assert second.collections() == []
    with ochre.open() as third:
        assert third.collections() == []


def test_threads(db):
    docs = db.create_collection("docs")
    failures = []

    def work(number):
        try:
            for i in range(50):
                docs.add([f"{number}-{i}"], [[number, i, 1]], metadatas=[{"n": number}])
                assert docs.query([number, i, 1], 1).distances[0] == 0
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and docs.count() == 300


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_so(db):
    docs, _ = filled(db, 5)
    child = os.fork()
    if child == 0:
        try:
            docs.count()
        except ochre.ForkedError:
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert docs.count() == 5


def test_without_chromadb_it_imports_and_says_what_is_missing(folder):
    program = ("import sys\n"
               "for name in ('chromadb', 'httpx'): sys.modules[name] = None\n"
               "import ochre\n"
               "with ochre.open(sys.argv[1]) as db:\n"
               "    db.create_collection('docs').add(['a'], [[1, 2]])\n"
               "try: ochre.Client(sys.argv[1])\n"
               "except ImportError as e: print(e)\n")
    here = pathlib.Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(here)})
    assert done.returncode == 0, done.stderr
    assert "pip install chromadb" in done.stdout
