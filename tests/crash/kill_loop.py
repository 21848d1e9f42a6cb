#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kill the server with SIGKILL at random moments under concurrent writers, and see what is there when it starts again.

Every writer owns groups of rows.  It adds, rewrites and deletes whole groups; each such batch has a number, which is in the metadata and documents of
its rows; some are transactions of several operations.  After each kill: a group is as its last acknowledged batch left it, or as the one batch that
was in flight would have; never a mixture, never a part of it; every row is found by its own vector at distance 0, and counts agree.  Beside them collections are forked: an acknowledged fork is
there with whole groups no older than what was acknowledged before it, and shows the same ever after.  Exit status 0 when all holds.
"""
import argparse
import array
import http.client
import os
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import BASE, Client, Refused, Server  # noqa: E402

DIM = 12
COLLECTIONS = 3
FLAGS = ["--tail-rows-max", "400", "--compact-idle-ms", "150", "--log-segment-bytes", "1MiB",
         "--log-level", "warn"]


def single(x):
    return array.array("f", [x])[0]


class Group:
    def __init__(self, collection, name, size):
        self.collection, self.name, self.size = collection, name, size
        self.state = None  # (number, vectors) as acknowledged; None: not there
        self.flight = None  # (state,) that a batch without an answer would leave

    def ids(self):
        return [f"{self.name}-{i}" for i in range(self.size)]


class Writer(threading.Thread):
    def __init__(self, world, index, port, seed):
        super().__init__()
        self.world, self.index, self.port = world, index, port
        self.random = random.Random(seed)
        self.failure = None

    def run(self):
        try:
            client = Client(self.port, timeout=30)
            while not self.world.stopping:
                self.step(client)
        except (OSError, http.client.HTTPException):
            pass  # the server is gone
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            self.failure = error

    def group(self):
        groups = self.world.groups[self.index]
        if len(groups) < 24 or (len(groups) < 60 and self.random.random() < 0.2):
            name = f"w{self.index}g{len(groups)}"
            size = self.random.choice([1, 2, 7, 25, 60])
            groups.append(Group(self.random.randrange(COLLECTIONS), name, size))
            return groups[-1]
        return self.random.choice(groups)

    def as_commit(self, client, collection, verb, body):
        """The same write as a transaction of several operations, which read its rows before."""
        read = client.write(collection, "conditional/get", {"ids": body["ids"], "include": []})
        size = self.random.choice([1, 3, 100])
        operations = [{"operation": verb,
                       "payload": {name: column[at:at + size] for name, column in body.items()}}
                      for at in range(0, len(body["ids"]), size)]
        return {"read_token": read["read_token"], "read_ids": body["ids"], "operations": operations}

    def step(self, client):
        group = self.group()
        number = self.world.next_number()
        collection = self.world.collections[group.collection]
        if group.state and self.random.random() < 0.2:
            group.flight = (None,)
            verb, body = "delete", {"ids": group.ids()}
        else:
            vectors = [[single(self.random.gauss(0, 1)) for _ in range(DIM)]
                       for _ in range(group.size)]
            group.flight = ((number, vectors),)
            verb = self.random.choice(["upsert", "update"]) if group.state else \
                self.random.choice(["upsert", "add"])
            body = {"ids": group.ids(), "embeddings": vectors,
                    "documents": [f"batch {number} " + "x" * (number % 90)] * group.size,
                    "metadatas": [{"batch": number, "row": i} for i in range(group.size)]}
        try:
            if self.random.random() < 0.3:
                verb, body = "conditional/commit", self.as_commit(client, collection, verb, body)
            client.write(collection, verb, body)
        except Refused as refused:
            if refused.status == 429:  # nothing happened
                group.flight = None
                time.sleep(0.02)
                return
            raise
        group.state, group.flight = group.flight[0], None
        self.world.acknowledged += 1


class Fork:
    def __init__(self, name, before):
        self.name = name
        self.before = before  # group -> (number or None, size) acknowledged when the fork began
        self.acknowledged = self.dropping = False
        self.rows = None  # as seen first: nobody writes to it


class Forker(threading.Thread):
    """Forks collections and forks of them, and drops forks."""

    def __init__(self, world, port, seed):
        super().__init__()
        self.world, self.port = world, port
        self.random = random.Random(seed)
        self.failure = None

    def run(self):
        try:
            client = Client(self.port, timeout=30)
            while not self.world.stopping:
                self.step(client)
                time.sleep(0.01)
        except (OSError, http.client.HTTPException):
            pass  # the server is gone
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            self.failure = error

    def step(self, client):
        world = self.world
        known = [fork for fork in world.forks if fork.acknowledged]
        if len(known) > 3:
            fork = self.random.choice(known)
            fork.dropping = True
            client.call("DELETE", f"{BASE}/{fork.name}")
            world.forks.remove(fork)
            return
        source = self.random.randrange(COLLECTIONS)
        before = {group.name: (group.state and group.state[0], group.size)
                  for groups in world.groups for group in list(groups)
                  if group.collection == source and not group.flight}
        fork = Fork(f"fork-{world.next_number()}", before)
        world.forks.append(fork)
        try:
            client.call("POST", f"{BASE}/{world.collections[source]}/fork", {"new_name": fork.name})
        except Refused as refused:
            world.forks.remove(fork)
            if refused.status != 429:
                raise
            return
        fork.acknowledged = True


class World:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.groups = [[] for _ in range(options.writers)]
        self.collections = []
        self.forks, self.forks_seen = [], 0
        self.number, self.acknowledged, self.stopping = 0, 0, False
        self.in_flight_kept = self.in_flight_gone = self.kills_at_start = 0
        self.lock = threading.Lock()

    def next_number(self):
        with self.lock:
            self.number += 1
            return self.number

    def check_group(self, group, rows):
        found = [rows.pop(row, None) for row in group.ids()]
        there = [row for row in found if row is not None]
        numbers = {row[0]["batch"] for row in there}
        assert len(numbers) <= 1, f"group {group.name} mixes batches {sorted(numbers)}"
        assert len(there) in (0, group.size), \
            f"group {group.name} has {len(there)} of {group.size} rows of batch {numbers}"
        shown = numbers.pop() if numbers else None
        states = [group.state] + (list(group.flight) if group.flight else [])
        match = [s for s in states if (s[0] if s else None) == shown]
        assert match, f"group {group.name} shows batch {shown}, acknowledged was " \
                      f"{group.state and group.state[0]}, in flight {group.flight and [s and s[0] for s in group.flight]}"
        if group.flight:
            self.in_flight_kept += match[0] is not group.state
            self.in_flight_gone += match[0] is group.state
        group.state, group.flight = match[0], None
        for i, row in enumerate(there):
            assert row[0] == {"batch": shown, "row": i}, f"{group.name}-{i}: metadata {row[0]}"
            assert [single(x) for x in row[1]] == group.state[1][i], f"{group.name}-{i}: another vector"
            assert row[2].startswith(f"batch {shown} "), f"{group.name}-{i}: document {row[2]}"

    def check(self, port):
        client = Client(port)
        total = 0
        for index, collection in enumerate(self.collections):
            rows = client.rows(collection)
            assert client.count(collection) == len(rows), "count and get differ"
            total += len(rows)
            wanted = [(row, value[1]) for row, value in rows.items()]
            for at in range(0, len(wanted), 200):
                part = wanted[at:at + 200]
                for (row, _), (nearest, distance) in zip(
                        part, client.nearest(collection, [vector for _, vector in part])):
                    assert nearest == row and distance == 0, \
                        f"row {row}: its own vector finds {nearest} at {distance}"
            for groups in self.groups:
                for group in groups:
                    if group.collection == index:
                        self.check_group(group, rows)
            assert not rows, f"rows that nobody wrote: {list(rows)[:5]}"
        self.check_forks(client)
        client.close()
        return total

    def check_fork(self, client, fork, collection):
        rows = client.rows(collection)
        assert client.count(collection) == len(rows), f"{fork.name}: count and get differ"
        assert fork.rows is None or fork.rows == rows, f"{fork.name} shows something else than before"
        if fork.rows is None:
            self.forks_seen += 1
        fork.rows = rows
        groups = {}
        for row, value in rows.items():
            groups.setdefault(row.rsplit("-", 1)[0], []).append(value[0]["batch"])
        sizes = {group.name: group.size for groups_of in self.groups for group in groups_of}
        for name, numbers in groups.items():
            assert len(set(numbers)) == 1 and len(numbers) == sizes[name], \
                f"{fork.name}: group {name} has {len(numbers)} of {sizes[name]} rows of batches {sorted(set(numbers))}"
            number = fork.before.get(name, (None, 0))[0]
            assert number is None or numbers[0] >= number, \
                f"{fork.name}: group {name} shows batch {numbers[0]}, {number} was acknowledged before"

    def check_forks(self, client):
        there = {c["name"]: c["id"] for c in client.call("GET", BASE) if c["name"].startswith("fork-")}
        for fork in list(self.forks):
            collection = there.pop(fork.name, None)
            if collection:
                fork.acknowledged, fork.dropping = True, False
                self.check_fork(client, fork, collection)
                continue
            assert not fork.acknowledged or fork.dropping, f"{fork.name} is gone"
            self.forks.remove(fork)
        assert not there, f"forks that nobody made: {sorted(there)}"

    def run_round(self, server):
        """Start, check, write, kill."""
        server.start()
        if self.collections and self.random.random() < 0.12:  # before it is ready
            time.sleep(self.random.random() * 0.02)
            server.kill()
            self.kills_at_start += 1
            return 0
        assert server.wait_ready(), "the server does not start again:\n" + server.log_tail()
        if not self.collections:
            client = Client(server.port)
            self.collections = [client.collection(f"kill-{i}") for i in range(COLLECTIONS)]
            client.close()
        rows = self.check(server.port)
        self.stopping = False
        writers = [Writer(self, i, server.port, self.random.random())
                   for i in range(self.options.writers)]
        writers.append(Forker(self, server.port, self.random.random()))
        for writer in writers:
            writer.start()
        time.sleep(self.random.choice([0.02, 0.2, 0.6, 1.2]) * self.random.random())
        server.kill()
        self.stopping = True
        for writer in writers:
            writer.join()
            if writer.failure:
                raise writer.failure
        return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", help="kept; else a temporary one")
    options = parser.parse_args()
    parent = options.folder or tempfile.mkdtemp(prefix="ochre-kill-")
    os.makedirs(parent, exist_ok=True)
    server = Server(options.binary, os.path.join(parent, "data"), *FLAGS)
    world = World(options)
    start, most = time.monotonic(), 0
    try:
        for kill in range(options.kills):
            most = max(most, world.run_round(server))
        server.start()
        assert server.wait_ready(), "the server does not start again:\n" + server.log_tail()
        rows = world.check(server.port)
        status, _ = server.stop(15, 10)
        assert status == 0, f"exit status {status}"
    except AssertionError as error:
        print(f"kill_loop: FAILED, folder {parent}: {error}", file=sys.stderr)
        if server.process and server.process.poll() is None:
            server.kill()
        return 1
    print(f"kill_loop: {options.kills} kills ({world.kills_at_start} of them while starting), {options.writers} writers, "
          f"{world.acknowledged} batches acknowledged, of those in flight {world.in_flight_kept} there and "
          f"{world.in_flight_gone} not, {world.forks_seen} forks, {rows} rows at the end, {time.monotonic() - start:.0f} s")
    if not options.folder:
        shutil.rmtree(parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
