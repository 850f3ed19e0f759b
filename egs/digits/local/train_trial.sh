#!/usr/bin/env bash
# Train one of the networks that local/run_convergence.sh compares, and decode with it.
#
# Usage: local/train_trial.sh <base> <dir> <n>
#  e.g.: local/train_trial.sh exp/convergence/base exp/convergence 1
#
# The nth line of <dir>/trials names it and has its options (local/trials.py); <dir>/train.conf has
# those that all have in common, and <dir>/decode.conf those of decoding.  <base> has what
# egs/digits/run.sh made, and the graph; <dir>/examples has the feature transform and the examples
# that all train on, and says what the features are.

set -euo pipefail
base=$1 dir=$2
read -r name options < <(sed -n "$3p" "$dir/trials")
trial=$dir/$name

mkdir -p "$trial"
cp --no-clobber "$dir"/examples/{cmvn_opts,feat_dim,ivector_dim,lda_dim,lda.mat} "$trial/"
# One job at a time: other trials have the other cores.
# shellcheck disable=SC2086  # options are words
train_multisplice.py --config "$dir/train.conf" --cmd "run.py --max-jobs-run 1" --num-threads 1 \
  --combine-num-threads 1 --egs-dir "$dir/examples/egs" $options \
  "$base/data/augmented" "$base/lang" "$base/ali2" "$trial"

for data in "$base"/data/{tune,test}; do
  [ "$(basename "$data")" = tune ] && [ -d "$base/data/tune_noisy" ] && data=$base/data/tune_noisy
  decoded=$trial/decode_$(basename "$data" _noisy)
  [ -e "$decoded/best_wer" ] || decode.py --nj 1 --cmd "run.py --max-jobs-run 1" \
    --config "$dir/decode.conf" "$base/graph" "$data" "$decoded"
done
score.py --tune-on "$trial/decode_tune" "$base/data/test" "$base/graph" "$trial/decode_test"
