#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Vector search of the whole database beside hnswlib, faiss and usearch, on one data set of the kit, in one run:
#
#   bench/peers.sh [options] DATA ROWS [LIBRARY...]
#     --ochre-rows N   rows for Ochre, when the peers would take too long for all of them (ROWS)
#     --out DIR        where lines and built programs are kept (build/peers)
#     --bench FILE     the built bench_peers (build/release/bench_peers)
#     --lock FILE      take turns with other measurements, one lock a library
#     --filters        filtered queries of Ochre as well
#     --table          only print the table of the lines kept before
#
# Everything is CPU time of one thread.  The peers are Debian's libhnswlib-dev and libfaiss-dev, usearch from npm and, when
# the Python has it ($PYTHON), faiss-cpu from PyPI; tools/setup --all installs the first two.  The kit is the one that
# ./dev bench uses.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kit=$repo/bench
[ -f "$kit/libpeers.cc" ] || kit=$repo/../shared/bench
out=$repo/build/peers bench=$repo/build/release/bench_peers
failed=0 lock='' filters='' only_table='' ochre_rows=''
python=${PYTHON:-python3}

die() { printf 'peers: %s\n' "$*" >&2; exit 1; }

while [ $# -gt 0 ]; do
    case $1 in
    --ochre-rows) ochre_rows=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --bench) bench=$2; shift 2 ;;
    --lock) lock=$2; shift 2 ;;
    --filters) filters=--filters; shift ;;
    --table) only_table=1; shift ;;
    -*) die "no option $1" ;;
    *) break ;;
    esac
done
[ $# -ge 2 ] || die "usage: bench/peers.sh [options] DATA ROWS [LIBRARY...]"
data=$1 rows=$2
shift 2
libraries=("$@")
[ ${#libraries[@]} -gt 0 ] || libraries=(hnswlib ochre faiss-hnsw faiss-ivf-pqfs-refine faiss-hnsw-wheel
    faiss-ivf-pqfs-refine-wheel usearch-f32 usearch-bf16 usearch-i8)
name=$(basename "$data")
lines=$out/$name-$rows
mkdir -p "$lines"

build_libpeers() {
    [ -x "$out/libpeers" ] && return 0
    [ -f "$kit/libpeers.cc" ] || die "no libpeers.cc in $kit"
    [ -d "$out/npm/node_modules/usearch" ] ||
        npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$out/npm" usearch >&2
    # LDLIBS ends the compiler's line: the clock goes in there.
    make -s -C "$kit" libpeers OUT="$out" USEARCH="$out/npm/node_modules/usearch" \
        LDLIBS="-lm -lpthread -include $repo/bench/peers/cpu_clock.h" >&2
}

measure() {
    local library=$1
    case $library in
    ochre) "$bench" "$data" "${ochre_rows:-$rows}" --folder "$out/ochre-$name-${ochre_rows:-$rows}" $filters ;;
    *-wheel) "$python" "$repo/bench/peers/faiss_wheel.py" "$data" "$rows" "${library%-wheel}" ;;
    *) OPENBLAS_NUM_THREADS=1 "$out/libpeers" "$data" "$rows" "$library" 16 100 1 1 ;;
    esac
}

if [ -z "$only_table" ]; then
    build_libpeers
    for library in "${libraries[@]}"; do
        case $library in
        *-wheel) "$python" -c 'import faiss' 2>/dev/null || { printf 'peers: %s has no faiss, %s left out\n' "$python" "$library" >&2; continue; } ;;
        esac
        exec 8>"${lock:-/dev/null}"
        [ -z "$lock" ] || flock 8
        printf 'peers: %s\n' "$library" >&2
        if measure "$library" >"$lines/$library.new" 8>&-; then
            mv "$lines/$library.new" "$lines/$library.jsonl"
        else
            printf 'peers: %s failed\n' "$library" >&2
            failed=1
        fi
        exec 8>&-
    done
fi
files=()
for library in hnswlib ochre faiss-hnsw faiss-ivf-pqfs-refine faiss-hnsw-sq8 faiss-ivf faiss-hnsw-wheel \
    faiss-ivf-pqfs-refine-wheel usearch-f32 usearch-bf16 usearch-i8; do
    [ -f "$lines/$library.jsonl" ] && files+=("$lines/$library.jsonl")
done
[ ${#files[@]} -gt 0 ] || die "no lines in $lines"
python3 "$repo/bench/peers/table.py" "$name" "${files[@]}"
exit "$failed"
