#!/usr/bin/env bash
# Sequence training of a network that run.sh has made: word error rates before and after MMI, MPFE and sMBR.
#
# Usage: local/run_sequence.sh [--nnet NAME] [--criteria LIST] [--rates LIST] [--num-epochs N] [--boost B]
#                              [--acwt A] [--decode-opts OPTS] [--num-jobs N] <exp>
#  e.g.: ./run.sh --corpus fsdd --fsdd-dir ../../../shared/fsdd --splits unseen
#        local/run_sequence.sh exp/fsdd/unseen
#
#   <exp>         the experiment, with data, lang and the network
#   --nnet        that network: nnet (default), or one of the small ones, nnet1 and nnet2
#   --criteria    default: "mmi mpfe smbr"
#   --rates       learning rates to try, of which the tuning set chooses (default: "0.0002 0.002")
#   --num-epochs  default: 3
#   --boost       of MMI (default: 0.1)
#   --acwt        acoustic scale of lattices and training (default: 0.03, about the best to decode digits with)
#   --decode-opts  options of decode.py (default: four scales, no penalty, no lattices)
#   --num-jobs    jobs at the same time; networks depend on it (default: 2, on any machine)
#
# The training data are those of run.sh, without copies at other speeds; scales are tuned on its tuning set.
# All is in <exp>/sequence; done again, it goes on where it stopped.  In the end there is a table, in
# <exp>/sequence/results.md.

set -euo pipefail

nnet=nnet criteria='mmi mpfe smbr' rates='0.0002 0.002' num_epochs=3 boost=0.1 acwt=0.03 num_jobs=2
decode_opts='--lattices false --lmwt 14,20,28,40 --word-ins-penalty 0.0'

. "$(dirname "$0")/../../../utils/recipe_options.sh"
while [[ ${1:-} == --* ]]; do
  case $1 in
    --help) usage; exit ;;
    *) parse_option "--nnet --criteria --rates --num-epochs --boost --acwt --decode-opts --num-jobs" "$@"; shift $taken ;;
  esac
done
[ $# = 1 ] || fail "expected one argument, an experiment of run.sh (--help says more)"
exp=$(realpath "$1")
source=$exp/$nnet data=$exp/data lang=$exp/lang seq=$exp/sequence
[ -e "$source/final.mdl" ] || fail "$source/final.mdl is not there: run.sh makes it"

cd "$(dirname "$0")/.."
. ./path.sh
. ./cmd.sh
mkdir -p "$seq"
for tune in tune_noisy tune dev; do
  if [ -d "$data/$tune" ]; then break; fi
done

# once NAME COMMAND: do it unless it has been done.
once() {
  local mark=$seq/.done.$1
  shift
  if [ -e "$mark" ]; then return; fi
  "$@"
  touch "$mark"
}
jobs=(--nj "$num_jobs" --cmd "$train_cmd")

once ali align.py "${jobs[@]}" "$data/train" "$lang" "$source" "$seq/ali"
once denlats make_denlats.py "${jobs[@]}" --acwt "$acwt" "$data/train" "$lang" "$source" "$seq/denlats"
once degs get_egs_discriminative2.py --cmd "$train_cmd" --samples-per-iter 40000 \
  "$data/train" "$lang" "$seq/ali" "$seq/denlats" "$source/final.mdl" "$seq/degs"
once graph mkgraph.py "$lang" "$source" "$seq/graph"

# decoded DIR: decode with its final.mdl, and score with the scale and the penalty that are best on the tuning set.
decoded() {
  local name
  for name in "$tune" test; do
    decode.py --nj "$num_jobs" --cmd "$decode_cmd" $decode_opts "$seq/graph" "$data/$name" "$1/decode_$name"
  done
  score.py --tune-on "$1/decode_$tune" "$data/test" "$seq/graph" "$1/decode_test"
}

once decode.before decoded "$seq/degs" # where the network is that training starts from
for rate in $rates; do
  for criterion in $criteria; do
    options=(--criterion "$criterion" --acoustic-scale "$acwt" --num-jobs-nnet 2 --num-epochs "$num_epochs")
    if [ "$criterion" = mmi ]; then options+=(--boost "$boost"); fi
    dir=$seq/${criterion}_$rate
    once "train.$criterion.$rate" train_discriminative2.py --cmd "$train_cmd" "${options[@]}" \
      --learning-rate "$rate" "$seq/degs" "$dir"
    once "decode.$criterion.$rate" decoded "$dir"
  done
done

local/sequence_results.py --tune="$tune" "$seq" | tee "$seq/results.md"
