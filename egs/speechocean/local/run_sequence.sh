#!/usr/bin/env bash
# Sequence training of the network that run.sh ends with, and word error rates before and after.
#
# Usage: local/run_sequence.sh [OPTION ...] <exp>
#  e.g.: ./run.sh --corpus speechocean762
#        local/run_sequence.sh --criteria smbr exp
#
# It is that of egs/digits, whose options it takes, with the scales and the decoding of run.sh here.

set -euo pipefail

exec "$(dirname "$0")/../../digits/local/run_sequence.sh" --nnet nnet2 --acwt 0.1 --rates 0.0001 --decode-opts \
  "--beam 13 --max-active 3000 --lattice-beam 6 --lmwt 8,10,12,14,17 --word-ins-penalty 0.0,0.5,1.0" "$@"
