#!/usr/bin/env bash
# Align the training data with Gaussian mixtures by Kaldi: triphones, LDA+MLLT, speaker adaptation.
#
# Usage: local/align_by_kaldi.sh <nj> <short> <subset> <larger-subset> <train> <lang> <exp-dir>
#                                <ali-dir>
#
# The steps and sizes of Kaldi's egs/fisher_english/s5/run.sh, from mono to tri5a.  The four data
# directories have features and CMVN statistics; mono is trained on the first, tri1 and tri2 on the
# second, tri3a and tri4a on the third, tri5a on all.  KALDI_ROOT is a compiled Kaldi; jobs are
# launched by train_cmd of cmd.sh, with Kaldi's run.pl for run.py.  What is done is not done again.

set -euo pipefail
fail() { echo "align_by_kaldi.sh: $*" >&2; exit 1; }

[ $# -eq 8 ] || fail "usage: $0 <nj> <short> <subset> <larger-subset> <train> <lang> <exp-dir> <ali-dir>"
: "${KALDI_ROOT:?align_by_kaldi.sh: KALDI_ROOT is not set: the directory of a compiled Kaldi}"
[ -x "$KALDI_ROOT/src/gmmbin/gmm-init-mono" ] || fail "Kaldi in $KALDI_ROOT is not compiled"
mkdir -p "$7" "$8"
nj=$1 short=$(realpath "$2") subset=$(realpath "$3") larger=$(realpath "$4") train=$(realpath "$5")
lang=$(realpath "$6") exp=$(realpath "$7") ali=$(realpath "$8")
. ./cmd.sh
cmd=${train_cmd/#run.py/run.pl}

# Kaldi's scripts expect to be called beside steps/, utils/ and path.sh.
cd "$KALDI_ROOT/egs/wsj/s5"

# once COMMAND ... DIR: run a command whose last argument is the directory that it fills.
once() {
  local dir=${!#}
  [ -e "$dir/.done" ] && return
  "$@"
  touch "$dir/.done"
}
parallel=(--nj "$nj" --cmd "$cmd")

once steps/train_mono.sh "${parallel[@]}" "$short" "$lang" "$exp/mono"

once steps/align_si.sh "${parallel[@]}" "$subset" "$lang" "$exp/mono" "$exp/mono_ali"
once steps/train_deltas.sh --cmd "$cmd" 2500 20000 "$subset" "$lang" "$exp/mono_ali" "$exp/tri1"

once steps/align_si.sh "${parallel[@]}" "$subset" "$lang" "$exp/tri1" "$exp/tri1_ali"
once steps/train_deltas.sh --cmd "$cmd" 2500 20000 "$subset" "$lang" "$exp/tri1_ali" "$exp/tri2"

once steps/align_si.sh "${parallel[@]}" "$larger" "$lang" "$exp/tri2" "$exp/tri2_ali"
once steps/train_lda_mllt.sh --cmd "$cmd" --splice-opts "--left-context=3 --right-context=3" \
  5000 40000 "$larger" "$lang" "$exp/tri2_ali" "$exp/tri3a"

once steps/align_fmllr.sh "${parallel[@]}" "$larger" "$lang" "$exp/tri3a" "$exp/tri3a_ali"
once steps/train_sat.sh --cmd "$cmd" 5000 100000 "$larger" "$lang" "$exp/tri3a_ali" "$exp/tri4a"

once steps/align_fmllr.sh "${parallel[@]}" "$train" "$lang" "$exp/tri4a" "$exp/tri4a_ali"
once steps/train_sat.sh --cmd "$cmd" 10000 300000 "$train" "$lang" "$exp/tri4a_ali" "$exp/tri5a"

once steps/align_fmllr.sh "${parallel[@]}" "$train" "$lang" "$exp/tri5a" "$ali"
