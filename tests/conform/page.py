#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Look at /docs/ with a real browser, through its debugging protocol; needs websocket-client and Debian's chromium.

    page.py SERVER            SERVER: the executable, started for this

All operations must be drawn, a request must be sent from the page and its answer shown, a hostile name must stay text, and nothing may come
from elsewhere or break the page's Content-Security-Policy.  Ends with `N passed, N failed`.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import websocket

import replay

PATIENCE = 60  # seconds; a machine may be busy


class Browser:
    def __init__(self, folder):
        program = shutil.which("chromium")
        if not program:
            sys.exit("page.py: no chromium; tools/setup --tests installs it")
        self.child = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-extensions", f"--user-data-dir={folder}",
             "--remote-debugging-port=0", "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = pathlib.Path(folder) / "DevToolsActivePort"
        self.port = int(wait(lambda: port_file.exists() and port_file.read_text().split("\n")[0]))
        pages = replay.Server(f"http://127.0.0.1:{self.port}")
        page = wait(lambda: next((one for one in pages.send("GET", "/json").body if one["type"] == "page"), None))
        self.socket = websocket.create_connection(page["webSocketDebuggerUrl"], timeout=PATIENCE, suppress_origin=True)
        self.count, self.events = 0, []

    def call(self, method, **params):
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.count:
                return message["result"]
            self.events.append(message)

    def ask(self, script):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def close(self):
        self.child.terminate()
        self.child.wait()


def wait(look):
    """What `look` gives once it is something."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        value = look()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def checks(browser, url):
    """(what, whether it holds) pairs."""
    server = replay.Server(url)
    document = server.send("GET", "/openapi.json").body
    names = sorted(operation["operationId"] for item in document["paths"].values()
                   for method, operation in item.items() if method != "parameters")
    hostile = "<img src=x onerror=document.title='owned'>"
    server.send("POST", "/api/v2/tenants", {"name": hostile})
    for domain in ("Page", "Network", "Log", "Runtime"):
        browser.call(domain + ".enable")
    browser.call("Page.navigate", url=url + "/docs")
    wait(lambda: browser.ask("document.readyState === 'complete' && document.querySelectorAll('.operation').length"))
    drawn = browser.ask("[...document.querySelectorAll('.operation')].map(one => one.id).sort()")
    yield "every operation is drawn", drawn == names
    yield "their number is told", browser.ask("document.getElementById('state').textContent") == f"{len(names)} operations"

    browser.ask("location.hash = '#get_tenant'")
    wait(lambda: browser.ask("document.querySelector('#get_tenant button') !== null"))
    browser.ask(f"document.querySelector('#get_tenant input').value = {json.dumps(hostile)};"
                "document.querySelector('#get_tenant button').click()")
    shown = wait(lambda: browser.ask("(text => text.length > 1 && text)"
                                     "(document.querySelector('#get_tenant pre').textContent)"))
    yield "an answer is shown", shown.startswith("200 ") and hostile in shown
    yield "what it says stays text", browser.ask("document.querySelectorAll('img').length") == 0

    browser.ask("const one = document.getElementById('create_collection'); one.open = true")
    wait(lambda: browser.ask("document.querySelector('#create_collection textarea') !== null"))
    browser.ask("document.querySelector('#create_collection textarea').value = JSON.stringify({name: 'page'});"
                "document.querySelector('#create_collection button').click()")
    shown = wait(lambda: browser.ask("(text => text.length > 1 && text)"
                                     "(document.querySelector('#create_collection pre').textContent)"))
    yield "a body is sent", shown.startswith("200 ") and '"name": "page"' in shown

    browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    wait(lambda: browser.ask("[...document.querySelectorAll('.operation')].every(one => one.querySelector('button'))"))
    yield "all of them can be opened", True
    browser.ask("const box = document.getElementById('filter'); box.value = 'fork';"
                "box.dispatchEvent(new Event('input'))")
    left = browser.ask("[...document.querySelectorAll('.operation:not([hidden])')].map(one => one.id)")
    yield "the filter filters", 0 < len(left) < 10 and all("fork" in name for name in left)

    asked = [event["params"]["request"]["url"] for event in browser.events
             if event["method"] == "Network.requestWillBeSent"]
    yield "nothing comes from elsewhere", asked and all(one.startswith((url, "data:")) for one in asked)
    told = [event for event in browser.events if event["method"] == "Runtime.exceptionThrown" or
            event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning")]
    yield f"the browser complains of nothing {told or ''}", not told


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    process = replay.Process(f"'{sys.argv[1]}' serve --path {{path}} --port {{port}}", 0)
    browser, results = None, []
    try:
        if not process.start({})["up"]:
            sys.exit("page.py: the server did not come up")
        with tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True) as folder:
            try:
                browser = Browser(folder)
                results = list(checks(browser, process.url))
            finally:
                if browser:
                    browser.close()
    finally:
        process.close()
    for what, holds in results:
        print(f"{'ok  ' if holds else 'FAIL'} {what}")
    failed = sum(not holds for _, holds in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    sys.exit(0 if results and not failed else 1)


if __name__ == "__main__":
    main()
