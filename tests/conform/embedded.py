#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP in front of the embedded library, so that replay.py can judge och_database_exchange.

    embedded.py --path DIR --port N        (OCHRE_LIBRARY=.../libochre.so, else that of build/release)

It is a transport and nothing else: method, target, headers and body go to the library as they came, status,
headers and body come back as they are.  What belongs to a connection is done here: framing, gzip, HEAD.
"""
import argparse
import gzip
import http.server
import pathlib
import signal
import socket
import sys
import threading
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bindings" / "python"))

from ochre import Error, _handle  # noqa: E402

CONNECTION = {"connection", "content-length", "transfer-encoding", "keep-alive", "expect",
              "accept-encoding"}
PACKED_MIN = 1024


class Bridge(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    database = None

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self):
        words = self.raw_requestline.split()  # self.path is not always what came
        headers = [(name.lower(), value) for name, value in self.headers.items()]
        try:
            body = self.body(dict(headers))
        except (ValueError, OSError, EOFError, zlib.error):
            return self.reply(400, [(b"content-type", b"text/plain")], b"a body that cannot be read")
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers
                 if name not in CONNECTION and (name, value.lower()) != ("content-encoding", "gzip")]
        try:
            answer = self.database.exchange(words[0], words[1], lines, body)
        except Error as problem:
            answer = 400, [(b"content-type", b"text/plain")], str(problem).encode()
        self.reply(*answer)

    def body(self, headers):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            data = b"".join(self.chunks())
        else:
            data = self.rfile.read(int(headers.get("content-length") or 0))
        return gzip.decompress(data) if headers.get("content-encoding", "").lower() == "gzip" \
            else data

    def chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def reply(self, status, headers, body):
        packed = len(body) >= PACKED_MIN and "gzip" in self.headers.get("Accept-Encoding", "")
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name.decode("latin-1"), value.decode("latin-1"))
        if packed:
            body = gzip.compress(body, 1)
            self.send_header("content-encoding", "gzip")
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 64

    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        super().server_bind()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--path", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    handle = Bridge.database = _handle.acquire(options.path)
    server = Server(("127.0.0.1", options.port), Bridge)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    try:
        server.serve_forever(poll_interval=0.1)
    finally:
        server.server_close()
        _handle.release(handle)


if __name__ == "__main__":
    main()
