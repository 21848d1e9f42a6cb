#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replay the scenarios and hold every answer, and every request that was accepted, against /openapi.json.

    described.py SERVER [options of replay.py]            SERVER: the executable; needs jsonschema, openapi-spec-validator

The server is started for this.  The document must be valid OpenAPI 3.1, every answer's status described, and no answer may
hold a member that its schema does not name.  What replay.py itself finds counts in run.sh, not here.  Ends with
`N passed, N failed`: exchanges.
"""
import collections
import json
import sys
import urllib.parse

import jsonschema
import openapi_spec_validator
import referencing
import referencing.jsonschema

import replay

BODY_MAX = 200_000  # bytes of a body that is still checked


def strict(schema):
    """The same schema, but objects hold only the members that it names."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(item) for key, item in schema.items() if key not in ("examples", "default")}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


class Description:
    def __init__(self, document):
        self.document = document
        self.validators = {}
        resource = referencing.Resource(contents=document, specification=referencing.jsonschema.DRAFT202012)
        closed = {**document, "components": {**document["components"],
                                             "schemas": {name: strict(schema) for name, schema
                                                         in document["components"]["schemas"].items()}}}
        self.registries = {
            False: referencing.Registry().with_resource("urn:api", resource),
            True: referencing.Registry().with_resource("urn:api", referencing.Resource(
                contents=closed, specification=referencing.jsonschema.DRAFT202012))}
        self.operations = [(path.strip("/").split("/") if path != "/docs/" else ["docs", ""], method, operation)
                           for path, item in document["paths"].items()
                           for method, operation in item.items() if method != "parameters"]

    def find(self, method, path):
        """The operation of a request; names win over holes, as in the server."""
        segments = urllib.parse.urlsplit(path).path[1:].split("/")
        fits = [(sum(part.startswith("{") for part in parts), operation)
                for parts, known, operation in self.operations
                if known == method.lower() and len(parts) == len(segments) and
                all(part.startswith("{") or part == urllib.parse.unquote(segment)
                    for part, segment in zip(parts, segments))]
        return min(fits, key=lambda fit: fit[0])[1] if fits else None

    def complaints(self, reference, value, closed):
        key = reference, closed
        if key not in self.validators:
            self.validators[key] = jsonschema.Draft202012Validator(
                {"$ref": "urn:api" + reference}, registry=self.registries[closed])
        error = jsonschema.exceptions.best_match(self.validators[key].iter_errors(value))
        return error and f"{error.json_path}: {error.message[:300]}"

    def answer(self, method, path, answer):
        """What is wrong with an answer, or None; None too where no operation is meant."""
        operation = self.find("GET" if method == "HEAD" else method, path)
        status, body = answer.status, answer.body
        if operation is None or method == "OPTIONS":
            return None if status >= 400 or method == "OPTIONS" else "answered, but not described"
        described = operation["responses"].get(str(status))
        if described is None:
            return None if status == 405 else f"status {status} is not described"
        if "$ref" in described:
            described = self.document["components"]["responses"][described["$ref"].split("/")[-1]]
        content = described.get("content", {})
        kind = answer.headers.get("content-type", "").split(";")[0]
        shape = content.get("application/json")
        if shape is None or method == "HEAD" or (kind in content and kind != "application/json"):
            return None
        if body is replay.MISSING:
            return "the answer is not JSON"
        return self.complaints(shape["schema"]["$ref"], body, True)

    def request(self, method, path, body):
        """What is wrong with the description, as the server took this request."""
        operation = self.find(method, path)
        if operation is None or "requestBody" not in operation:
            return None
        return self.complaints(operation["requestBody"]["content"]["application/json"]["schema"]["$ref"], body, False)


class Witness:
    """Takes the place of replay.Server.send and looks at what passes by."""

    def __init__(self, description):
        self.description, self.seen, self.used = description, 0, collections.Counter()
        self.faults = collections.Counter()
        self.send = replay.Server.send

    def __call__(self, server, method, path, body=replay.MISSING, text=None, headers=None):
        answer = self.send(server, method, path, body, text, headers)
        if answer.status == replay.NO_ANSWER:
            return answer
        self.seen += 1
        operation = self.description.find(method, path)
        if operation:
            self.used[operation["operationId"]] += answer.status < 400
        if len(answer.text) <= BODY_MAX:
            self.note(method, path, answer, self.description.answer(method, path, answer))
        if body is not replay.MISSING and text is None and answer.status < 300 and len(json.dumps(body)) <= BODY_MAX:
            self.note(method, path, answer, self.description.request(method, path, body))
        return answer

    def note(self, method, path, answer, fault):
        if fault:
            operation = self.description.find(method, path)
            self.faults[f"{operation['operationId'] if operation else path} {answer.status}: {fault}"] += 1


def play(url, folder, options):
    sys.argv = ["replay.py", "--url", url, "--scenarios", str(folder), *options]
    try:
        replay.main()
    except SystemExit:
        pass


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    process = replay.Process(f"'{sys.argv[1]}' serve --path {{path}} --port {{port}}", 0)
    options = sys.argv[2:]
    if not process.start({})["up"]:
        sys.exit("described.py: the server did not come up")
    try:
        document = replay.Server(process.url).send("GET", "/openapi.json").body
        openapi_spec_validator.validate(document)
        witness = Witness(Description(document))
        replay.Server.send = lambda *args, **names: witness(*args, **names)
        for folder in ("scenarios", "corrected/scenarios", "own/scenarios"):
            play(process.url, replay.HERE / folder, options)
    finally:
        process.close()
    for fault, count in witness.faults.most_common():
        print(f"FAIL {fault} ({count} times)")
    unused = [operation["operationId"] for _, _, operation in witness.description.operations
              if not witness.used[operation["operationId"]]]
    print("operations that no scenario uses with success:", ", ".join(unused) or "none")
    failed = sum(witness.faults.values())
    print(f"{witness.seen - failed} passed, {failed} failed")
    sys.exit(0 if witness.seen and not failed else 1)


if __name__ == "__main__":
    main()
