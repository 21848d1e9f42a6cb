#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Chroma's own Python tests against a server of ours or the embedded library; see README.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../../.." && pwd)
[ $# -ge 2 ] || { sed -n '3s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 64; }
checkout=$(cd "$1" && pwd) target=$2
shift 2

# Beside .deps/venv, which `./dev python` makes, the tests need some packages more.
base=$repo/.deps/venv/bin/python more=$repo/build/clients/python
[ -x "$base" ] || { echo "python.sh: run ./dev python --version first" >&2; exit 1; }
if [ ! -d "$more/pytest" ]; then
    "$base" -m pip install -q --disable-pip-version-check --target "$more" pytest==8.3.5 'pytest-asyncio<1' pytest-timeout \
        hypothesis==6.112.2 fastapi uvicorn psutil pandas pyyaml snowballstemmer opentelemetry-instrumentation-fastapi
fi

export CHROMA_INTEGRATION_TEST_ONLY=1 ANONYMIZED_TELEMETRY=False CHROMA_SERVER_HOST=localhost CHROMA_SERVER_HTTP_PORT=80
if [ "$target" = --embedded ]; then
    export OCHRE_CLIENTS_EMBEDDED=1
else
    CHROMA_SERVER_HTTP_PORT=${target##*:}
    # Tests that Chroma keeps for its distributed mode (fork) read one variable for both.
    [ -z "${CHROMA_CLUSTER_TEST_ONLY:-}" ] || CHROMA_SERVER_HOST=localhost:$CHROMA_SERVER_HTTP_PORT
fi
[ $# -gt 0 ] || set -- chromadb/test/test_api.py chromadb/test/api chromadb/test/client chromadb/test/test_client.py \
    chromadb/test/test_multithreaded.py chromadb/test/configurations chromadb/test/test_chroma.py
cd "$checkout"
PYTHONPATH=$here:$checkout:$repo/bindings/python:$repo/examples:$more exec "$base" -m pytest -p plugin -p no:cacheprovider \
    -q --tb=short --timeout 600 -W ignore "$@"
