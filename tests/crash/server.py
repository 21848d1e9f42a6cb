# SPDX-License-Identifier: Apache-2.0
"""A server process under test, and just enough of the HTTP API to write to it and to check it.  Standard library only."""
import http.client
import json
import os
import socket
import subprocess
import time

BASE = "/api/v2/tenants/default_tenant/databases/default_database/collections"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Refused(Exception):
    """The server answered with an error status."""

    def __init__(self, status, body):
        super().__init__(f"{status}: {body[:300]!r}")
        self.status = status
        self.body = body

    def message(self):
        try:
            return json.loads(self.body).get("message", "")
        except (ValueError, AttributeError):
            return ""


class Client:
    """One connection; broken ones raise OSError or http.client.HTTPException."""

    def __init__(self, port, timeout=60):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if data else {}
        self.connection.request(method, path, data, headers)
        response = self.connection.getresponse()
        text = response.read()
        if response.status >= 400:
            raise Refused(response.status, text)
        return json.loads(text) if text else None

    def close(self):
        self.connection.close()

    def collection(self, name, space="l2"):
        body = {"name": name, "get_or_create": True, "configuration": {"hnsw": {"space": space}}}
        return self.call("POST", BASE, body)["id"]

    def write(self, collection, verb, body):
        return self.call("POST", f"{BASE}/{collection}/{verb}", body)

    def rows(self, collection, include=("metadatas", "embeddings", "documents")):
        """Every row, page by page: id -> (metadata, embedding, document)."""
        found, offset = {}, 0
        while True:
            page = self.call("POST", f"{BASE}/{collection}/get",
                             {"limit": 5000, "offset": offset, "include": list(include)})
            ids = page["ids"]
            for i, row in enumerate(ids):
                if row in found:
                    raise AssertionError(f"id {row} is there twice")
                found[row] = tuple(page[name][i] if page.get(name) else None for name in include)
            if len(ids) < 5000:
                return found
            offset += len(ids)

    def count(self, collection):
        return self.call("GET", f"{BASE}/{collection}/count")

    def nearest(self, collection, vectors):
        """[(id, distance)] of the one nearest row of each."""
        answer = self.call("POST", f"{BASE}/{collection}/query",
                           {"query_embeddings": vectors, "n_results": 1, "include": ["distances"]})
        return [(ids[0], distances[0]) if ids else (None, None)
                for ids, distances in zip(answer["ids"], answer["distances"])]


class Server:
    """`ochre serve` on a folder.  Its log goes to FOLDER.log."""

    def __init__(self, binary, folder, *flags):
        self.binary, self.folder, self.flags = binary, folder, flags
        self.process = None
        self.port = None

    def start(self):
        self.port = free_port()
        self.log = open(self.folder + ".log", "ab")
        command = [self.binary, "serve", "--path", self.folder, "--host", "127.0.0.1",
                   "--port", str(self.port), *self.flags]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.log.close()

    def wait_ready(self, seconds=30):
        """True when it answers; False when it ended before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return False
            try:
                client = Client(self.port, timeout=5)
                client.call("GET", "/api/v2/heartbeat")
                client.close()
                return True
            except (OSError, http.client.HTTPException, Refused):
                time.sleep(0.005)
        raise AssertionError(f"the server is not ready after {seconds} s")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, number, seconds):
        """Exit status and the seconds it took."""
        start = time.monotonic()
        self.process.send_signal(number)
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server still runs {seconds} s after signal {number}")
        return status, time.monotonic() - start

    def log_tail(self, size=3000):
        with open(self.folder + ".log", "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read().decode(errors="replace")
