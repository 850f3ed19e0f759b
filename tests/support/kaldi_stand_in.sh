#!/usr/bin/env bash
# Stands for scripts of Kaldi's egs/wsj/s5/steps that train and align Gaussian mixtures, by its name.
#
# It takes the options and arguments that the script takes, refuses to go on without the files that
# the script reads, and leaves those that later ones read; the alignments are those of another
# directory, $STAND_IN_ALIGNMENTS.  Each call is a line of $STAND_IN_CALLS, without options and with
# the last part of each path.  It fails where it is to fill a directory named $STAND_IN_FAILS.

set -euo pipefail
script=${0##*/}
fail() { echo "$script: $*" >&2; exit 1; }
need() { for file in "$@"; do [ -s "$file" ] || fail "no such file: $file"; done; }
need path.sh

case $script in
  train_mono.sh) options="nj cmd" num_args=3 ;;
  train_deltas.sh | train_sat.sh) options="cmd" num_args=6 ;;
  train_lda_mllt.sh) options="cmd splice-opts" num_args=6 ;;
  align_si.sh | align_fmllr.sh) options="nj cmd" num_args=4 ;;
esac
splice_opts=''
while [[ $1 = --* ]]; do
  [[ " $options " = *" ${1#--} "* ]] || fail "invalid option $1"
  case $1 in
    --nj) nj=$2 ;;
    --cmd) [ "$2" = run.pl ] || fail "--cmd $2 is not Kaldi's" ;;
    --splice-opts) splice_opts=$2 ;;
  esac
  shift 2
done
echo "$script ${*##*/}" >> "$STAND_IN_CALLS"
[ $# -eq "$num_args" ] || fail "expected $num_args arguments, not $#: $*"
if [[ $script = train_* && $script != train_mono.sh ]]; then
  [[ $1 =~ ^[0-9]+$ && $2 =~ ^[0-9]+$ && $1 -lt $2 ]] || fail "no numbers of leaves and Gaussians"
  shift 2
fi
data=$1 lang=$2 source=$3 dir=${!#}
[ "${dir##*/}" != "${STAND_IN_FAILS:-}" ] || fail "it fails"

need "$data"/{utt2spk,spk2utt,feats.scp,cmvn.scp,text}
need "$lang"/{oov.int,phones.txt,words.txt,topo,L.fst}
need "$lang"/phones/{disambig.int,sets.int,roots.int,extra_questions.int}
need "$lang"/phones/{silence,optional_silence,context_indep}.csl
mkdir -p "$dir/log"
if [ "$script" != train_mono.sh ]; then
  need "$source"/{final.mdl,tree,phones.txt}
  cmp -s "$lang/phones.txt" "$source/phones.txt" || fail "other phones in $source"
fi
case $script in
  train_mono.sh) ;;
  train_*)
    need "$source"/{ali.1.gz,num_jobs}
    nj=$(cat "$source/num_jobs") ;;
esac

# What the script leaves.
echo "$nj" > "$dir/num_jobs"
echo > "$dir/cmvn_opts"
cp "$lang/phones.txt" "$dir"
cp "$STAND_IN_ALIGNMENTS"/{tree,final.mdl} "$dir"
if [ "$script" = train_lda_mllt.sh ]; then
  echo "$splice_opts" > "$dir/splice_opts"
  echo " [ 1 0 ]" | tee "$dir/full.mat" > "$dir/final.mat"
fi
if [[ $script = *_sat.sh || $script = *_fmllr.sh ]]; then
  need "$source"/{final.mat,splice_opts}
  cp "$source"/{final.mat,full.mat,splice_opts} "$dir"
  cp "$dir/final.mdl" "$dir/final.alimdl"
  for n in $(seq "$nj"); do echo "speaker [ 1 0 ]" > "$dir/trans.$n"; done
fi
split_data.py "$data" "$nj" 2> /dev/null
for n in $(seq "$nj"); do
  copy-int-vector "ark:gunzip -c $STAND_IN_ALIGNMENTS/ali.*.gz |" ark,t:- 2> /dev/null |
    filter_scp.py "$data/split$nj/$n/utt2spk" | gzip -c > "$dir/ali.$n.gz"
done
