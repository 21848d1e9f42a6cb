#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Damaged folders through the real server: every kind of file is flipped, zeroed, cut, exchanged and removed, one at a time.  The server starts, or
refuses with exit status 4 or 1 and a text that names the place; when it runs, every request is answered exactly or with an error that has a message,
and the process goes on until it is told to stop."""
import argparse
import http.client
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server import BASE, Client, Refused, Server  # noqa: E402

DIM = 8
FLAGS = ["--tail-rows-max", "120", "--compact-idle-ms", "100", "--log-segment-bytes", "1MiB"]
QUIET = ["--compact-idle-ms", "600000", "--log-segment-bytes", "1MiB"]


class Scene:
    """Three collections; what they hold: collection -> id -> (metadata, vector, document)."""

    def __init__(self, parent, binary):
        self.random = random.Random(5)
        self.binary, self.parent = binary, parent
        self.folder = os.path.join(parent, "data")
        self.rows, self.ids = {}, []
        self.number = 0

    def write(self, client, collection, count, verb="upsert"):
        self.number += 1
        ids = [f"id{self.random.randrange(400)}" for _ in range(count)]
        ids = list(dict.fromkeys(ids))
        if verb == "delete":
            client.write(collection, "delete", {"ids": ids})
            for row in ids:
                self.rows[collection].pop(row, None)
            return
        vectors = [[self.random.randrange(-64, 64) / 8 for _ in range(DIM)] for _ in ids]
        metadatas = [{"batch": self.number, "k": self.random.randrange(8)} for _ in ids]
        documents = [f"document {self.number} {row} " + "words " * 20 for row in ids]
        client.write(collection, verb, {"ids": ids, "embeddings": vectors, "metadatas": metadatas,
                                        "documents": documents})
        for row, *value in zip(ids, metadatas, vectors, documents):
            self.rows[collection][row] = tuple(value)

    def build(self):
        server = Server(self.binary, self.folder, *FLAGS)
        server.start()
        assert server.wait_ready(), server.log_tail()
        client = Client(server.port)
        for i, space in enumerate(("cosine", "l2", "ip")):
            collection = client.collection(f"damage-{i}", space)
            self.ids.append(collection)
            self.rows[collection] = {}
        for round_number in range(10):
            for collection in self.ids:
                self.write(client, collection, 60)
                self.write(client, collection, 10, "delete")
            time.sleep(0.05)
        time.sleep(1.5)  # comes to rest: parts
        client.close()
        server.stop(signal.SIGTERM, 10)
        server.flags = QUIET
        server.start()
        assert server.wait_ready(), server.log_tail()
        client = Client(server.port)
        for _ in range(4):
            for collection in self.ids:
                self.write(client, collection, 25)
                self.write(client, collection, 5, "delete")
        client.close()
        time.sleep(0.3)  # the log notes what is durable
        shutil.copytree(self.folder, self.folder + ".open", ignore=shutil.ignore_patterns("*.sock"))
        status, _ = server.stop(signal.SIGTERM, 10)
        assert status == 0, f"exit status {status}"

    def images(self):
        return {"closed": self.folder, "open": self.folder + ".open"}


def files_of(folder):
    found = []
    for place, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(place, name), folder) for name in names
                  if not name.endswith(".sock")]
    return sorted(found)


def damage(rand, source, folder):
    """Copies the folder and damages one file.  Returns a description, the file, the bytes touched."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.sock"))
    files = files_of(folder)
    kinds = ["catalogue.sqlite$", "-wal$", "log/", "blobs/", "ochre.lock$"]
    wanted = rand.choices(kinds, [4, 2, 4, 6, 0.5])[0]
    matching = [f for f in files if re.search(wanted, f)] or files
    name = rand.choice(matching)
    path = os.path.join(folder, name)
    with open(path, "rb") as file:
        old = file.read()
    used = len(old.rstrip(b"\0"))
    at = rand.randrange(max(1, used if rand.random() < 0.9 else len(old)))
    kind = rand.choice(["flip", "flip", "flip", "zero", "zero", "noise", "swap", "truncate", "replace", "remove"])
    new, touched = bytearray(old), (at, at + 1)
    if kind == "flip" and old:
        new[at] ^= 1 << rand.randrange(8)
    elif kind in ("zero", "noise"):
        size = min(rand.choice([1, 64, 512, 4096, 40000]), len(old) - at)
        new[at:at + size] = bytes(size) if kind == "zero" else rand.randbytes(size)
        touched = (at, at + size)
    elif kind == "swap":
        a, b = at // 4096 * 4096, rand.randrange(max(1, len(old))) // 4096 * 4096
        if max(a, b) + 4096 <= len(old):
            new[a:a + 4096], new[b:b + 4096] = old[b:b + 4096], old[a:a + 4096]
        touched = (min(a, b), max(a, b) + 4096)
    elif kind == "truncate":
        new, touched = new[:at], (at, len(old))
    elif kind == "replace":
        other = rand.choice([f for f in files if f != name])
        with open(os.path.join(folder, other), "rb") as file:
            new = file.read()
        touched = (0, len(old))
    if kind == "remove":
        os.remove(path)
        touched = (0, len(old))
    else:
        with open(path, "wb") as file:
            file.write(new)
    return f"{kind} {name} at {touched}", name, touched, used


class Tally:
    def __init__(self):
        self.refused_start = self.right = self.errors = 0


def ask(tally, call):
    """The answer, or None for an error that says something."""
    try:
        answer = call()
        tally.right += 1
        return answer
    except Refused as refused:
        assert refused.status in (404, 429, 500, 503), f"status {refused.status}: {refused.body[:200]!r}"
        assert refused.message(), f"an error without a message: {refused.body[:200]!r}"
        tally.errors += 1
        return None


def check_collection(tally, client, rand, collection, expected, exact):
    rows = ask(tally, lambda: client.rows(collection))
    if rows is not None and exact:
        assert set(rows) == set(expected), f"{len(rows)} rows, expected {len(expected)}"
        for row, (metadata, vector, document) in expected.items():
            assert rows[row] == (metadata, vector, document), f"row {row} differs: {rows[row]}"
    count = ask(tally, lambda: client.count(collection))
    assert count is None or not exact or count == len(expected), f"count {count}"
    for row in rand.sample(sorted(expected), min(60, len(expected))) + ["nobody"]:
        got = ask(tally, lambda: client.call("POST", f"{BASE}/{collection}/get",
                                             {"ids": [row], "include": ["metadatas"]}))
        if got is not None and exact:
            want = [expected[row][0]] if row in expected else []
            assert got["metadatas"] == want, f"get of {row}: {got['metadatas']}, expected {want}"
    for k in range(8):
        got = ask(tally, lambda: client.call("POST", f"{BASE}/{collection}/get",
                                             {"where": {"k": k}, "include": []}))
        if got is not None and exact:
            want = {row for row, value in expected.items() if value[0]["k"] == k}
            assert set(got["ids"]) == want, f"filter k = {k}"
    ask(tally, lambda: client.nearest(collection, [[1.0] * DIM] * 3))
    # it takes writes, or says why not
    ask(tally, lambda: client.write(collection, "upsert",
                                    {"ids": ["new"], "embeddings": [[0.5] * DIM]}))
    got = ask(tally, lambda: client.write(collection, "delete", {"ids": ["new"]}))
    return got


def run_image(scene, number, tally):
    rand = random.Random(number)
    kind = ("closed", "open")[number % 2]
    folder = os.path.join(scene.parent, f"image{number}")
    what, name, touched, used = damage(rand, scene.images()[kind], folder)
    # the end of a log that was not closed: lost writes look like writes never made
    exact = not (kind == "open" and "log/" in name and touched[1] + 128 > used)
    server = Server(scene.binary, folder, *(FLAGS if number % 3 else QUIET))
    server.start()
    try:
        if not server.wait_ready():
            status = server.process.returncode
            text = server.log_tail()
            assert status in (1, 4), f"exit status {status}"
            assert re.search(r"ochre: .{20,}", text), f"it only says {text!r}"
            tally.refused_start += 1
        else:
            client = Client(server.port)
            for collection, expected in scene.rows.items():
                check_collection(tally, client, rand, collection, expected, exact)
            client.close()
            status, _ = server.stop(signal.SIGTERM, 15)
            assert status in (0, 1, 4), f"exit status {status} at the end"
    except (OSError, http.client.HTTPException) as error:
        raise AssertionError(f"image {number}, {kind}, {what}: the server is gone: {error!r}\n"
                             + server.log_tail()) from error
    except AssertionError as error:
        if server.process.poll() is None:
            server.kill()
        raise AssertionError(f"image {number}, {kind}, {what}: {error}\n" + server.log_tail(800)) from error
    shutil.rmtree(folder)
    os.remove(folder + ".log")


def check_verb(binary, scene):
    """`ochre check` finds nothing in what was not damaged, when there is such a verb."""
    known = subprocess.run([binary, "help"], capture_output=True, check=False).stdout.decode()
    if not re.search(r"^ +check ", known, re.M):
        return
    answer = subprocess.run([binary, "check", "--path", scene.folder], capture_output=True, check=False)
    assert answer.returncode == 0, f"check: {answer.returncode} {answer.stderr.decode()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    parent = tempfile.mkdtemp(prefix="ochre-damage-")
    tally = Tally()
    start = time.monotonic()
    try:
        scene = Scene(parent, options.binary)
        scene.build()
        check_verb(options.binary, scene)
        for number in range(options.first, options.first + options.images):
            run_image(scene, number, tally)
    except AssertionError as error:
        print(f"damage_server: FAILED, folder {parent}: {error}", file=sys.stderr)
        return 1
    print(f"damage_server: {options.images} images; {tally.refused_start} refused to start and said why, else {tally.right} "
          f"right answers and {tally.errors} errors; {time.monotonic() - start:.0f} s")
    shutil.rmtree(parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
