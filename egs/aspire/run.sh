#!/usr/bin/env bash
# The recipe ../fisher, with copies of the training data in rooms and with noise, and tests in rooms.
#
# Usage: ./run.sh --corpora DIR --cmudict FILE [options of ../fisher/run.sh]
#  e.g.: ./run.sh --corpora /corpora/LDC --cmudict cmudict-0.7b
#
# The corpora are those of ../fisher, and LDC2017S21 (the development set of the ASpIRE challenge).
# Everything goes to ../fisher/exp, or to --dir; what ../fisher/run.sh has done there is not done again.

set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case "${1:-}" in
  --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" ;;
  *) exec "$here/../fisher/run.sh" --config "$here/conf/aspire.conf" "$@" ;;
esac
