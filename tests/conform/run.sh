#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Replay the conformance scenarios against a server of ours, started for this on a free port and a folder of its own.
#
#   tests/conform/run.sh SERVER [options of replay.py]       SERVER: the executable, as build/release/ochre
#   tests/conform/run.sh --embedded PYTHON [options]         through the embedded library that OCHRE_LIBRARY names
#
# Ends with replay.py's line `N passed, N failed`; exit 0 only when nothing failed.  Needs Python 3.9 and nothing else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { sed -n '3,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64; }
embedded=false
if [ "$1" = --embedded ]; then
    embedded=true
    shift
fi
program=$(command -v "$1") || { echo "run.sh: no program at $1" >&2; exit 64; }
program=$(realpath -s "$program")
shift

# The kit has a home outside this repository; where that lies beside us, the copy must be the same.
check_copy() {
    local kit=$here/../../../shared/conformance
    [ -d "$kit" ] || return 0
    local name
    for name in README.md replay.py record.py scenarios; do
        diff -rq --exclude=__pycache__ "$kit/$name" "$here/$name" >&2 || return 1
    done
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Answers yet?  Gives up after 20 s, or when the process is gone.
wait_until_up() {
    local port=$1 pid=$2 tries
    for ((tries = 0; tries < 200; tries++)); do
        kill -0 "$pid" 2>/dev/null || return 1
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return 0
        sleep 0.1
    done
    return 1
}

folder=$(mktemp -d)
server=
stop() {
    local status=$?
    if [ -n "$server" ] && kill -TERM "$server" 2>/dev/null; then
        wait "$server" || { status=1; echo "run.sh: the server ended with $?, not 0" >&2; }
    fi
    [ "$status" -eq 0 ] || sed 's/^/server: /' "$folder/log" 2>/dev/null | tail -n 20 >&2
    rm -rf "$folder"
    exit "$status"
}
trap stop EXIT

check_copy || { echo "run.sh: tests/conform differs from the kit in shared/; copy it anew" >&2; exit 1; }

port=$(free_port)
if $embedded; then
    export PYTHONPATH=$here/../../bindings/python
    "$program" "$here/embedded.py" --path "$folder/data" --port "$port" >"$folder/log" 2>&1 &
else
    "$program" serve --path "$folder/data" --port "$port" >"$folder/log" 2>&1 &
fi
server=$!
wait_until_up "$port" "$server" || { echo "run.sh: $program did not come up" >&2; exit 1; }

address=http://127.0.0.1:$port
failed=0
command="'$program' serve --path {path} --port {port}"
cp "$here/excused.txt" "$folder/excused.txt"
if $embedded; then
    command="'$program' '$here/embedded.py' --path {path} --port {port}"
    cat "$here/excused-embedded.txt" >>"$folder/excused.txt"
fi
python3 "$here/replay.py" --url "$address" --skip-file "$folder/excused.txt" --command "$command" "$@" || failed=1
if [ $# -eq 0 ]; then
    echo "corrected/:"
    python3 "$here/replay.py" --url "$address" --scenarios "$here/corrected/scenarios" \
        --skip-file "$here/corrected/excused.txt" || failed=1
    echo "own/:"
    python3 "$here/replay.py" --url "$address" --scenarios "$here/own/scenarios" || failed=1
fi
exit "$failed"
