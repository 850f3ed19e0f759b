#!/usr/bin/env bash
# The experiment on the paper's claim (benchmarks/convergence), on the context-dependent states of
# run.sh, whose stage 5 must be done.
#
# Usage: local/run_convergence.sh [--nonlin pnorm|relu] [--base-preconditioning online|none] [--nj N]
#                                  <exp-dir> <dir> [OPTION ...]
#  e.g.: local/run_convergence.sh exp exp/convergence --parts=control --seeds='0 1 2'
#
#   <exp-dir>  what run.sh has made
#   <dir>      where everything goes: trials.csv, curves.csv, results.md, and a directory for each training
#   --nonlin   of the network that all trainings branch from (default: pnorm)
#   --base-preconditioning  by which that network was trained: NG-SGD (default) or plain SGD
#   --nj       jobs at the same time, of what is made before (default: 2)
#   OPTION     of benchmarks/convergence/run.py
#
# A sixth of the training speakers is what the network to branch from is trained on; all trainings see
# the others, each frame once, and are judged on the speakers for tuning and for the test.  Run again,
# it goes on where it stopped; started a second time beside the first, it takes a part of the work.

set -euo pipefail

nonlin=pnorm base_preconditioning=online nj=2
. "$(dirname "$0")/../../../utils/recipe_options.sh"
while [[ ${1:-} == -* ]]; do
  case $1 in
    -h | --help) usage; exit ;;
    *) parse_option "--nonlin --base-preconditioning --nj" "$@"; shift $taken ;;
  esac
done
[ $# -ge 2 ] || fail "<exp-dir> and <dir> are needed (--help says more)"
exp=$(realpath "$1") dir=$(realpath -m "$2")
shift 2
mkdir -p "$dir"
cd "$(dirname "$0")/.."
. ./path.sh
lang=$exp/lang tree=$exp/tree name=$nonlin
if [ "$base_preconditioning" != online ]; then name+=_on_$base_preconditioning; fi
base=$dir/base_$name results=$dir/$name
[ -e "$tree/num_jobs" ] || fail "$tree has no alignment: run.sh first"

prepare() {
  # The held-out speakers, by the network that aligned the others, on the states of the tree.
  last=$(ls -d "$exp"/flat/round* | tail -n 1)
  combine_data.py "$dir/data/held_out" "$exp"/data/{dev,test}
  align.py --nj "$nj" "$dir/data/held_out" "$lang" "$last/nnet" "$dir/flat_ali_held_out"
  mkdir -p "$dir/ali_held_out"
  for n in $(seq "$nj"); do
    convert-ali "$dir/flat_ali_held_out/final.mdl" "$tree/final.mdl" "$tree/tree" \
      "ark:gunzip -c $dir/flat_ali_held_out/ali.$n.gz |" "ark:| gzip -c > $dir/ali_held_out/ali.$n.gz"
  done
  cp "$tree"/{final.mdl,tree,cmvn_opts} "$dir/flat_ali_held_out/num_jobs" "$dir/ali_held_out/"

  # Every sixth speaker, and the others.
  awk '{ print $1 > (NR % 6 == 0 ? first : second) }' \
    first="$dir/data/base.speakers" second="$dir/data/train.speakers" "$exp/data/train/spk2utt"
  for part in base train; do
    subset_data_dir.py --spk-list "$dir/data/$part.speakers" "$exp/data/train" "$dir/data/$part"
  done
}

(
  flock 9 # one of those that are started beside each other
  if [ ! -e "$dir/data/train/feats.scp" ]; then prepare; fi
  if [ ! -e "$base/final.mdl" ]; then
    train_multisplice.py --nonlin "$nonlin" --preconditioning "$base_preconditioning" \
      --hidden-dim 300 --pnorm-input-dim 600 --pnorm-output-dim 120 \
      --num-hidden-layers 3 --splice-indexes \
      "layer0/-4:-3:-2:-1:0:1:2:3:4 layer1/-3:3" --num-jobs-initial 1 --num-jobs-final 1 \
      --num-epochs 4 --samples-per-iter 25000 --frames-per-eg 1 \
      --egs-opts "--num-utts-subset 30 --num-train-frames-combine 4000" --num-jobs-compute-prior 1 \
      "$dir/data/base" "$lang" "$tree" "$base"
  fi
) 9>"$dir/.prepare"

mkdir -p "$results" "$dir/frames"
ln -sfn ../frames "$results/frames" # the same for all networks
frames() { ../../benchmarks/convergence/make_frames.py "$dir/data/$1" "$2" "$dir/frames/$1"; }
frames train "$tree"
frames held_out "$dir/ali_held_out"
../../benchmarks/convergence/run.py "$@" "$base/final.mdl" "$results"
