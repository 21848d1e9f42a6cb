# SPDX-License-Identifier: Apache-2.0
"""The official asynchronous client over the in-process transport."""
import asyncio

import pytest

chromadb = pytest.importorskip("chromadb")

import ochre  # noqa: E402
from chromadb.errors import NotFoundError  # noqa: E402
from ochre import _handle  # noqa: E402

pytestmark = pytest.mark.event_loop


def test_all_verbs(folder):
    async def work():
        client = await ochre.AsyncClient(folder)
        docs = await client.create_collection("docs", embedding_function=None)
        await asyncio.gather(*[docs.add(ids=[str(i)], embeddings=[[i, 1]], documents=[f"text {i}"])
                               for i in range(40)])
        assert await docs.count() == 40
        found = await docs.query(query_embeddings=[[7, 1]], n_results=1)
        assert found["ids"] == [["7"]]
        await docs.update(ids=["7"], embeddings=[[7, 1]], documents=["changed"])
        await docs.upsert(ids=["x"], embeddings=[[0, 0]])
        await docs.delete(ids=["x"])
        assert (await docs.get(ids=["7"]))["documents"] == ["changed"]
        with pytest.raises(NotFoundError):
            await client.get_collection("nowhere", embedding_function=None)
        ochre.close(client)
        ochre.close(client)
        with pytest.raises(ochre.ClosedError):
            await docs.count()

    asyncio.run(work())
    assert not _handle._open


def test_two_clients_and_two_loops_share_nothing_but_the_folder(folder):
    async def work():
        first, second = await ochre.AsyncClient(folder), await ochre.AsyncClient(folder)
        await first.get_or_create_collection("docs", embedding_function=None)
        assert [c.name for c in await second.list_collections()] == ["docs"]
        ochre.close(first)
        assert await second.count_collections() == 1
        ochre.close(second)

    asyncio.run(work())
    asyncio.run(work())


def test_a_cancelled_call_does_no_harm(folder):
    async def work():
        client = await ochre.AsyncClient(folder)
        docs = await client.create_collection("docs", embedding_function=None)
        await docs.add(ids=[str(i) for i in range(2000)], embeddings=[[i, 1] for i in range(2000)])
        tasks = [asyncio.create_task(docs.query(query_embeddings=[[1, 1]] * 50, n_results=100))
                 for _ in range(10)]
        await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, (dict, asyncio.CancelledError)) for end in ended), ended
        assert await docs.count() == 2000
        ochre.close(client)

    asyncio.run(work())


def test_a_missing_database_leaves_nothing_open(folder):
    async def work():
        with pytest.raises(Exception):
            await ochre.AsyncClient(folder, database="nothing")

    asyncio.run(work())
    assert not _handle._open
