#!/usr/bin/env bash
# From recordings of spoken digits to a recogniser and its word error rate, without Kaldi or a GMM.
#
# Usage: ./run.sh [--corpus synth|fsdd] [--fsdd-dir DIR] [--dir EXPDIR] [--stage N] [--num-jobs N]
#                 [--use-gpu yes|no|optional|wait] [--hours H]
#  e.g.: ./run.sh
#        ./run.sh --corpus fsdd --fsdd-dir ../../../shared/fsdd
#
#   --corpus    synth: connected digits spoken by a synthesiser (default);
#               fsdd: the Free Spoken Digit Dataset, both with the test speakers seen in training
#               and with test speakers that are not
#   --fsdd-dir  a clone of github.com/Jakobovski/free-spoken-digit-dataset (for --corpus fsdd)
#   --dir       where everything goes (default: exp/CORPUS here)
#   --stage     do this stage and the later ones again (default: go on where the last run stopped)
#   --num-jobs  jobs at the same time (default: the number of processors)
#   --use-gpu   train on GPUs, one job on each (default: no)
#   --hours     hours of training speech to synthesise (default: 0.4)

set -euo pipefail

corpus=synth fsdd_dir='' dir='' stage='' num_jobs=$(nproc) use_gpu=no hours=0.4

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "run.sh: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  option=${1%%=*}
  [ "$option" = --help ] && { usage; exit; }
  case $option in
    --corpus | --fsdd-dir | --dir | --stage | --num-jobs | --use-gpu | --hours) ;;
    *) fail "there is no option $1 (./run.sh --help lists them)" ;;
  esac
  if [ "$option" != "$1" ]; then value=${1#*=}; shift
  else [ $# -ge 2 ] || fail "option $1 needs a value"; value=$2; shift 2; fi
  name=${option#--}
  printf -v "${name//-/_}" '%s' "$value"
done

# Paths on the command line are relative to where the user is; the recipe's own are to this place.
here=$(cd "$(dirname "$0")" && pwd)
case $corpus in
  synth) splits=(.) ;;
  fsdd)
    splits=(seen unseen)
    [ -n "$fsdd_dir" ] || fail "--corpus fsdd needs --fsdd-dir, a clone of free-spoken-digit-dataset"
    fsdd_dir=$(realpath "$fsdd_dir") ;;
  *) fail "--corpus is synth or fsdd, not '$corpus'" ;;
esac
[[ $num_jobs =~ ^[1-9][0-9]*$ ]] || fail "--num-jobs is a positive number, not '$num_jobs'"
[[ $stage =~ ^[0-9]*$ ]] || fail "--stage is a number, not '$stage'"
dir=${dir:-$here/exp/$corpus}
mkdir -p "$dir"
dir=$(realpath "$dir")
cd "$here"

../../utils/setup_env.sh synth
. ./path.sh
. ./cmd.sh

# todo N TITLE: is stage N of this split still to do?  Stages leave a mark when they are done.
todo() {
  [ -n "$stage" ] && [ "$1" -ge "$stage" ] && rm -f "$exp/.done.$1"
  [ ! -e "$exp/.done.$1" ] && echo "run.sh: stage $1${split_name}: $2"
}
finish() { touch "$exp/.done.$1"; }

if [ "$corpus" = synth ]; then
  speeds="0.9 1.1"       # copies of the training data at these speeds are added to it
else
  speeds="0.8 0.9 1.1 1.25"  # few speakers: let each sound like five
fi

for split in "${splits[@]}"; do
  exp=$(realpath -m "$dir/$split") data=$exp/data
  split_name=$([ "$split" = . ] || echo " ($split speakers)")
  mkdir -p "$exp"

  if todo 1 "recordings"; then
    if [ "$corpus" = synth ]; then
      local/make_synth_corpus.py --hours="$hours" --num-jobs="$num_jobs" "$exp"
    else
      local/prepare_fsdd.py --split="$split" "$fsdd_dir" "$data"
    fi
    finish 1
  fi

  if todo 2 "features"; then
    for speed in $speeds; do
      utils/perturb_data_dir_speed.py "$speed" "$data/train" "$data/train_sp$speed"
    done
    for name in train tune test ${speeds// / train_sp}; do
      steps/make_mfcc.py --nj "$num_jobs" --cmd "$train_cmd" "$data/$name"
      steps/compute_cmvn_stats.py "$data/$name"
    done
    finish 2
  fi
done
