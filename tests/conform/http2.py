#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""replay.py over HTTP/2 without TLS; needs httpx and h2.

    http2.py --url http://127.0.0.1:8000 [options of replay.py]
"""
import gzip
import json

import httpx

import replay


class Server(replay.Server):
    def __init__(self, *args, **names):
        super().__init__(*args, **names)
        self.client = httpx.Client(http1=False, http2=True, timeout=self.timeout, trust_env=False, verify=False)

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
            request = httpx.Request(method, f"http://{self.host}:{self.port}", headers=head, content=payload,
                                    extensions={"target": path.encode("utf-8", "surrogateescape")})
            response = self.client.send(request, stream=True)
            raw = b"".join(response.iter_raw())
            response.close()
            assert response.http_version == "HTTP/2"
            return replay.Answer(response.status_code, dict(response.headers), raw)
        except httpx.HTTPError as problem:
            return replay.Answer(replay.NO_ANSWER, raw=repr(problem).encode())


if __name__ == "__main__":
    replay.Server = Server
    replay.main()
