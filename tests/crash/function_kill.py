#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the real server while an attached function follows a collection: every acknowledged write counts once, each time.

usage: function_kill.py BINARY [--kills N] [--seed N]"""
import argparse
import http.client
import random
import signal
import tempfile
import threading
import time

from server import BASE, Client, Refused, Server

FLAGS = ("--tail-rows-max", "400", "--compact-idle-ms", "300ms")


class Following:
    """A collection, the `statistics` of it, and what both should hold."""

    def __init__(self, client):
        self.collection = client.collection("input")
        client.call("POST", f"{BASE}/{self.collection}/functions/attach",
                    {"name": "stats", "function_id": "statistics", "output_collection": "output"})
        self.output = client.collection("output")
        self.rows = {}     # id -> value, as acknowledged
        self.flying = None  # the write that nobody has answered

    def write(self, client, chance):
        ids = [f"i{n}" for n in chance.sample(range(600), chance.randrange(1, 60))]
        values = {row: chance.randrange(5) for row in ids}
        if chance.random() < 0.65:
            self.flying = values
            client.write(self.collection, "upsert", {
                "ids": ids, "embeddings": [[1.0, 2.0]] * len(ids),
                "metadatas": [{"k": values[row]} for row in ids]})
        else:
            self.flying = dict.fromkeys(ids)
            client.write(self.collection, "delete", {"ids": ids})
        self.land()

    def land(self):
        for row, value in self.flying.items():
            if value is None:
                self.rows.pop(row, None)
            else:
                self.rows[row] = value
        self.flying = None

    def settle(self, client):
        """What became of the write in flight: all of it or nothing."""
        found = {row: values[0]["k"] for row, values in
                 client.rows(self.collection, include=("metadatas",)).items()}
        if found != self.rows and self.flying:
            self.land()
        self.flying = None
        if found != self.rows:
            raise AssertionError("the input is neither before nor after the write in flight")

    def check(self, client, seconds=30):
        want = {"summary::s:total_count": len(self.rows)}
        for value in self.rows.values():
            want[f"k::i:{value}"] = want.get(f"k::i:{value}", 0) + 1
        end = time.monotonic() + seconds
        while True:
            found = {row: values[0]["count"] for row, values in
                     client.rows(self.output, include=("metadatas",)).items()}
            if found == want:
                return
            if time.monotonic() > end:
                raise AssertionError(f"the function counts {found}, there are {want}")
            time.sleep(0.1)


def write_until_killed(server, following, chance):
    client = Client(server.port)
    timer = threading.Timer(chance.uniform(0.05, 0.8), server.kill)
    timer.start()
    written = 0
    try:
        while True:
            following.write(client, chance)
            written += 1
    except (OSError, http.client.HTTPException):
        pass
    except Refused as refusal:  # on its way down
        if refusal.status < 500:
            raise
    timer.join()
    client.close()
    return written


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    written = 0
    with tempfile.TemporaryDirectory() as folder:
        server = Server(options.binary, folder + "/data", *FLAGS)
        server.start()
        assert server.wait_ready(), server.log_tail()
        following = Following(Client(server.port))
        for kill in range(options.kills):
            written += write_until_killed(server, following, chance)
            server.start()
            assert server.wait_ready(), server.log_tail()
            client = Client(server.port)
            following.settle(client)
            if chance.random() < 0.5 or kill + 1 == options.kills:
                following.check(client)
            client.close()
        status, _ = server.stop(signal.SIGTERM, 10)
        assert status == 0, status
    print(f"{options.kills} kills, {written} writes acknowledged, {len(following.rows)} rows: counted right")


if __name__ == "__main__":
    main()
