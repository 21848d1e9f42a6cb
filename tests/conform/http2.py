#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replay.py over HTTP/2 without TLS; needs httpx and h2.

    http2.py SERVER [options of replay.py]        SERVER: the executable, started for this
"""
import gzip
import json
import sys
import threading

import httpx

import replay


class Server(replay.Server):
    def __init__(self, *args, **names):
        super().__init__(*args, **names)
        self.own = threading.local()  # a client for each thread: two on one connection may choose the same stream

    def client(self):
        if not hasattr(self.own, "client"):
            self.own.client = httpx.Client(http1=False, http2=True, timeout=self.timeout, trust_env=False, verify=False)
        return self.own.client

    def send(self, method, path, body=replay.MISSING, text=None, headers=None):
        """As the one of replay.py, without the fields that belong to an HTTP/1.1 connection."""
        head = {"x-chroma-token": self.token} if self.token else {}
        payload = text.encode("utf-8", "surrogateescape") if text is not None else \
            json.dumps(body).encode() if body is not replay.MISSING else None
        if payload is not None:
            head["Content-Type"] = "application/json"
        head.update(headers or {})
        for name in ("Connection", "Transfer-Encoding", "Host"):
            head.pop(name, None)
        head = {name: item for name, item in head.items() if item is not None}
        if payload is not None and head.get("Content-Encoding") == "gzip":
            payload = gzip.compress(payload)
        try:
            if payload is not None:  # in pieces: httpx copies what is left of a large one for each frame
                head["Content-Length"] = str(len(payload))
            pieces = None if payload is None else (payload[at:at + 65536] for at in range(0, len(payload), 65536))
            request = httpx.Request(method, f"http://{self.host}:{self.port}", headers=head, content=pieces,
                                    extensions={"target": path.encode("utf-8", "surrogateescape")})
            response = self.client().send(request, stream=True)
            raw = b"".join(response.iter_raw())
            response.close()
            assert response.http_version == "HTTP/2"
            return replay.Answer(response.status_code, dict(response.headers), raw)
        except httpx.HTTPError as problem:
            return replay.Answer(replay.NO_ANSWER, raw=repr(problem).encode())


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    process = replay.Process(f"'{sys.argv[1]}' serve --path {{path}} --port {{port}}", 0)
    try:
        if not process.start({})["up"]:
            sys.exit("http2.py: the server did not come up")
        replay.Server = Server
        sys.argv[1:2] = ["--url", process.url, "--skip-file", str(replay.HERE / "excused.txt")]
        replay.main()
    finally:
        process.close()


if __name__ == "__main__":
    main()
