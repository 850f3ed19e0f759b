#!/usr/bin/env bash
# From recordings of spoken digits to a recogniser and its word error rate, without Kaldi or a GMM.
#
# Usage: ./run.sh [--corpus synth|fsdd] [--fsdd-dir DIR] [--splits SPLITS] [--dir EXPDIR]
#                 [--stage N] [--stop-stage N] [--num-jobs N] [--use-gpu yes|no|optional|wait]
#                 [--hours H] [--tune-minutes M] [--test-minutes M] [--num-leaves N]
#                 [--lmwt LIST] [--word-ins-penalty LIST]
#  e.g.: ./run.sh
#        ./run.sh --corpus fsdd --fsdd-dir ../../../shared/fsdd
#
#   --corpus      synth: connected digits spoken by a synthesiser (default);
#                 fsdd: the Free Spoken Digit Dataset
#   --fsdd-dir    a clone of github.com/Jakobovski/free-spoken-digit-dataset (for --corpus fsdd)
#   --splits      for fsdd: test speakers that are unseen in training, seen, or one experiment with
#                 each (default: "unseen seen")
#   --dir         where everything goes (default: exp/CORPUS here)
#   --stage       do this stage and the later ones again (default: go on where the last run stopped)
#   --stop-stage  end after this stage (default: 8, the last)
#   --num-jobs    jobs at the same time; networks depend on it (default: 2, on any machine)
#   --use-gpu     train on GPUs, one job on each (default: no)
#   --hours       hours of training speech to synthesise (default: 0.4)
#   --tune-minutes, --test-minutes  minutes of the other speech (default: 5 and 12)
#   --num-leaves  states in context, of a decision tree, at most (default: 0, states without context)
#   --lmwt, --word-ins-penalty  what decoding tries, with commas between (default: 40 combinations)

set -euo pipefail

corpus=synth fsdd_dir='' dir='' stage='' stop_stage=8 use_gpu=no num_jobs=2 num_leaves=0 hours=0.4 tune_minutes=5 test_minutes=12
lmwt=3,5,7,10,14,20,28,40 word_ins_penalty=0.0,2.0,4.0,7.0,10.0
splits='unseen seen'

. "$(dirname "$0")/../../utils/recipe_options.sh"
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit ;;
    *) parse_option "--corpus --fsdd-dir --splits --dir --stage --stop-stage --num-jobs --use-gpu \
      --num-leaves --hours --tune-minutes --test-minutes --lmwt --word-ins-penalty" "$@"; shift $taken ;;
  esac
done

# Paths on the command line are relative to where the user is; the recipe's own are to this place.
here=$(cd "$(dirname "$0")" && pwd)
case $corpus in
  synth) splits=('') ;;
  fsdd)
    [[ $splits =~ ^(unseen|seen|unseen seen)$ ]] || fail "--splits is unseen, seen, or both"
    splits=($splits)
    [ -n "$fsdd_dir" ] || fail "--corpus fsdd needs --fsdd-dir, a clone of free-spoken-digit-dataset"
    fsdd_dir=$(realpath "$fsdd_dir") ;;
  *) fail "--corpus is synth or fsdd, not '$corpus'" ;;
esac
[[ $num_jobs =~ ^[1-9][0-9]*$ ]] || fail "--num-jobs is a positive number, not '$num_jobs'"
[[ $stage =~ ^[0-9]*$ ]] || fail "--stage is a number, not '$stage'"
[[ $num_leaves =~ ^[0-9]+$ ]] || fail "--num-leaves is a number, not '$num_leaves'"
[[ $stop_stage =~ ^[1-8]$ ]] || fail "--stop-stage is 1 to 8, not '$stop_stage'"
dir=${dir:-$here/exp/$corpus}
mkdir -p "$dir"
dir=$(realpath "$dir")
cd "$here"

# A directory holds one experiment: what it was begun with is not changed half-way.
case $corpus in
  synth)
    source="--corpus synth --hours $hours"
    [ "$tune_minutes,$test_minutes" = 5,12 ] ||
      source+=" --tune-minutes $tune_minutes --test-minutes $test_minutes" ;;
  fsdd) source="--corpus fsdd --fsdd-dir $fsdd_dir" ;;
esac
[ "$num_leaves" = 0 ] || source+=" --num-leaves $num_leaves"
if [ -e "$dir/.source" ] && [ "$stage" != 1 ] && [ "$(cat "$dir/.source")" != "$source" ]; then
  fail "$dir was begun with $(cat "$dir/.source"): choose another --dir, or --stage 1"
fi
echo "$source" > "$dir/.source"

../../utils/setup_env.sh synth
. ./path.sh
. ./cmd.sh

# todo N TITLE: is stage N still to do in $exp?  "finish N" leaves a mark that it is done.
todo() {
  if [ "$1" -gt "$stop_stage" ]; then return 1; fi
  if [ -n "$stage" ] && [ "$1" -ge "$stage" ]; then rm -f "$exp/.done.$1"; fi
  if [ -e "$exp/.done.$1" ]; then return 1; fi
  echo "run.sh: $(date +%H:%M:%S) stage $1: $2${split:+ ($split speakers)}"
}
finish() { touch "$exp/.done.$1"; }

# fresh DIR ...: where --stage says that something is to be done again, begin with nothing.
fresh() { if [ -n "$stage" ]; then rm -rf "$@"; fi; }

# Copies of the training data at some speeds are added to it; FSDD has few speakers, and each is to
# sound like five.  Its tuning set is spoken by training speakers, and noise is added to it: without
# noise there are too few errors to tell one acoustic scale from another.
case $corpus in
  synth) speeds="0.9 1.1" tune=tune silence_duration=1 ;;
  fsdd) speeds="0.8 0.9 1.1 1.25" tune=tune_noisy silence_duration=0 ;; # cut to the words
esac

# samples_per_iter DATA N LEAST: how many frames a job trains on for N jobs to see all of DATA once.
# Iterations are short where there are few data, but not so short, of LEAST frames, that most of the
# time programs are being started, and never longer than Kaldi's default.
samples_per_iter() {
  awk -v n="$2" -v least="$3" '{ frames += $2 }
    END { samples = int(frames / n); if (samples < least) samples = least
      print samples < 400000 ? samples : 400000 }' "$1/utt2num_frames"
}

# What the three networks have in common.
train_opts=(
  --config conf/small.conf --cmd "$train_cmd" --use-gpu "$use_gpu"
  --num-jobs-initial $((num_jobs < 2 ? num_jobs : 2)) --num-jobs-final "$num_jobs"
)

for split in "${splits[@]}"; do
  exp=$(realpath -m "$dir/$split")
  data=$exp/data lang=$exp/lang
  mkdir -p "$exp"

  if todo 1 "recordings and their words, as data directories train, tune and test"; then
    if [ "$corpus" = synth ]; then
      local/make_synth_corpus.py --hours="$hours" --tune-minutes="$tune_minutes" \
        --test-minutes="$test_minutes" --num-jobs="$num_jobs" "$exp"
    else
      local/prepare_fsdd.py --split="$split" "$fsdd_dir" "$data"
    fi
    finish 1
  fi

  if todo 2 "augmentation, MFCC and their means and variances"; then
    for speed in $speeds; do
      perturb_data_dir_speed.py --nj "$num_jobs" "$speed" "$data/train" "$data/train_sp$speed"
    done
    if [ $tune = tune_noisy ]; then
      augment_data_dir.py --nj "$num_jobs" --snr 5:25 noisy- "$data/tune" "$data/tune_noisy"
    fi
    for subset in "$data"/{train,tune,test}*; do
      make_mfcc.py --nj "$num_jobs" --cmd "$train_cmd" "$subset"
      compute_cmvn_stats.py "$subset"
    done
    combine_data.py "$data/augmented" "$data"/train*
    finish 2
  fi

  if todo 3 "lexicon, and a loop of digits as grammar"; then
    local/prepare_dict.py "$exp/dict"
    prepare_lang.py --position-dependent-phones false "$exp/dict" '!SIL' "$exp/lang_tmp" "$lang"
    make_loop_grammar.py "$lang"
    finish 3
  fi

  if todo 4 "flat start: utterances are divided equally among the states of their phones"; then
    flat_start.py --nj "$num_jobs" --cmd "$train_cmd" --cmvn-opts "--norm-vars=true" \
      --silence-duration "$silence_duration" "$data/train" "$lang" "$exp/ali0"
    finish 4
  fi

  # One utterance in twenty, with its copies, is not trained on but shows how training goes on.
  egs_opts="--num-utts-subset $(($(wc -l < "$data/train/utt2spk") / 20))"
  # The combination of the last models need not cost as much as with Kaldi's 10000 frames.
  egs_opts+=" --num-train-frames-combine 4000"

  # Each small network is trained on the alignment that the one before it made.
  for round in 1 2; do
    if todo $((4 + round)) "small network $round, and alignment with it"; then
      fresh "$exp/nnet$round"
      train_multisplice.py "${train_opts[@]}" --egs-opts "$egs_opts" \
        --samples-per-iter "$(samples_per_iter "$data/train" 14 2000)" --num-hidden-layers 2 \
        --splice-indexes "layer0/-4:-3:-2:-1:0:1:2:3:4 layer1/-3:3" --max-models-combine 5 \
        "$data/train" "$lang" "$exp/ali$((round - 1))" "$exp/nnet$round"
      train=$data/train
      [ $round = 2 ] && train=$data/augmented
      align.py --nj "$num_jobs" --cmd "$train_cmd" "$train" "$lang" \
        "$exp/nnet$round" "$exp/ali$round"
      finish $((4 + round))
    fi
  done

  if todo 7 "full network, on all the training data"; then
    fresh "$exp/nnet" "$exp/tree"
    ali=$exp/ali2
    if [ "$num_leaves" != 0 ]; then
      ali=$exp/tree
      build_tree.py --cmd "$train_cmd" --num-leaves "$num_leaves" \
        "$data/augmented" "$lang" "$exp/ali2" "$ali"
    fi
    train_multisplice.py "${train_opts[@]}" --egs-opts "$egs_opts" \
      --samples-per-iter "$(samples_per_iter "$data/augmented" 16 4000)" \
      "$data/augmented" "$lang" "$ali" "$exp/nnet"
    finish 7
  fi

  if todo 8 "decoding and scoring"; then
    mkgraph.py "$lang" "$exp/nnet" "$exp/graph"
    for name in $tune test; do
      fresh "$exp/nnet/decode_$name"
      decode.py --nj "$num_jobs" --cmd "$decode_cmd" --lattices false \
        --lmwt "$lmwt" --word-ins-penalty "$word_ins_penalty" \
        "$exp/graph" "$data/$name" "$exp/nnet/decode_$name"
    done
    score.py --tune-on "$exp/nnet/decode_$tune" "$data/test" "$exp/graph" \
      "$exp/nnet/decode_test"
    finish 8
  fi
done

if [ "$stop_stage" -lt 8 ]; then exit; fi # no results yet

if [ "${#splits[@]}" = 2 ]; then
  # The two experiments side by side: $dir/nnet/decode_{seen,unseen}/best_wer.
  mkdir -p "$dir/nnet"
  for split in "${splits[@]}"; do
    ln -sfn "../$split/nnet/decode_test" "$dir/nnet/decode_$split"
    ln -sfn "../$split/nnet/log" "$dir/nnet/log_$split"
  done
  ln -sfn log_unseen "$dir/nnet/log"
fi

local/results.py "$dir"
