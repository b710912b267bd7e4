#!/bin/sh
# Installs facedecode with all that its tests need into .venv (once), and runs them: sh tests/run.sh [pytest's options]
# One process a core, up to eight, of one thread each; -n 0 runs all in one.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# worksteal: neighbors stay together, and with them what a file's tests share, until a process has nothing left to do.
exec .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal "$@"
