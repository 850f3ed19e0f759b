#!/usr/bin/env bash
# From recordings of English sentences to a recogniser with context-dependent states, without Kaldi,
# Gaussian mixtures or an alignment made elsewhere.
#
# Usage: ./run.sh --corpus DIR [--dir EXPDIR] [--stage N] [--stop-stage N] [--num-jobs N]
#                 [--srand N] [--num-leaves N] [--tree-feats delta|lda] [--speeds LIST]
#                 [--use-gpu yes|no|optional|wait] [--quick]
#  e.g.: ./run.sh --corpus speechocean762
#
#   --corpus      a copy of speechocean762 (github.com/jimbozhang/speechocean762, OpenSLR 101)
#   --dir         where everything goes (default: exp here)
#   --stage       do this stage and the later ones again (default: go on where the last run stopped)
#   --stop-stage  end after this stage (default: 9, the last)
#   --num-jobs    jobs at the same time; networks depend on it (default: 2, on any machine)
#   --srand       seed of the trainings on all the data (default: 0)
#   --num-leaves  context-dependent states at most (default: 1000)
#   --tree-feats  what the tree's Gaussians see, cepstra with deltas or LDA (default: lda)
#   --speeds      copies of the training data at other speeds, such as 0.9,1.1 (default: none)
#   --use-gpu     train on GPUs, one job on each (default: no)
#   --quick       a fifth of the speakers, one round, small networks: to see it work

set -euo pipefail

corpus='' dir='' stage='' stop_stage=9 srand=0 num_leaves=1000 tree_feats=lda speeds=''
num_jobs=2 use_gpu=no quick=false

. "$(dirname "$0")/../../utils/recipe_options.sh"
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit ;;
    --quick) quick=true; shift ;;
    *) parse_option "--corpus --dir --stage --stop-stage --num-jobs --srand --num-leaves --tree-feats \
      --speeds --use-gpu" "$@"; shift $taken ;;
  esac
done
[ -n "$corpus" ] || fail "--corpus must be a copy of speechocean762"
[[ $num_jobs =~ ^[1-9][0-9]*$ ]] || fail "--num-jobs is a positive number, not '$num_jobs'"
[[ $stage =~ ^[0-9]*$ ]] || fail "--stage is a number, not '$stage'"
[[ $stop_stage =~ ^[1-9]$ ]] || fail "--stop-stage is 1 to 9, not '$stop_stage'"

# Paths on the command line are relative to where the user is; the recipe's own are to this place.
corpus=$(realpath "$corpus")
here=$(cd "$(dirname "$0")" && pwd)
dir=$(realpath -m "${dir:-$here/exp}")
cd "$here"
../../utils/setup_env.sh
. ./path.sh
. ./cmd.sh

# For four hours of speech the preset's layers are made smaller, between it and Kaldi's for as much.
network=(--config conf/hours.conf --pnorm-input-dim 1000 --pnorm-output-dim 200 --num-epochs 2)
rounds=3
if $quick; then
  network=(--config conf/small.conf --num-epochs 6 --add-layers-period 1)
  rounds=1
fi
data=$dir/data lang=$dir/lang
mkdir -p "$data"

# todo N TITLE: is stage N still to do?  "finish N" leaves a mark that it is done.
todo() {
  [ "$1" -le "$stop_stage" ] || return 1
  if [ -n "$stage" ] && [ "$1" -ge "$stage" ]; then rm -f "$dir/.done.$1"; fi
  [ ! -e "$dir/.done.$1" ] || return 1
  echo "run.sh: $(date +%H:%M:%S) stage $1: $2"
}
finish() { touch "$dir/.done.$1"; }

# fresh DIR ...: where --stage says that something is to be done again, begin with nothing.
fresh() { if [ -n "$stage" ]; then rm -rf "$@"; fi; }

if todo 1 "recordings and their words, as data directories train, dev and test"; then
  local/prepare_data.sh "$corpus" "$dir/lists" "$quick"
  for subset in train dev test; do
    make_data_dir.py "$dir/lists/$subset.tsv" "$data/$subset"
  done
  finish 1
fi

if todo 2 "copies at other speeds, MFCC and their means and variances"; then
  for speed in ${speeds//,/ }; do
    perturb_data_dir_speed.py --nj "$num_jobs" "$speed" "$data/train" "$data/train_sp$speed"
  done
  for subset in "$data"/{train*,dev,test}; do
    make_mfcc.py --nj "$num_jobs" --cmd "$train_cmd" --mfcc-config conf/mfcc.conf "$subset"
    compute_cmvn_stats.py "$subset"
  done
  combine_data.py "$data/augmented" "$data"/train*
  finish 2
fi

if todo 3 "lexicon and trigram, of the words and sentences of the training speakers"; then
  make_dict.py "$dir/lists/lexicon.txt" "$dir/dict"
  prepare_lang.py "$dir/dict" '!SIL' "$dir/lang_tmp" "$lang"
  train_ngram_lm.py --heldout "$data/dev/text" "$data/train/text" "$lang" "$dir/3gram.arpa.gz"
  make_ngram_grammar.py "$dir/3gram.arpa.gz" "$lang"
  finish 3
fi

if todo 4 "flat start, and rounds of small networks on states without context"; then
  fresh "$dir/flat"
  train_flat.py --nj "$num_jobs" --cmd "$train_cmd" --rounds "$rounds" --num-jobs "$num_jobs" \
    --use-gpu "$use_gpu" --cmvn-opts --norm-vars=true "$data/train" "$lang" "$dir/flat"
  finish 4
fi

tree_of() { # tree_of NNET ALI TREE: align all the data by a network, and build a tree of that
  fresh "$2" "$3"
  align.py --nj "$num_jobs" --cmd "$train_cmd" --use-gpu "$use_gpu" \
    "$data/augmented" "$lang" "$1" "$2"
  build_tree.py --cmd "$train_cmd" --num-leaves "$num_leaves" --tree-feats "$tree_feats" \
    "$data/augmented" "$lang" "$2" "$3"
}

# The same network each time, on other states.  One utterance in twenty is not trained on but shows
# how training goes on.
train_on() { # train_on ALI NNET
  fresh "$2"
  train_multisplice.py "${network[@]}" --cmd "$train_cmd" --use-gpu "$use_gpu" --srand "$srand" \
    --egs-opts "--num-utts-subset $(($(wc -l <"$data/train/utt2spk") / 20))" \
    --num-jobs-initial "$num_jobs" --num-jobs-final "$num_jobs" \
    "$data/augmented" "$lang" "$1" "$2"
}

if todo 5 "decision tree, and all the data aligned to its states"; then
  tree_of "$(ls -d "$dir"/flat/round*/nnet | tail -n 1)" "$dir/flat_ali" "$dir/tree"
  finish 5
fi

if todo 6 "network on states without context"; then
  train_on "$dir/flat_ali" "$dir/nnet_ci"
  finish 6
fi

if todo 7 "network on the states of the tree"; then
  train_on "$dir/tree" "$dir/nnet"
  finish 7
fi

if todo 8 "alignment by that network, a tree of this, and a network on its states"; then
  tree_of "$dir/nnet" "$dir/nnet_ali" "$dir/tree2"
  train_on "$dir/tree2" "$dir/nnet2"
  finish 8
fi

# The scale and the penalty are those that are best on the speakers for tuning, in lattices; only with
# these, the test speakers are looked at.
decode() { # decode NNET SUBSET LMWT PENALTY LATTICES
  fresh "$1/decode_$2"
  decode.py --nj "$num_jobs" --cmd "$decode_cmd" --beam 13 --max-active 3000 --lattice-beam 6 \
    --lmwt "$3" --word-ins-penalty "$4" --lattices "$5" "$1/graph" "$data/$2" "$1/decode_$2"
}

if todo 9 "decoding and scoring"; then
  for nnet in "$dir"/nnet_ci "$dir"/nnet "$dir"/nnet2; do
    mkgraph.py "$lang" "$nnet" "$nnet/graph"
    decode "$nnet" dev 6,8,10,12,14,17 0.0,0.5,1.0,1.5 true
    IFS=_ read -r -a best < <(sed 's/.*wer_//' "$nnet/decode_dev/best_wer")
    decode "$nnet" test "${best[@]}" false
    echo "$(basename "$nnet"): $(cat "$nnet/decode_test/best_wer")," \
      "$(cat "$nnet/decode_test/wer_details/interval")"
  done
  for pair in nnet_ci=nnet nnet=nnet2; do
    nnet=$dir/${pair#*=}
    score.py --compare "$dir/${pair%=*}/decode_test" "$data/test" "$nnet/graph" "$nnet/decode_test"
  done
  finish 9
fi
