#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Chroma's own JavaScript tests against a server of ours; see README.md.
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
[ $# -ge 2 ] || { sed -n '3s/^# //p' "${BASH_SOURCE[0]}" >&2; exit 64; }
client=$(cd "$1/clients/new-js/packages/chromadb" && pwd) url=$2
shift 2

# A copy with packages of its own, without the tools that start containers.
work=$repo/build/clients/javascript
rm -rf "$work/src" "$work/test"
mkdir -p "$work"
cp -r "$client/src" "$client/test" "$work/"
version=$(sed -n 's/^ *"version": "\(.*\)",/\1/p' "$client/package.json")
if [ ! -d "$work/node_modules" ]; then
    printf '{"name": "chromadb", "version": "%s", "type": "module", "private": true}\n' "$version" >"$work/package.json"
    (cd "$work" && npm install --silent --legacy-peer-deps --no-audit --no-fund --ignore-scripts jest@29 ts-jest@29.1 \
        typescript@5.0.4 @types/jest@29 @types/node@20 @types/semver @jest/globals@29 semver@7 \
        jest-environment-node-single-context@29.4 @hey-api/client-fetch@0.10 @chroma-core/default-embed)
fi
cat >"$work/jest.config.cjs" <<'END'
const compiler = { esModuleInterop: true, target: "ES2020", module: "CommonJS", moduleResolution: "Node",
                   skipLibCheck: true, resolveJsonModule: true };
module.exports = {
  testEnvironment: "jest-environment-node-single-context", testTimeout: 15000, clearMocks: true,
  roots: ["<rootDir>/test"],
  transform: { "^.+\\.ts$": ["ts-jest", { diagnostics: false, tsconfig: compiler }] },
};
END
address=${url#*://}
export DEFAULT_CHROMA_INSTANCE_URL=$url DEFAULT_CHROMA_INSTANCE_HOST=${address%:*} DEFAULT_CHROMA_INSTANCE_PORT=${address##*:}
cd "$work"
exec npx jest --runInBand -c jest.config.cjs "$@"
