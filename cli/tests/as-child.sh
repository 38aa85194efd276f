#!/bin/sh
# Stands for `longshore child --parent PID -- PROGRAM ARGS` in unit tests, which have no path of the built command.
shift 4
exec "$@"
