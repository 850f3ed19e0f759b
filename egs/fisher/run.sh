#!/usr/bin/env bash
# From the Fisher English corpus to a recogniser of telephone speech and its word error rates.
#
# Usage: ./run.sh --corpora DIR --cmudict FILE [--config FILE] [--dir EXPDIR] [--stage N]
#                 [--stop-stage N] [--nj N] [--VARIABLE VALUE ...]
#  e.g.: ./run.sh --corpora /corpora/LDC --cmudict cmudict-0.7b --num-jobs-final 16
#        ./run.sh --corpora /tmp/corpora --cmudict /tmp/corpora/cmudict.0.7a \
#            --config conf/miniature.conf
#
#   --corpora   a directory with LDC2004S13, LDC2004T19, LDC2005S13, LDC2005T19 and, for the test,
#               LDC2002S09 and LDC2002T43; links will do
#   --cmudict   the CMU Pronouncing Dictionary
#   --config    a file that sets variables of conf/fisher.conf otherwise
#   --dir       where everything goes (default: exp here)
#   --stage     do this stage and the later ones again (default: go on where the last run stopped)
#   --stop-stage  end after this stage
#   --nj        jobs at the same time where CPUs work (default: 32)
#   --VARIABLE  any variable of conf/fisher.conf, with hyphens for underscores
#
# cmd.sh says how jobs are launched.

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "run.sh: $*" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
corpora='' cmudict='' dir=$here/exp stage='' stop_stage=9 nj=32
. "$here/conf/fisher.conf"
while [ $# -gt 0 ]; do
  [ "$1" = --help ] && { usage; exit; }
  [[ $1 = --* ]] || fail "'$1' is no option (./run.sh --help lists them)"
  if [[ $1 = *=* ]]; then option=${1%%=*} value=${1#*=}; shift
  else [ $# -ge 2 ] || fail "option $1 needs a value"; option=$1 value=$2; shift 2; fi
  name=${option#--} name=${name//-/_}
  case $name in
    config) [ -f "$value" ] || fail "no such file: $value"; . "$(realpath "$value")" ;;
    here | name | value | option) fail "there is no option $option" ;;
    *)
      [[ $name =~ ^[a-z_0-9]+$ ]] && [ -n "${!name+set}" ] || fail "there is no option $option"
      printf -v "$name" '%s' "$value" ;;
  esac
done
[ -d "$corpora" ] || fail "--corpora must be the directory of the corpora, not '$corpora'"
[ -f "$cmudict" ] || fail "--cmudict must be the CMU Pronouncing Dictionary, not '$cmudict'"
[[ $stage =~ ^[0-9]*$ ]] || fail "--stage is a number, not '$stage'"
[[ $stop_stage =~ ^[1-9]$ ]] || fail "--stop-stage is a number from 1 to 9, not '$stop_stage'"
[[ $nj =~ ^[1-9][0-9]*$ ]] || fail "--nj is a positive number, not '$nj'"
[[ $alignments =~ ^(flat_start|kaldi)$ ]] || fail "--alignments is flat_start or kaldi"
[ "$alignments" = flat_start ] || [ -d "${KALDI_ROOT:-}" ] ||
  fail "--alignments kaldi needs KALDI_ROOT, the directory of a compiled Kaldi"
[ -z "$arpa" ] || [ -f "$arpa" ] || fail "--arpa must be a language model, not '$arpa'"
[ -z "$arpa" ] || arpa=$(realpath "$arpa")
corpora=$(realpath "$corpora") cmudict=$(realpath "$cmudict")
mkdir -p "$dir"
exp=$(realpath "$dir")
cd "$here"
../../utils/setup_env.sh
. ./path.sh
. ./cmd.sh
data=$exp/data lang=$exp/lang

# Stages 1 to 5 are the same with and without copies of the training data, the others apart.
variant=''
[ "$num_copies" -eq 0 ] || variant=_multi
train=$data/train$variant ali=$exp/ali nnet=$exp/nnet$variant graph=$exp/graph$variant

# todo N TITLE: is stage N still to do?  "finish N" leaves a mark that it is done.
mark() { echo "$exp/.done.$1$([ "$1" -le 5 ] || echo "$variant")"; }
todo() {
  if [ "$1" -gt "$stop_stage" ]; then echo "run.sh: ends before stage $1: $2"; exit; fi
  if [ -n "$stage" ] && [ "$1" -ge "$stage" ]; then rm -f "$(mark "$1")"; fi
  if [ -e "$(mark "$1")" ]; then echo "run.sh: stage $1 is done: $2"; return 1; fi
  echo "run.sh: $(date +%H:%M:%S) stage $1: $2"
}
finish() { touch "$(mark "$1")"; }

# fresh DIR: where --stage says that something is to be done again, begin with nothing.
fresh() { if [ -n "$stage" ]; then rm -rf "$1"; fi; }

# once DIR COMMAND ...: run a command that fills DIR, if it has not done that to the end yet.
once() {
  local dir=$1
  shift
  fresh "$dir"
  [ -e "$dir/.done" ] && return
  "$@"
  touch "$dir/.done"
}

# make_features DATA CONFIG SET ...: MFCC, and means and variances of each side of a call.
make_features() {
  for name in "${@:3}"; do
    make_mfcc.py --nj "$nj" --cmd "$train_cmd" --mfcc-config "$2" "$1/$name"
    compute_cmvn_stats.py "$1/$name"
    fix_data_dir.py "$1/$name"  # without utterances that are too short for features
  done
}

if todo 1 "speech and transcripts, as data directories"; then
  local/prepare_fisher.py --num-calls="$num_calls" --heldout-utts="$heldout_utts" "$data" \
    "$corpora"/LDC200{4S13,4T19,5S13,5T19}
  local/prepare_eval2000.py --num-recordings="$num_eval_recordings" \
    "$corpora/LDC2002S09" "$corpora/LDC2002T43" "$data/eval2000"
  finish 1
fi

if todo 2 "dictionary, and phones and words"; then
  local/prepare_dict.py "$data/train/text" "$cmudict" "$exp/dict"
  prepare_lang.py "$exp/dict" '<unk>' "$exp/lang_tmp" "$lang"
  finish 2
fi

if todo 3 "language model and grammar"; then
  if [ -z "$arpa" ]; then
    train_ngram_lm.py --order "$lm_order" --min-counts "$lm_min_counts" \
      --heldout "$data/dev/text" "$data/train/text" "$lang" "$exp/lm/lm.arpa.gz"
  fi
  make_ngram_grammar.py "${arpa:-$exp/lm/lm.arpa.gz}" "$lang"
  finish 3
fi

if todo 4 "features"; then
  make_features "$data" conf/mfcc_hires.conf train dev test eval2000
  finish 4
fi

# samples_per_iter DATA N: how many frames a job trains on for N jobs to see all of DATA once.
samples_per_iter() {
  awk -v n="$2" -v most="$samples_per_iter" '{ frames += $2 }
    END { samples = int(frames / n); print samples < most ? samples : most }' "$1/utt2num_frames"
}

# What all networks have in common.
train_opts=(
  --cmd "$train_cmd" --use-gpu "$use_gpu" --feat-type raw --cmvn-opts "--norm-vars=false"
  --num-jobs-initial "$num_jobs_initial" --num-jobs-final "$num_jobs_final"
)

# make_subsets TRAIN: TRAIN_0, of short utterances without many repetitions, and TRAIN_1, ..., of
# random speakers.
make_subsets() {
  local num_shortest num_short n=0
  read -r num_shortest num_short <<< "$short_utts"
  subset_data_dir.py --shortest "$1" "$num_shortest" "$1_shortest"
  subset_data_dir.py "$1_shortest" "$num_short" "$1_short"
  remove_dup_utts.py "$max_duplicates" "$1_short" "$1_0"
  for size in $align_subsets; do
    n=$((n + 1))
    subset_data_dir.py --speakers "$1" "$size" "$1_$n"
  done
}

if [ "$alignments" = flat_start ]; then
  if todo 5 "flat start, small networks that align ever more, and a tree"; then
    make_subsets "$data/train"
    once "$exp/ali_0" flat_start.py --nj "$nj" --cmd "$train_cmd" --cmvn-opts "--norm-vars=false" \
      --silence-duration "$silence_duration" "$data/train_0" "$lang" "$exp/ali_0"
    round=0
    for size in $align_subsets all; do
      fresh "$exp/small_$round"
      train_multisplice.py "${train_opts[@]}" $small_network --egs-opts "$egs_opts" \
        --splice-indexes "$small_splice_indexes" \
        --samples-per-iter "$(samples_per_iter "$data/train_$round" "$small_iterations")" \
        "$data/train_$round" "$lang" "$exp/ali_$round" "$exp/small_$round"
      source=$exp/small_$round round=$((round + 1))
      if [ "$size" = all ]; then subset=$data/train next=$exp/ali_mono
      else subset=$data/train_$round next=$exp/ali_$round; fi
      once "$next" align.py --nj "$nj" --cmd "$train_cmd" "$subset" "$lang" "$source" "$next"
    done
    once "$ali" build_tree.py --cmd "$train_cmd" --num-leaves "$num_leaves" --tree-feats lda \
      "$data/train" "$lang" "$exp/ali_mono" "$ali"
    finish 5
  fi
elif todo 5 "Gaussian mixtures of Kaldi"; then
  gmm=$exp/gmm
  fresh "$gmm"
  if [ ! -e "$gmm/data/.done" ]; then
    copy_data_dir.py "$data/train" "$gmm/data/train"
    make_features "$gmm/data" conf/mfcc.conf train
    make_subsets "$gmm/data/train"
    touch "$gmm/data/.done"
  fi
  fresh "$ali"
  local/align_by_kaldi.sh "$nj" "$gmm/data"/train{_0,_1,_2,} "$lang" "$gmm" "$ali"
  finish 5
fi

if [ -n "$variant" ]; then
  if todo 6 "copies in rooms and with noise"; then
    augment=(augment_data_dir.py --nj "$nj" --cmd "$train_cmd" --volume "$volume"
      --reverberation-time "$reverberation_time" --snr "$snr")
    copies=()
    for n in $(seq "$num_copies"); do
      "${augment[@]}" --srand "$n" "rvb$n-" "$data/train" "$data/train_rvb$n"
      copies+=("train_rvb$n")
    done
    for name in dev test; do "${augment[@]}" rvb- "$data/$name" "$data/${name}_rvb"; done
    [ -z "$prepare_more" ] || "$prepare_more" "$corpora" "$data"
    make_features "$data" conf/mfcc_hires.conf "${copies[@]}" dev_rvb test_rvb $more_sets
    combine_data.py "$train" "$data/train" "${copies[@]/#/$data/}"
    copy_alignments.py --nj "$nj" --cmd "$train_cmd" "$train" "$ali" "$ali$variant"
    finish 6
  fi
  ali=$ali$variant
fi

if todo 7 "the network"; then
  fresh "$nnet"
  train_multisplice.py "${train_opts[@]}" $network --egs-opts "$egs_opts" \
    ${splice_indexes:+--splice-indexes "$splice_indexes"} --num-epochs "$num_epochs" \
    --samples-per-iter "$samples_per_iter" \
    "$train" "$lang" "$ali" "$nnet"
  finish 7
fi

if todo 8 "decoding"; then
  mkgraph.py "$lang" "$nnet" "$graph"
  for name in $tune_set $plain_sets $nist_sets; do
    fresh "$nnet/decode_$name"
    decode.py --nj "$nj" --cmd "$decode_cmd" $decode_opts --lmwt "$lmwt" \
      --word-ins-penalty "$word_ins_penalty" --skip-scoring true \
      "$graph" "$data/$name" "$nnet/decode_$name"
  done
  finish 8
fi

if todo 9 "scoring"; then
  tuned=$nnet/decode_$tune_set
  score.py "$data/$tune_set" "$graph" "$tuned"
  for name in $plain_sets; do
    score.py --tune-on "$tuned" "$data/$name" "$graph" "$nnet/decode_$name"
  done
  for name in $nist_sets; do
    score_nist.py --tune-on "$tuned" --subsets "$nist_subsets" \
      "$data/$name" "$graph" "$nnet/decode_$name"
  done
  finish 9
fi

echo "run.sh: word error rates, with the acoustic scale that is best on $tune_set:"
for name in $plain_sets; do echo "$name: $(cat "$nnet/decode_$name/tuned_wer")"; done
for name in $nist_sets; do sed "s/^/$name: /" "$nnet/decode_$name/nist_wer"; done
