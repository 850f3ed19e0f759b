#!/usr/bin/env bash
# Make the pages of the user's guide, in docs/build.  A warning, such as of a link to nowhere, is an error.
#
# Usage: docs/build.sh [<option of sphinx-build> ...]
#  e.g.: docs/build.sh                   then look at docs/build/index.html
#        docs/build.sh -b linkcheck      asks the network whether external links are alive

set -euo pipefail
cd "$(dirname "$0")/.."
utils/setup_env.sh docs
. ./path.sh

sphinx-build --quiet --fresh-env --write-all --fail-on-warning --keep-going "$@" docs docs/build
