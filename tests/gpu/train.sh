#!/usr/bin/env bash
# Train a network on the reference data by two and then four jobs that share a GPU, and on the CPU's
# cores by as many, and compare what they have learnt (for check.sh).
#
# Usage: tests/gpu/train.sh <kaldi reference data> yes|no <dir>

set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$(realpath "$1") gpu=$2 dir=$(realpath "$3")

# Feature files are named relative to a folder beside the data's root.
mkdir -p "$dir/run"
ln -sfn "$(dirname "$data")" "$dir/shared"
cd "$dir/run"
. "$root/path.sh"

train() {
  local dir=$1
  shift
  train_multisplice.py --num-epochs 4 --num-jobs-initial 2 --num-jobs-final 4 \
    --samples-per-iter 15000 --minibatch-size 256 --num-hidden-layers 2 --add-layers-period 1 \
    --pnorm-input-dim 2000 --pnorm-output-dim 400 --splice-indexes "layer0/-4:-3:-2:-1:0:1:2:3:4" \
    --initial-effective-lrate 0.01 --final-effective-lrate 0.001 \
    --egs-opts "--num-utts-subset 60" --num-jobs-compute-prior 2 --combine-num-threads 4 "$@" \
    "$data/data/train" "$data/data/lang" "$data/exp/tri2_ali" "$dir"
  sed -n "s#.*average probability is \([^ ]*\).*#$dir: held-out log-probability per frame \1#p" \
    "$dir/log/compute_prob_valid.final.log"
}

nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits --loop-ms=200 >busy 2>/dev/null &
watcher=$!
trap 'kill $watcher 2>/dev/null || true' EXIT
train on_gpu --use-gpu "$gpu" --tf32 true --cmd "run.py --jobs-per-gpu 4"
kill $watcher 2>/dev/null || true
awk '{ n++; sum += $1; idle += $1 == 0 }
  END { if (n) printf "the card was busy %.0f %% of the time, idle in %.0f %% of the looks\n", sum / n, 100 * idle / n }' busy
grep -h 'Finished training' on_gpu/log/train.*.log | tail -n 4
[ "$gpu" = no ] || timeout 100 bash -c "$(declare -f train); data=$(printf %q "$data"); train on_cpu" ||
  echo "the same on the CPU was not ready in time"
