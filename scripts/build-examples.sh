#!/usr/bin/env bash
# Builds the examples that are not committed, those whose sources have changed since the last time: TypeScript and JavaScript with Node >= 20
# (examples/build.mjs), Python with componentize-py from .venv. Without either it fails: tests run every example.
# The Rust examples are committed; scripts/build-guests.sh builds them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly DIR=examples NODE_MIN=20 PYTHON=wasi-http-python
say() { printf '  %-18s %s\n' "$1" "$2"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# fail NAME SENTENCE...: with the end of the log.
fail() {
  tail -n 30 "$log" >&2
  printf '%s: %s\n' "$1" "$2" >&2
  exit 1
}

# --- TypeScript and JavaScript ----------------------------------------------------------------------------------------------------
node=$(node --version 2>/dev/null || true)
major=${node#v}
major=${major%%.*}
if ! [ "${major:-0}" -ge "$NODE_MIN" ] 2>/dev/null || ! command -v npm >/dev/null; then
  fail examples "the examples in TypeScript are built with Node >= $NODE_MIN and npm, here is ${node:-none}. Install it: https://nodejs.org"
fi
installed=$DIR/node_modules/.installed
if ! cmp -s "$DIR/package-lock.json" "$installed"; then
  say examples "installing their tools (npm ci)"
  (cd "$DIR" && npm ci --no-fund --no-audit --loglevel=error) >"$log" 2>&1 ||
    fail examples "npm ci failed (its last lines are above). If they speak of ENOTFOUND, ECONNREFUSED or ETIMEDOUT, the npm registry cannot be reached."
  cp "$DIR/package-lock.json" "$installed"
fi
(cd "$DIR" && npm run --silent build) >"$log" 2>&1 || fail examples "a build failed (its last lines are above)"
while IFS=: read -r name outcome; do say "$name" "${outcome# }"; done <"$log"

# --- Python -----------------------------------------------------------------------------------------------------------------------
tool=$PWD/.venv/bin/componentize-py
[ -x "$tool" ] || fail "$PYTHON" "componentize-py is missing: run scripts/setup.sh --tests"
digest() {
  {
    find "$DIR/$PYTHON/src" "$DIR/wit" -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    "$tool" --version
  } | sha256sum | cut -d' ' -f1
}
stamp=$DIR/$PYTHON/dist/.built-from
if [ -f "$DIR/$PYTHON/dist/main.wasm" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(digest)" ]; then
  say "$PYTHON" "up to date"
else
  mkdir -p "$DIR/$PYTHON/dist"
  (cd "$DIR/$PYTHON" && "$tool" --quiet -d ../wit -w wasi:http/proxy@0.2.3 componentize app -p src -o dist/main.wasm) >"$log" 2>&1 ||
    fail "$PYTHON" "componentize-py failed (its last lines are above)"
  digest >"$stamp"
  say "$PYTHON" "built"
fi
