#!/usr/bin/env bash
# Align the training data with Gaussian mixtures by Kaldi: triphones, LDA+MLLT, speaker adaptation.
#
# Usage: local/align_by_kaldi.sh <nj> <train-data> <lang> <exp-dir> <ali-dir>
#
# The steps and sizes of Kaldi's egs/fisher_english/s5/run.sh, up to tri5a.  KALDI_ROOT is a compiled
# Kaldi; jobs are launched by train_cmd of cmd.sh if that is one of Kaldi's launchers, else by run.pl.

set -euo pipefail
fail() { echo "align_by_kaldi.sh: $*" >&2; exit 1; }

[ $# -eq 5 ] || fail "usage: $0 <nj> <train-data> <lang> <exp-dir> <ali-dir>"
nj=$1 lang=$(realpath "$3")
mkdir -p "$4" "$5"
train=$(realpath "$2") exp=$(realpath "$4") ali=$(realpath "$5")
: "${KALDI_ROOT:?align_by_kaldi.sh: KALDI_ROOT is not set: the directory of a compiled Kaldi}"
[ -x "$KALDI_ROOT/src/gmmbin/gmm-init-mono" ] || fail "Kaldi in $KALDI_ROOT is not compiled"
conf=$(cd "$(dirname "$0")/../conf" && pwd)
. ./cmd.sh
cmd=$train_cmd
[[ $cmd = run.py* ]] && cmd=run.pl

# Kaldi's scripts expect to be called beside steps/ and utils/.
cd "$KALDI_ROOT/egs/wsj/s5"
export PATH=$PWD/utils:$PATH
set +u; . "$KALDI_ROOT/tools/config/common_path.sh"; set -u

data=$exp/data
if [ ! -e "$data/.done" ]; then
  utils/copy_data_dir.sh "$train" "$data/train"
  rm -f "$data"/train/{feats,cmvn}.scp
  steps/make_mfcc.sh --nj "$nj" --cmd "$cmd" --mfcc-config "$conf/mfcc.conf" "$data/train"
  steps/compute_cmvn_stats.sh "$data/train"
  utils/fix_data_dir.sh "$data/train"
  utils/subset_data_dir.sh --shortest "$data/train" 100000 "$data/100kshort"
  utils/subset_data_dir.sh "$data/100kshort" 10000 "$data/10k"
  utils/data/remove_dup_utts.sh 100 "$data/10k" "$data/10k_nodup"
  utils/subset_data_dir.sh --speakers "$data/train" 30000 "$data/30k"
  utils/subset_data_dir.sh --speakers "$data/train" 100000 "$data/100k"
  touch "$data/.done"
fi

# train NAME COMMAND ...: a system that is there is not trained again.
train() {
  local name=$1
  shift
  [ -e "$exp/$name/final.mdl" ] || "$@" "$exp/$name"
}
common=(--cmd "$cmd")
align=(--nj "$nj" --cmd "$cmd")

train mono steps/train_mono.sh --nj "$nj" "${common[@]}" "$data/10k_nodup" "$lang"
steps/align_si.sh "${align[@]}" "$data/30k" "$lang" "$exp/mono" "$exp/mono_ali"
train tri1 steps/train_deltas.sh "${common[@]}" 2500 20000 "$data/30k" "$lang" "$exp/mono_ali"
steps/align_si.sh "${align[@]}" "$data/30k" "$lang" "$exp/tri1" "$exp/tri1_ali"
train tri2 steps/train_deltas.sh "${common[@]}" 2500 20000 "$data/30k" "$lang" "$exp/tri1_ali"
steps/align_si.sh "${align[@]}" "$data/100k" "$lang" "$exp/tri2" "$exp/tri2_ali"
train tri3a steps/train_lda_mllt.sh "${common[@]}" \
  --splice-opts "--left-context=3 --right-context=3" 5000 40000 "$data/100k" "$lang" "$exp/tri2_ali"
steps/align_fmllr.sh "${align[@]}" "$data/100k" "$lang" "$exp/tri3a" "$exp/tri3a_ali"
train tri4a steps/train_sat.sh "${common[@]}" 5000 100000 "$data/100k" "$lang" "$exp/tri3a_ali"
steps/align_fmllr.sh "${align[@]}" "$data/train" "$lang" "$exp/tri4a" "$exp/tri4a_ali"
train tri5a steps/train_sat.sh "${common[@]}" 10000 300000 "$data/train" "$lang" "$exp/tri4a_ali"
steps/align_fmllr.sh "${align[@]}" "$data/train" "$lang" "$exp/tri5a" "$ali"
