#!/bin/sh
# Installs facedecode with all that its tests need into .venv (once), and runs them: sh tests/run.sh [pytest's options]
set -eu
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
exec .venv/bin/python -m pytest "$@"
