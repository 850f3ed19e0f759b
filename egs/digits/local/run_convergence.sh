#!/usr/bin/env bash
# The paper's experiments (arXiv 1410.7455, section 6) on spoken digits: plain SGD, simple and online
# natural gradient, by one job and by the average of up to sixteen with as many times the learning
# rate, with p-norm units and with ReLU; and how alpha, rank and learning rate matter.
#
# Usage: local/run_convergence.sh [--corpus synth|fsdd] [--fsdd-dir DIR] [--hours H] [--dir EXPDIR]
#                                 [--parts PARTS] [--grid-jobs NS] [--num-epochs E] [--num-jobs N]
#                                 [--quick]
#  e.g.: local/run_convergence.sh --quick
#        local/run_convergence.sh --corpus fsdd --fsdd-dir ../../../shared/fsdd
#
#   --corpus, --fsdd-dir, --hours  as for run.sh; of fsdd, test speakers are unseen in training
#   --parts       which of the grids "pnorm" and "relu" and the sweeps "alpha", "rank" and "lrate",
#                 and in which order (default: all)
#   --grid-jobs   numbers of jobs in the grids, and in which order (default: "1 4 16 2 8")
#   --num-epochs  passes over the data, if not as in conf/convergence.conf
#   --dir         where everything goes (default: exp/convergence/CORPUS here)
#   --num-jobs    trainings at the same time, a core each (default: the number of processors)
#   --quick       a few small trainings, on few data, in some minutes
#
# All trainings see the same examples the same number of times, from the same alignment, made by
# run.sh.  EXPDIR/results has the figures as pictures, the numbers behind each as CSV, and results.md,
# which says what came out.  Run again, it goes on where it stopped.  A core needs about 3 hours for
# fsdd.  The last step measures time, and wants a machine that does nothing else.

set -euo pipefail

corpus=synth fsdd_dir='' hours='' parts='' grid_jobs='' num_epochs='' dir='' quick=false
num_jobs=$(nproc)

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "run_convergence.sh: $*" >&2; exit 1; }

while [ $# -gt 0 ]; do
  option=${1%%=*}
  case $option in
    --help) usage; exit ;;
    --quick) quick=true; shift; continue ;;
    --corpus | --fsdd-dir | --hours | --parts | --grid-jobs | --num-epochs | --dir | --num-jobs) ;;
    *) fail "there is no option $1 (--help lists them)" ;;
  esac
  if [ "$option" != "$1" ]; then value=${1#*=}; shift
  else [ $# -ge 2 ] || fail "option $1 needs a value"; value=$2; shift 2; fi
  name=${option#--}
  printf -v "${name//-/_}" '%s' "$value"
done
[[ $num_jobs =~ ^[1-9][0-9]*$ ]] || fail "--num-jobs is a positive number, not '$num_jobs'"

decode_opts=(--lmwt=5,7,10,14,20,28 --word-ins-penalty=0.0,4.0,10.0) repeats=7
if [ $quick = true ]; then
  : "${hours:=0.03}"
  decode_opts=(--lmwt=7,14 --word-ins-penalty=4.0) repeats=1
fi

recipe=$(cd "$(dirname "$0")/.." && pwd)
dir=${dir:-$recipe/exp/convergence/$corpus}
mkdir -p "$dir/log"
dir=$(realpath "$dir")
base_opts=(--corpus "$corpus" --hours "${hours:-1}" --splits unseen --stop-stage 6)
[ $quick = false ] || base_opts+=(--tune-minutes 1 --test-minutes 2)
if [ -n "$fsdd_dir" ]; then base_opts+=(--fsdd-dir "$(realpath "$fsdd_dir")"); fi

"$recipe/run.sh" "${base_opts[@]}" --dir "$dir/base" --num-jobs "$num_jobs"
base=$dir/base
if [ "$corpus" = fsdd ]; then base=$dir/base/unseen; fi

cd "$recipe"
../../utils/setup_env.sh plots
. ./path.sh
[ -e "$base/graph/HCLG.fst" ] || mkgraph.py "$base/lang" "$base/ali2" "$base/graph"

# What all trainings have in common.
cp conf/convergence.conf "$dir/train.conf"
if [ $quick = true ]; then cat conf/convergence_quick.conf >> "$dir/train.conf"; fi
if [ -n "$num_epochs" ]; then echo "--num-epochs=$num_epochs" >> "$dir/train.conf"; fi
printf '%s\n' "${decode_opts[@]}" > "$dir/decode.conf"
which=(--quick=$quick)
if [ -n "$parts" ]; then which+=(--parts="$parts"); fi
if [ -n "$grid_jobs" ]; then which+=(--grid-jobs="$grid_jobs"); fi

num_subset=$(($(wc -l < "$base/data/train/utt2spk") / 20)) # held out, with their copies
train_multisplice.py --config "$dir/train.conf" --exit-stage 0 \
  --egs-opts "--num-utts-subset $num_subset --num-train-frames-combine 4000" \
  "$base/data/augmented" "$base/lang" "$base/ali2" "$dir/examples"
local/trials.py --print-args=false "${which[@]}" > "$dir/trials"

# A training that diverges is a result, too; its log has the reason.
run.py --max-jobs-run "$num_jobs" JOB=1:"$(wc -l < "$dir/trials")" "$dir/log/trial.JOB.log" \
  local/train_trial.sh "$base" "$dir" JOB ||
  echo "run_convergence.sh: some trainings failed, and are left out of what follows" >&2

[ -e "$dir/times.csv" ] || local/time_iterations.py --repeats=$repeats "$dir"
command="local/run_convergence.sh --corpus $corpus"
for name in hours parts grid_jobs num_epochs; do
  value=${!name}
  if [ -n "$value" ]; then command+=" --${name//_/-} ${value@Q}"; fi
done
if [ $quick = true ]; then command+=" --quick"; fi
setting="Made by \`$command\`. Networks and seed are in
\`conf/convergence.conf\`; they were trained on $(wc -l < "$base/data/augmented/text") utterances, all of
them on the same examples, with the learning rate of a job N times that of one job alone."
local/compare_trials.py "${which[@]}" --setting="$setting" "$dir" "$dir/results"
