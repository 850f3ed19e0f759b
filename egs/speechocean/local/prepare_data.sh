#!/usr/bin/env bash
# Lists of recordings, speakers and words for train, dev and test, as utils/make_data_dir.py reads them.
#
# Usage: local/prepare_data.sh <corpus> <lists-dir> [<quick>]
#
# The corpus has two lists of 125 speakers each.  By the order of their numbers, of each list every
# fifth speaker is for test (25, 50 in all); of the others every twentieth is for tuning (5 and 5),
# and the rest is trained on (95 and 95).  A speaker has 20 sentences.  Where <quick> is true, every
# fifth of these speakers is taken.
#
# The lexicon has the words of the training sentences only: others are out of the vocabulary.

set -euo pipefail

corpus=$1 lists=$2 quick=${3:-false}
for file in {train,test}/{wav.scp,text,utt2spk} resource/lexicon.txt; do
  [ -s "$corpus/$file" ] || { echo "prepare_data.sh: no $corpus/$file: --corpus must be a copy of speechocean762" >&2; exit 1; }
done
mkdir -p "$lists"
rm -f "$lists"/{train,dev,test}.tsv
for list in train test; do
  sort -u -k 2,2 "$corpus/$list/utt2spk" | awk '{ print $2 }' | LC_ALL=C sort |
    awk -v quick="$quick" '
      { subset = NR % 5 == 0 ? "test" : (++kept % 20 == 0 ? "dev" : "train") }
      quick != "true" || count[subset]++ % 5 == 0 { print $1, subset }' \
      >"$lists/$list.speakers"
  LC_ALL=C join <(LC_ALL=C sort "$corpus/$list/utt2spk") <(LC_ALL=C sort "$corpus/$list/wav.scp") |
    LC_ALL=C join - <(tr '\t' ' ' <"$corpus/$list/text" | LC_ALL=C sort) |
    awk -v corpus="$corpus" -v lists="$lists" '
      NR == FNR { subset_of[$1] = $2; next }
      !($2 in subset_of) { next }
      { words = $4; for (i = 5; i <= NF; i++) words = words " " $i
        print corpus "/" $3 "\tspk" $2 "\t" words >>(lists "/" subset_of[$2] ".tsv") }' \
      "$lists/$list.speakers" -
done
wc -l "$lists"/{train,dev,test}.tsv >&2

# Vowels without their stress: 5 hours are too few to tell AH0 from AH1.
cut -f 3 "$lists/train.tsv" | awk '
  NR == FNR { for (i = 1; i <= NF; i++) is_known[$i]; next }
  !($1 in is_known) { next }
  {
  word = $1; phones = ""
  for (i = 2; i <= NF; i++) { sub(/[0-9]$/, "", $i); phones = phones " " $i }
  print word phones }' - "$corpus/resource/lexicon.txt" | LC_ALL=C sort -u >"$lists/lexicon.txt"
