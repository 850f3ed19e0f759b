#!/usr/bin/env bash
# The experiment on the paper's claim at the paper's size: a network of some 10 million parameters, on
# speech that is synthesised here.  For a machine with one GPU, and a limited time on it.
#
# Usage: benchmarks/convergence/paper_size.sh [--hours H] [--speakers S] [--num-leaves L] [--interval I]
#          [--samples T] [--base-samples B] [--parts PARTS] [--seeds SEEDS] [--minutes M] [--tf32 true|false]
#          [--minibatch-size B] [--network OPTIONS] [<directory for results>]
#  e.g.: tests/gpu/prepare.sh espeakng-loader==0.2.4      # beforehand, where there is a network
#        benchmarks/convergence/paper_size.sh --minutes 9.5 "$OUT"
#
#   --hours, --speakers, --num-leaves   of synthesise.py (default: 48, 1200, 6000)
#   --base-samples, --network           --samples and other options of base_network.py: 4 p-norm layers
#                                       4000/400 of 15 frames of 40 cepstra
#   --parts, --seeds, --interval, --samples   of run.py (default: "paper paper_unlimited", 0, 400000 and
#                                       12800000, a multiple of the interval times 8)
#   --minutes   after which everything ends (default: 10)
#   --tf32      whether products are rounded to TF32 (default: true)
#
# Trainings are done in the order of their value, the jobs of an iteration one after the other in one
# process, with all frames on the card.  Results (trials.csv, curves.csv, logs, and how far a training is
# that has not ended) are copied into the directory while they come; models stay in exp/paper_size, and
# run again there, it goes on where it stopped.  USE_GPU=no tries the script itself.

set -euo pipefail

hours=48 speakers=1200 num_leaves=6000 interval=400000 samples=12800000 base_samples=6000000
parts='paper paper_unlimited' seeds=0 minutes=10 tf32=true
network="--num-hidden-layers=4 --pnorm-input-dim=4000 --pnorm-output-dim=400"
network+=" --splice-indexes=layer0/-7:-6:-5:-4:-3:-2:-1:0:1:2:3:4:5:6:7"
minibatch_size=512
names="--hours --speakers --num-leaves --interval --samples --base-samples --parts --seeds --minutes"
names+=" --tf32 --network --minibatch-size"

cd "$(dirname "$0")/../.."
. utils/recipe_options.sh
while [[ ${1:-} == --* ]]; do
  case $1 in
    --help) usage; exit ;;
    *) parse_option "$names" "$@"; shift $taken ;;
  esac
done
out=$(realpath -m "${1:-exp/paper_size_results}") dir=$PWD/exp/paper_size
gpu=${USE_GPU:-yes} seconds=$(awk -v minutes="$minutes" 'BEGIN { printf "%d", 60 * minutes }')
mkdir -p "$out" "$dir"
export PYTHONUNBUFFERED=1

# keep: copy what there is of results; a file appears whole.
keep() {
  local file name copy=$out/.copy.$BASHPID
  for file in "$dir"/{trials.csv,curves.csv,results.md,curves.png,base.log,*/state.json,*/train.log}; do
    [ -e "$file" ] || continue
    name=${file#"$dir"/}
    cp "$file" "$copy" && mv "$copy" "$out/${name//\//.}"
  done
}

# part NAME COMMAND ...: run it in the time that is left.
part() {
  local name=$1 begin=$SECONDS status=0
  shift
  timeout --kill-after=5 $((seconds > SECONDS ? seconds - SECONDS : 1)) "$@" 2>&1 |
    tee -a "$out/$name.log" || status=$?
  echo "=== $name: status $status after $((SECONDS - begin)) s, $SECONDS s in all" | tee -a "$out/times.log"
  return "$status"
}

# finish: also where time was up, make a report of the trainings that have ended.
finish() {
  kill %1 2>/dev/null || true
  [ ! -e "$dir/trials.csv" ] || benchmarks/convergence/report.py "$dir" >>"$out/report.log" 2>&1 || true
  keep
}

. tests/gpu/setup.sh synth
while sleep 5; do keep; done &
trap finish EXIT

device=(--use-gpu="$gpu" --tf32="$tf32" --minibatch-size="$minibatch_size")
part synthesise env OMP_NUM_THREADS=1 benchmarks/convergence/synthesise.py --hours="$hours" \
  --speakers="$speakers" --num-leaves="$num_leaves" --mfcc-config=conf/mfcc_hires.conf \
  --nj="$(nproc)" "$dir"
if [ ! -e "$dir/base.mdl" ]; then
  # shellcheck disable=SC2086
  part base benchmarks/convergence/base_network.py "${device[@]}" $network \
    --samples="$base_samples" "$dir" "$dir/base.mdl"
fi
part run benchmarks/convergence/run.py "${device[@]}" --parts="$parts" --seeds="$seeds" \
  --interval="$interval" --samples="$samples" "$dir/base.mdl" "$dir" || [ $? = 124 ] # time is up
