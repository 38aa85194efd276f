#!/usr/bin/env bash
# Builds the component of examples/hello-js (npm ci, npm run build) when its sources have changed since the last build. Without
# Node >= 20 it says so in one line and succeeds: everything else runs without this example. Fails when the build fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly DIR=examples/hello-js NODE_MIN=20
say() { printf '  %-18s %s\n' hello-js "$1"; }

[ -f "$DIR/package.json" ] || { say "left out: $DIR has no package.json"; exit 0; }
node=$(node --version 2>/dev/null || true)
major=${node#v}
major=${major%%.*}
if ! [ "${major:-0}" -ge "$NODE_MIN" ] 2>/dev/null || ! command -v npm >/dev/null; then
  say "left out: it is built with Node >= $NODE_MIN and npm, here is ${node:-none}. Everything else runs."
  exit 0
fi

# Everything that goes into the component; the interface definition is shared with the guest's host.
digest() {
  find "$DIR" proto/wit -type f -not -path '*/node_modules/*' -not -path "$DIR/dist/*" -not -path "$DIR/build/*" -print0 2>/dev/null |
    LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1
}

stamp=$DIR/dist/.built-from
if [ -f "$DIR/dist/main.wasm" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(digest)" ]; then
  say "up to date ($DIR/dist/main.wasm)"
  exit 0
fi
say "building (npm ci, npm run build)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! (cd "$DIR" && npm ci --no-fund --no-audit --loglevel=error && npm run --silent build) >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  printf 'hello-js: the build failed (its last lines are above). If they speak of ENOTFOUND, ECONNREFUSED or ETIMEDOUT, the npm\n' >&2
  printf 'registry cannot be reached from here. To go on without this example: make %s HELLO_JS=no\n' "${MAKE_GOAL:-run}" >&2
  exit 1
fi
[ -f "$DIR/dist/main.wasm" ] || { printf 'hello-js: the build made no %s/dist/main.wasm\n' "$DIR" >&2; exit 1; }
digest >"$stamp"
say "built ($(du -h "$DIR/dist/main.wasm" | cut -f1) component)"
