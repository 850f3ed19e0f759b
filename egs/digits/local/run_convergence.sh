#!/usr/bin/env bash
# The experiment on the paper's claim (benchmarks/convergence), on spoken digits: a small form of it.
#
# Usage: local/run_convergence.sh [--corpus synth|fsdd] [--fsdd-dir DIR] [--hours H] [--dir EXPDIR]
#                                 [--parts PARTS] [--seeds SEEDS] [--interval I] [--quick]
#  e.g.: local/run_convergence.sh --quick
#        local/run_convergence.sh --corpus fsdd --fsdd-dir ../../../shared/fsdd
#
#   --corpus, --fsdd-dir, --hours  as for run.sh; of fsdd, test speakers are unseen in training
#   --parts, --seeds, --interval   of benchmarks/convergence/run.py (default: "control grid outer", 0 1 2, and 1280)
#   --dir     where everything goes (default: exp/convergence/CORPUS here)
#   --quick   the decisive parts with one seed less, on few data, in some minutes
#
# All trainings branch from the network that run.sh trains on the recordings, and see these at other
# speeds, each frame once, by the alignment that run.sh makes with that network.  They are judged on
# the speakers for tuning and for the test, whom that network aligns, too.  EXPDIR has trials.csv,
# results.md and a picture.  Run again, it goes on where it stopped; started twice, both share the work.

set -euo pipefail

corpus=synth fsdd_dir='' hours='' parts='control grid outer' seeds='0 1 2' interval=1280 dir='' quick=false

. "$(dirname "$0")/../../../utils/recipe_options.sh"
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit ;;
    --quick) quick=true; shift ;;
    *) parse_option "--corpus --fsdd-dir --hours --parts --seeds --interval --dir" "$@"; shift $taken ;;
  esac
done

recipe=$(cd "$(dirname "$0")/.." && pwd)
dir=${dir:-$recipe/exp/convergence/$corpus}
mkdir -p "$dir"
dir=$(realpath "$dir")
base_opts=(--corpus "$corpus" --hours "${hours:-1}" --splits unseen --stop-stage 6)
if $quick; then
  base_opts=(--corpus "$corpus" --hours "${hours:-0.03}" --splits unseen --stop-stage 6
    --tune-minutes 1 --test-minutes 2)
  parts=control seeds='0 1' interval=128
fi
if [ -n "$fsdd_dir" ]; then base_opts+=(--fsdd-dir "$(realpath "$fsdd_dir")"); fi
"$recipe/run.sh" "${base_opts[@]}" --dir "$dir/base"
base=$dir/base
if [ "$corpus" = fsdd ]; then base=$dir/base/unseen; fi

cd "$recipe"
../../utils/setup_env.sh plots
. ./path.sh
if [ ! -e "$dir/ali_held_out/num_jobs" ]; then
  combine_data.py "$base/data/held_out" "$base/data/tune" "$base/data/test"
  align.py --nj 2 "$base/data/held_out" "$base/lang" "$base/nnet2" "$dir/ali_held_out"
  combine_data.py "$base/data/other_speeds" "$base"/data/train_sp*
fi

# As many samples as there are, in whole iterations of 16 jobs.
total=$(awk '{ frames += $2 } END { print frames }' "$base/data/other_speeds/utt2num_frames")
held_out=$(awk '{ frames += $2 } END { print frames }' "$base/data/held_out/utt2num_frames")
which=(--parts="$parts" --seeds="$seeds" --interval="$interval" --samples=$((total / (16 * interval) * 16 * interval))
  --held-out-frames=$((held_out < 30720 ? held_out : 30720)))
../../benchmarks/convergence/make_frames.py "$base/data/other_speeds" "$base/ali2" "$dir/frames/train"
../../benchmarks/convergence/make_frames.py "$base/data/held_out" "$dir/ali_held_out" "$dir/frames/held_out"
../../benchmarks/convergence/run.py "${which[@]}" "$base/nnet2/final.mdl" "$dir"
