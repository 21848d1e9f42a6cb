#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line as scripts meet it: exit codes, nearest names, help, where settings come from, JSON, and each verb on a folder and on a server.
usage: test_command_line.py BINARY"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../crash"))
from server import Client, free_port  # noqa: E402

BINARY = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else None
DONE, FAILED, USAGE, NOT_FOUND, DAMAGED, UNREACHABLE, NOT_ALLOWED, IN_USE, RETRY, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 7, 9, 130
VERBS = ("serve", "health", "config", "check", "recall", "version", "help")


def ochre(*arguments, environment=None, folder=None):
    """(exit status, stdout, stderr) of one call, without what the caller's environment says of Ochre or Chroma."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCHRE_", "CHROMA_"))}
    done = subprocess.run([BINARY, *arguments], capture_output=True, timeout=120, check=False, cwd=folder,
                          env={**clean, **(environment or {})})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class Server:
    """A server on a folder; `process.pid` is its own."""

    def __init__(self, folder, *flags):
        self.port = free_port()
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCHRE_", "CHROMA_"))}
        self.process = subprocess.Popen([BINARY, "serve", "--path", folder, "--port", str(self.port), *flags],
                                        stderr=subprocess.PIPE, env=clean)
        self.said = []
        for line in self.process.stderr:
            self.said.append(line.decode())
            if b"Ready in" in line:
                return
        raise AssertionError("the server ended: " + "".join(self.said))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.said.append(self.process.communicate(timeout=60)[1].decode())
        return self.process.returncode

    def end(self):
        """Whatever the test made of it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stderr.close()


class Refusing(BaseHTTPRequestHandler):
    """Answers whatever it is asked with the server's `status`."""

    def do_GET(self):
        body = json.dumps({"error": "Backoff", "message": "memory is full. Try again in 2 s."}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "2")
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="ochre-cli-")
        self.addCleanup(shutil.rmtree, self.folder)

    def serve(self, folder, *flags):
        server = Server(folder, *flags)
        self.addCleanup(server.end)
        return server

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def check(self, status, says, *arguments, **more):
        """The call ends so and says this on stderr, which is all that a failure says."""
        code, out, err = ochre(*arguments, **more)
        self.assertEqual(code, status, f"{arguments}: {out}{err}")
        self.assertIn(says, err, arguments)
        if status not in (DONE, DAMAGED):
            self.assertEqual(out, "", arguments)
        return err

    def test_a_wrong_call_is_a_usage_error_with_the_nearest_name(self):
        self.check(USAGE, "usage: ochre VERB")
        self.check(USAGE, 'no verb "serv". Did you mean "serve"?', "serv")
        self.check(USAGE, '"ochre help" lists them', "zzzzzzzz")
        self.check(USAGE, 'Did you mean "--port"?', "serve", "--prot", "8")
        self.check(USAGE, '"--url" needs a value', "health", "--url")
        self.check(USAGE, '"--json" takes no value', "version", "--json=1")
        self.check(USAGE, 'no option "-x"', "version", "-x")
        self.check(USAGE, "does not know what to do with", "health", "extra")
        self.check(USAGE, "usage: ochre config", "config")
        self.check(USAGE, "usage: ochre config", "config", "prnt")
        self.check(USAGE, 'no verb "sreve". Did you mean "serve"?', "help", "sreve")
        self.check(USAGE, "is no address like", "health", "--url", "ftp://x")
        self.check(USAGE, "exclude each other", "recall", "--path", ".", "--url", "http://localhost:1")
        self.check(USAGE, '"k" must be a number from 1', "recall", "-k", "0")
        self.check(USAGE, '"targets" must be', "recall", "--targets", "7")

    def test_every_verb_explains_itself(self):
        code, overview, _ = ochre("help")
        self.assertEqual(code, DONE)
        self.assertEqual(ochre("--help")[1], overview)
        for verb in VERBS:
            self.assertIn(f"  {verb} ", overview)
            code, text, err = ochre(verb, "--help")
            self.assertEqual((code, err), (DONE, ""), verb)
            self.assertIn(f"usage: ochre {verb}", text)
            self.assertGreaterEqual(text.count("  $ ochre "), 2, verb)  # two examples
            self.assertIn("--json", text)
            self.assertEqual(text, ochre("help", verb)[1])
            self.assertEqual(text, ochre(verb, "-h")[1])
        self.assertIn("--memory-limit SIZE", ochre("serve", "--help")[1])
        self.assertEqual(ochre("run", "--help")[1], ochre("serve", "--help")[1])

    def test_the_version_names_the_instruction_set(self):
        code, text, _ = ochre("version")
        self.assertEqual(code, DONE)
        self.assertRegex(text, r"^ochre \d+\.\d+\.\d+ \([a-z0-9]+\)\n$")
        told = json.loads(ochre("version", "--json")[1])
        self.assertEqual(text, f"ochre {told['version']} ({told['cpu']})\n")
        self.assertEqual(ochre("--version")[1], text)
        self.assertIn("(scalar)", ochre("version", environment={"OCHRE_KERNEL": "scalar"})[1])

    def test_a_flag_counts_over_the_environment_over_the_file_over_the_default(self):
        file = self.write("ochre.yaml", "port: 1001\nworkers: 11\nhost: 127.0.0.1\nthreads: 1\n")
        given = {"OCHRE_PORT": "1002", "OCHRE_WORKERS": "12", "CHROMA_PORT": "1004"}
        code, text, err = ochre("config", "print", file, "--port", "1003", environment=given)
        self.assertEqual((code, err), (DONE, ""))
        lines = {line.split(":")[0]: line for line in text.splitlines() if line[:1].isalpha()}
        for name, value, origin in (("port", "1003", "--port"), ("workers", "12", "OCHRE_WORKERS"),
                                    ("host", "127.0.0.1", "ochre.yaml line 3"), ("waiting", "1024", "default")):
            self.assertIn(value, lines[name].split("#")[0])
            self.assertIn(origin, lines[name].split("#")[1])
        again = self.write("again.yaml", text)  # what is printed reads back to the same
        strip = [line.split("#")[0].strip() for line in text.splitlines()]
        self.assertEqual([line.split("#")[0].strip() for line in ochre("config", "print", again)[1].splitlines()], strip)

    def test_unknown_and_wrong_settings_are_refused_by_place(self):
        file = self.write("bad.yaml", "port: 8000\nmemory_limt: 4GiB\n")
        says = f'{file} line 2: unknown setting "memory_limt". Did you mean "memory_limit"?'
        self.check(USAGE, says, "config", "check", file)
        self.check(USAGE, says, "serve", file)
        self.check(USAGE, 'Did you mean "OCHRE_MEMORY_LIMIT"?', "config", "check", environment={"OCHRE_MEMRY_LIMIT": "1"})
        self.check(USAGE, '--port: expected a whole number from 0 to 65,535, got "99999"', "config", "check", "--port", "99999")
        self.check(USAGE, "No such file", "config", "check", self.path("none.yaml"))
        self.check(USAGE, "No such file", "serve", self.path("none.yaml"))
        self.check(USAGE, "refusing to listen on 0.0.0.0 without keys", "serve", "--host", "0.0.0.0", "--path", self.path("x"))
        self.check(USAGE, "refusing to listen on 0.0.0.0", "config", "check", "--host", "0.0.0.0")
        self.assertFalse(os.path.exists(self.path("x")))  # before anything is made
        self.assertEqual(ochre("config", "check", "--host", "0.0.0.0", "--insecure")[0], DONE)

    def test_the_originals_names_are_understood(self):
        file = self.write("chroma.yaml", "port: 8111\nlisten_address: 127.0.0.1\npersist_path: ./elsewhere\n"
                          "sqlitedb:\n  hash_type: md5\ncircuit_breaker:\n  requests: 7\n")
        code, text, err = ochre("config", "print", file, environment={"CHROMA_ALLOW_RESET": "true"})
        self.assertEqual(code, DONE, err)
        for line in ("port: 8111", 'path: "./elsewhere"', "circuit_breaker_requests: 7", "allow_reset: true"):
            self.assertIn(line, text)
        self.assertIn("sqlitedb", err)  # what has no effect is said
        self.check(USAGE, "once switched on authentication", "config", "check", environment={"CHROMA_SERVER_AUTHN_PROVIDER": "x"})

    def test_check_finds_what_is_damaged_and_only_that(self):
        folder = self.path("data")
        self.check(NOT_FOUND, "there is no folder", "check", "--path", folder)
        os.mkdir(folder)
        self.check(NOT_FOUND, "holds no database", "check", "--path", folder)
        server = self.serve(folder)
        client = Client(server.port)
        collection = client.collection("docs")
        client.write(collection, "add", {"ids": ["a", "b"], "embeddings": [[1.0, 2.0], [3.0, 4.0]]})
        client.close()
        self.check(IN_USE, f"in use by pid {server.process.pid}", "check", "--path", folder)
        self.check(IN_USE, f"in use by pid {server.process.pid}", "serve", "--path", folder, "--port", str(free_port()))
        self.check(FAILED, "another program has the port", "serve", "--path", self.path("other"), "--port", str(server.port))
        self.assertEqual(server.stop(), DONE)
        code, text, err = ochre("check", "--path", folder, "--deep")
        self.assertEqual((code, err), (DONE, ""))
        self.assertIn("1 collections", text)
        self.assertIn("sound\n", text)
        self.assertEqual(ochre("check", "--path", folder, "-q")[1], "")
        self.assertEqual(json.loads(ochre("check", "--path", folder, "--json")[1])["faults"], 0)
        log = os.path.join(folder, "log")
        segment = os.path.join(log, next(name for name in sorted(os.listdir(log)) if name.endswith(".log")))
        os.rename(segment, self.path("kept"))
        code, text, _ = ochre("check", "--path", folder)
        self.assertEqual(code, DAMAGED)
        self.assertIn("is missing", text)
        report = json.loads(ochre("check", "--path", folder, "--json")[1])
        self.assertGreater(report["faults"], 0)
        self.assertEqual(len(report["lines"]), report["faults"])
        self.check(DAMAGED, "is missing", "serve", "--path", folder, "--port", str(free_port()))
        self.check(DAMAGED, '"code":"corrupt"', "recall", "--path", folder, "--json")
        os.rename(self.path("kept"), segment)
        self.assertEqual(ochre("check", "--path", folder)[0], DONE)

    def test_health_tells_answering_from_being_ready(self):
        port = str(free_port())
        self.check(UNREACHABLE, "cannot connect", "health", "--port", port)
        server = self.serve(self.path("data"))
        url = f"http://localhost:{server.port}"
        self.assertEqual(ochre("health", "--url", url), (DONE, "ready\n", ""))
        self.assertEqual(ochre("health", "--live", environment={"OCHRE_URL": url}), (DONE, "live\n", ""))
        self.assertEqual(json.loads(ochre("health", "--json", "--port", str(server.port))[1]), {"state": "ready"})
        self.assertEqual(ochre("health", "-q", "--url", url), (DONE, "", ""))
        self.assertEqual(server.stop(), DONE)

    def test_recall_asks_a_folder_whoever_holds_it(self):
        folder = self.path("data")
        self.check(NOT_FOUND, "", "recall", "--path", folder)
        server = self.serve(folder)
        client = Client(server.port)
        collection = client.collection("docs")
        rows = range(300)
        client.write(collection, "add", {"ids": [str(i) for i in rows],
                                         "embeddings": [[float(i % 17), float(i % 23), float(i)] for i in rows]})
        client.close()
        url = f"http://localhost:{server.port}"
        for where in (("--url", url), ("--path", folder)):  # through the socket in the folder
            code, out, err = ochre("recall", "docs", "--queries", "5", "--json", *where)
            self.assertEqual(code, DONE, err)
            line = json.loads(out)
            self.assertEqual((line["collection"], line["records"], line["recall"]), ("docs", 300, 1))
        self.check(NOT_FOUND, "nope", "recall", "nope", "--url", url)
        self.check(UNREACHABLE, "cannot connect", "recall", "docs", "--url", f"http://localhost:{free_port()}")
        self.assertEqual(ochre("recall", "--url", url, "--queries", "5", "--fail-below", "0.5", "-q")[0], DONE)
        self.assertEqual(server.stop(), DONE)
        code, out, err = ochre("recall", "--path", folder, "--queries", "5")
        self.assertEqual(code, DONE, err)
        self.assertEqual(out.splitlines()[0].split("\t")[:3], ["collection", "records", "dimension"])  # no terminal: tabs
        silent = self.serve(folder, "--unix-socket=false")
        self.check(IN_USE, f"in use by pid {silent.process.pid}", "recall", "--path", folder)
        self.assertEqual(silent.stop(), DONE)

    def test_a_refusal_for_now_is_told_from_one_for_good(self):
        server = HTTPServer(("127.0.0.1", 0), Refusing)
        self.addCleanup(server.server_close)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}"
        for server.status, ends in ((429, RETRY), (503, RETRY), (401, NOT_ALLOWED), (403, NOT_ALLOWED)):
            self.check(ends, f"memory is full. Try again in 2 s. (status {server.status})", "recall", "docs", "--url", url)
        server.status = 429
        err = json.loads(self.check(RETRY, '"code":"busy"', "recall", "docs", "--url", url, "--json"))
        self.assertIn("Try again in 2 s.", err["message"])

    def test_a_server_says_what_it_is_and_stops_by_either_signal(self):
        server = self.serve(self.path("data"), "--allow-reset")
        said = "".join(server.said)
        version = ochre("version")[1].split()[1]
        self.assertIn(f"version={version} cpu=", said)  # the log's first line: version, processor, what is set
        self.assertIn("allow_reset=true", said)
        self.assertIn(f"http://localhost:{server.port}/api/v2", said)
        self.assertIn("no keys: only this machine can connect.", said)
        self.assertEqual(server.stop(), DONE)
        server = self.serve(self.path("data"))
        server.process.send_signal(signal.SIGINT)
        server.process.communicate(timeout=60)
        self.assertEqual(server.process.returncode, DONE)

    def test_a_second_signal_ends_it_at_once(self):
        server = self.serve(self.path("data"))
        with socket.create_connection(("localhost", server.port)) as slow:
            slow.sendall(b"POST /api/v2/tenants HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                         b"Content-Length: 90\r\nExpect: 100-continue\r\n\r\n")
            self.assertIn(b"100 Continue", slow.recv(100))  # a request at work, which a stop waits for
            server.process.send_signal(signal.SIGTERM)
            for line in server.process.stderr:
                if b'"stopping"' in line:
                    break
            time.sleep(0.4)  # what comes within 0.3 s is taken for the same signal, sent to a group as well
            server.process.send_signal(signal.SIGTERM)
            said = server.process.communicate(timeout=60)[1]
        self.assertEqual((server.process.returncode, said), (INTERRUPTED, b"ochre: stopped at once\n"))

    def test_errors_are_the_body_of_the_http_api_with_json(self):
        code, out, err = ochre("check", "--path", self.path("none"), "--json")
        self.assertEqual((code, out), (NOT_FOUND, ""))
        self.assertEqual(set(json.loads(err)), {"error", "message", "code"})


if __name__ == "__main__":
    if BINARY is None:
        sys.exit(__doc__)
    unittest.main(argv=sys.argv[:1])
