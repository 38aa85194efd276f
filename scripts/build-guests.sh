#!/bin/sh
# Builds the test guests and the Rust examples, or with --check says whether the committed artifacts fit their sources. See build-guests.py.
exec python3 "$(dirname "$0")/build-guests.py" "$@"
