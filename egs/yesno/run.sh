#!/usr/bin/env bash
# From 31 recordings of eight words each to a recogniser of yes and no, tested on 29 others.
#
# Usage: ./run.sh --corpus DIR [--dir EXPDIR] [--srand N] [--num-jobs N]
#  e.g.: ./run.sh --corpus kaldi-yesno-tutorial/waves_yesno
#
#   --corpus    a folder with the recordings of waves_yesno (OpenSLR 1), at any depth
#   --dir       where everything goes (default: exp here)
#   --srand     seed of everything random (default: 0)
#   --num-jobs  jobs at the same time (default: 2)
#
# Run again, it goes on where it stopped.

set -euo pipefail

corpus='' dir='' srand=0 num_jobs=2
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit ;;
    --corpus=* | --dir=* | --srand=* | --num-jobs=*) option=${1%%=*} value=${1#*=}; shift ;;
    --corpus | --dir | --srand | --num-jobs)
      [ $# -ge 2 ] || { echo "run.sh: option $1 needs a value" >&2; exit 1; }
      option=$1 value=$2; shift 2 ;;
    *) echo "run.sh: there is no option $1 (./run.sh --help lists them)" >&2; exit 1 ;;
  esac
  option=${option#--}
  printf -v "${option//-/_}" '%s' "$value"
done
[ -d "$corpus" ] || { echo "run.sh: --corpus must be the folder with the recordings" >&2; exit 1; }

here=$(cd "$(dirname "$0")" && pwd)
dir=${dir:-$here/exp}
data=$dir/data lang=$dir/lang
mkdir -p "$data"
"$here/../../utils/setup_env.sh"
. "$here/../../path.sh"

# A recording is named after its words, 1 for yes and 0 for no: 0_1_1_0_1_0_1_0.wav.
for subset in train=0 test=1; do
  find "$corpus" -name "${subset#*=}_*_*.wav" | LC_ALL=C sort | while read -r wav; do
    words=$(basename "$wav" .wav | sed 's/_/ /g; s/0/no/g; s/1/yes/g')
    printf '%s\tman\t%s\n' "$wav" "$words"
  done >"$data/${subset%=*}.tsv"
done
for subset in train test; do
  make_data_dir.py "$data/$subset.tsv" "$data/$subset"
  make_mfcc.py --nj "$num_jobs" "$data/$subset"
  compute_cmvn_stats.py "$data/$subset"
done

printf 'yes k e n\nno l o\n' >"$data/lexicon.txt"
make_dict.py "$data/lexicon.txt" "$data/dict"
prepare_lang.py --position-dependent-phones false "$data/dict" '!SIL' "$data/lang_tmp" "$lang"
make_loop_grammar.py "$lang"

train_flat.py --cmvn-opts --norm-vars=true --num-jobs "$num_jobs" --srand "$srand" \
  "$data/train" "$lang" "$dir/flat"
train_multisplice.py --config conf/minutes.conf --srand "$srand" \
  --num-jobs-initial "$num_jobs" --num-jobs-final "$num_jobs" \
  "$data/train" "$lang" "$dir/flat" "$dir/nnet"

mkgraph.py "$lang" "$dir/nnet" "$dir/graph"
# The acoustic scale and the penalty are those in the middle of the best on the training recordings.
for subset in train test; do
  decode.py --nj "$num_jobs" --lattices false --lmwt 5,7,10,14,20,28,40 \
    --word-ins-penalty 0.0,4.0,8.0,14.0,20.0 "$dir/graph" "$data/$subset" "$dir/nnet/decode_$subset"
done
score.py --tune-on "$dir/nnet/decode_train" "$data/test" "$dir/graph" "$dir/nnet/decode_test"
recognize.py --tuned-in "$dir/nnet/decode_test" "$dir/nnet" "$dir/graph" \
  "$(head -n 1 "$data/test.tsv" | cut -f 1)"
cat "$dir/nnet/decode_test/"{tuned,best}_wer
