# SPDX-License-Identifier: Apache-2.0
"""The official client over the in-process transport."""
import gc
import os
import pathlib
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

chromadb = pytest.importorskip("chromadb")

import ochre  # noqa: E402
from conftest import sockets  # noqa: E402
from chromadb.api.shared_system_client import SharedSystemClient  # noqa: E402
from chromadb.errors import ChromaError, InvalidArgumentError, NotFoundError  # noqa: E402
from ochre import _handle  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent.parent
ENVIRONMENT = {**os.environ,
               "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture
def client(folder):
    made = ochre.Client(folder)
    yield made
    ochre.close(made)


def filled(client, name="docs", count=20):
    docs = client.create_collection(name, embedding_function=None)
    docs.add(ids=[f"d{i}" for i in range(count)], embeddings=[[i, 1.0, 0.5] for i in range(count)],
             documents=[f"paragraph number {i}" for i in range(count)],
             metadatas=[{"i": i, "even": i % 2 == 0} for i in range(count)],
             uris=[f"file:///{i}" for i in range(count)])
    return docs


def test_it_is_the_official_client(client):
    assert type(client) is chromadb.api.client.Client
    assert client.heartbeat() > 0
    assert client.get_max_batch_size() > 0
    assert client.get_user_identity().tenant
    assert client.get_version()


def test_all_verbs(client):
    docs = filled(client)
    assert docs.count() == 20
    assert docs.get(ids=["d3"])["documents"] == ["paragraph number 3"]
    assert docs.get(where={"i": {"$gte": 18}})["ids"] == ["d18", "d19"]
    assert docs.get(where_document={"$contains": "number 7"})["ids"] == ["d7"]
    assert docs.get(limit=2, offset=3)["ids"] == ["d3", "d4"]
    assert docs.peek(2)["ids"] == ["d0", "d1"]
    found = docs.query(query_embeddings=[[5, 1, 0.5]], n_results=3, where={"even": True},
                       include=["distances", "metadatas", "documents", "embeddings", "uris"])
    assert set(found["ids"][0]) == {"d4", "d6", "d8"} or found["ids"][0][:2] == ["d4", "d6"]
    assert found["metadatas"][0][0] == {"i": 4, "even": True}
    assert np.array_equal(found["embeddings"][0][0], np.array([4, 1, 0.5], np.float32))
    docs.update(ids=["d0", "missing"], embeddings=[[0, 1, 0.5]] * 2,
                documents=["changed", "nothing"])
    docs.upsert(ids=["d0", "new"], embeddings=[[9, 9, 9], [8, 8, 8]])
    assert docs.get(ids=["d0"])["documents"] == ["changed"]
    assert docs.count() == 21
    docs.delete(ids=["new"])
    docs.delete(where={"i": {"$lt": 10}})
    assert docs.count() == 10
    docs.modify(name="renamed", metadata={"kept": True})
    assert client.get_collection("renamed", embedding_function=None).metadata == {"kept": True}
    assert [c.name for c in client.list_collections()] == ["renamed"]
    assert client.count_collections() == 1
    client.delete_collection("renamed")
    assert client.list_collections() == []


@pytest.mark.skipif(tuple(map(int, chromadb.__version__.split(".")[:2])) < (1, 5),
                    reason="older clients refuse lists themselves")
def test_lists_in_metadata(client):
    docs = client.create_collection("lists", embedding_function=None)
    docs.add(ids=["a", "b"], embeddings=[[1], [2]], metadatas=[{"tags": ["x", "y"]}, {"tags": ["z"]}])
    assert docs.get(where={"tags": {"$contains": "y"}})["metadatas"] == [{"tags": ["x", "y"]}]


def test_vectors_come_back_to_the_bit(client):
    docs = client.create_collection("bits", embedding_function=None,
                                    configuration={"hnsw": {"space": "cosine"}})
    vectors = np.random.default_rng(1).standard_normal((50, 96)).astype(np.float32)
    docs.add(ids=[str(i) for i in range(50)], embeddings=vectors)
    got = np.array(docs.get(include=["embeddings"])["embeddings"])
    assert np.array_equal(got.astype(np.float32), vectors)


def test_an_embedding_function_is_called_here(client):
    class Length(chromadb.EmbeddingFunction):
        def __init__(self):
            pass

        def __call__(self, input):
            return [np.array([len(text), 1.0], np.float32) for text in input]

    docs = client.create_collection("texts", embedding_function=Length())
    docs.add(ids=["short", "long"], documents=["ab", "abcdefgh"])
    assert docs.query(query_texts=["xyz"], n_results=1)["ids"] == [["short"]]


def test_errors_keep_their_classes(client):
    docs = filled(client)
    with pytest.raises(NotFoundError, match="nowhere"):
        client.get_collection("nowhere", embedding_function=None)
    with pytest.raises(Exception, match="already exists"):  # before 1.5 no class of its own
        client.create_collection("docs", embedding_function=None)
    with pytest.raises(InvalidArgumentError, match="dimension of 3, got 2"):
        docs.add(ids=["x"], embeddings=[[1, 2]])
    with pytest.raises(Exception, match="Expected where"):
        docs.get(where={"i": {"$bad": 1}})
    with pytest.raises(InvalidArgumentError):
        client.create_collection("a?b", embedding_function=None)
    with pytest.raises(ChromaError):
        client.set_database("not-there")


def test_names_that_need_escaping_survive_the_way(client, folder):
    admin = client._admin_client
    admin.create_tenant("tenant ä?b")
    admin.create_database("data-base", tenant="tenant ä?b")
    assert [d["name"] for d in admin.list_databases(tenant="tenant ä?b")] == ["data-base"]


def test_a_missing_tenant_leaves_nothing_open(folder):
    systems = dict(SharedSystemClient._identifier_to_system)
    with pytest.raises(Exception):
        ochre.Client(folder, tenant="nobody")
    with pytest.raises(Exception):
        ochre.Client(folder, database="nothing")
    assert not _handle._open
    assert SharedSystemClient._identifier_to_system == systems


def test_two_clients_on_one_folder_share_it(folder):
    first, second = ochre.Client(folder), ochre.Client(folder)
    docs = filled(first)
    assert second.get_collection("docs", embedding_function=None).count() == 20
    assert len(_handle._open) == 1
    ochre.close(first)
    assert second.get_collection("docs", embedding_function=None).count() == 20
    assert docs.count() == 20, "the folder is still open"
    ochre.close(second)
    assert not _handle._open
    with pytest.raises(ochre.ClosedError):
        docs.count()


def test_several_databases_do_not_mix(tmp_path):
    clients = [ochre.Client(tmp_path / str(n)) for n in range(3)] + [ochre.Client(), ochre.Client()]
    for number, client in enumerate(clients):
        filled(client, f"only-{number}", 3)
    for number, client in enumerate(clients):
        assert [c.name for c in client.list_collections()] == [f"only-{number}"]
    for client in clients:
        ochre.close(client)


def test_what_was_written_is_there_after_reopening(folder):
    for round_ in range(3):
        client = ochre.Client(folder)
        docs = client.get_or_create_collection("docs", embedding_function=None)
        assert docs.count() == round_
        docs.add(ids=[str(round_)], embeddings=[[round_, 1]])
        ochre.close(client)


def test_what_was_acknowledged_survives_a_killed_process(folder):
    program = ("import os, sys, ochre; c = ochre.Client(sys.argv[1]);"
               "d = c.create_collection('docs', embedding_function=None);"
               "[d.add(ids=[str(i)], embeddings=[[i, 1]]) for i in range(30)];"
               "os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", program, str(folder)],
                          env=ENVIRONMENT)
    assert done.returncode == -9
    client = ochre.Client(folder)
    assert client.get_collection("docs", embedding_function=None).count() == 30
    ochre.close(client)


def test_another_process_is_refused_and_told(folder):
    client = ochre.Client(folder)
    program = ("import sys, ochre\n"
               "try: ochre.Client(sys.argv[1])\n"
               "except ochre.InUseError as e: print(e); sys.exit(7)")
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True,
                          env=ENVIRONMENT, text=True)
    assert done.returncode == 7, done.stderr
    assert f"pid {os.getpid()}" in done.stdout
    ochre.close(client)


def test_close_is_deterministic_and_can_be_repeated(folder):
    client = ochre.Client(folder)
    if hasattr(client, "close"):
        client.close()
        client.close()
    ochre.close(client)
    ochre.close(client)
    again = ochre.Client(folder)
    with_close = again.heartbeat()
    assert with_close
    ochre.close(again)
    with pytest.raises(TypeError):
        ochre.close(object())


@pytest.mark.skipif(not hasattr(chromadb.api.client.Client, "__enter__"), reason="from 1.5.2 on")
def test_it_closes_at_the_end_of_a_with_block(folder):
    with ochre.Client(folder) as client:
        filled(client)
    assert not _handle._open


def test_closing_leaves_nothing_behind(folder):
    threads, systems = threading.active_count(), dict(SharedSystemClient._identifier_to_system)
    ochre.close(ochre.Client(folder))
    tasks = len(os.listdir("/proc/self/task"))
    files = len(os.listdir("/proc/self/fd"))
    for n in range(5):
        client = ochre.Client(folder)
        filled(client, f"docs-{n}", 3)
        ochre.close(client)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/task")) == tasks
    assert len(os.listdir("/proc/self/fd")) == files
    assert SharedSystemClient._identifier_to_system == systems


def test_garbage_collection_closes_nothing(folder):
    client = ochre.Client(folder)
    docs, gone = filled(client), weakref.ref(client)
    connection = client._ochre
    del client
    gc.collect()
    assert gone() is None
    assert docs.count() == 20
    connection.end()
    del docs
    gc.collect()
    assert not _handle._open


def test_many_threads_at_once(client):
    docs = client.create_collection("docs", embedding_function=None)
    failures = []

    def work(number):
        try:
            for i in range(25):
                docs.add(ids=[f"{number}-{i}"], embeddings=[[number, i]], metadatas=[{"n": number}])
                assert docs.get(ids=[f"{number}-{i}"])["ids"]
                docs.query(query_embeddings=[[number, i]], n_results=2)
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert docs.count() == 200
    assert len(docs.get(where={"n": 3})["ids"]) == 25


def test_closing_waits_for_calls_at_work(folder):
    client = ochre.Client(folder)
    docs = filled(client)
    outcomes = []

    def work():
        while True:
            try:
                docs.count()
            except ochre.ClosedError:
                outcomes.append("closed")
                return
            except BaseException as problem:
                outcomes.append(problem)
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    ochre.close(client)
    for thread in threads:
        thread.join(30)
    assert outcomes == ["closed"] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_so(folder, tmp_path):
    client = ochre.Client(folder)
    docs = filled(client)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                docs.count()
            except ochre.ForkedError:
                ochre.close(client)
                own = ochre.Client(tmp_path / "of-the-child")
                filled(own, "docs", 2)
                ochre.close(own)
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert docs.count() == 20, "the parent goes on"
    ochre.close(client)


def test_no_socket_is_open_while_it_works(client):
    before = sockets()
    filled(client)
    assert sockets() == before


def test_settings_reach_the_database(folder):
    client = ochre.Client(folder, settings={"allow_reset": True})
    filled(client)
    assert client.reset()
    assert client.list_collections() == []
    with pytest.raises(ValueError, match="other options"):
        ochre.Client(folder)
    ochre.close(client)
    with pytest.raises(ochre.InvalidError, match="memory_limit"):
        ochre.Client(folder, settings={"memory_limt": 5})


def test_a_read_only_database_takes_no_writes(folder):
    client = ochre.Client(folder)
    filled(client)
    ochre.close(client)
    client = ochre.Client(folder, read_only=True)
    docs = client.get_collection("docs", embedding_function=None)
    assert docs.count() == 20
    with pytest.raises(Exception):
        docs.add(ids=["x"], embeddings=[[1, 2, 3]])
    ochre.close(client)
