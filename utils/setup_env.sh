#!/usr/bin/env bash
# Make the virtual environment .venv of this checkout, or bring it up to date.
#
# Usage: utils/setup_env.sh [<extra> ...]
#  e.g.: utils/setup_env.sh synth dev        (an extra is a file requirements/<extra>.txt)
#
# Says nothing and does nothing when all is there.  The interpreter is python3 or newer names on the
# PATH, whichever is at least 3.10; PYTHON=<program> chooses another.

set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "setup_env.sh: $*" >&2
  exit 1
}

find_python() {
  local python
  for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  fail "no Python of at least 3.10 among: ${PYTHON:-python3 python3.13 ... python3.10}"
}

# What was installed is remembered as a copy of its requirements file.
out_of_date() {
  local name
  for name in core "$@"; do
    [ -f "requirements/$name.txt" ] || fail "there is no extra '$name' (see requirements/)"
    cmp -s "requirements/$name.txt" ".venv/installed/$name.txt" || echo "$name"
  done
}

wanted=$(out_of_date "$@")
[ -n "$wanted" ] || exit 0

# Of several runs at the same time the first does the work, and the others wait for it: the lock
# belongs to the file opened here, and goes with this shell.
python=$(find_python)
exec 9>.venv.lock
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
wanted=$(out_of_date "$@")
[ -n "$wanted" ] || exit 0

if ! .venv/bin/python3 -m pip --version >/dev/null 2>&1; then
  echo "setup_env.sh: making .venv with $("$python" --version)" >&2
  "$python" -m venv --clear .venv >.venv.log 2>&1 ||
    fail "$python cannot make a virtual environment (on Debian: install python3-venv); see .venv.log"
fi

echo "setup_env.sh: installing into .venv:" $wanted >&2
files=()
for name in $wanted; do
  files+=(-r "requirements/$name.txt")
done
if ! .venv/bin/python3 -m pip install --disable-pip-version-check "${files[@]}" >.venv.log 2>&1; then
  grep '^ERROR' .venv.log | tail -n 2 >&2 || tail -n 2 .venv.log >&2
  fail "could not install the packages (is the package index reachable?); the log is .venv.log"
fi
mkdir -p .venv/installed
for name in $wanted; do
  cp "requirements/$name.txt" .venv/installed/
done
rm .venv.log
