#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a C programmer gets: the header compiles as C17 and C++17, only och_* is exported, the example builds by its own first line and runs.
# usage: test_library_products.sh BUILD_FOLDER [C_COMPILER [CXX_COMPILER]]
set -eu
build=$1 cc=${2:-cc} cxx=${3:-c++}
source=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
same() { cmp -s "$work/$1" "$work/$2" || { diff "$work/$1" "$work/$2" >&2; fail "$3"; }; }

export PKG_CONFIG_PATH="$build"
flags="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror"
cat > "$work/all.c" <<'CODE'
#include <ochre/ochre.h>
int main(void)
{
    och_error err = OCH_ERROR;
    och_open_options options = OCH_OPEN_OPTIONS;
    och_collection_spec spec = OCH_COLLECTION_SPEC;
    och_records records = OCH_RECORDS;
    och_counts counts = OCH_COUNTS;
    och_select which = OCH_SELECT;
    och_row row = OCH_ROW;
    och_request request = OCH_REQUEST;
    och_bytes bytes = OCH_NO_BYTES;
    (void)err, (void)options, (void)spec, (void)records, (void)counts, (void)which, (void)row, (void)request, (void)bytes;
    return och_version_number() == OCH_VERSION_NUMBER && och_text(NULL).at == NULL ? 0 : 1;
}
CODE
cp "$work/all.c" "$work/all.cc"
"$cc" -std=c17 $flags "$work/all.c" $(pkg-config --cflags --libs ochre) -o "$work/all_c" || fail "ochre.h as C17"
"$cxx" -std=c++17 $flags "$work/all.cc" $(pkg-config --cflags --libs ochre) -o "$work/all_cxx" || fail "ochre.h as C++17"
LD_LIBRARY_PATH=$build "$work/all_c" && LD_LIBRARY_PATH=$build "$work/all_cxx" || fail "header and library differ in version"

# Declared, mapped and exported are the same names.
sed -n '/^OCH_API/,/;/p' "$source/include/ochre/ochre.h" | grep -o 'och_[a-z_]*(' | tr -d '(' | sort -u > "$work/declared"
grep -o '^ *och_[a-z_]*;' "$source/cmake/ochre.map" | tr -d ' ;' | sort -u > "$work/mapped"
nm -D --defined-only "$build/libochre.so" | awk '$2 != "A" { print $3 }' | sort > "$work/exported_versions"
sed 's/@@OCHRE_1\.0$//' "$work/exported_versions" | sort > "$work/exported"
nm -g --defined-only "$build/libochre.a" | awk 'NF == 3 { print $3 }' | sort > "$work/archived"
test -s "$work/declared" || fail "no declarations found"
grep -v '@@OCHRE_1\.0$' "$work/exported_versions" && fail "a symbol without version"
same declared mapped "ochre.h and ochre.map differ"
same declared exported "libochre.so exports something else than ochre.h declares"
same declared archived "libochre.a exports something else than ochre.h declares"
readelf -d "$build/libochre.so" | grep -E 'NEEDED.*(libpq|curl|ssl|crypto|event|jemalloc)' && fail "libochre.so needs too much"
readelf -d "$build/libochre.so" | grep -q 'SONAME.*libochre.so.1\]' || fail "soname"

# The example, by the command that its first line gives, then statically; twice on one folder.
cd "$work"
"$cc" -std=c17 $flags "$source/examples/quickstart.c" $(pkg-config --cflags --libs ochre) -o shared || fail "quickstart.c"
"$cc" -std=c17 "$source/examples/quickstart.c" $(pkg-config --cflags ochre) "$build/libochre.a" \
    $(pkg-config --static --libs-only-l ochre | sed 's/-lochre//') -pthread -o static || fail "quickstart.c, static"
printf 'sienna  0.0017  {"kind":"earth"}\nochre  0.0738  {"kind":"earth"}\n' > wanted
LD_LIBRARY_PATH=$build ./shared > shared_out || fail "quickstart"
./static > static_out || fail "quickstart, static"
same wanted shared_out "quickstart prints something else"
same wanted static_out "quickstart, static, prints something else"
test "$(wc -l < "$source/examples/quickstart.c")" -le 60 || fail "quickstart.c is longer than 60 lines"
echo ok
