#!/usr/bin/env bash
# Lint, format and tests; in a fresh clone it first makes the virtual environment.
#
# Usage: tests/run.sh [--fast] [<pytest option or test file> ...]
#  e.g.: tests/run.sh --fast
#        tests/run.sh -x tests/test_cli.py
#
#   --fast  without the tests that are marked slow or cluster
#
# Each core has a file of tests at a time; with --numprocesses 0 they run one after the other, here.

set -euo pipefail
cd "$(dirname "$0")/.."

options=(--numprocesses auto --dist loadfile)
if [ "${1:-}" = --fast ]; then
  shift
  options+=(-m "not slow and not cluster")
fi

utils/setup_env.sh synth plots docs nvrtc dev
. ./path.sh

ruff check --quiet .
ruff format --check . || {
  echo "tests/run.sh: 'ruff format' would change the files named by 'ruff format --check'" >&2
  exit 1
}
mypy --no-error-summary
if [ ! -d "${NGTRAIN_SHARED:-../shared}" ]; then
  echo "tests/run.sh: no reference data at ${NGTRAIN_SHARED:-../shared}: tests compare with those" \
    "in tests/reference; what needs more is left out, and counted below"
fi
pytest "${options[@]}" "$@"
